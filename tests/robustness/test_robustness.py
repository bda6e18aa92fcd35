"""`robustness` from the command line to MLflow and back, in the process of the test."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from conftest import QUICK, words
from skillneurons.backbones import loading
from skillneurons.cli import main
from skillneurons.commands.config import parse
from skillneurons.data.pairs import load_pairs
from skillneurons.data.splits import load_splits
from skillneurons.data.tasks import load_task
from skillneurons.neurons.scores import Neurons
from skillneurons.prompts.predictor import find_backbone
from skillneurons.robustness.command import COMMAND
from skillneurons.robustness.config import RobustnessConfig
from skillneurons.stats.intervals import holm
from skillneurons.tracking.registry import fetch
from skillneurons.tracking.runs import Tracking
from table_walk import lacking
from tracked import artifact, client, refusal, runs

ASKED = {"rates": "5,20", "controls": "3", "permutations": "40", "max_eval_rows": "40", "device": "cpu"}
EDITED = """
name: turned
version: 1
clean: film_notes
counterpart: {originals: turned_original, flips: true}
file:
  splits: {test: turned.jsonl}
"""


def table(run, path: str) -> pd.DataFrame:
    return pd.DataFrame(**json.loads(artifact(run, path).read_text()))


def write_edited(folder: Path) -> None:
    """Film notes and others with the label turned, row by row."""
    clean = load_splits(load_task("film_notes"), roles=("test",))["test"]
    one, other = (np.flatnonzero(clean.labels == label)[:20].tolist() for label in (0, 1))
    for name, rows in (("turned_original", [*one, *other]), ("turned", [*other, *one])):
        lines = [{"text": clean.rows[i][0], "label": clean.label_names[clean.labels[i]]} for i in rows]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "turned.yaml").write_text(EDITED)
    original = {**yaml.safe_load(EDITED), "name": "turned_original"}
    del original["counterpart"]
    (folder / "turned_original.yaml").write_text(
        yaml.safe_dump({**original, "file": {"splits": {"test": "turned_original.jsonl"}}})
    )


@pytest.fixture(scope="module")
def made(tiny_roberta, tmp_path_factory):
    """Two seeds, their neurons at two sites, neurons of another task, and a finished robustness run."""
    here, folder, before = Path.cwd(), tmp_path_factory.mktemp("robustness"), dict(os.environ)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    os.environ.pop("SKILLNEURONS_STATE", None)
    os.chdir(folder)
    write_edited(folder)
    try:
        assert main(words("tune", model=tiny_roberta, **QUICK, seeds="0,1")) == 0
        prompts = f"runs:/{runs('tune')[0].info.run_id}"
        small = {"max_train_rows": "60", "max_dev_rows": "80", "permutations": "100", "device": "cpu"}
        for site in ("prompt", "prompt-body"):
            assert main(words("discover", prompts=prompts, site=site, **small)) == 0
        by_site = {run.data.params.get("site", "prompt"): f"runs:/{run.info.run_id}" for run in runs("discover")}
        both = f"{by_site['prompt-body']},{by_site['prompt']}"
        references = {"prompts": prompts, "neurons": both, "adversarial": "adv_film_notes,turned.yaml"}
        assert main(words("robustness", **references, **ASKED)) == 0
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)
    return folder, references, by_site


@pytest.fixture
def place(made, workplace, monkeypatch):
    folder, references, _ = made
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    return references


def test_max_length_cuts_clean_and_adversarial_rows_alike(place):
    config = parse(RobustnessConfig, {**place, **ASKED, "max_length": "9"})
    plan, longer = (
        COMMAND.plan({}, c.model_dump(), Tracking.connect)
        for c in (config, config.model_copy(update={"max_length": None}))
    )
    subjects = [plan.own, *(one.rows for one in plan.attacked), *(one.clean for one in plan.attacked)]
    assert len(subjects) == 5
    for one in subjects:
        assert int(one.encode(plan.info).lengths.max()) == 9
    assert int(longer.own.encode(plan.info).lengths.max()) > 9
    assert plan.address != longer.address


def finished():
    return next(run for run in runs("robustness") if run.data.params.get("adversarial", "").startswith("adv_film"))


def test_accuracies_are_those_of_the_rows_read_one_by_one(place):
    run, prompts = finished(), fetch(Tracking.connect(), place["prompts"])
    info = find_backbone(prompts[0])
    backbone, word = loading.load(info), info.label_words(["negative", "positive"])
    pairs = load_pairs(load_task("adv_film_notes"), max_rows=40)
    rows = pd.read_parquet(artifact(run, "predictions/adv_film_notes.parquet"))
    compared = 0
    for prompt in prompts:
        mine = rows[rows["prompt"] == prompt.fingerprint].reset_index()
        assert mine["row_hash"].tolist() == list(pairs.adversarial.hashes)
        for number in range(0, 40, 7):
            for split, column in ((pairs.adversarial, "prediction"), (pairs.clean, "clean_prediction")):
                batch = info.collate(info.encode([split.rows[number]], 32))
                with torch.no_grad():
                    scored = backbone.label_scores(prompt.embeddings, batch, word)
                assert mine[column][number] == ("negative", "positive")[int(scored.argmax())]
                compared += 1
    assert compared == 2 * 6 * 2
    told = table(run, "accuracy.json").query("set == 'adv_film_notes' and kind == 'all'").iloc[0]
    assert told["accuracy"] == pytest.approx((rows["label"] == rows["prediction"]).mean())
    assert told["majority"] == pytest.approx(rows["label"].value_counts(normalize=True).max())
    assert run.data.metrics["adversarial/adv_film_notes/accuracy"] == pytest.approx(told["accuracy"])


def test_pairs_are_what_the_logged_predictions_give(place):
    run = finished()
    rows = pd.read_parquet(artifact(run, "predictions/adv_film_notes.parquet"))
    rows["right"], rows["before"] = rows["label"] == rows["prediction"], rows["label"] == rows["clean_prediction"]
    pairs = table(run, "pairs.json").query("set == 'adv_film_notes'")
    whole = pairs[(pairs["group"] == "all rows") & (pairs["prompt"] == "mean")].iloc[0]
    assert whole["difference"] == pytest.approx(rows["before"].mean() - rows["right"].mean())
    fell = (rows["before"] & ~rows["right"]).sum()
    assert whole["attack_success"] == pytest.approx(fell / rows["before"].sum())
    assert whole["originals"] == rows["original"].nunique()
    each = pairs[pairs["prompt"].str.startswith("seed")]
    np.testing.assert_allclose(each["holm_p"], holm(each["difference_p"]))
    for seed, mine in rows.groupby("seed"):
        one = each[each["prompt"] == f"seed {seed}"].iloc[0]
        assert one["rows_only_clean"] == (mine["before"] & ~mine["right"]).sum()
    methods = pairs[(pairs["prompt"] == "mean") & (pairs["group"] != "all rows")]
    assert methods["n"].sum() == 40


def test_where_labels_turn_there_is_neither_attack_nor_restoration(place):
    run = finished()
    pair = table(run, "pairs.json").query("set == 'turned' and prompt == 'mean'").iloc[0]
    assert np.isnan(pair["attack_success"])
    assert 0 <= pair["both_right"] <= 1
    assert set(table(run, "restoration.json")["set"]) == {"adv_film_notes"}
    assert set(table(run, "shift.json")["set"]) == {"adv_film_notes"}
    note = run.data.tags["mlflow.note.content"]
    assert "the change turns labels, so nothing is restored" in note
    assert "adversarial/turned/attack_success" not in run.data.metrics


def test_verdicts_rest_on_the_prompts_body_and_both_sites_are_reported(place):
    run = finished()
    for path in ("consistency.json", "restoration.json", "shift.json"):
        assert set(table(run, path)["site"]) == {"prompt", "prompt-body"}
    assert set(table(run, "summary.json")["site"]) == {"prompt-body"}
    note = run.data.tags["mlflow.note.content"]
    assert "(site prompt-body)" in note


def test_every_table_is_whole_and_every_picture_is_there(place):
    run, compared = finished(), 0
    for told in json.loads(run.data.tags["mlflow.loggedArtifacts"]):
        assert lacking(table(run, told["path"])) == []
        compared += 1
    assert compared >= 7
    for name in ("accuracy", "consistency", "restoration", "shift", "suppression"):
        assert artifact(run, f"figures/{name}.png").stat().st_size > 5000


def test_the_clean_baseline_survives(place, made):
    """An adversarial pass leaves the arrays of the discovery as they were."""
    found = next(run for run in runs("discover") if run.data.params.get("site", "prompt") == "prompt-body")
    neurons = Neurons.load(artifact(found, "neurons"))
    assert neurons.fingerprint in finished().data.tags["skillneurons.neurons"].split(",")


def test_the_same_command_again_names_the_finished_run(place, capsys):
    before = len(runs("robustness"))
    assert main(words("robustness", **place, **ASKED)) == 0
    assert f"finished as run {finished().info.run_id}" in capsys.readouterr().out
    assert main(["robustness", "--config", f"runs:/{finished().info.run_id}"]) == 0
    assert len(runs("robustness")) == before


def test_a_comparison_with_an_older_run(place, made, capsys):
    _, _, by_site = made
    asked = {**place, "neurons": by_site["prompt-body"], "adversarial": "adv_film_notes", **ASKED, "rates": "10"}
    assert main(words("robustness", **asked, compare=f"runs:/{finished().info.run_id}")) == 0
    run = next(run for run in runs("robustness") if "compare" in run.data.params)
    frame = table(run, "comparison.json")
    assert frame["set"].tolist() == ["adv_film_notes", "adv_film_notes", "turned"]
    assert lacking(frame) == []
    assert artifact(run, "figures/comparison.png").stat().st_size > 5000
    assert "too few for a correlation" in run.data.tags["mlflow.note.content"]


def test_a_finished_run_is_compared_without_being_worked_again(place):
    (other,) = [run for run in runs("robustness") if "compare" in run.data.params]
    (own,) = [run for run in runs("robustness") if run.data.params.get("adversarial", "").endswith("turned.yaml")]
    before = len(runs("robustness"))
    # what is named twice, or is the run itself, is one point all the same
    named = ",".join(f"runs:/{run.info.run_id}" for run in (other, other, own))
    for _ in range(2):
        assert main(words("robustness", **place, **ASKED, compare=named)) == 0
    assert len(runs("robustness")) == before
    assert len(table(own, "comparison.json")) == 3
    assert client().get_run(own.info.run_id).data.tags["mlflow.note.content"].count("**Comparison**") == 1


def test_a_dry_run_says_what_it_would_cost_and_leaves_nothing(place, capsys):
    before = len(runs("robustness"))
    assert main(words("robustness", **place, **ASKED, dry_run="true")) == 0
    assert "9 sets of neurons suppressed and restored" in capsys.readouterr().out
    assert len(runs("robustness")) == before


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"rates": "0,5"}, "rates are percentages between 0 and 100"),
        ({"rates": "5,5"}, "rates must all differ"),
        ({"rates": "0.5"}, "a rate chooses some of 48 neurons"),
        ({"controls": "1"}, "controls must be"),
        ({"adversarial": "adv_film_note"}, "'adv_film_note'"),
        ({"adversarial": "adv_qnli", "data_dir": "."}, "adversarial rows have the labels of the prompts"),
        ({"adversarial": "adv_film_notes,adv_film_notes"}, "each adversarial task is named once"),
        ({"adversarial": "film_notes", "pairs": "required"}, "pairs=required needs rows of film_notes"),
        ({"neurons": "nowhere"}, "neurons folder"),
        ({"prompts": "runs:/0123"}, "names a run of this tracking store"),
        ({"max_length": "100"}, "positions of tiny-roberta"),
        ({"compare": "runs:/0123"}, "names a run of this tracking store"),
    ],
)
def test_bad_input_is_one_line_before_a_model_is_loaded(place, capsys, monkeypatch, given, says):
    assert says in refused(place, capsys, monkeypatch, **given)


def test_neurons_of_others_are_refused(place, made, tmp_path, capsys, monkeypatch):
    _, _, by_site = made
    found = next(run for run in runs("discover") if run.data.params.get("site", "prompt") == "prompt")
    neurons = Neurons.load(artifact(found, "neurons"))
    for number, (change, says) in enumerate(
        [
            ({"prompts": ["another", "yet another"]}, "neurons were found with these prompts"),
            (
                {"backbone": {"name": "other", "fingerprint": "f" * 64}},
                "prompts and neurons are of one backbone, other",
            ),
            ({"targets": ["yes"]}, "neurons tell positive, label 1 of film_notes"),
            ({"stack": "decoder"}, "are in the encoder"),
        ]
    ):
        folder = tmp_path / str(number)
        Neurons(**{**vars(neurons), "card": {**neurons.card, **change}}).save(folder)
        assert says in refused(place, capsys, monkeypatch, neurons=folder)
    twice = f"{by_site['prompt']},{by_site['prompt']}"
    assert "neurons are of different sites" in refused(place, capsys, monkeypatch, neurons=twice)


def refused(place, capsys, monkeypatch, **given: object) -> str:
    return refusal("robustness", capsys, monkeypatch, **{**place, **ASKED, **given})
