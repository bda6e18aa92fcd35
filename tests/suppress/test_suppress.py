"""`suppress` from the command line to MLflow and back, in the process of the test."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from scipy import stats

import tiny_models
from conftest import QUICK, words
from skillneurons.backbones import loading
from skillneurons.backbones.base import BackboneInfo
from skillneurons.cli import main
from skillneurons.data.splits import load_splits
from skillneurons.data.tasks import load_task
from skillneurons.neurons.scores import Neurons
from skillneurons.prompts.soft_prompt import SoftPrompt
from skillneurons.stats.control_sets import contrast
from skillneurons.stats.intervals import holm, wilson
from skillneurons.suppress.command import COMMAND
from skillneurons.suppress.faithfulness import SIZES
from skillneurons.tracking.registry import fetch, fetch_neurons
from skillneurons.tracking.runs import Tracking
from table_walk import lacking
from tracked import artifact, client, refusal, runs

RATES, K, N = (0.0, 5.0, 20.0), 4, 33
ROWS = {"max_eval_rows": str(N), "device": "cpu", "seed": "3"}
ASKED = {"rates": "20,0,5", "controls": str(K), "kind": "zero", "positions": "all", **ROWS}


def some_neurons(prompts: list[SoftPrompt], layers: int = 3, width: int = tiny_models.FFN, **card: object) -> Neurons:
    """Arrays of the right shapes, as a discovery leaves them."""
    rng, s, w = np.random.default_rng(0), len(prompts), prompts[0].length

    def f(*shape):
        return rng.random(shape)

    facts = {
        "protocol": "split",
        "site": "prompt",
        "stack": "encoder",
        "task": prompts[0].card["task"]["name"],
        "targets": ["positive"],
        "backbone": {key: prompts[0].card["backbone"][key] for key in ("name", "fingerprint")},
        "prompts": [prompt.fingerprint for prompt in prompts],
        **card,
    }
    return Neurons(
        baseline=f(s, layers, w, width).astype(np.float32),
        accuracy=f(1, s, layers, w, width).astype(np.float32),
        position=rng.integers(0, w, (1, s, layers, width)).astype(np.int16),
        sign=rng.choice([-1, 1], (1, s, layers, width)).astype(np.int8),
        selected=f(1, s, layers, width).astype(np.float32),
        seed_predictivity=f(1, s, layers, width).astype(np.float32),
        predictivity=f(1, layers, width).astype(np.float32),
        p_value=f(1, s, layers, width),
        q_value=f(1, layers, width),
        family_p=f(1, layers, width),
        auc=f(1, s, layers, width).astype(np.float32),
        random_selected=f(1, 0, layers, width).astype(np.float32),
        random_predictivity=f(1, 0, layers, width).astype(np.float32),
        effect_selected=f(s, layers, width).astype(np.float32),
        effect=f(s, layers, width).astype(np.float32),
        effect_p=f(layers, width),
        card=facts,
    )


@pytest.fixture(scope="module")
def tuned(tiny_roberta, tmp_path_factory):
    """Two seeds of one task, one prompt of another, and neurons of the first as a run and as a folder."""
    here, folder, before = Path.cwd(), tmp_path_factory.mktemp("suppress"), dict(os.environ)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    os.environ.pop("SKILLNEURONS_STATE", None)
    os.chdir(folder)
    try:
        assert main(words("tune", model=tiny_roberta, **QUICK, seeds="0,1")) == 0
        assert main(words("tune", model=tiny_roberta, **{**QUICK, "task": "meal_notes"})) == 0
        tracking = Tracking.connect()
        by_task = {run.data.params["task"]: f"runs:/{run.info.run_id}" for run in runs("tune")}
        prompts = fetch(tracking, by_task["film_notes"])
        some_neurons(prompts).save(folder / "neurons")
        with tracking.run("discover", {"skillneurons.stage": "discover"}) as run:
            run.folder(folder / "neurons", "neurons")
        references = {"prompts": by_task["film_notes"], "neurons": f"runs:/{run.id}"}
        assert main(words("suppress", **references, other_tasks=by_task["meal_notes"], **ASKED)) == 0
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)
    return folder, {**references, "other_tasks": by_task["meal_notes"]}


@pytest.fixture
def place(tuned, workplace, monkeypatch):
    folder, references = tuned
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    return references


@pytest.fixture
def refused(place, capsys, monkeypatch):
    def run(**parameters: object) -> str:
        return refusal("suppress", capsys, monkeypatch, **{**place, **ASKED, **parameters})

    return run


def finished() -> object:
    (run,) = [run for run in runs("suppress") if run.info.status == "FINISHED"]
    return run


def table(run) -> pd.DataFrame:
    return pd.DataFrame(**json.loads(artifact(run, "suppression.json").read_text()))


def test_the_run_is_whole(place):
    run = finished()
    assert "skillneurons.error" not in run.data.tags
    assert artifact(run, "figures/suppression.png").stat().st_size > 5000
    config = yaml.safe_load(artifact(run, "config.yaml").read_text())
    assert config["rates"] == [20.0, 0.0, 5.0]
    assert config["kind"] == "zero"
    note = run.data.tags["mlflow.note.content"]
    for word in ("film_notes · tiny-roberta", f"n={N}", "majority rate", "set to 0 at all positions", "meal_notes"):
        assert word in note
    assert {i.dataset.name for i in run.inputs.dataset_inputs} == {"film_notes/test", "meal_notes/test"}
    for tag in ("commit", "versions", "device", "address", "neurons", "backbone"):
        assert run.data.tags[f"skillneurons.{tag}"]
    assert run.data.metrics["test/n"] == N
    assert "seconds" in run.data.metrics


def test_every_number_follows_from_the_logged_rows(place):
    run = finished()
    rows, found = pd.read_parquet(artifact(run, "predictions/test.parquet")), table(run)
    assert len(rows) == (2 + 1) * (1 + 1 + 2 * (1 + K)) * N
    assert (rows["correct"] == (rows["label"] == rows["prediction"])).all()
    assert list(zip(found["task"], found["rate"], strict=True)) == [
        (task, rate) for task in ("film_notes", "meal_notes") for rate in RATES
    ]
    compared = 0
    for (task, rate), line in found.set_index(["task", "rate"]).iterrows():
        mine = rows[rows["task"] == task]
        prompts, hashes = list(dict.fromkeys(mine["prompt"])), list(dict.fromkeys(mine["row_hash"]))

        def grid(part: pd.DataFrame, prompts=prompts, hashes=hashes) -> np.ndarray:
            return part.pivot(index="prompt", columns="row_hash", values="correct").loc[prompts, hashes].to_numpy()

        at = mine[mine["rate"] == rate]
        skill, intact = grid(at[at["suppressed"] == "skill"]), grid(mine[mine["suppressed"] == "none"])
        assert line["n"] == N
        assert line["majority"] == pytest.approx(
            at[at["suppressed"] == "skill"]["label"].value_counts().max() / skill.size
        )
        assert line["prompts"] == len(prompts) == (2 if task == "film_notes" else 1)
        assert line["skill_accuracy"] == pytest.approx(skill.mean())
        assert line["intact_accuracy"] == pytest.approx(intact.mean())
        interval = wilson(skill.sum() / len(skill), N)
        assert (line["skill_low"], line["skill_high"]) == pytest.approx((interval.low, interval.high))
        if rate == 0:
            assert np.isnan(line["difference"])
            assert np.array_equal(skill, intact)
            continue
        controls = np.stack([grid(at[at["suppressed"] == f"random {k}"]) for k in range(K)])
        sets = controls.mean((1, 2))
        assert line["random_accuracy"] == pytest.approx(controls.mean())
        t = (
            np.clip(stats.t.interval(0.95, K - 1, sets.mean(), stats.sem(sets)), 0, 1)
            if sets.std()
            else [sets[0]] * 2
        )
        assert (line["random_low"], line["random_high"]) == pytest.approx(tuple(t))
        ahead = (sets <= skill.mean() + 1e-12).sum()
        assert line["rank_p"] == pytest.approx((1 + ahead) / (K + 1))
        again = contrast(skill, controls, 3).difference
        assert (line["difference"], line["difference_low"]) == pytest.approx(
            (skill.mean() - controls.mean(), again.low)
        )
        assert line["intact_balanced_accuracy"] == pytest.approx(balanced(mine[mine["suppressed"] == "none"]))
        assert line["rank_p_floor"] == pytest.approx(1 / (K + 1))
        compared += 1
    assert compared == 4
    for _, part in found[found["rate"] > 0].groupby("task"):
        np.testing.assert_allclose(part["holm_p"], holm(part["rank_p"]))


def balanced(rows: pd.DataFrame) -> float:
    by_label = rows.groupby(["prompt", "label"])["correct"].mean()
    return float(by_label.mean())


def test_the_rows_are_what_a_prompted_model_says(place):
    from accelerate import Accelerator

    from skillneurons.backbones.batching import Encoded
    from skillneurons.prompts.predictor import find_backbone
    from skillneurons.prompts.scoring import score

    rows = pd.read_parquet(artifact(finished(), "predictions/test.parquet"))
    prompts, task = fetch(Tracking.connect(), place["prompts"]), load_task("film_notes")
    split = load_splits(task, roles=("test",), max_eval_rows=N)["test"]
    info = find_backbone(prompts[0])
    texts = [task.render(info.family, dict(zip(task.fields, row, strict=True))) for row in split.rows]
    encoded, backbone = Encoded(info.encode(texts, 32), torch.from_numpy(split.labels.copy())), loading.load(info)
    label_words = info.label_words(prompts[0].card["label_words"]["entries"])
    for prompt in prompts:
        scores = score(backbone, prompt.embeddings, encoded, label_words, Accelerator(cpu=True))
        mine = rows[(rows["prompt"] == prompt.fingerprint) & (rows["suppressed"] == "none")]
        assert mine["row_hash"].tolist() == list(split.hashes)
        assert mine["prediction"].tolist() == [task.labels[i] for i in scores.argmax(1).tolist()]


def test_the_same_command_is_found_and_another_is_not(place, capsys, monkeypatch):
    run, before = finished(), len(runs("suppress"))

    def no_loading(self: BackboneInfo, **_: object) -> None:
        raise AssertionError("a model was loaded")

    with monkeypatch.context() as patched:
        patched.setattr(loading, "load", no_loading)
        # where and how fast is not what
        assert main(words("suppress", **place, **{**ASKED, "rates": "0,5,20", "eval_batch_size": "7"})) == 0
        # a folder holds the same neurons as the run
        assert main(words("suppress", **{**place, "neurons": "neurons"}, **ASKED)) == 0
        # noise alone has a sigma
        assert main(words("suppress", **place, **ASKED, sigma=0.5)) == 0
        assert main(words("suppress", config=f"runs:/{run.info.run_id}")) == 0
        said = capsys.readouterr().out
        assert said.count(f"has finished as run {run.info.run_id}") == 4
        assert main(words("suppress", **place, **ASKED, dry_run="true", keep="true")) == 0
        said = capsys.readouterr().out
        assert "all but the top" in said
        assert run.data.tags["skillneurons.address"] not in said
    assert len(runs("suppress")) == before


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "mean"},
        {"kind": "noise", "sigma": "0.3"},
        {"kind": "resample", "positions": "prompt"},
        {"ranking": "global", "positions": "prompt"},
        {"ranking_by": "effect"},
        {"ranking_by": "both"},
        {"keep": "true", "controls": "1"},
    ],
)
def test_every_kind_runs(place, change):
    asked = {**place, **ASKED, "other_tasks": "", "max_eval_rows": "9", "rates": "10", **change}
    before = {run.info.run_id for run in runs("suppress")}
    assert main(words("suppress", **asked)) == 0
    (run,) = [run for run in runs("suppress") if run.info.run_id not in before]
    assert run.info.status == "FINISHED"
    (line,) = table(run).to_dict("records")
    assert line["n"] == 9
    chosen = 3 * (tiny_models.FFN // 10) if change.get("ranking") != "global" else int(3 * tiny_models.FFN * 0.1)
    assert line["neurons"] == (3 * tiny_models.FFN - chosen if "keep" in change else chosen)
    client().delete_run(run.info.run_id)


def test_curve_and_both_rankings_leave_whole_tables_and_pictures(place):
    asked = {**place, **ASKED, "other_tasks": "", "max_eval_rows": "20", "rates": "10", "ranking_by": "both"}
    before = {run.info.run_id for run in runs("suppress")}
    assert main(words("suppress", **asked, curve="true")) == 0
    (run,) = [run for run in runs("suppress") if run.info.run_id not in before]
    logged = [told["path"] for told in json.loads(run.data.tags["mlflow.loggedArtifacts"])]
    assert {"faithfulness.json", "faithfulness_areas.json", "rankings.json"} <= {*logged}
    frames = {path: pd.DataFrame(**json.loads(artifact(run, path).read_text())) for path in logged}
    assert {path: lacks for path, frame in frames.items() if (lacks := lacking(frame))} == {}
    assert len(frames["faithfulness.json"]) == len(SIZES)
    note = run.data.tags["mlflow.note.content"]
    assert "**Rankings by prediction and effect**" in note
    assert "no way to take shares of" in note, "random weights carry no margin"
    client().delete_run(run.info.run_id)


def test_a_failure_is_a_failed_run_that_is_not_found_again(place, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise ArithmeticError("no scores today")

    asked = {**place, **ASKED, "seed": "77"}
    with monkeypatch.context() as patched:
        patched.setattr("skillneurons.suppress.command.suppressed_scores", broken)
        assert main(words("suppress", **asked)) == 1
    (failed,) = [run for run in runs("suppress") if run.info.status == "FAILED"]
    assert "no scores today" in failed.data.tags["skillneurons.error"]
    assert Tracking.connect().finished(failed.data.tags["skillneurons.address"]) is None
    client().delete_run(failed.info.run_id)


def test_a_run_made_by_mlflow_points_to_the_finished_one(place, monkeypatch):
    store, done = client(), finished()
    made = store.create_run(done.info.experiment_id)
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
    assert main(words("suppress", **place, **ASKED)) == 0
    pointer = store.get_run(made.info.run_id)
    assert pointer.info.status == "FINISHED"
    assert pointer.data.tags["skillneurons.same_as"] == done.info.run_id
    assert done.info.run_id in pointer.data.tags["mlflow.note.content"]
    store.delete_run(made.info.run_id)


def test_an_adversarial_task_of_the_same_labels_takes_the_place_of_the_own_one(place):
    asked = {**place, **ASKED, "other_tasks": "", "task": "adv_film_notes"}
    plan = COMMAND.plan(asked, None, Tracking.connect)
    (subject,) = plan.subjects
    expected = load_splits(load_task("adv_film_notes"), roles=("test",), max_eval_rows=N)["test"]
    assert subject.split.fingerprint == expected.fingerprint
    assert plan.title == "adv_film_notes · tiny-roberta"
    assert subject.words.ids == tuple(subject.prompts[0].card["label_words"]["ids"])


def test_the_mean_is_of_the_prompts_own_baseline_and_of_all_for_a_strange_prompt(place):
    asked = {**place, **ASKED, "kind": "mean"}
    plan = COMMAND.plan(asked, None, Tracking.connect)
    own, other = plan.subjects
    baseline = Neurons.load(Path("neurons")).baseline
    for seed, prompt in enumerate(own.prompts):
        np.testing.assert_allclose(plan.intervention(prompt).values, baseline[seed].mean(1), rtol=1e-6)
    np.testing.assert_allclose(plan.intervention(other.prompts[0]).values, baseline.mean((0, 2)), rtol=1e-5)
    assert len({plan.intervention(prompt).seed for prompt in (*own.prompts, *other.prompts)}) == 3


def test_the_address_is_of_all_that_decides(place):
    tracking = Tracking.connect()

    def address(**change: object) -> str:
        return COMMAND.plan({**place, **ASKED, **change}, None, lambda: tracking).address

    changes = (
        {"rates": "5"},
        {"kind": "noise"},
        {"kind": "noise", "sigma": "0.2"},
        {"positions": "prompt"},
        {"ranking": "global"},
        {"ranking_by": "effect"},
        {"keep": "true"},
        {"controls": "5"},
        {"seed": "4"},
        {"max_eval_rows": "32"},
        {"other_tasks": ""},
        {"task": "adv_film_notes"},
        {"kind": "mean"},
    )
    addresses = [address(), *(address(**change) for change in changes)]
    assert len(set(addresses)) == len(addresses)
    same = ({"threads": "1"}, {"eval_batch_size": "3"}, {"rerun": "true"}, {"sigma": "9"}, {"rates": "5,20,0"})
    assert {address(**change) for change in same} == {addresses[0]}


def test_neurons_come_from_a_finished_discover_run_alone(place):
    tracking = Tracking.connect()
    found = fetch_neurons(tracking, place["neurons"])
    assert found.fingerprint == Neurons.load(Path("neurons")).fingerprint
    assert found.shape == (3, tiny_models.FFN)


def test_a_run_without_neurons(refused, place):
    line = refused(neurons=place["other_tasks"])
    assert "discover" in line


def test_a_run_that_is_not_finished(refused, place):
    tracking = Tracking.connect()
    with tracking.run("discover", {}) as run:
        run.folder(Path("neurons"), "neurons")
        assert "FINISHED" in refused(neurons=f"runs:/{run.id}")
    tracking.client.set_terminated(run.id, "KILLED")
    assert "KILLED" in refused(neurons=f"runs:/{run.id}")
    assert "FINISHED" in refused(prompts=f"runs:/{run.id}")
    assert "names a run" in refused(neurons="runs:/nothere")


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"rates": "0,101"}, ["rates", "0 to 100", "101"]),
        ({"rates": "-1"}, ["rates", "-1"]),
        ({"rates": "nan"}, ["rates"]),
        ({"rates": "5,5"}, ["rates must all differ"]),
        ({"rates": "five"}, ["rates", "'five'"]),
        ({"rates": "0,100"}, ["leaves some", "0, 100"]),
        ({"rates": "1"}, ["chooses some", "2.08"]),  # 1% of 48 neurons is none
        ({"kind": "resample"}, ["positions=prompt"]),
        ({"kind": "remove"}, ["kind"]),
        ({"controls": "0"}, ["controls"]),
        ({"sigma": "0"}, ["sigma"]),
        ({"device": "cuda"}, ["device=cuda"]),
        ({"neurons": ""}, ["neurons must be given"]),
        ({"neurons": "nowhere"}, ["nowhere", "neurons.json"]),
        ({"rate": "5"}, ["rates"]),
        ({"task": "street_scenes"}, ["labels"]),
        ({"kind": "resample", "positions": "prompt", "max_eval_rows": "1", "other_tasks": ""}, ["two rows"]),
    ],
)
def test_bad_parameters(refused, parameters, said):
    if parameters.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    line = refused(**parameters)
    for word in said:
        assert word in line


def test_prompts_of_two_tasks(refused, place):
    line = refused(prompts=f"{place['prompts']},{place['other_tasks']}")
    assert "film_notes, meal_notes" in line


def test_the_own_task_is_no_other_task(refused, place):
    assert "film_notes" in refused(other_tasks=place["prompts"])


def test_a_prompt_named_twice(refused, place):
    assert "twice" in refused(prompts=f"{place['prompts']},{place['prompts']}")


def test_neurons_of_another_backbone(refused, place, tmp_path):
    prompts = fetch(Tracking.connect(), place["prompts"])
    some_neurons(prompts, backbone={"name": "another", "fingerprint": "0" * 64}).save(tmp_path / "neurons")
    line = refused(neurons=tmp_path / "neurons")
    assert "another" in line
    assert "tiny-roberta" in line


def test_neurons_of_another_stack(refused, place, tmp_path):
    prompts = fetch(Tracking.connect(), place["prompts"])
    some_neurons(prompts, stack="decoder").save(tmp_path / "neurons")
    assert "decoder" in refused(neurons=tmp_path / "neurons")
    some_neurons(prompts, site="decoder", stack="decoder").save(tmp_path / "more")
    assert "encoder-decoder" in refused(neurons=tmp_path / "more")


def test_a_prompt_of_another_width(refused, place, tmp_path):
    (first, _) = fetch(Tracking.connect(), place["prompts"])
    replace(first, embeddings=torch.randn(6, tiny_models.HIDDEN + 1)).save(tmp_path / "wide")
    line = refused(prompts=tmp_path / "wide")
    assert f"{tiny_models.HIDDEN} wide" in line


@pytest.mark.parametrize(
    ("architecture", "site", "stack"), [("t5", "decoder", "decoder"), ("gpt2", "prompt", "decoder")]
)
def test_other_families(architecture, site, stack, workplace):
    model = tiny_models.build(architecture, workplace / f"tiny-{architecture}")
    assert main(words("tune", model=model, **{**QUICK, "max_steps": "8"})) == 0
    (run,) = runs("tune")
    prompts = fetch(Tracking.connect(), f"runs:/{run.info.run_id}")
    shape = (2, tiny_models.FFN) if architecture == "t5" else (3, 4 * tiny_models.HIDDEN)
    some_neurons(prompts, *shape, site=site, stack=stack).save(workplace / "neurons")
    asked = {"prompts": f"runs:/{run.info.run_id}", "neurons": "neurons", **ASKED, "positions": "prompt"}
    assert main(words("suppress", **asked)) == 0
    done = finished()
    assert table(done)["neurons"].tolist() == [0, *(shape[0] * int(shape[1] * rate / 100) for rate in (5, 20))]
    assert f"{stack} neurons" in done.data.tags["mlflow.note.content"]
