"""`tune` from the command line to MLflow and back, in the process of the test."""

import json
import os
import shutil
import sqlite3
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from conftest import QUICK, words
from skillneurons.cli import main
from skillneurons.data.splits import half_a, load_splits
from skillneurons.data.tasks import load_task
from skillneurons.errors import InputError
from skillneurons.prompts.soft_prompt import SoftPrompt
from skillneurons.stats.intervals import accuracy
from skillneurons.stats.mcnemar import mcnemar_exact
from skillneurons.storage import alone
from skillneurons.tracking.registry import fetch
from skillneurons.tracking.runs import Tracking
from tracked import artifact, client, every_run, stored


def tune(model: Path, **more: object) -> int:
    return main(words("tune", model=model, **{**QUICK, **more}))


def parents() -> list:
    return [run for run in every_run() if "mlflow.parentRunId" not in run.data.tags]


def children(parent) -> list:
    found = every_run(f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    return sorted(found, key=lambda run: int(run.data.tags["skillneurons.seed"]))


@pytest.fixture(scope="module")
def finished(tiny_roberta, tmp_path_factory):
    """One finished command with two seeds; the tests that only read share it."""
    here, folder = Path.cwd(), tmp_path_factory.mktemp("tuned")
    before = dict(os.environ)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    os.environ.pop("SKILLNEURONS_STATE", None)
    os.chdir(folder)
    try:
        assert tune(tiny_roberta, seeds="0,1") == 0
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)
    return folder


@pytest.fixture
def tuned(finished, workplace, monkeypatch):
    monkeypatch.chdir(finished)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{finished}/mlflow.db")
    return finished


def test_a_parent_with_a_child_a_seed_each_whole(tuned):
    (parent,) = parents()
    assert parent.info.status == "FINISHED"
    kind = client().get_experiment(parent.info.experiment_id).tags["mlflow.experimentKind"]
    assert kind == "custom_model_development"
    assert not any("skillneurons.error" in run.data.tags for run in every_run())
    seeds = children(parent)
    assert [run.data.tags["skillneurons.seed"] for run in seeds] == ["0", "1"]
    for run in seeds:
        assert run.info.status == "FINISHED"
        assert run.data.params["learning_rate"] == "0.05"
        steps = [m.step for m in client().get_metric_history(run.info.run_id, "dev/curve/accuracy")]
        assert steps == [0, 8, 16, 24]
        assert len(client().get_metric_history(run.info.run_id, "train/loss")) == 5  # steps 8, 10, 16, 20, 24
        names = {
            f"{split}/{what}"
            for split in ("dev", "test")
            for what in ("accuracy", "accuracy_low", "accuracy_high", "majority", "n", "macro_f1")
        }
        assert names <= run.data.metrics.keys()
        assert {"seconds", "peak_memory_mb"} <= run.data.metrics.keys()
        for tag in ("commit", "versions", "device", "threads", "registered", "address"):
            assert run.data.tags[f"skillneurons.{tag}"]
        assert "majority" in run.data.tags["mlflow.note.content"]


def test_the_data_are_linked_with_size_balance_and_fingerprint(tuned):
    (parent,) = parents()
    inputs = parent.inputs.dataset_inputs
    splits = load_splits(load_task("film_notes"), max_train_rows=101, max_eval_rows=37)
    splits["dev"] = half_a(splits["dev"])
    assert {i.dataset.digest for i in inputs} == {s.fingerprint[:32] for s in splits.values()}
    by_name = {i.dataset.name: json.loads(i.dataset.profile) for i in inputs}
    assert by_name["film_notes/test"]["rows"] == 37
    assert sum(by_name["film_notes/train"]["counts"]) == 101


def test_metrics_equal_what_the_logged_predictions_give(tuned):
    (parent,) = parents()
    test = load_splits(load_task("film_notes"), max_train_rows=101, max_eval_rows=37)["test"]
    for run in children(parent):
        frame = pd.read_parquet(artifact(run, "predictions/test.parquet"))
        assert tuple(frame["row_hash"]) == test.hashes
        right = frame["label"] == frame["prediction"]
        assert run.data.metrics["test/accuracy"] == pytest.approx(right.mean())
        assert run.data.metrics["test/n"] == len(frame) == 37
        assert run.data.metrics["test/majority"] == pytest.approx(frame["label"].value_counts(normalize=True).max())
        best = frame[["score_negative", "score_positive"]].to_numpy().argmax(1)
        assert [["negative", "positive"][i] for i in best] == frame["prediction"].tolist()


def test_the_summary_compares_in_pairs_and_corrects_over_seeds(tuned):
    from statsmodels.stats.multitest import multipletests

    (parent,) = parents()
    table = pd.DataFrame(**json.loads(artifact(parent, "summary.json").read_text()))
    assert len(table) == 2 * 4
    for condition in ("no prompt", "no prompt, calibrated", "random prompt"):
        rows = table[table["condition"] == condition]
        folder = condition.replace(",", "").replace(" ", "_")
        raw = []
        for run in children(parent):
            ours = pd.read_parquet(artifact(run, "predictions/test.parquet"))
            theirs = pd.read_parquet(artifact(run, f"predictions/{folder}/test.parquet"))
            a = (ours["label"] == ours["prediction"]).to_numpy()
            b = (theirs["label"] == theirs["prediction"]).to_numpy()
            raw.append(mcnemar_exact(a, b).p_value)
        np.testing.assert_allclose(rows["mcnemar_p"], raw)
        np.testing.assert_allclose(rows["holm_p"], multipletests(raw, method="holm")[1])
    assert table["n"].eq(37).all()
    assert {"low", "high", "majority"} <= set(table.columns)
    assert "Holm over 2 seeds" in parent.data.tags["mlflow.note.content"]
    for name in ("accuracy", "learning_curves"):
        assert artifact(parent, f"figures/{name}.png").stat().st_size > 5000


def test_a_table_keeps_a_tiny_p_value_and_the_ui_knows_it_for_a_table(workplace):
    tracking = Tracking.connect()
    with tracking.run("table", {}) as run:
        run.table(pd.DataFrame({"p": [2.5e-23, float("nan")], "seed": [0, 1]}), "table.json")
    raw = json.loads(tracking.text(run.id, "table.json"))
    assert raw == {"columns": ["p", "seed"], "data": [[2.5e-23, 0], [None, 1]]}
    frame = tracking.client.load_table(tracking.experiment_id, "table.json", run_ids=[run.id])
    assert frame["p"][0] == pytest.approx(2.5e-23, rel=1e-12)


def test_the_prompt_folder_holds_all_that_is_needed_to_use_it(tuned):
    (parent,) = parents()
    loaded = fetch(Tracking.connect(), f"runs:/{parent.info.run_id}")
    assert [prompt.card["seed"] for prompt in loaded] == [0, 1]
    assert loaded[0].fingerprint != loaded[1].fingerprint
    card = loaded[0].card
    assert loaded[0].embeddings.shape == (6, 32)
    assert card["placement"] == "mask-first"
    assert card["label_words"]["pieces"] == ["negative", "positive"]
    assert len(card["backbone"]["fingerprint"]) == 64
    assert set(card["data"]) == {"train", "dev", "test"}
    assert card["tuning"]["learning_rate"] == 0.05


def test_the_champion_is_the_best_on_dev_and_serves_the_logged_predictions(tuned):
    (parent,) = parents()
    store, name = client(), "film_notes.tiny-roberta"
    best = max(children(parent), key=lambda run: run.data.metrics["dev/accuracy"])
    champion = store.get_model_version_by_alias(name, "champion")
    versions = {v.run_id: v for v in store.search_model_versions(f"name = '{name}'")}
    assert len(versions) == 2
    assert float(champion.tags["dev_accuracy"]) == pytest.approx(best.data.metrics["dev/accuracy"])
    assert {"seed", "dev_accuracy", "data", "backbone"} <= champion.tags.keys()

    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    rows = load_splits(load_task("film_notes"), max_train_rows=101, max_eval_rows=37)["test"].rows
    answer = model.predict(pd.DataFrame(rows, columns=["text"]))
    run = next(run for run in children(parent) if run.info.run_id == champion.run_id)
    logged = pd.read_parquet(artifact(run, "predictions/test.parquet"))
    assert answer["label"].tolist() == logged["prediction"].tolist()
    scores = ["score_negative", "score_positive"]
    np.testing.assert_allclose(answer[scores], logged[scores], atol=1e-5)
    none = model.predict(pd.DataFrame({"text": pd.Series(dtype=str)}))
    assert none.dtypes.equals(answer.dtypes)
    assert len(none) == 0
    with pytest.raises(Exception, match=r"every row holds text in text; got 1 without \(by index: 1\)"):
        model.predict(pd.DataFrame({"text": ["fine", None]}))
    files = {path.name for path in Path(store.download_artifacts(run.info.run_id, "prompt")).iterdir()}
    assert files == {"prompt.json", "prompt.safetensors"}
    stored = [p for p in Path("mlruns").rglob("*") if p.suffix in (".pkl", ".pickle", ".pt", ".bin")]
    assert list(Path("mlruns").rglob("served_prompt.py"))
    assert not stored


def test_a_registered_prompt_refuses_other_weights(tuned, tmp_path, monkeypatch):
    from tiny_models import build

    other = build("roberta", tmp_path / "tiny-roberta", seed=5)
    monkeypatch.setenv("SKILLNEURONS_BACKBONE", str(other))
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    with pytest.raises(Exception, match="other weights"):
        mlflow.pyfunc.load_model("models:/film_notes.tiny-roberta@champion")


def test_the_same_command_again_names_the_finished_run(tuned, tiny_roberta, capsys):
    (parent,) = parents()
    assert tune(tiny_roberta, seeds="0,1", threads=2) == 0
    out = capsys.readouterr().out
    assert f"finished as run {parent.info.run_id}" in out
    assert len(parents()) == 1


def test_config_starts_from_an_older_run(tuned, tiny_roberta, capsys):
    (parent,) = parents()
    effective = yaml.safe_load(artifact(parent, "config.yaml").read_text())
    assert effective["learning_rate"] == 0.05
    assert main(["tune", "--config", f"runs:/{parent.info.run_id}"]) == 0
    assert f"finished as run {parent.info.run_id}" in capsys.readouterr().out
    assert main(["tune", "--config", f"runs:/{parent.info.run_id}", "--dry_run", "true", "--max_steps", "7"]) == 0
    assert "7 steps of 8 rows" in capsys.readouterr().out


def test_a_dry_run_says_what_it_would_cost_and_leaves_nothing(workplace, tiny_roberta, capsys):
    assert tune(tiny_roberta, dry_run="true", seeds="0,1,2") == 0
    out = capsys.readouterr().out
    assert "would tune 3 prompts of 6 x 32, 24 steps of 8 rows each" in out
    assert "GiB of memory" in out
    assert not list(workplace.iterdir())


def test_another_seed_joins_without_the_first_being_done_again(workplace, tiny_roberta):
    assert tune(tiny_roberta, seeds="0") == 0
    assert not any("skillneurons.error" in run.data.tags for run in every_run())
    first = children(parents()[0])[0]
    assert tune(tiny_roberta, seeds="0,1") == 0
    newest = max(parents(), key=lambda run: run.info.start_time)
    assert newest.data.tags["skillneurons.children"].split(",")[0] == first.info.run_id
    assert len(every_run("tags.`skillneurons.seed` = '0'")) == 1
    assert len(client().search_model_versions("name = 'film_notes.tiny-roberta'")) == 2


def test_a_seed_whose_prompt_is_gone_is_tuned_again_by_the_same_command(workplace, tiny_roberta, capsys):
    assert tune(tiny_roberta, seeds="0,1") == 0
    (parent,) = parents()
    kept, lost = children(parent)
    before = SoftPrompt.load(artifact(lost, "prompt")).embeddings
    version = lost.data.tags["skillneurons.registered"]
    shutil.rmtree(stored(lost, "prompt"))
    model = client().get_model_version(*version.split("/")).source.removeprefix("models:/")
    shutil.rmtree(client().get_logged_model(model).artifact_location.removeprefix("file://"))
    with pytest.raises(InputError, match=rf"the reference leads to a prompt; got models:/{version}"):
        fetch(Tracking.connect(), f"models:/{version}")
    capsys.readouterr()
    assert tune(tiny_roberta, seeds="0,1") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"of run {lost.info.run_id} has been deleted" in said
    newest = max(parents(), key=lambda run: run.info.start_time)
    again = newest.data.tags["skillneurons.children"].split(",")
    assert again[0] == kept.info.run_id
    assert again[1] != lost.info.run_id
    prompts = fetch(Tracking.connect(), f"runs:/{newest.info.run_id}")
    assert torch.equal(prompts[1].embeddings, before)
    assert tune(tiny_roberta, seeds="0,1") == 0
    assert len(parents()) == 2, "what is whole is used again"


def test_a_second_command_of_several_processes_is_refused_before_they_start(workplace, tiny_roberta, capfd):
    assert tune(tiny_roberta, dry_run="true") == 0
    address = capfd.readouterr().out.split()[-1]
    with alone(address):
        assert tune(tiny_roberta, processes=2) == 2
    said = [line for line in capfd.readouterr().err.splitlines() if "INFO" not in line]
    assert len(said) == 1
    assert "one process at a time works on one configuration" in said[0]
    assert not every_run()


def test_rerun_works_again_and_agrees_to_the_bit(workplace, tiny_roberta):
    assert tune(tiny_roberta) == 0
    hog = bytearray(b"x") * 2**29
    del hog
    assert tune(tiny_roberta, rerun="true") == 0
    peaks = [run.data.metrics["peak_memory_mb"] for run in every_run("tags.`skillneurons.seed` = '0'")]
    assert abs(peaks[0] - peaks[1]) < 256, "each run's own, not what came before it in the process"
    prompts = [SoftPrompt.load(artifact(run, "prompt")) for run in every_run("tags.`skillneurons.seed` = '0'")]
    assert len(prompts) == 2
    assert torch.equal(prompts[0].embeddings, prompts[1].embeddings)


@pytest.mark.parametrize("how", [{"init": "text", "init_text": "a good film"}, {"init": "normal", "init_std": "0.5"}])
def test_other_starts(workplace, tiny_roberta, how):
    assert tune(tiny_roberta, max_steps=8, **how) == 0
    (run,) = every_run("tags.`skillneurons.seed` = '0'")
    assert run.data.params["init"] == how["init"]


def test_a_prompt_can_start_from_another(workplace, tiny_roberta, capsys):
    assert tune(tiny_roberta) == 0
    (child,) = every_run("tags.`skillneurons.seed` = '0'")
    reference = f"runs:/{child.info.run_id}"
    assert tune(tiny_roberta, init="prompt", init_prompt=reference, learning_rate="1e-12", max_steps=8) == 0
    newest = max(every_run("tags.`skillneurons.seed` = '0'"), key=lambda run: run.info.start_time)
    first, second = (SoftPrompt.load(artifact(run, "prompt")).embeddings for run in (child, newest))
    torch.testing.assert_close(first, second)
    assert tune(tiny_roberta, init="prompt", init_prompt=reference, prompt_length=5) == 2
    assert "[5, 32]; got [6, 32]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("architecture", "more", "placement"),
    [("t5", {}, "encoder-prefix"), ("gpt2", {}, "suffix"), ("gpt2", {"placement": "prefix"}, "prefix")],
)
def test_every_family_tunes(workplace, tmp_path, architecture, more, placement):
    from tiny_models import build

    model = build(architecture, tmp_path / f"tiny-{architecture}")
    assert tune(model, max_steps=16, **more) == 0
    (run,) = every_run("tags.`skillneurons.seed` = '0'")
    prompt = SoftPrompt.load(artifact(run, "prompt"))
    assert prompt.card["placement"] == placement
    losses = [m.value for m in client().get_metric_history(run.info.run_id, "train/loss")]
    assert np.isfinite(losses).all()
    assert losses


def test_collapsed_predictions_are_said(workplace, tiny_roberta, capsys):
    # a rate that moves nothing: the prompt stays where it started
    assert tune(tiny_roberta, max_steps=8, learning_rate="1e-12", init="normal", init_std="1e-6") == 0
    (run,) = every_run("tags.`skillneurons.seed` = '0'")
    frame = pd.read_parquet(artifact(run, "predictions/test.parquet"))
    collapsed = frame["prediction"].nunique() == 1
    labels, answers = ((frame[name] == "positive").astype(int) for name in ("label", "prediction"))
    assert accuracy(labels, answers, 2).collapsed == collapsed
    assert ("skillneurons.collapsed" in run.data.tags) == collapsed
    assert ("warning: every prediction is one class" in capsys.readouterr().out) == collapsed


def test_an_interrupt_within_a_statement_leaves_no_lock_behind(workplace):
    """The frame that was cut off holds its connection, and with it the database, until somebody lets it go."""
    tracking = Tracking.connect()

    def cut_off(run_id: str) -> None:
        connection = sqlite3.connect(workplace / "mlflow.db")
        connection.execute("INSERT INTO tags (key, value, run_uuid) VALUES ('half', 'done', ?)", [run_id])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), tracking.run("cut off", {}) as run:
        cut_off(run.id)
    ended = tracking.client.get_run(run.id)
    assert ended.info.status == "KILLED"
    assert ended.data.tags["skillneurons.error"] == "interrupted; the same command resumes"
    assert "half" not in ended.data.tags
