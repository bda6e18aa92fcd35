"""What tests of stages read back from the tracking store, and how they see a command refused."""

import os
from pathlib import Path

import pytest
from mlflow import MlflowClient

from conftest import words
from skillneurons.backbones import loading
from skillneurons.cli import main


def client() -> MlflowClient:
    return MlflowClient(os.environ["MLFLOW_TRACKING_URI"])


def every_run(where: str = "") -> list:
    """All runs that a filter holds for."""
    store = client()
    return list(store.search_runs([e.experiment_id for e in store.search_experiments()], where))


def runs(stage: str) -> list:
    """The runs of a stage that stand alone."""
    found = every_run(f"tags.`skillneurons.stage` = '{stage}'")
    return [run for run in found if "mlflow.parentRunId" not in run.data.tags]


def artifact(run, path: str) -> Path:
    return Path(client().download_artifacts(run.info.run_id, path))


def stored(run, path: str) -> Path:
    """Where the store itself keeps an artifact; `artifact` gives a copy."""
    return Path(run.info.artifact_uri.removeprefix("file://")) / path


def refusal(stage: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, **parameters: object) -> str:
    """The one line of a command that is refused before a model is loaded, and leaves no run."""

    def no_loading(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(loading, "load", no_loading)
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # importing our tracking sets it
    before = len(runs(stage))
    capsys.readouterr()
    assert main(words(stage, **parameters)) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("skillneurons: ")
    assert "\n" not in line
    assert len(runs(stage)) == before
    return line
