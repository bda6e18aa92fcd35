"""Which configurations a study has, from the trials in its storage: a trial that died and was taken up is one.

A trial's number is given by the storage to one worker alone, and never twice. So every worker, on whatever
machine, reads the same ledger from the same trials, and they agree without talking to each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from skillneurons.search.space import key

ORIGIN, VOID, PREVIOUS = "origin", "void", "previous_run"
QUEUED = "fixed_params"  # Optuna's name for what enqueue_trial was given
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
OPEN = (TrialState.RUNNING, TrialState.WAITING)
MAX_DEATHS = 5


class Void(StrEnum):
    """Why a trial that was just drawn is not to be worked on, with the number that says which or how many."""

    TAKEN_UP = "trial {number} has taken it up"
    SAME = "the same settings as trial {number}"
    BEYOND = "{number} configurations are at work"


@dataclass(frozen=True)
class Lineage:
    """One configuration: the trial it began as, and those that took it up again, by number."""

    origin: int
    trials: tuple[FrozenTrial, ...]

    @property
    def counted(self) -> FrozenTrial | None:
        """The trial that completed it, or was pruned."""
        return next((trial for trial in self.trials if trial.state in COUNTED), None)

    @property
    def open(self) -> FrozenTrial | None:
        """The trial that is at work on it, or waits for a worker."""
        return next((trial for trial in self.trials if trial.state in OPEN), None)

    @property
    def orphaned(self) -> bool:
        """Whether its last worker died and nobody has taken it up."""
        return self.counted is None and self.open is None

    @property
    def last(self) -> FrozenTrial:
        """The newest attempt."""
        return self.trials[-1]


@dataclass(frozen=True)
class Ledger:
    """The configurations that count towards the number asked for, the lowest origins first."""

    asked: int
    lineages: tuple[Lineage, ...]

    @classmethod
    def of(cls, trials: Sequence[FrozenTrial], asked: int, names: Sequence[str]) -> "Ledger":
        """Read the trials of a study whose space has these parameters."""
        return cls(asked, tuple(_distinct(_lineages(trials), names)[:asked]))

    @property
    def counted(self) -> list[FrozenTrial]:
        """The trials that completed or were pruned, one a configuration."""
        return [trial for lineage in self.lineages if (trial := lineage.counted)]

    @property
    def done(self) -> bool:
        """Whether all configurations asked for are complete or pruned."""
        return len(self.counted) == self.asked

    @property
    def has_work(self) -> bool:
        """Whether a worker that asks now gets a trial."""
        waiting = any(lin.open and lin.open.state == TrialState.WAITING for lin in self.lineages)
        return waiting or len(self.lineages) < self.asked

    @property
    def winner(self) -> FrozenTrial | None:
        """The complete trial with the highest value; on a tie the older one."""
        complete = [trial for trial in self.counted if trial.state == TrialState.COMPLETE]
        return max(complete, key=lambda trial: (trial.value or 0.0, -trial.number), default=None)


def why_void(
    trials: Sequence[FrozenTrial], number: int, params: Mapping[str, Any], asked: int, names: Sequence[str]
) -> tuple[Void, int] | None:
    """Why a trial that was just drawn is not to be worked on, if so, and the number that goes with it."""
    mine = next(trial for trial in trials if trial.number == number)
    others = [trial for trial in trials if trial.number != number]
    kin = [trial for trial in others if origin(trial) == origin(mine) and trial.number < number]
    if twin := next((trial for trial in kin if trial.state in (*COUNTED, *OPEN)), None):
        return Void.TAKEN_UP, twin.number
    if kin:
        return None
    earlier = [lin for lin in _distinct(_lineages(others), names) if lin.origin < origin(mine)]
    same = next((lin for lin in earlier if config_key(lin.last, names) == key(params)), None)
    if same:
        return Void.SAME, same.origin
    return (Void.BEYOND, asked) if len(earlier) >= asked else None


def origin(trial: FrozenTrial) -> int:
    """The number of the trial that a configuration began as."""
    return int(trial.user_attrs.get(ORIGIN, trial.number))


def config_key(trial: FrozenTrial, names: Sequence[str]) -> str | None:
    """The configuration's key; None while its worker has not drawn all parameters."""
    params = {**trial.system_attrs.get(QUEUED, {}), **trial.params}
    return key(params) if set(names) <= params.keys() else None


def _lineages(trials: Sequence[FrozenTrial]) -> list[Lineage]:
    groups: dict[int, list[FrozenTrial]] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        if VOID not in trial.user_attrs:
            groups.setdefault(origin(trial), []).append(trial)
    found = [Lineage(first, tuple(group)) for first, group in sorted(groups.items())]
    return [lin for lin in found if not (lin.orphaned and len(lin.trials) >= MAX_DEATHS)]


def _distinct(lineages: Sequence[Lineage], names: Sequence[str]) -> list[Lineage]:
    """The lineages, each configuration once: the one that is counted, else the oldest."""
    best: dict[str, Lineage] = {}
    for lin in sorted(lineages, key=lambda lin: (lin.counted is None, lin.origin)):
        best.setdefault(config_key(lin.last, names) or f"drawing {lin.origin}", lin)
    return sorted(best.values(), key=lambda lin: lin.origin)
