"""A study that several processes share through SQLite: nothing is lost, nothing is counted twice, nobody crashes."""

import random
import signal
from pathlib import Path

import pytest

from nursery import SCHEMA
from search_contract import FIXED, LONG, NAMES, Place, StudyContract
from skillneurons.search.ledger import Ledger, config_key


@pytest.fixture
def place(workplace: Path) -> Place:
    """As a command finds it without any settings."""
    storage = f"sqlite:///{workplace}/.skillneurons/search.db"
    return Place(workplace, f"sqlite:///{workplace}/mlflow.db", storage, {})


class TestSQLite(StudyContract):
    pass


@pytest.mark.timeout(1800)  # a dozen processes that each import torch, on two busy cores
def test_ten_workers_at_once_on_fresh_storage_and_tracking(start, place, tiny_roberta):
    short = {**FIXED, "max_steps": "16", "eval_every": "8", "final_seeds": "0", "threads": 1}
    processes = [
        start("search", env={**place.env, SCHEMA: ""}, model=tiny_roberta, space=place.space, trials=12, **short)
        for _ in range(10)
    ]
    outs = [process.communicate()[0] for process in processes]
    for process, out in zip(processes, outs, strict=True):
        assert process.returncode == 0, out
        assert "Traceback" not in out
    trials = place.study().get_trials()
    counted = Ledger.of(trials, 12, NAMES).counted
    assert len(counted) == 12
    assert len({config_key(trial, NAMES) for trial in counted}) == 12
    (parent,) = place.runs("search")
    assert parent.info.status == "FINISHED"
    runs = place.trial_runs()
    assert len(runs) == 12
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {parent.info.run_id}
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}


def test_an_interrupt_gives_the_trial_back_and_the_same_command_goes_on(start, place, tiny_roberta):
    command = {"model": tiny_roberta, "space": place.space, "trials": 3, **LONG}
    process = start("search", env=place.env, **command)
    place.someone_mid_trial(process, random.Random(0))
    process.send_signal(signal.SIGINT)
    out = process.communicate()[0]
    assert process.returncode == 130, out
    assert "takes up where this one stopped" in out
    assert "Traceback" not in out
    before = {run.info.run_id for run in place.trial_runs()}
    assert "KILLED" in {run.info.status for run in place.trial_runs()}
    (parent,) = place.runs("search")
    assert parent.info.status == "KILLED"
    again = start("search", env=place.env, **command)
    out = again.communicate()[0]
    assert again.returncode == 0, out
    assert "taken up at step" in out
    assert len(Ledger.of(place.study().get_trials(), 3, NAMES).counted) == 3
    (parent,) = place.runs("search")
    assert parent.info.status == "FINISHED"
    assert before < {run.info.run_id for run in place.trial_runs()}
