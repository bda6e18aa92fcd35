"""`main`: the three stages under one parent, each with its finding, and found again."""

import os

from mlflow import MlflowClient

from conftest import QUICK, words
from skillneurons.cli import main


def test_three_stages_under_one_parent(tiny_roberta, workplace, capsys):
    asked = words("main", model=tiny_roberta, seeds="0", **QUICK)
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert [said.count(f"\n{n}. {stage}") for n, stage in ((1, "tune"), (2, "discover"), (3, "suppress"))] == [
        1,
        1,
        1,
    ]
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    stages = {run.data.tags["skillneurons.stage"]: run for run in runs if "skillneurons.seed" not in run.data.tags}
    parent = stages["main"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    for stage in ("tune", "discover", "suppress"):
        assert stages[stage].data.tags["mlflow.parentRunId"] == parent.info.run_id
        finding = stages[stage].data.tags["mlflow.note.content"]
        assert finding in parent.data.tags["mlflow.note.content"]
    assert main(asked) == 0
    assert len(client.search_runs([parent.info.experiment_id])) == len(runs) + 4, "a parent and three that point"


def test_a_dry_run_says_what_would_be_done(tiny_roberta, workplace, capsys):
    assert main(words("main", model=tiny_roberta, dry_run="true", **QUICK)) == 0
    assert "then discover and suppress" in capsys.readouterr().out
    assert not (workplace / "mlflow.db").exists()
