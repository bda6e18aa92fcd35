"""A study whose workers die, join and race: nothing is lost, nothing is counted twice, nobody crashes."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import optuna
import psutil
import pytest
import yaml
from mlflow import MlflowClient

from conftest import QUICK
from skillneurons.search_ledger import Ledger, config_key

SPACE = {
    "search": "tune",
    "version": 1,
    "parameters": {
        "learning_rate": {"low": 1e-3, "high": 1.0, "log": True},
        "batch_size": {"choices": [4, 8]},
    },
    "first": {"learning_rate": 0.05, "batch_size": 8},
    "pruner": {"first_rung": 3, "factor": 2},
}
FIXED = {name: value for name, value in QUICK.items() if name not in SPACE["parameters"]}
LONG = {**FIXED, "max_steps": "240", "eval_every": "20", "heartbeat": 1, "final_seeds": "0", "threads": 1}
NAMES = list(SPACE["parameters"])


@pytest.fixture
def space(workplace) -> str:
    file = workplace / "space.yaml"
    file.write_text(yaml.safe_dump(SPACE))
    return str(file)


def study(folder: Path) -> optuna.Study:
    storage = f"sqlite:///{folder}/.skillneurons/search.db"
    return optuna.load_study(study_name="film_notes.tiny-roberta", storage=storage)


def trial_runs(folder: Path) -> list:
    store = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    everywhere = [e.experiment_id for e in store.search_experiments()]
    found = store.search_runs(everywhere, "tags.`skillneurons.stage` = 'search trial'")
    return [run for run in found if "skillneurons.trial" in run.data.tags]


def studies_runs(folder: Path) -> list:
    store = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    everywhere = [e.experiment_id for e in store.search_experiments()]
    return list(store.search_runs(everywhere, "tags.`skillneurons.stage` = 'search'"))


def someone_mid_trial(process: subprocess.Popen, folder: Path, rng: random.Random) -> tuple[int, str]:
    """The pid of a worker that has a checkpoint and is still at work, and its run."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        if (folder / "mlflow.db").is_file() and (folder / ".skillneurons" / "search.db").is_file():
            for run in rng.sample(found := trial_runs(folder), len(found)):
                pid = int(run.data.tags["skillneurons.worker"].rpartition(":")[2])
                evaluated = run.data.metrics.get("dev/curve/best_accuracy") is not None
                if run.info.status == "RUNNING" and evaluated and psutil.pid_exists(pid):
                    return pid, run.info.run_id
        time.sleep(0.05)
    raise AssertionError("no worker came so far")


@pytest.mark.timeout(1800)  # a dozen processes that each import torch, on two busy cores
def test_workers_and_the_command_die_and_the_study_is_whole(start, workplace, tiny_roberta, space):
    asked, rng = 7, random.Random(os.getpid())
    command = {"model": tiny_roberta, "space": space, "trials": asked, "workers": 3, **LONG}
    process = start("search", **command)
    died = set()
    for _ in range(2):
        pid, run_id = someone_mid_trial(process, workplace, rng)
        os.kill(pid, signal.SIGKILL)
        died.add(run_id)
        time.sleep(rng.uniform(0.2, 1.0))
    _, run_id = someone_mid_trial(process, workplace, rng)
    family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
    for pid in family:
        os.kill(pid, signal.SIGKILL)
    out = process.communicate()[0]
    assert "another takes its place" in out
    died |= {run.info.run_id for run in trial_runs(workplace) if run.info.status == "RUNNING"}
    assert run_id in died

    again = start("search", **command)
    out = again.communicate()[0]
    assert again.returncode == 0, out

    trials = study(workplace).get_trials()
    ledger = Ledger.of(trials, asked, NAMES)
    assert ledger.done
    counted = ledger.counted
    assert len(counted) == asked
    assert len({config_key(trial, NAMES) for trial in counted}) == asked
    finished = [t for t in trials if t.state in (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)]
    assert len(finished) == asked, "none beyond the number asked for, none twice"
    assert not [t for t in trials if t.state in (optuna.trial.TrialState.RUNNING, optuna.trial.TrialState.WAITING)]

    runs = {run.info.run_id: run for run in trial_runs(workplace)}
    of_counted = {trial.user_attrs["run"] for trial in counted}
    assert len(of_counted) == asked
    for trial in counted:
        run = runs[trial.user_attrs["run"]]
        complete = trial.state == optuna.trial.TrialState.COMPLETE
        assert run.info.status == ("FINISHED" if complete else "KILLED")
        assert ("skillneurons.stopped" in run.data.tags) is not complete
        assert "skillneurons.superseded_by" not in run.data.tags
    for run_id in died:
        assert runs[run_id].info.status == "KILLED"
        # a worker may also have died between the outcome and the end of its run, which then stands
        assert run_id in of_counted or runs[run_id].data.tags["skillneurons.superseded_by"] in runs
    assert not {run.info.status for run in runs.values()} & {"RUNNING", "FAILED"}

    store = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    resumed = [run for run_id, run in runs.items() if "skillneurons.resumed_from_step" in run.data.tags]
    assert resumed, "at least one trial went on from its checkpoint"
    for run in resumed:
        begun = int(run.data.tags["skillneurons.resumed_from_step"])
        assert begun % 20 == 0
        assert begun > 0
        steps = [m.step for m in store.get_metric_history(run.info.run_id, "dev/curve/accuracy")]
        if run.info.run_id in of_counted:
            assert steps == list(range(0, steps[-1] + 1, 20)), "the whole curve, each point once"
    heirs = {runs[run_id].data.tags.get("skillneurons.superseded_by") for run_id in died} - {None}
    assert heirs <= {run.info.run_id for run in resumed}, "who takes up a trial with a checkpoint starts from it"
    (parent,) = studies_runs(workplace)
    assert parent.info.status == "FINISHED"
    assert not list((workplace / ".skillneurons" / "checkpoints").glob("trial-*.pt"))

    third = start("search", **command)
    out = third.communicate()[0]
    assert third.returncode == 0, out
    assert f"finished as run {parent.info.run_id}" in out
    assert len(study(workplace).get_trials()) == len(trials)


@pytest.mark.timeout(1800)  # a dozen processes that each import torch, on two busy cores
def test_ten_workers_at_once_on_fresh_storage_and_tracking(start, workplace, tiny_roberta, space):
    short = {**FIXED, "max_steps": "16", "eval_every": "8", "final_seeds": "0", "threads": 1}
    processes = [start("search", model=tiny_roberta, space=space, trials=12, **short) for _ in range(10)]
    outs = [process.communicate()[0] for process in processes]
    for process, out in zip(processes, outs, strict=True):
        assert process.returncode == 0, out
        assert "Traceback" not in out
    trials = study(workplace).get_trials()
    counted = Ledger.of(trials, 12, NAMES).counted
    assert len(counted) == 12
    assert len({config_key(trial, NAMES) for trial in counted}) == 12
    (parent,) = studies_runs(workplace)
    assert parent.info.status == "FINISHED"
    runs = trial_runs(workplace)
    assert len(runs) == 12
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {parent.info.run_id}
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}


def test_an_interrupt_gives_the_trial_back_and_the_same_command_goes_on(start, workplace, tiny_roberta, space):
    command = {"model": tiny_roberta, "space": space, "trials": 3, **LONG}
    process = start("search", **command)
    someone_mid_trial(process, workplace, random.Random(0))
    process.send_signal(signal.SIGINT)
    out = process.communicate()[0]
    assert process.returncode == 130, out
    assert "takes up where this one stopped" in out
    assert "Traceback" not in out
    before = {run.info.run_id for run in trial_runs(workplace)}
    assert "KILLED" in {run.info.status for run in trial_runs(workplace)}
    (parent,) = studies_runs(workplace)
    assert parent.info.status == "KILLED"
    again = start("search", **command)
    out = again.communicate()[0]
    assert again.returncode == 0, out
    assert "taken up at step" in out
    assert len(Ledger.of(study(workplace).get_trials(), 3, NAMES).counted) == 3
    (parent,) = studies_runs(workplace)
    assert parent.info.status == "FINISHED"
    assert before < {run.info.run_id for run in trial_runs(workplace)}
