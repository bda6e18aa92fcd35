"""What every place for studies and runs must stand: workers that die. Each place subclasses `StudyContract`."""

import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import optuna
import psutil
import pytest
import yaml
from mlflow import MlflowClient

from conftest import QUICK
from nursery import Child
from skillneurons.search.ledger import Ledger, config_key

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
LONG = {**FIXED, "max_steps": "180", "eval_every": "20", "heartbeat": 1, "final_seeds": "0", "threads": 1}
NAMES = list(SPACE["parameters"])


@dataclass(frozen=True)
class Place:
    """Where studies and runs are kept; the commands work in `folder`, with `env` beside what all tests have."""

    folder: Path
    tracking: str
    storage: str
    env: dict[str, str]

    @property
    def space(self) -> str:
        file = self.folder / "space.yaml"
        if not file.exists():  # a command may be reading it
            file.write_text(yaml.safe_dump(SPACE))
        return str(file)

    def begun(self) -> bool:
        """Whether it can be looked at: who looks at a SQLite file that is not there makes one."""
        urls = (self.tracking, self.storage)
        files = [Path(url.removeprefix("sqlite:///")) for url in urls if url.startswith("sqlite:///")]
        return all(file.is_file() for file in files)

    def client(self) -> MlflowClient:
        return MlflowClient(self.tracking)

    def study(self) -> optuna.Study:
        return optuna.load_study(study_name="film_notes.tiny-roberta", storage=self.storage)

    def trial_runs(self) -> list:
        return [run for run in self.runs("search trial") if "skillneurons.trial" in run.data.tags]

    def runs(self, stage: str) -> list:
        store = self.client()
        everywhere = [e.experiment_id for e in store.search_experiments()]
        return list(store.search_runs(everywhere, f"tags.`skillneurons.stage` = '{stage}'"))

    def someone_mid_trial(self, process: Child, rng: random.Random) -> tuple[int, str]:
        """The pid of a worker that has a checkpoint and is still at work, and its run."""
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[0]
            if self.begun():
                for run in rng.sample(found := self.trial_runs(), len(found)):
                    pid = int(run.data.tags["skillneurons.worker"].rpartition(":")[2])
                    evaluated = run.data.metrics.get("dev/curve/best_accuracy") is not None
                    if run.info.status == "RUNNING" and evaluated and psutil.pid_exists(pid):
                        return pid, run.info.run_id
            time.sleep(0.05)
        raise AssertionError("no worker came so far")


class StudyContract:
    """Subclasses have a fixture `place`."""

    @pytest.mark.timeout(1800)  # a dozen processes that each import torch, on two busy cores
    def test_workers_and_the_command_die_and_the_study_is_whole(self, start, place, tiny_roberta):
        asked, rng = 7, random.Random(os.getpid())
        command = {"model": tiny_roberta, "space": place.space, "trials": asked, "workers": 3, **LONG}
        process = start("search", env=place.env, spares=6, **command)
        died = set()
        for _ in range(2):
            pid, run_id = place.someone_mid_trial(process, rng)
            os.kill(pid, signal.SIGKILL)
            died.add(run_id)
            time.sleep(rng.uniform(0.2, 1.0))
        _, run_id = place.someone_mid_trial(process, rng)
        family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        for pid in family:
            os.kill(pid, signal.SIGKILL)
        out = process.communicate()[0]
        assert "another takes its place" in out
        died |= {run.info.run_id for run in place.trial_runs() if run.info.status == "RUNNING"}
        assert run_id in died

        again = start("search", env=place.env, spares=3, **command)
        out = again.communicate()[0]
        assert again.returncode == 0, out

        trials = place.study().get_trials()
        ledger = Ledger.of(trials, asked, NAMES)
        assert ledger.done
        counted = ledger.counted
        assert len(counted) == asked
        assert len({config_key(trial, NAMES) for trial in counted}) == asked
        finished = [
            t for t in trials if t.state in (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
        ]
        assert len(finished) == asked, "none beyond the number asked for, none twice"
        assert not [
            t for t in trials if t.state in (optuna.trial.TrialState.RUNNING, optuna.trial.TrialState.WAITING)
        ]

        runs = {run.info.run_id: run for run in place.trial_runs()}
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

        store = place.client()
        resumed = [run for run_id, run in runs.items() if "skillneurons.resumed_from_step" in run.data.tags]
        assert resumed, "at least one trial went on from its checkpoint"
        for run in resumed:
            begun = int(run.data.tags["skillneurons.resumed_from_step"])
            assert begun % 20 == 0
            assert begun > 0
            steps = [m.step for m in store.get_metric_history(run.info.run_id, "dev/curve/accuracy")]
            if run.info.run_id in of_counted:
                assert steps == list(range(0, steps[-1] + 1, 20)), "the whole curve, each point once"
        # a worker may have died before its first checkpoint, or as soon as it had taken up another's trial
        evaluated = {run_id for run_id in died if "dev/curve/best_accuracy" in runs[run_id].data.metrics}
        heirs = {runs[run_id].data.tags.get("skillneurons.superseded_by") for run_id in evaluated} - {None} - died
        assert heirs <= {run.info.run_id for run in resumed}, "who takes up a trial with a checkpoint starts from it"
        (parent,) = place.runs("search")
        assert parent.info.status == "FINISHED"
        assert not list((place.folder / ".skillneurons" / "checkpoints").glob("trial-*.pt"))

        third = start("search", env=place.env, **command)
        out = third.communicate()[0]
        assert third.returncode == 0, out
        assert f"finished as run {parent.info.run_id}" in out
        assert len(place.study().get_trials()) == len(trials)
