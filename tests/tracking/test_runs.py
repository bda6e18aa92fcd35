"""The tracking store as it comes: full, deleted from, cleaned, in a folder with a space."""

import contextlib
import os
import shlex
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from conftest import rows_of
from skillneurons.errors import InputError
from skillneurons.tracking.runs import ADDRESS, CHILDREN, NOTE, SAME_AS, Run, Tracking, every, fail_adopted

TAGS = {"skillneurons.stage": "test", ADDRESS: "abc"}


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its tables and nothing else: making one takes seconds."""
    file = tmp_path_factory.mktemp("schema") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def tracking(workplace: Path, schema: Path) -> Tracking:
    shutil.copy(schema, workplace)
    return Tracking.connect()


def finish(tracking: Tracking, **tags: str) -> str:
    with tracking.run("one", {**TAGS, **tags}) as run:
        run.yaml({"made": True}, "deep/inside.yaml")
        run.yaml({"made": True}, "result.yaml")
    return run.id


def stored(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(folder / "mlflow.db")


def test_a_finished_run_is_found_beyond_the_first_page_of_experiments(workplace, tracking):
    run_id = finish(tracking)
    with stored(workplace) as database:
        (columns,) = zip(*database.execute("select name from pragma_table_info('experiments')"), strict=True)
        (workspace,) = database.execute("select workspace from experiments").fetchone()
        late = 10**13
        database.executemany(
            f"insert into experiments ({', '.join(columns)}) values ({', '.join(['?'] * len(columns))})",
            [
                tuple(
                    {
                        "experiment_id": 1000 + n,
                        "name": f"other {n}",
                        "artifact_location": "",
                        "lifecycle_stage": "active",
                        "creation_time": late,
                        "last_update_time": late,
                        "workspace": workspace,
                    }.get(column)
                    for column in columns
                )
                for n in range(1001)
            ],
        )
    assert len(MlflowClient().search_experiments()) == 1000, "the oldest is on a page of its own"
    assert len(every(tracking.client.search_experiments)) == 1003
    assert tracking.finished("abc") == run_id


def test_a_finished_run_is_found_beyond_the_first_page_of_runs(workplace, tracking):
    run_id = finish(tracking)
    with stored(workplace) as database:
        row = database.execute("select * from runs where run_uuid = ?", [run_id])
        columns, values = [one[0] for one in row.description], row.fetchone()
        known = dict(zip(columns, values, strict=True))
        runs = [{**known, "run_uuid": f"{n:032x}", "start_time": known["start_time"] + 1 + n} for n in range(1001)]
        marks = ", ".join(["?"] * len(columns))
        database.executemany(f"insert into runs values ({marks})", [tuple(run.values()) for run in runs])
        database.executemany(
            "insert into tags (key, value, run_uuid) values (?, ?, ?)",
            [(key, "abc", run["run_uuid"]) for run in runs for key in (ADDRESS, SAME_AS)],
        )
    assert tracking.finished("abc") == run_id


@pytest.mark.parametrize("lost", ["result.yaml", "deep/inside.yaml", "deep", "."])
def test_a_run_whose_artifacts_are_gone_is_not_used_again_and_that_is_said(tracking, capsys, lost):
    older, newer = finish(tracking), finish(tracking)
    assert tracking.finished("abc") == newer
    capsys.readouterr()
    place = Path(Run(tracking.client, newer).artifact_path(lost))
    place.unlink() if place.is_file() else shutil.rmtree(place)
    assert tracking.finished("abc") == older
    said = capsys.readouterr().err
    assert newer in said
    assert "deleted" in said
    assert said.count("\n") == 1


def test_a_run_is_as_whole_as_its_children(tracking, capsys):
    children = [finish(tracking, **{ADDRESS: f"child {n}"}) for n in range(2)]
    parent = finish(tracking, **{CHILDREN: ",".join(children)})
    assert tracking.finished("abc") == parent
    tracking.client.delete_run(children[0])
    assert tracking.finished("abc") is None
    assert f"run {children[0]} has been deleted" in capsys.readouterr().err
    tracking.client.restore_run(children[0])
    assert tracking.finished("abc") == parent
    shutil.rmtree(Run(tracking.client, children[1]).artifact_path(""))
    assert tracking.finished("abc") is None
    assert children[1] in capsys.readouterr().err


@pytest.mark.parametrize("length", [7999, 8000, 8001, 16_000, 25_000])
def test_what_is_read_back_from_a_tag_is_whole(tracking, length):
    text = "".join(chr(97 + n % 26) for n in range(length))
    with tracking.run("long", TAGS) as run:
        run.note(text)
    assert tracking.tag(run.id, NOTE) == text
    run.note("short")
    assert tracking.tag(run.id, NOTE) == "short"


def test_the_children_of_many_seeds_are_all_told(tracking):
    ids = [f"{n:032x}" for n in range(250)]
    with tracking.run("many", TAGS) as run:
        run.tags({CHILDREN: ",".join(ids)})
    assert tracking.children(run.id) == ids


def test_a_long_name_and_a_long_parameter_are_cut_where_one_sees_it(tracking):
    with tracking.run("t" * 300, TAGS) as run:
        run.params({"prompts": "x" * 7000, "short": "y" * 6000})
    assert tracking.client.get_run(run.id).info.run_name == "t" * 249 + "…"
    logged = tracking.client.get_run(run.id).data.params
    assert logged == {"prompts": "x" * 5999 + "…", "short": "y" * 6000}


def test_a_deleted_experiment_is_named_in_one_line(tracking, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    tracking = Tracking.connect()
    tracking.client.delete_experiment(tracking.experiment_id)
    with pytest.raises(InputError, match=r"mine.*deleted.*restore.*MLFLOW_EXPERIMENT_NAME"):
        Tracking.connect()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", tracking.experiment_id)
    with pytest.raises(InputError, match=r"mine.*deleted.*MLFLOW_EXPERIMENT_ID"):
        Tracking.connect()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "987654")
    with pytest.raises(InputError, match="MLFLOW_EXPERIMENT_ID names an experiment.*987654"):
        Tracking.connect()
    tracking.client.restore_experiment(tracking.experiment_id)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    assert Tracking.connect().experiment_id == tracking.experiment_id


@pytest.mark.parametrize("kind", ["missing", "deleted", "no id"])
def test_a_run_that_is_not_there_cannot_be_adopted(tracking, monkeypatch, kind):
    run_id = {"missing": "0" * 32, "no id": "?!"}.get(kind) or finish(tracking)
    if kind == "deleted":
        tracking.client.delete_run(run_id)
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    with pytest.raises(InputError, match="MLFLOW_RUN_ID names the run") as refused:
        Tracking.connect()
    assert "\n" not in str(refused.value)
    fail_adopted(str(refused.value))  # nothing can be marked, and nothing is raised


def test_a_store_that_does_not_answer_is_told_once(workplace, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workplace}/nowhere/mlflow.db")
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    fail_adopted("a mistake")


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:///{encoded}/mlflow.db",
        "sqlite:///{plain}/mlflow.db",
        "sqlite:///mlflow.db",
        "sqlite:///{encoded}/mlflow.db?timeout=30",
        "sqlite+pysqlite:///{encoded}/mlflow.db",
    ],
)
def test_a_folder_with_a_space_holds_one_database_and_one_lock(workplace, schema, monkeypatch, uri):
    folder = workplace / "with a space"
    folder.mkdir()
    shutil.copy(schema, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(encoded=str(folder).replace(" ", "%20"), plain=folder))
    tracking = Tracking.connect()
    run = finish(tracking)
    with stored(folder) as database:
        assert database.execute("select run_uuid from runs").fetchall() == [(run,)]
    assert (folder / "mlflow.db.lock").is_file()
    assert Path(Run(tracking.client, run).artifact_path("result.yaml")).is_file()
    assert tracking.finished("abc") == run
    with tracking.run("one", {}) as run:
        pass
    link, _, start = tracking.ui(run.id).partition(" (start it with: ")
    assert link.endswith(f"/#/experiments/{tracking.experiment_id}/runs/{run.id}")
    assert shlex.split(start.removesuffix(")"))[-1] == os.environ["MLFLOW_TRACKING_URI"]


def test_no_file_is_made_of_a_database_in_memory(workplace, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///:memory:")
    Tracking.connect()
    assert not list(workplace.glob("*memory*"))


def test_looks_at_test_rows_are_counted_over_commands(tracking):
    test = rows_of(np.arange(6) % 2, ("no", "yes"))
    rows = {"test": test, "dev": replace(test, role="dev")}
    assert tracking.looks(rows.values()) == 0
    with tracking.run("first", TAGS) as run:
        run.inputs([rows["test"]])
        with tracking.run("its seed", TAGS, run) as child:
            child.inputs([rows["test"]])
        assert tracking.looks([rows["test"]]) == 1, "the child alone has finished"
    assert tracking.looks([rows["test"]]) == 1, "what its child read the command has read"
    with tracking.run("second", TAGS) as run:
        run.inputs(rows.values())
    with tracking.run("on dev alone", TAGS) as run:
        run.inputs([rows["dev"]])
    with contextlib.suppress(ArithmeticError), tracking.run("third", TAGS) as run:
        run.inputs([rows["test"]])
        raise ArithmeticError
    assert tracking.looks(rows.values()) == 2
    assert tracking.looks([rows["dev"]]) == 0
