"""`main`: the four stages under one parent, each with its finding, its numbers whole, and found again."""

import os

from mlflow import MlflowClient

from conftest import QUICK, words
from skillneurons.cli import main
from table_walk import walked
from tiny_models import write_quips

STAGES = ("tune", "discover", "suppress", "robustness")


def test_four_stages_under_one_parent(tiny_roberta, workplace, capsys):
    asked = words("main", model=tiny_roberta, seeds="0,1", **QUICK)
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert [said.count(f"\n{number}. {stage}") for number, stage in enumerate(STAGES, start=1)] == [1] * 4
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    everywhere = [e.experiment_id for e in client.search_experiments()]
    runs = client.search_runs(everywhere)
    stages = {run.data.tags["skillneurons.stage"]: run for run in runs if "skillneurons.seed" not in run.data.tags}
    parent = stages["main"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    for stage in STAGES:
        assert stages[stage].data.tags["mlflow.parentRunId"] == parent.info.run_id
        finding = stages[stage].data.tags["mlflow.note.content"]
        assert finding in parent.data.tags["mlflow.note.content"]
    tables = walked(client, everywhere)
    assert {name.partition("/")[0] for name in tables} == set(STAGES)
    assert len(tables) > 8
    assert {name: lacks for name, lacks in tables.items() if lacks} == {}
    assert main(asked) == 0
    assert len(client.search_runs([parent.info.experiment_id])) == len(runs) + 5, "a parent and four that point"


def test_a_task_without_an_adversarial_version_is_not_attacked(tiny_roberta, workplace, capsys):
    assert main(words("main", model=tiny_roberta, **{**QUICK, "task": write_quips(workplace)})) == 0
    assert "there is no task adv_quips: nothing to attack with" in capsys.readouterr().out


def test_a_dry_run_says_what_would_be_done(tiny_roberta, workplace, capsys):
    assert main(words("main", model=tiny_roberta, dry_run="true", **QUICK)) == 0
    assert "then discover, suppress and robustness" in capsys.readouterr().out
    assert not (workplace / "mlflow.db").exists()
