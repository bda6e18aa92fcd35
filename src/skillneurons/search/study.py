"""A study that many workers share through Optuna's relational storage: made once, claimed from, reaped."""

import contextlib
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, StorageInternalError, UpdateFinishedTrialError
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError

from skillneurons import fingerprints
from skillneurons.errors import InputError, listed
from skillneurons.search.ledger import (
    ORIGIN,
    PREVIOUS,
    QUEUED,
    VOID,
    Ledger,
    Lineage,
    Void,
    config_key,
    origin,
    why_void,
)
from skillneurons.search.space import Space, Value, difference
from skillneurons.seeds import mix
from skillneurons.storage import alone, state_dir

DEFINITION, RUN, SEEN, BEGUN, REASON, TRIAL_RUN = "definition", "run", "seen", "begun", "reason", "run"
DATABASES = ("sqlite", "postgresql", "mysql")
GRACE = 3  # heartbeats that may be missing before a worker is held dead
BUSY_SECONDS = 60  # SQLite: how long to wait for another writer
SETTLE_SECONDS = 10
RACES = (IntegrityError, ProgrammingError, StorageInternalError)


class TakenOverError(RuntimeError):
    """This worker was held dead, and another has its trial."""


@dataclass(frozen=True)
class Claim:
    """A trial that this worker, and no other, is at work on.

    Attributes:
        origin: the number of the trial its configuration began as.
        previous_run: the tracked run of the worker that died on it, if one did.
        reported: the evaluations whose value the storage has already.
    """

    trial: optuna.Trial
    origin: int
    params: Mapping[str, Value]
    previous_run: str | None
    reported: frozenset[int]


def default_storage() -> str:
    """SQLite in the state folder."""
    return f"sqlite:///{state_dir()}/search.db"


def check_storage(url: str) -> None:
    """Refuse what cannot hold heartbeats, before anything is written.

    Raises:
        InputError: the URL is none, or names another kind of storage.
    """
    must = "storage is the URL of a relational database, e.g. sqlite:///study.db or postgresql://…"
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InputError(must, repr(url), "Leave it out for SQLite in the state folder.") from error
    if parsed.get_backend_name() not in DATABASES:
        raise InputError(must, parsed.get_backend_name(), "Other kinds of storage hold no heartbeats.")
    folder = Path(parsed.database or "").parent
    if parsed.get_backend_name() == "sqlite" and url != default_storage() and not folder.is_dir():
        raise InputError("the folder of a SQLite storage exists", str(folder), "Make it first.")


def masked(url: str) -> str:
    """The URL less its password."""
    return make_url(url).render_as_string(hide_password=True)


class SharedStudy:
    """One study in one storage, as one worker sees it."""

    def __init__(self, study: optuna.Study, storage: RDBStorage, space: Space, seed: int) -> None:
        self.study, self._storage, self.space, self._seed = study, storage, space, seed
        self._lock = f"study-{fingerprints.of_value([storage.url, study.study_name])}"

    @classmethod
    def join(
        cls, url: str, name: str, definition: Mapping[str, Any], space: Space, heartbeat: int, seed: int = 0
    ) -> "SharedStudy":
        """Open the storage and the study, making each that is not there yet.

        Raises:
            InputError: the storage does not answer, or the study was defined otherwise.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with alone(f"storage-{fingerprints.of_value(url)}", wait=True):
            storage = _open(url, heartbeat)
            study, fresh = _study(storage, name, space)
            shared = cls(study, storage, space, seed)
            if fresh or not shared._settled():
                # the first trial before the definition: who finds a definition finds a whole study
                study.enqueue_trial(dict(space.first))
                study.set_user_attr(DEFINITION, dict(definition))
        shared._check(definition)
        return shared

    @property
    def name(self) -> str:
        """The study's name in its storage."""
        return str(self.study.study_name)

    @property
    def run_id(self) -> str | None:
        """The tracked run of the study."""
        found = self.study.user_attrs.get(RUN)
        return str(found) if found else None

    @run_id.setter
    def run_id(self, run_id: str) -> None:
        self.study.set_user_attr(RUN, run_id)

    def ledger(self, asked: int) -> Ledger:
        """The configurations as they stand now."""
        return Ledger.of(self.study.get_trials(deepcopy=False), asked, list(self.space.parameters))

    def claim(self, asked: int) -> Claim | None:
        """A trial to work on, or None where the others are at work on all there is.

        Dead workers' trials are taken up first. One worker of a machine claims at a time; between
        machines the ledger decides, which all read alike.
        """
        with alone(self._lock, wait=True):
            self._reap(asked)
            while self.ledger(asked).has_work:
                if claim := self._draw(asked):
                    return claim
        return None

    @contextlib.contextmanager
    def at_work(self, claim: Claim) -> Iterator[None]:
        """Heartbeats while the trial is worked on; an error or interrupt leaves it to be taken up."""
        stop = threading.Event()
        thread = threading.Thread(target=self._beat, args=(claim.trial._trial_id, stop), daemon=True)
        thread.start()
        try:
            yield
        except TakenOverError:
            raise
        except BaseException:
            with contextlib.suppress(Exception):
                self.study.tell(claim.trial, state=TrialState.FAIL)
            raise
        finally:
            stop.set()
            thread.join()

    def report(self, claim: Claim, value: float, evaluation: int) -> bool:
        """Tell the value at an evaluation (from 1); whether the trial is to be pruned.

        Raises:
            TakenOverError: this worker was held dead.
        """
        try:
            if evaluation not in claim.reported:
                claim.trial.report(value, evaluation)
            return bool(claim.trial.should_prune())
        except UpdateFinishedTrialError as error:
            raise TakenOverError(f"trial {claim.trial.number}") from error

    def finish(self, claim: Claim, value: float | None, reason: str | None = None) -> None:
        """Complete the trial with its value, or prune it for a reason.

        Raises:
            TakenOverError: this worker was held dead.
        """
        try:
            if reason is not None:
                claim.trial.set_user_attr(REASON, reason)
                self.study.tell(claim.trial, state=TrialState.PRUNED)
            else:
                self.study.tell(claim.trial, value)
        except (UpdateFinishedTrialError, ValueError) as error:
            raise TakenOverError(f"trial {claim.trial.number}") from error

    def _settled(self) -> bool:
        # another machine may be between making the study and defining it
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            if DEFINITION in self.study.user_attrs:
                return True
            time.sleep(0.2)
        return False

    def _check(self, definition: Mapping[str, Any]) -> None:
        if changes := difference(self.study.user_attrs[DEFINITION], definition):
            raise InputError(
                f"the study {self.name} goes on as it was defined",
                listed(changes),
                "Give the old values, or another name: --study NAME.",
            )

    def _reap(self, asked: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental
            fail_stale_trials(self.study)
        self._reap_unbegun()
        for lineage in self.ledger(asked).lineages:
            if lineage.orphaned:
                self._take_up(lineage)

    def _reap_unbegun(self) -> None:
        # Optuna holds a trial without any heartbeat for alive: its worker died before the first. Who sees it
        # records one in its place; if none follows, the database's clock tells, which all machines share
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not trial.user_attrs.keys() & {BEGUN, SEEN}:
                with contextlib.suppress(UpdateFinishedTrialError):
                    self._storage.record_heartbeat(trial._trial_id)
                    self._storage.set_trial_user_attr(trial._trial_id, SEEN, True)

    def _take_up(self, lineage: Lineage) -> None:
        """Queue the configuration again, with what was reported, so that pruning goes on where it was."""
        died = lineage.last
        kept = {k: v for k, v in died.system_attrs.items() if k == QUEUED or k.startswith("completed_rung")}
        again = optuna.create_trial(
            state=TrialState.WAITING,
            params=died.params,
            distributions=died.distributions,
            user_attrs={ORIGIN: lineage.origin, PREVIOUS: died.user_attrs.get(TRIAL_RUN)},
            system_attrs=kept,
            intermediate_values=died.intermediate_values,
        )
        self.study.add_trial(again)

    def _draw(self, asked: int) -> Claim | None:
        trial = self._ask()
        params = self.space.suggest(trial)
        self._storage.record_heartbeat(trial._trial_id)
        trial.set_user_attr(BEGUN, True)
        trials, names = self.study.get_trials(deepcopy=False), list(self.space.parameters)
        mine = next(one for one in trials if one.number == trial.number)
        if void := why_void(trials, trial.number, params, asked, names):
            trial.set_user_attr(VOID, void[0].format(number=void[1]))
            self.study.tell(trial, state=TrialState.FAIL)
            if void[0] is Void.SAME:
                self._draw_another()
            return None
        reported = frozenset(mine.intermediate_values)
        return Claim(trial, origin(mine), params, mine.user_attrs.get(PREVIOUS), reported)

    def _ask(self) -> optuna.Trial:
        # each draw has a stream of its own: workers with one seed would all suggest the same
        self.study.sampler = TPESampler(seed=mix(self._seed, len(self.study.get_trials(deepcopy=False))) % 2**32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # heartbeats are our own, optimize() has others
            return self.study.ask()

    def _draw_another(self) -> None:
        if self.space.size < float("inf"):
            names = list(self.space.parameters)
            seen = {key for trial in self.study.get_trials(deepcopy=False) if (key := config_key(trial, names))}
            self.study.enqueue_trial(self.space.unseen(seen, mix(self._seed, len(seen))))

    def _beat(self, trial_id: int, stop: threading.Event) -> None:
        while not stop.wait(self._storage.heartbeat_interval):
            # a storage that does not answer now may answer at the next beat
            with contextlib.suppress(Exception):
                self._storage.record_heartbeat(trial_id)
        self._storage.remove_session()


def pruner_of(space: Space) -> BasePruner:
    """Successive halving without synchronisation (Li et al. 2020, ASHA), or none."""
    if space.pruner is None:
        return NopPruner()
    return SuccessiveHalvingPruner(min_resource=space.pruner.first_rung, reduction_factor=space.pruner.factor)


def _open(url: str, heartbeat: int) -> RDBStorage:
    state_dir().mkdir(parents=True, exist_ok=True)
    waiting = {"connect_args": {"timeout": BUSY_SECONDS}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # heartbeats are experimental
                return RDBStorage(
                    url, engine_kwargs=waiting, heartbeat_interval=heartbeat, grace_period=GRACE * heartbeat
                )
        except RACES as error:
            # another machine is making the tables of a fresh database at this moment
            if time.monotonic() > deadline:
                raise _unanswered(url, error) from error
            time.sleep(0.2)
        except Exception as error:
            raise _unanswered(url, error) from error


def _unanswered(url: str, error: Exception) -> InputError:
    got = f"{masked(url)} ({(str(error).strip() or type(error).__name__).splitlines()[0][:300]})"
    return InputError("storage names a database that answers", got, "Start it, or mend the URL.")


def _study(storage: RDBStorage, name: str, space: Space) -> tuple[optuna.Study, bool]:
    pruner = pruner_of(space)
    try:
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize", pruner=pruner)
        return study, True
    except DuplicatedStudyError:
        return optuna.load_study(storage=storage, study_name=name, pruner=pruner), False
