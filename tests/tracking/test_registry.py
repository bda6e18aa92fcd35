"""The champion among versions that compare."""

import pytest
from mlflow import MlflowClient

from skillneurons.tracking.registry import set_champion
from skillneurons.tracking.runs import Tracking

NAME = "quips.checkpoint-500"


@pytest.fixture
def tracking(workplace) -> Tracking:
    made = Tracking.connect()
    made.client.create_registered_model(NAME)
    return made


def version(
    tracking: Tracking,
    accuracy: float,
    rows: int = 300,
    dev: str = "d1",
    backbone: str = "b1",
    status: str = "FINISHED",
) -> str:
    run = tracking.client.create_run(tracking.experiment_id)
    if status != "RUNNING":
        tracking.client.set_terminated(run.info.run_id, status)
    tags = {"dev_accuracy": f"{accuracy:.6f}", "dev_n": str(rows), "dev": dev, "backbone": backbone}
    return str(tracking.client.create_model_version(NAME, run.info.artifact_uri, run.info.run_id, tags=tags).version)


def champion(tracking: Tracking) -> str:
    set_champion(tracking, NAME)
    return str(tracking.client.get_model_version_by_alias(NAME, "champion").version)


def test_the_best_of_equal_rows_and_the_older_on_a_tie(tracking):
    assert set_champion(tracking, NAME) is None
    version(tracking, 0.7)
    best = version(tracking, 0.8)
    version(tracking, 0.8)
    version(tracking, 0.95, status="FAILED")
    version(tracking, 0.96, status="RUNNING")
    assert champion(tracking) == best


def test_a_higher_accuracy_on_fewer_other_rows_is_no_champion(tracking):
    best = version(tracking, 0.8, rows=300)
    version(tracking, 1.0, rows=10, dev="d2")
    assert champion(tracking) == best
    # more rows tell more, though the accuracy is lower
    wider = version(tracking, 0.75, rows=900, dev="d3")
    assert champion(tracking) == wider


def test_accuracies_of_two_backbones_do_not_compare(tracking):
    version(tracking, 0.9, backbone="run0")
    newer = version(tracking, 0.6, backbone="run1")
    assert champion(tracking) == newer
    again = version(tracking, 0.7, backbone="run1")
    assert champion(tracking) == again
    # a group whose runs all failed has none
    version(tracking, 0.99, backbone="run2", status="FAILED")
    assert champion(tracking) == again


def test_one_run_is_asked_for_however_many_versions_there_are(tracking, monkeypatch):
    for number in range(12):
        version(tracking, 0.5 + number / 100)
    asked = []
    get_run = MlflowClient.get_run
    monkeypatch.setattr(MlflowClient, "get_run", lambda self, run_id: asked.append(run_id) or get_run(self, run_id))
    assert champion(tracking) == "12"
    assert len(asked) == 1


def test_a_version_of_before_that_names_no_rows_is_no_champion(tracking):
    run = tracking.client.create_run(tracking.experiment_id)
    tracking.client.set_terminated(run.info.run_id, "FINISHED")
    tracking.client.create_model_version(NAME, run.info.artifact_uri, run.info.run_id, tags={"dev_accuracy": "0.99"})
    assert set_champion(tracking, NAME) is None
    known = version(tracking, 0.6)
    assert champion(tracking) == known
