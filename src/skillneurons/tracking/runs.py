"""Runs in MLflow: started, filled and ended through one client with explicit run ids.

The fluent API is not used: it keeps the active run in global state, and several processes share one
store here. Only this floor imports mlflow.
"""

import contextlib
import gc
import json
import logging
import os
import shlex
import shutil
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock
from matplotlib.figure import Figure

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

from mlflow import MlflowClient, set_tracking_uri
from mlflow.artifacts import download_artifacts, load_text
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH, MAX_TAG_VAL_LENGTH
from sqlalchemy.engine import make_url

from skillneurons import declarations
from skillneurons.data.splits import Split
from skillneurons.errors import InputError
from skillneurons.findings import Finding
from skillneurons.plots.style import write
from skillneurons.tracking import run_list_view

for _talker in ("mlflow.pyfunc", "mlflow.store.db.utils"):  # they tell of every model saved and of every new store
    logging.getLogger(_talker).setLevel(logging.WARNING)

ADDRESS = "skillneurons.address"
ERROR = "skillneurons.error"
STOPPED = "skillneurons.stopped"
SAME_AS = "skillneurons.same_as"
SUPERSEDED = "skillneurons.superseded_by"
HOST = "skillneurons.host"
HOLDS = "skillneurons.holds"  # the artifacts a run had when it finished
CHILDREN = "skillneurons.children"
PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
FINDING = "finding.json"
LOOKS = "skillneurons.looks_at_test"  # finished commands that had read these test rows before
SIGNATURES = "skillneurons.signatures"  # signs of failure, or "none"
TABLES = "mlflow.loggedArtifacts"  # by this the UI knows a JSON file for a table
PAGE = 1000  # entries a request
MAX_NAME = 250  # characters of a run's name that every kind of store holds
DEFAULT_URI = "sqlite:///mlflow.db"
DEFAULT_EXPERIMENT = "skillneurons"


class Stopped(Exception):  # noqa: N818 (as KeyboardInterrupt, no error)
    """Raised inside a run to end it KILLED for a reason that is no failure, e.g. a pruned trial."""


class Tracking:
    """One connection to a tracking store and the experiment new runs go to."""

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self.client, self.experiment_id = client, experiment_id

    @classmethod
    def connect(cls) -> "Tracking":
        """Connect as MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_ID or _NAME say; by default a local SQLite.

        Raises:
            InputError: the store cannot be reached, or holds no such experiment or no run MLFLOW_RUN_ID.
        """
        uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
        set_tracking_uri(uri)
        try:
            with _first_touch(uri):
                client = MlflowClient(uri)
                experiment_id = _experiment(client)
                _dress(client, experiment_id)
                _check_adopted(client)
                return cls(client, experiment_id)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                "MLFLOW_TRACKING_URI names a tracking store that answers",
                f"{uri} ({_first_line(error)})",
                "Start the server, mend the address, or unset it to use mlflow.db here.",
            ) from error

    @contextlib.contextmanager
    def run(
        self,
        name: str,
        tags: Mapping[str, str],
        parent: "Run | None" = None,
        adopt: bool = False,
        resume: str | None = None,
    ) -> Iterator["Run"]:
        """A run that ends FINISHED, FAILED with the reason in a tag, or KILLED by an interrupt.

        With `adopt` the run that `mlflow run` has made for this process is used, if there is one; with
        `resume` an older run goes on.
        """
        run_id = resume or (os.environ.get("MLFLOW_RUN_ID") if adopt else None)
        name = _shortened(name, MAX_NAME)
        tags = {"mlflow.runName": name, HOST: socket.gethostname(), **tags}
        if parent is not None:
            tags[PARENT] = parent.id
        if run_id is None:
            tags["mlflow.source.name"] = f"python -m skillneurons {tags.get('skillneurons.stage', '')}".strip()
            run_id = self.client.create_run(self.experiment_id, run_name=name, tags=tags).info.run_id
        run = Run(self.client, run_id)
        run.tags(tags)
        try:
            yield run
            run.tags({HOLDS: "\n".join(self._artifacts(run.id))})
        except KeyboardInterrupt as interrupt:
            _let_go(interrupt)
            run.end("KILLED", f"{str(interrupt) or 'interrupted'}; the same command resumes")
            raise
        except Stopped as stop:
            run.tags({STOPPED: str(stop)})
            run.end("KILLED")
            raise
        except BaseException as error:
            run.end("FAILED", _first_line(error))
            raise
        run.end("FINISHED")

    def ui(self, run_id: str) -> str:
        """The address of a run's page; where no server runs yet, with what starts one."""
        uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
        experiment_id = str(self.client.get_run(run_id).info.experiment_id)
        if uri.startswith("http"):
            return run_list_view.run_page(uri, experiment_id, run_id)
        start = (
            "make ui"
            if uri == DEFAULT_URI and Path("Makefile").is_file()
            else f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
        )
        return f"{run_list_view.run_page(run_list_view.LOCAL, experiment_id, run_id)} (start it with: {start})"

    def reopen(self, run_id: str | None) -> str | None:
        """Set an existing run RUNNING again; None where there is none, or it has been deleted."""
        if not run_id or not self._there(run_id):
            return None
        self.client.update_run(run_id, status="RUNNING")
        return run_id

    def finished(self, address: str) -> str | None:
        """The id of the newest FINISHED run with this address that did the work itself and still holds it."""
        for run in self._with_address(address, "FINISHED"):
            if SAME_AS in run.data.tags:
                continue
            if not (lost := self.lost(run.info.run_id)):
                return str(run.info.run_id)
            text = f"run {run.info.run_id} finished the same, but {lost} has been deleted: it cannot be used again"
            print(f"skillneurons: {text}", file=sys.stderr)
        return None

    def point(self, stage: str, title: str, done: str, parent: "Run | None" = None) -> None:
        """Where a run is expected of a command that had finished: one that points to the run that did it.

        It is a child of `parent`, or the run that `mlflow run` has made; without either nothing is written.
        """
        if parent is None and not os.environ.get("MLFLOW_RUN_ID"):
            return
        tags = {SAME_AS: done, "skillneurons.stage": stage}
        with self.run(f"{stage} {title} (found)", tags, parent, adopt=parent is None) as run:
            run.note(f"The same command had finished as run `{done}`; nothing was done again.")

    def supersede(self, address: str, by: "Run") -> list[str]:
        """End runs of this address that a crash on this machine left RUNNING; returns their ids.

        To be called by the holder of the address' lock: nobody else here is working on it.
        """
        left = [
            run.info.run_id
            for run in self._with_address(address, "RUNNING")
            if run.info.run_id != by.id and run.data.tags.get(HOST) == socket.gethostname()
        ]
        for run_id in left:
            Run(self.client, run_id).tags({SUPERSEDED: by.id})
            Run(self.client, run_id).end("KILLED", f"died without a word; resumed as {by.id}")
        return left

    def close(self, run_id: str, status: str, by: "Run | None" = None) -> None:
        """End a run whose process died, if it is RUNNING; with `by`, point to the run that took over."""
        with contextlib.suppress(MlflowException):  # it may have been deleted
            running = self.client.get_run(run_id).info.status == "RUNNING"
            if by is not None:
                Run(self.client, run_id).tags({SUPERSEDED: by.id})
            if running:
                Run(self.client, run_id).end(status, f"died without a word; resumed as {by.id}" if by else None)

    def tag(self, run_id: str, key: str) -> str | None:
        """A tag of a run, or None.

        Raises:
            InputError: there is no such run.
        """
        try:
            tags = self.client.get_run(run_id).data.tags
        except MlflowException as error:
            raise InputError(
                "runs:/<id> names a run of this tracking store",
                f"runs:/{run_id} ({_first_line(error)})",
                "Copy the id from the MLflow UI, and check MLFLOW_TRACKING_URI.",
            ) from error
        return _joined(tags, key)

    def worked(self, run_id: str) -> str:
        """The run that did the work: of one that points to it, that one."""
        return self.tag(run_id, SAME_AS) or run_id

    def last(self, stage: str, words: str = "") -> str:
        """`runs:/<id>` of the newest FINISHED run of a stage whose name holds the words.

        Args:
            stage: of a command, such as `tune`.
            words: `:film_notes` or nothing.

        Raises:
            InputError: there is none.
        """
        asked = words.removeprefix(":").strip()
        for run in self._where(f"tags.`skillneurons.stage` = '{stage}' and attributes.status = 'FINISHED'"):
            if asked in run.info.run_name and SAME_AS not in run.data.tags and _stage(run):
                return f"runs:/{run.info.run_id}"
        must = f"last{words} names a finished {stage} run of this tracking store"
        raise InputError(must, "none", f"Run {stage} first, or give runs:/<id>.")

    def nested(self, run_id: str, stage: str) -> list[str]:
        """The runs of a stage right below a run, newest first."""
        return [one.info.run_id for one in self._where(f"tags.`{PARENT}` = '{run_id}'") if _stage(one) == stage]

    def children(self, run_id: str) -> list[str]:
        """The runs whose work a run is made of; none of one that did it alone."""
        told = self.tag(run_id, CHILDREN)
        return told.split(",") if told else []

    def text(self, run_id: str, path: str) -> str:
        """A text artifact of a run.

        Raises:
            InputError: the run does not hold it.
        """
        try:
            return str(load_text(f"runs:/{run_id}/{path}"))
        except Exception as error:
            raise InputError(
                f"the run holds {path}", f"runs:/{run_id} without it", "Name a finished run of that stage."
            ) from error

    def found(self, run_id: str) -> Finding:
        """What a run found; of one that kept no structure its description is the headline."""
        with contextlib.suppress(InputError):
            return Finding.from_dict(json.loads(self.text(run_id, FINDING)))
        return Finding((self.tag(run_id, NOTE) or "").replace("**", ""))

    def table(self, run_id: str, path: str) -> pd.DataFrame:
        """A table that a run has logged, as it was given to `Run.table`.

        Raises:
            InputError: the run does not hold it.
        """
        return pd.DataFrame(**json.loads(self.text(run_id, path)))

    def download(self, run_id: str, path: str, folder: Path) -> None:
        """Put an artifact folder of a run at `folder`, in place of what is there.

        Raises:
            InputError: the run does not hold it.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as place:
            try:
                found = download_artifacts(artifact_uri=f"runs:/{run_id}/{path}", dst_path=place)
            except (MlflowException, OSError) as error:
                must, do = f"run {run_id} holds {path}", "Work it again with rerun=true."
                raise InputError(must, _first_line(error), do) from error
            shutil.rmtree(folder, ignore_errors=True)
            Path(found).rename(folder)

    def looks(self, splits: Iterable[Split]) -> int:
        """How many finished commands have read test rows of these tasks, cut to size or not, before."""
        found: dict[str, Any] = {}
        for name in {_name(split) for split in splits if split.role == "test"}:
            runs = self._where(f"dataset.name = '{name}' and attributes.status = 'FINISHED'")
            found |= {run.info.run_id: run for run in runs}
        # what a command's own children read it has read
        return sum(run.data.tags.get(PARENT) not in found for run in found.values())

    def _with_address(self, address: str, status: str) -> list[Any]:
        return self._where(f"tags.`{ADDRESS}` = '{address}' and attributes.status = '{status}'")

    def _where(self, where: str) -> list[Any]:
        """Runs of all experiments, newest first."""
        everywhere = [experiment.experiment_id for experiment in every(self.client.search_experiments)]
        found: list[Any] = []
        for start in range(0, len(everywhere), PAGE):
            found += every(self.client.search_runs, everywhere[start : start + PAGE], where)
        return sorted(found, key=lambda run: int(run.info.start_time), reverse=True)

    def _artifacts(self, run_id: str) -> list[str]:
        """Files of a run and of its folders; what lies deeper belongs to one of those."""
        top = self.client.list_artifacts(run_id)
        below = (self.client.list_artifacts(run_id, one.path) if one.is_dir else [one] for one in top)
        return [file.path for files in below for file in files]

    def lost(self, run_id: str) -> str | None:
        """What is gone of a finished run's artifacts, or of the runs that it is made of."""
        for one in (run_id, *self.children(run_id)):
            if not self._there(one):
                return f"run {one}"
            if gone := set((self.tag(one, HOLDS) or "").split("\n")) - {"", *self._artifacts(one)}:
                return f"{min(gone)} of run {one}"
        return None

    def _there(self, run_id: str) -> bool:
        with contextlib.suppress(MlflowException):
            return bool(self.client.get_run(run_id).info.lifecycle_stage == "active")
        return False


def _stage(run: Any) -> str | None:
    return None if "skillneurons.seed" in run.data.tags else run.data.tags.get("skillneurons.stage")


def every(search: Callable[..., Any], *args: Any) -> list[Any]:
    """All that one of the client's searches finds, page by page: it answers with a first page alone."""
    page = search(*args, max_results=PAGE)
    found = list(page)
    while page.token:
        page = search(*args, max_results=PAGE, page_token=page.token)
        found += page
    return found


class Run:
    """One run, written to by its id. A silent one (no client) is what other processes hold."""

    def __init__(self, client: MlflowClient | None = None, run_id: str = "") -> None:
        self._client, self.id = client, run_id

    def tags(self, tags: Mapping[str, object]) -> None:
        """Set tags in one request; `Tracking.tag` joins what is too long for one."""
        if self._client is not None:
            pieces = [RunTag(*piece) for key, value in tags.items() for piece in _pieces(key, str(value))]
            for start in range(0, len(pieces), 100):
                self._client.log_batch(self.id, tags=pieces[start : start + 100])

    def params(self, params: Mapping[str, object]) -> None:
        """Log parameters that the run does not have yet: `mlflow run` has logged what the user gave.

        One that is too long for the store ends in an ellipsis: `config.yaml` has it whole.
        """
        if self._client is None:
            return
        there = self._client.get_run(self.id).data.params
        new = [
            Param(key, _shortened(str(value), MAX_PARAM_VAL_LENGTH))
            for key, value in params.items()
            if key not in there
        ]
        for start in range(0, len(new), 100):
            self._client.log_batch(self.id, params=new[start : start + 100])

    def metrics(self, metrics: Mapping[str, float], step: int = 0, model_id: str | None = None) -> None:
        """Log metrics of one step in one request, of a logged model too; those that are not finite are left out."""
        self.curve(((name, value, step) for name, value in metrics.items()), model_id)

    def curve(self, points: Iterable[tuple[str, float, int]], model_id: str | None = None) -> None:
        """Log many (metric, value, step) points, a thousand to a request."""
        if self._client is None:
            return
        now = int(time.time() * 1000)
        of = {"model_id": model_id} if model_id else {}
        finite = [Metric(name, float(v), now, step, **of) for name, v, step in points if abs(v) < float("inf")]
        for start in range(0, len(finite), 1000):
            self._client.log_batch(self.id, metrics=finite[start : start + 1000])

    def signatures(self, found: Sequence[str]) -> None:
        """Signs of failure, as a column of the list of runs."""
        self.tags({SIGNATURES: ", ".join(found) or "none"})

    def note(self, markdown: str) -> None:
        """The description shown on the run's page."""
        self.tags({NOTE: markdown})

    def finding(self, found: Finding, more: str = "") -> None:
        """What was found: as the description, and whole as an artifact; `more` stands below it in the description."""
        self.note("\n\n".join([found.markdown, *([more] if more else [])]))
        if self._client is not None:
            self._client.log_dict(self.id, found.to_dict(), FINDING)

    def folder(self, folder: Path, path: str) -> None:
        """Upload a folder as the artifact folder `path`."""
        if self._client is not None:
            self._client.log_artifacts(self.id, str(folder), path)

    def yaml(self, value: Mapping[str, Any], path: str) -> None:
        """A mapping as a YAML artifact."""
        self.text(declarations.written(value), path)

    def text(self, text: str, path: str) -> None:
        """A text as an artifact."""
        if self._client is not None:
            self._client.log_text(self.id, text, path)

    def table(self, frame: pd.DataFrame, path: str) -> None:
        """A table that the UI shows and compares (JSON, floats in full, NaN as null).

        MLflow's own log_table keeps ten decimals: a p-value of 1e-12 would read as 0.
        """
        if self._client is not None:
            rows = [[None if cell != cell else cell for cell in row] for row in frame.itertuples(index=False)]
            self._client.log_dict(self.id, {"columns": list(frame.columns), "data": rows}, path)
            tables = json.loads(self._client.get_run(self.id).data.tags.get(TABLES, "[]"))
            told = {"path": path, "type": "table"}
            listed = json.dumps([*tables, *([] if told in tables else [told])])
            if len(listed) <= MAX_TAG_VAL_LENGTH:  # the UI reads it as one value: better one table less
                self.tags({TABLES: listed})

    def parquet(self, frame: pd.DataFrame, path: str) -> None:
        """A table as a Parquet artifact."""
        if self._client is not None:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / Path(path).name
                frame.to_parquet(file, index=False)
                self._client.log_artifact(self.id, str(file), str(Path(path).parent))

    def figure(self, figure: Figure, path: str) -> None:
        """A figure as a PNG artifact."""
        if self._client is not None:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / Path(path).name
                write(figure, file)
                self._client.log_artifact(self.id, str(file), str(Path(path).parent))

    def inputs(self, splits: Iterable[Split]) -> None:
        """Link the data sets a run has read: name, fingerprint, source, size and balance."""
        if self._client is not None:
            self._client.log_inputs(self.id, [_dataset(split) for split in splits])

    def end(self, status: str, reason: str | None = None) -> None:
        """End the run; a reason goes into a tag."""
        if self._client is None:
            return
        if reason:
            self.tags({ERROR: reason})
        self._client.set_terminated(self.id, status)

    def artifact_path(self, path: str) -> str:
        """Where an artifact can be opened: a local path where the store is local, else its address."""
        uri = self._client.get_run(self.id).info.artifact_uri if self._client else ""
        return f"{local_file_uri_to_path(uri)}/{path}"


def fail_adopted(reason: str) -> None:
    """Mark the run that `mlflow run` made for this process FAILED, the reason in a tag; else nothing."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    # what is wrong may be the store or that run itself; it has been said
    with contextlib.suppress(InputError, MlflowException):
        if run_id:
            Run(Tracking.connect().client, run_id).end("FAILED", reason)


def _dataset(split: Split) -> DatasetInput:
    profile = {"rows": len(split), "majority_rate": round(split.majority_rate, 4), "counts": _counts(split)}
    dataset = Dataset(
        name=_name(split),
        digest=split.fingerprint[:32],
        source_type=split.source.partition(":")[0],
        source=json.dumps({"source": split.source}),
        schema=json.dumps({"mlflow_colspec": _columns(split)}),
        profile=json.dumps(profile),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", split.role)])


def _columns(split: Split) -> list[dict[str, object]]:
    """The text fields and the label, as MLflow writes a schema."""
    fields = split.fields or tuple(f"text {i + 1}" for i in range(len(split.rows[0]) if split.rows else 0))
    return [{"name": name, "type": "string", "required": True} for name in (*fields, "label")]


def _name(split: Split) -> str:
    return f"{split.task}/{split.role}"


def _counts(split: Split) -> list[int]:
    return [int(count) for count in split.counts]


@contextlib.contextmanager
def _first_touch(uri: str) -> Iterator[None]:
    # MLflow's SQLite migration is not safe for several processes at once: one does it, the others wait.
    file = (make_url(uri).database or "").removeprefix("file:") if uri.startswith("sqlite") else ""
    if file in ("", ":memory:"):
        yield
        return
    database = Path(file)
    if not database.parent.is_dir():
        raise InputError("the folder of a SQLite tracking store exists", str(database.parent), "Make it first.")
    with FileLock(f"{database}.lock"):
        yield


def _experiment(client: MlflowClient) -> str:
    if experiment_id := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return _active(_known(client, experiment_id), "MLFLOW_EXPERIMENT_ID")
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
    for _ in range(2):
        if found := client.get_experiment_by_name(name):
            return _active(found, "MLFLOW_EXPERIMENT_NAME")
        # another process may make it between the question and the answer
        with contextlib.suppress(MlflowException):
            return str(client.create_experiment(name))
    raise InputError("the experiment can be made", name, "Choose another: MLFLOW_EXPERIMENT_NAME.")


def _known(client: MlflowClient, experiment_id: str) -> Any:
    try:
        return client.get_experiment(experiment_id)
    except MlflowException as error:
        must, do = "MLFLOW_EXPERIMENT_ID names an experiment of this store", "Unset it, or copy the id from the UI."
        raise InputError(must, f"{experiment_id} ({_first_line(error)})", do) from error


def _active(experiment: Any, variable: str) -> str:
    if experiment.lifecycle_stage != "active":
        do = f"Restore it (mlflow experiments restore -x {experiment.experiment_id}), or name another: {variable}."
        got = f"{experiment.name}, which has been deleted"
        raise InputError("the experiment that runs go to is there", got, do)
    return str(experiment.experiment_id)


def _check_adopted(client: MlflowClient) -> None:
    if not (run_id := os.environ.get("MLFLOW_RUN_ID")):
        return
    try:
        stage = client.get_run(run_id).info.lifecycle_stage
    except MlflowException as error:
        stage = _first_line(error)
    if stage != "active":
        must = "MLFLOW_RUN_ID names the run that mlflow run has made for this command"
        raise InputError(must, f"{run_id} ({stage})", "Unset it: the command then makes a run of its own.")


def _dress(client: MlflowClient, experiment_id: str) -> None:
    # what somebody has changed in the UI stays as it is
    there = client.get_experiment(experiment_id).tags
    for key in run_list_view.TAGS.keys() - there.keys():
        # another process may set it at this moment, or this user may not: no reason to do no work
        with contextlib.suppress(MlflowException):
            client.set_experiment_tag(experiment_id, key, run_list_view.TAGS[key])


def _pieces(key: str, value: str) -> Iterator[tuple[str, str]]:
    """A tag as the store takes it: a full piece is followed by the next, `key.2` and so on."""
    for number, start in enumerate(range(0, len(value) + 1, MAX_TAG_VAL_LENGTH), 1):
        yield key if number == 1 else f"{key}.{number}", value[start : start + MAX_TAG_VAL_LENGTH]


def _joined(tags: Mapping[str, str], key: str) -> str | None:
    found = piece = tags.get(key)
    number = 2
    while found is not None and piece is not None and len(piece) == MAX_TAG_VAL_LENGTH:
        piece = tags.get(f"{key}.{number}", "")
        found, number = found + piece, number + 1
    return found


def _shortened(value: str, limit: int) -> str:
    return value if len(value) <= limit else f"{value[: limit - 1]}…"


def _let_go(interrupt: BaseException | None) -> None:
    """Free what an interrupt's frames hold: the cursor of a statement it cut off keeps the database locked."""
    while interrupt is not None:
        traceback.clear_frames(interrupt.__traceback__)
        interrupt = interrupt.__context__
    gc.collect()


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:500]
