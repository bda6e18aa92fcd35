"""`discover` from the command line to MLflow and back, on prompts tuned in the same store."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from scipy import stats

import skillneurons.discover.command as stage
from conftest import QUICK, words
from skillneurons.backbones import loading
from skillneurons.cli import main
from skillneurons.data.splits import halves, load_splits
from skillneurons.data.tasks import load_task
from skillneurons.discover.predictivity import combine
from skillneurons.errors import InputError
from skillneurons.neurons.attribution import Attribution
from skillneurons.neurons.scores import Neurons
from skillneurons.prompts.initialization import like_vocabulary
from skillneurons.seeds import mix
from skillneurons.tracking.runs import Tracking
from tracked import artifact, client, runs

ROWS = {"max_train_rows": "60", "max_dev_rows": "60", "permutations": "100", "device": "cpu", "cards": "3"}


@pytest.fixture(scope="module")
def tuned(tiny_roberta, tmp_path_factory):
    """A store with one tune command of two seeds, and its run's id."""
    here, folder = Path.cwd(), tmp_path_factory.mktemp("discovered")
    before = dict(os.environ)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    os.environ.pop("SKILLNEURONS_STATE", None)
    os.chdir(folder)
    try:
        assert main(words("tune", model=tiny_roberta, seeds="0,1", **QUICK)) == 0
        (parent,) = runs("tune")
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)
    return folder, parent.info.run_id


@pytest.fixture
def store(tuned, workplace, monkeypatch):
    folder, run_id = tuned
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    return run_id


def discover(prompts: str, **more: object) -> int:
    return main(words("discover", prompts=prompts, **{**ROWS, **more}))


def test_a_run_with_arrays_tables_cards_and_pictures(store, capsys):
    assert discover(f"runs:/{store}") == 0
    said = capsys.readouterr().out
    run = next(r for r in runs("discover") if r.data.params.get("site", "prompt") == "prompt")
    assert run.info.status == "FINISHED"
    found = Neurons.load(artifact(run, "neurons"))
    judged = len(halves(load_splits(load_task("film_notes"), max_dev_rows=60)["dev"].hashes)[1])
    assert found.baseline.shape == (2, 3, 6, 48)
    assert found.card["rows"] == {"train": 60, "dev": 60}
    assert found.card["judged_rows"] == judged
    assert run.data.metrics["neurons/top_predictivity"] == pytest.approx(float(found.predictivity[found.best]))
    assert run.data.metrics["neurons/significant_share"] == pytest.approx(float((found.q_value < 0.05).mean()))
    cards = pd.DataFrame(**json.loads(artifact(run, "neuron_cards.json").read_text()))
    assert len(cards) == 3
    assert {"n", "majority", "low", "high", "chance_low", "chance_high", "q_value"} <= set(cards)
    top = cards.iloc[0]
    assert found.predictivity[0, top.layer, top.neuron] == pytest.approx(top.predictivity)
    layers = pd.DataFrame(**json.loads(artifact(run, "layers.json").read_text()))
    assert len(layers) == 3
    assert layers["best"][found.best[1]] == pytest.approx(float(found.predictivity[found.best]))
    agreed = pd.DataFrame(**json.loads(artifact(run, "stability.json").read_text()))
    assert agreed["what"].tolist()[0] == "Spearman"
    for picture in ("predictivity", "significant"):
        assert artifact(run, f"figures/{picture}.png").read_bytes()[:4] == b"\x89PNG"
    page = artifact(run, "neurons/cards.html").read_text()
    assert page.count("<h2>") == 3
    for text in (run.data.tags["mlflow.note.content"], said):
        one_line = " ".join(text.split())
        assert f"n={judged} rows of half B of dev" in one_line
        assert "(by chance" in one_line
        assert "under 2 random prompts their own top" in one_line
    (beside,) = pd.DataFrame(**json.loads(artifact(run, "random_prompts.json").read_text())).to_dict("records")
    assert (beside["random_prompts"], beside["n"]) == (2, judged)
    assert run.data.metrics["neurons/random_top_predictivity"] == pytest.approx(beside["random"])
    assert {i.dataset.name for i in run.inputs.dataset_inputs} == {"film_notes/train", "film_notes/dev"}


def test_random_prompts_are_counted_as_the_tuned_ones_are(store):
    run = next(r for r in runs("discover") if r.data.params.get("site", "prompt") == "prompt")
    found = Neurons.load(artifact(run, "neurons"))
    plan = stage.COMMAND.plan({"prompts": f"runs:/{store}", **ROWS}, None, Tracking.connect)
    asked, backbone = plan.question(), loading.load(plan.info)
    vocabulary = backbone.vocabulary_embeddings()
    prompts = [like_vocabulary(vocabulary, plan.prompts[0].length, mix(0, 5, k)) for k in range(2)]
    assert not torch.equal(*prompts)
    counts = (stage.count(backbone, plan.site, prompt, asked, Accelerator(cpu=True)) for prompt in prompts)
    again = combine(counts, 2, asked, {"targets": ["positive"]})
    np.testing.assert_array_equal(found.random_selected, again.selected)
    np.testing.assert_array_equal(found.random_predictivity, again.seed_predictivity)


def test_effects_are_means_over_rows_of_either_half_and_stand_beside_prediction(store):
    run = next(r for r in runs("discover") if r.data.params.get("site", "prompt") == "prompt")
    found = Neurons.load(artifact(run, "neurons"))
    plan = stage.COMMAND.plan({"prompts": f"runs:/{store}", **ROWS}, None, Tracking.connect)
    asked, backbone = plan.question(), loading.load(plan.info)
    labels = asked.dev.labels.numpy()
    means = {"effect_selected": asked.halves[0], "effect": asked.halves[1]}
    for seed, prompt in enumerate(plan.prompts):
        baseline = torch.from_numpy(found.baseline[seed])
        one = Attribution(backbone, plan.site, prompt.embeddings, plan.words, baseline, batch_size=7)
        for name, rows in means.items():
            total = sum(
                values[i].numpy() * (2 * labels[number] - 1)
                for numbers, values in one.of_rows(asked.dev, rows)
                for i, number in enumerate(numbers.tolist())
            )
            assert getattr(found, name)[seed] == pytest.approx(total / len(rows), abs=1e-5)
    (row,) = pd.DataFrame(**json.loads(artifact(run, "effects.json").read_text())).to_dict("records")
    effect = found.effect_selected.mean(0)
    assert row["spearman"] == pytest.approx(stats.spearmanr(found.ranking.ravel(), effect.ravel()).statistic)
    best = np.argsort(-effect, axis=1, kind="stable")[:, : int(48 * 0.05)]
    carried = np.take_along_axis(found.effect, np.broadcast_to(best, (2, *best.shape)), axis=2).sum((1, 2))
    assert row["top_effect"] == pytest.approx(carried.mean(), abs=1e-6)
    assert "**Effect**" in run.data.tags["mlflow.note.content"]
    assert np.array_equal(found.ranked("effect"), effect)
    places = [stats.rankdata(values, axis=1, method="ordinal") - 1 for values in (found.ranking, effect)]
    assert found.ranked("both") == pytest.approx((places[0] + places[1]) / 2)


def test_prompts_of_other_labels_have_no_margin_here(store):
    plan = stage.COMMAND.plan({"prompts": f"runs:/{store}", **ROWS}, None, Tracking.connect)
    assert plan.words.ids == tuple(plan.prompts[0].card["label_words"]["ids"])
    card = {**plan.prompts[0].card, "task": {**plan.prompts[0].card["task"], "labels": ["no", "yes"]}}
    other = replace(plan, prompts=[replace(plan.prompts[0], card=card)])
    assert other.words is None
    assert other.question().words is None
    more = stage.COMMAND.plan({"prompts": f"runs:/{store}", **ROWS, "effect_steps": "4"}, None, Tracking.connect)
    assert more.address != plan.address


def test_without_effects_nothing_is_ranked_by_them(store):
    assert discover(f"runs:/{store}", effect_steps="0", cards="2") == 0
    run = next(r for r in runs("discover") if r.data.params.get("effect_steps") == "0")
    found = Neurons.load(artifact(run, "neurons"))
    assert found.effect.shape == (0, 3, 48)
    assert "**Effect**" not in run.data.tags["mlflow.note.content"]
    with pytest.raises(InputError, match="needs neurons with effects"):
        found.ranked("effect")


def test_the_same_command_names_the_finished_run(store, capsys):
    assert discover(f"runs:/{store}") == 0
    before = len(runs("discover"))
    assert discover(f"runs:/{store}") == 0
    assert "has finished as run" in capsys.readouterr().out
    assert len(runs("discover")) == before
    assert discover(f"runs:/{store}", site="label") == 0
    assert len(runs("discover")) == before + 1


def test_protocol_paper_says_so_everywhere(store, capsys):
    assert discover(f"runs:/{store}", protocol="paper", compare="") == 0
    run = next(r for r in runs("discover") if r.data.params.get("protocol") == "paper")
    assert "no estimate for new rows" in run.data.tags["mlflow.note.content"]
    assert Neurons.load(artifact(run, "neurons")).card["judged_rows"] == 60


def test_killed_between_two_prompts_it_leaves_nothing_whole_and_is_made_whole(store, monkeypatch):
    real, calls = stage.count, []

    def dies(*given):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(stage, "count", dies)
    asked = {"permutations": "137"}
    assert discover(f"runs:/{store}", **asked) == 130
    (run,) = (r for r in runs("discover") if r.data.params["permutations"] == "137")
    assert run.info.status == "KILLED"
    assert not client().list_artifacts(run.info.run_id, "neurons")
    assert discover(f"runs:/{store}", **asked) == 0
    assert len(calls) == 5, "the first prompt was not read again; two random ones were"
    monkeypatch.setattr(stage, "count", real)
    assert discover(f"runs:/{store}", rerun="true", **asked) == 0
    monkeypatch.setattr(stage, "count", real)
    whole = [r for r in runs("discover") if r.data.params["permutations"] == "137" and r.info.status == "FINISHED"]
    assert len(whole) == 2
    assert len({Neurons.load(artifact(run, "neurons")).fingerprint for run in whole}) == 1


def test_tasks_are_compared(store, capsys):
    assert discover(f"runs:/{store}") == 0
    first = next(
        r
        for r in runs("discover")
        if r.data.params["permutations"] == "100" and r.data.params.get("site", "prompt") == "prompt"
    )
    assert discover(f"runs:/{store}", task="meal_notes", compare=f"runs:/{first.info.run_id}") == 0
    run = next(r for r in runs("discover") if r.data.params.get("task") == "meal_notes")
    for itself in (f"runs:/{run.info.run_id}", f"runs:/{first.info.run_id},runs:/{first.info.run_id}"):
        assert discover(f"runs:/{store}", task="meal_notes", rerun="true", compare=itself) == 2
        assert "each once" in capsys.readouterr().err
    table = pd.DataFrame(**json.loads(artifact(run, "specificity.json").read_text()))
    assert table[["task", "other"]].to_numpy().tolist() == [["meal_notes", "film_notes"]]
    mine, other = (Neurons.load(artifact(r, "neurons")).predictivity[0] for r in (run, first))
    from scipy.stats import spearmanr

    want = np.mean([spearmanr(a, b).statistic for a, b in zip(mine, other, strict=True)])
    assert table["spearman"][0] == pytest.approx(want)


@pytest.mark.parametrize(
    ("change", "must"),
    [
        ({"site": "decoder"}, "encoder-decoder"),
        ({"site": "nowhere"}, "site must be"),
        ({"permutations": "3"}, "permutations must be"),
        ({"max_dev_rows": "4"}, "half B holds a row of every label"),
        ({"task": "no_such_task"}, "task must be one of"),
        ({"prompts": "runs:/0123456789abcdef0123456789abcdef"}, "names a run"),
        ({"prompts": "nowhere"}, "a prompt folder holds"),
        ({"compare": "nowhere"}, "a neurons folder holds"),
    ],
)
def test_bad_input_is_one_line(store, capsys, monkeypatch, change, must):
    monkeypatch.setattr(loading, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    before = len(runs("discover"))
    asked = {"prompts": f"runs:/{store}", **ROWS, **change}
    assert main(words("discover", **asked)) == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line
    assert must in line
    assert len(runs("discover")) == before


def test_a_run_that_is_not_finished_and_a_prompt_of_another_width(store, capsys, tmp_path):
    store_client = client()
    run = store_client.create_run("0")
    assert discover(f"runs:/{run.info.run_id}") == 2
    assert "FINISHED" in capsys.readouterr().err
    import torch

    from skillneurons.prompts.soft_prompt import SoftPrompt
    from skillneurons.tracking.registry import fetch
    from skillneurons.tracking.runs import Tracking

    (good, *_) = fetch(Tracking.connect(), f"runs:/{store}")
    SoftPrompt(torch.zeros(6, 8), good.card).save(tmp_path / "narrow")
    assert discover(str(tmp_path / "narrow")) == 2
    assert "wide" in capsys.readouterr().err


def test_a_dry_run_says_rows_time_and_address(store, capsys):
    before = len(runs("discover"))
    assert discover(f"runs:/{store}", dry_run="true", seed="5") == 0
    said = capsys.readouterr().out
    assert "rows train 60, dev 60" in said
    assert "address" in said
    assert len(runs("discover")) == before
