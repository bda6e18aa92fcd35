"""`transfer` from the command line to MLflow and back, in the process of the test."""

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
from test_suppress import some_neurons

import tiny_models
from conftest import QUICK, words
from skillneurons import fingerprints
from skillneurons.backbones import loading
from skillneurons.backbones.base import BackboneInfo
from skillneurons.cli import main
from skillneurons.data.splits import load_splits
from skillneurons.data.tasks import load_task
from skillneurons.prompts.initialization import like_vocabulary
from skillneurons.prompts.predictor import find_backbone
from skillneurons.stats.intervals import holm, wilson
from skillneurons.tracking.registry import fetch
from skillneurons.tracking.runs import Tracking
from skillneurons.transfer.cell import against
from skillneurons.transfer.command import COMMAND, random_prompts
from table_walk import lacking
from tracked import artifact, client, refusal, runs

K, N, SEEDS = 3, 33, (0, 1)
FAMILIES = {"quips": "sentiment", "jests": "sentiment", "tales": "nli"}
UNSEEN = "riddles"  # a task no prompt was tuned on
TABLES = ["transfer.json", "family_tests.json", "transfer_by_family.json", "overlap.json", "correlation.json"]
ASKED = {"random_prompts": str(K), "max_eval_rows": str(N), "device": "cpu", "seed": "3", "top": "10"}
BRIEF = {key: QUICK[key] for key in ("prompt_length", "max_length", "batch_size", "learning_rate", "device")}


def write_task(folder: Path, name: str, family: str, answers: tuple[str, str]) -> Path:
    """A task of words that the tiny tokenizers know; which of them tell the label differs from task to task."""
    rng = np.random.default_rng(len(name) + ord(name[0]))
    telling = [("dull", "thin"), ("gorgeous", "witty")][:: -1 if name == "tales" else 1]
    for role, size in (("train", 101), ("test", 40)):
        rows = []
        for number in range(size):
            label = number % 5 > 1
            word, thing = rng.choice(telling[int(label)]), rng.choice(["film", "plot", "cast", "tea"])
            row = {"a": f"a {word} {thing} , {name} {role} {number}", "b": f"the {word} {thing}"}
            rows.append(json.dumps({**row, "label": answers[int(label)]}) + "\n")
        (folder / f"{name}.{role}.jsonl").write_text("".join(rows))
    families = ("masked_lm", "encoder_decoder", "decoder_only")
    text = ["{a}", "{b}"] if family == "nli" else "{a}"
    raw = {
        "name": name,
        "version": 1,
        "family": family,
        "fields": ["a", "b"],
        "labels": list(answers),
        "templates": {one: "{a} {b}" if family == "nli" and one != "masked_lm" else text for one in families},
        "label_words": {one: list(answers) for one in families},
        "file": {"splits": {role: f"{name}.{role}.jsonl" for role in ("train", "test")}},
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(raw))
    return folder / f"{name}.yaml"


def write_tasks(folder: Path) -> dict[str, str]:
    made = {}
    for name, family in {**FAMILIES, UNSEEN: "nli"}.items():
        answers = ("no", "yes") if family == "nli" else ("negative", "positive")
        made[name] = str(write_task(folder, name, family, answers))
    return made


def tune(model: Path, task: str, **more: object) -> str:
    before = {run.info.run_id for run in runs("tune")}
    assert main(words("tune", model=model, task=task, **{**BRIEF, "max_steps": 40, "eval_every": 20, **more})) == 0
    (run,) = [run for run in runs("tune") if run.info.run_id not in before]
    return f"runs:/{run.info.run_id}"


@pytest.fixture(scope="module")
def tuned(tiny_roberta, tmp_path_factory):
    """Two seeds of three tasks, their neurons as folders, and one finished transfer run."""
    here, folder, before = Path.cwd(), tmp_path_factory.mktemp("transfer"), dict(os.environ)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    os.environ.pop("SKILLNEURONS_STATE", None)
    os.chdir(folder)
    try:
        paths = write_tasks(folder)
        made = {name: tune(tiny_roberta, paths[name], seeds="0,1") for name in FAMILIES}
        for name, reference in made.items():
            found = some_neurons(fetch(Tracking.connect(), reference), seeds=list(SEEDS))
            scores = np.random.default_rng(ord(name[0])).random(found.seed_predictivity.shape).astype(np.float32)
            replace(found, seed_predictivity=scores, predictivity=scores.mean(1)).save(folder / f"neurons-{name}")
        references = {
            "prompts": ",".join(made.values()),
            "tasks": ",".join(paths.values()),
            "neurons": ",".join(f"neurons-{name}" for name in made),
        }
        assert main(words("transfer", **references, **ASKED)) == 0
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)
    return folder, references, made, paths


@pytest.fixture
def place(tuned, workplace, monkeypatch):
    folder, references, _, _ = tuned
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    return references


@pytest.fixture
def refused(place, capsys, monkeypatch):
    def run(**parameters: object) -> str:
        return refusal("transfer", capsys, monkeypatch, **{**place, **ASKED, **parameters})

    return run


def finished() -> object:
    (run,) = [run for run in runs("transfer") if run.info.status == "FINISHED"]
    return run


def table(run, name: str = "transfer.json") -> pd.DataFrame:
    return pd.DataFrame(**json.loads(artifact(run, name).read_text()))


def predictions(run, task: str) -> pd.DataFrame:
    return pd.read_parquet(artifact(run, f"predictions/{task}.parquet"))


def test_the_run_is_whole(place):
    run = finished()
    assert "skillneurons.error" not in run.data.tags
    for figure in ("transfer", "transfer_overlap"):
        assert artifact(run, f"figures/{figure}.png").stat().st_size > 5000
    config = yaml.safe_load(artifact(run, "config.yaml").read_text())
    assert config["random_prompts"] == K
    assert config["top"] == 10
    note = run.data.tags["mlflow.note.content"]
    for word in (
        "3 x 4 tasks · tiny-roberta",
        f"n={N}",
        "majority rate",
        f"above {K} random prompts",
        "own prompts have skill",
    ):
        assert word in note
    assert {i.dataset.name for i in run.inputs.dataset_inputs} == {f"{name}/test" for name in [*FAMILIES, UNSEEN]}
    for tag in ("commit", "versions", "device", "address", "backbone"):
        assert run.data.tags[f"skillneurons.{tag}"]
    tables = {entry["path"] for entry in json.loads(run.data.tags["mlflow.loggedArtifacts"])}
    assert tables == {*TABLES}
    assert not list(Path(".skillneurons/checkpoints").glob("*"))


def test_every_cell_follows_from_the_logged_rows(place):
    run = finished()
    found, metrics = table(run), run.data.metrics
    assert len(found) == 3 * 4
    grids, compared = {}, 0
    for target in [*FAMILIES, UNSEEN]:
        rows = predictions(run, target)
        assert len(rows) == (3 * len(SEEDS) + K) * N
        assert (rows["correct"] == (rows["label"] == rows["prediction"])).all()
        for source, part in rows.groupby("source"):
            grids[source, target] = part.pivot(index="seed", columns="row_hash", values="correct").to_numpy()
        grids[target] = rows.drop_duplicates("row_hash")["label"].value_counts().max() / N
    for line in found.to_dict("records"):
        source, target = line["source"], line["target"]
        ours, random, majority = grids[source, target], grids["random prompt", target], grids[target]
        assert ours.shape == (2, N)
        assert random.shape == (K, N)
        assert (line["n"], line["seeds"], line["random_prompts"]) == (N, 2, K)
        assert line["accuracy"] == pytest.approx(ours.mean())
        interval = wilson(ours.sum() / 2, N)
        assert (line["accuracy_low"], line["accuracy_high"]) == pytest.approx((interval.low, interval.high))
        assert line["accuracy_lowest"] == pytest.approx(ours.mean(1).min())
        assert line["majority"] == pytest.approx(majority)
        assert line["random_accuracy"] == pytest.approx(random.mean())
        assert line["difference"] == pytest.approx(ours.mean() - random.mean())
        assert line["difference_p"] == pytest.approx(against(ours, random).p_value)
        where = f"transfer/{source}/{target}/accuracy"
        assert metrics[where] == pytest.approx(ours.mean())
        assert metrics[f"{where}_low"] == pytest.approx(interval.low)
        assert metrics[f"transfer/{source}/{target}/majority"] == pytest.approx(majority)
        assert line["verdict"].startswith("skill" if line["balanced_accuracy_p"] <= 0.05 else "no skill shown")
        if target == UNSEEN:
            assert np.isnan(line["relative"])
            assert line["paired_seeds"] == 0
            continue
        ratios = ours.mean(1) / grids[target, target].mean(1)
        assert line["relative"] == pytest.approx(ratios.mean())
        low, high = stats.t.interval(0.95, 1, ratios.mean(), stats.sem(ratios)) if ratios.std() else ratios
        # a share of two positive numbers is not below 0
        assert (line["relative_low"], line["relative_high"]) == pytest.approx((max(low, 0), high))
        assert line["relative_chance"] == pytest.approx(np.mean(majority / grids[target, target].mean(1)))
        assert line["relative_floor"] == pytest.approx(np.mean(random.mean() / grids[target, target].mean(1)))
        assert line["own_difference"] == pytest.approx(ours.mean() - grids[target, target].mean())
        compared += source != target
    assert compared == 6
    own = found[found["relation"] == "own"]
    assert len(own) == 3
    assert (own[["relative", "relative_low", "relative_high"]] == 1).all(axis=None)
    assert (own[["own_difference", "own_difference_low"]] == 0).all(axis=None)
    assert own["difference_holm_p"].isna().all()
    moved = found[found["relation"] != "own"]
    tests = table(run, "family_tests.json").set_index(["source_family", "target_family"])
    np.testing.assert_allclose(tests["difference_holm_p"].astype(float), holm(tests["difference_p"]))
    for pair, cells in moved.groupby(["source_family", "target_family"]):
        assert tests.loc[pair, "difference"] == pytest.approx(cells["difference"].mean())
        if tests.loc[pair, "difference_holm_p"] < 0.05:
            chosen = len(tests) / (tests["difference_holm_p"] < 0.05).sum()
            expected = np.minimum(1, holm(cells["difference_p"]) * chosen)
            np.testing.assert_allclose(cells["difference_holm_p"].astype(float), expected)
        else:
            assert cells["difference_holm_p"].isna().all()
    assert moved.set_index(["source", "target"])["relation"].to_dict() == {
        (a, b): "within family" if FAMILIES[a] == {**FAMILIES, UNSEEN: "nli"}[b] else "across families"
        for a in FAMILIES
        for b in [*FAMILIES, UNSEEN]
        if a != b
    }


def test_the_rows_are_what_each_prompt_says_row_by_row(place, tuned):
    """Each row alone, with the target's template and words, by the backbone itself."""
    run, tracking, compared = finished(), Tracking.connect(), 0
    prompts = fetch(tracking, place["prompts"])
    backbone = loading.load(find_backbone(prompts[0]))
    plan = COMMAND.plan({**place, **ASKED}, None, lambda: tracking)
    readers = {p.fingerprint: p.embeddings for p in prompts}
    readers |= {fingerprints.of_tensor(prompt): prompt for prompt in random_prompts(plan, backbone)}
    assert len(readers) == 3 * 2 + K
    for name, path in tuned[3].items():
        task, rows = load_task(path), predictions(run, name)
        split = load_splits(task, roles=("test",), max_eval_rows=N)["test"]
        label_words = backbone.info.label_words(task.words("masked_lm"))
        for fingerprint, embeddings in readers.items():
            mine = rows[rows["prompt"] == fingerprint]
            assert mine["row_hash"].tolist() == list(split.hashes)
            said = []
            for row in split.rows:
                text = task.render("masked_lm", dict(zip(task.fields, row, strict=True)))
                batch = backbone.info.collate(backbone.info.encode([text], 32))
                with torch.inference_mode():
                    said.append(int(backbone.label_scores(embeddings, batch, label_words).argmax()))
            assert mine["prediction"].tolist() == [task.labels[i] for i in said]
            compared += len(set(said)) > 1
    assert compared > 4, "prompts that answer one class to everything compare nothing"


def test_random_prompts_are_drawn_like_the_vocabulary(place):
    plan = COMMAND.plan({**place, **ASKED}, None, Tracking.connect)
    backbone = loading.load(plan.info)
    drawn = random_prompts(plan, backbone)
    assert len({fingerprints.of_tensor(prompt) for prompt in drawn}) == K
    again = random_prompts(plan, backbone)
    assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True))
    vocabulary = backbone.vocabulary_embeddings()
    many = like_vocabulary(vocabulary, 4000, 0)
    assert torch.allclose(many.mean(0), vocabulary.mean(0), atol=0.05)
    assert torch.allclose(many.std(0), vocabulary.std(0), atol=0.05)


def test_neurons_stand_beside_it(place):
    run = finished()
    found, correlations = table(run, "overlap.json"), table(run, "correlation.json")
    assert len(found) == 3
    np.testing.assert_allclose(found["overlap_chance"], 4 / 48)
    assert (found["n"] == 3 * 48).all()
    assert set(correlations["relative accuracy with"]) >= {"overlap of the top 10%", "same family"}
    assert (correlations["n"] == 3).all()
    assert (correlations["spearman_p"] >= correlations["spearman_p_floor"]).all()
    assert "of the three that a correlation takes" in run.data.tags["mlflow.note.content"]


def test_families_are_means_over_cells(place):
    run = finished()
    found, cells = table(run, "transfer_by_family.json"), table(run)
    cells = cells[(cells["relation"] != "own") & cells["relative"].notna()]
    first = found[(found["scope"] == "all tasks") & (found["source_family"] == "all")].set_index("relation")
    for relation in ("within family", "across families"):
        mine = cells[cells["relation"] == relation]
        assert first.loc[relation, "relative"] == pytest.approx(mine["relative"].mean())
        assert first.loc[relation, "relative_chance"] == pytest.approx(mine["relative_chance"].mean())
        assert first.loc[relation, "cells"] == len(mine)
        assert first.loc[relation, "n"] == N * mine["target"].nunique()
    gap = first.loc["within minus across"]
    assert gap["relative"] == pytest.approx(first["relative"].iloc[0] - first["relative"].iloc[1])
    pairs = found[found["source_family"] != "all"]
    assert pairs.set_index(["source_family", "target_family"])["cells"].to_dict() == {
        ("sentiment", "sentiment"): 2,
        ("sentiment", "nli"): 2,
        ("nli", "sentiment"): 2,
    }


@pytest.mark.parametrize("name", TABLES)
def test_every_estimate_has_what_judges_it(place, name):
    found = table(finished(), name)
    assert "n" in found
    known = {"n", "seeds", "paired_seeds", "random_prompts", "majority", "cells", "tasks", "orders", "layers"}
    ends = ("_p", "_q", "_floor", "_lowest", "_highest", "_low", "_high", "_chance")
    estimates = [
        column
        for column in found.select_dtypes("number")
        if not column.endswith(ends) and column not in {*known, "percent"}
    ]
    assert estimates
    for column in estimates:
        assert {f"{column}_low", f"{column}_high"} <= {*found}
        assert f"{column}_chance" in found or ("accuracy" in column and "majority" in found)


def test_every_logged_table_is_whole(place):
    walked = [(told["path"], table(finished(), told["path"])) for told in json.loads(tables_of(finished()))]
    assert len(walked) > 3
    assert {path: lacks for path, frame in walked if (lacks := lacking(frame))} == {}


def tables_of(run) -> str:
    return run.data.tags["mlflow.loggedArtifacts"]


def test_the_same_command_is_found_and_another_is_not(place, tuned, capsys, monkeypatch):
    run, before = finished(), len(runs("transfer"))
    made, paths = tuned[2], tuned[3]
    backwards = {
        "prompts": ",".join(reversed(made.values())),
        "tasks": ",".join(reversed(paths.values())),
        "neurons": ",".join(f"neurons-{name}" for name in reversed(made)),
    }

    def no_loading(self: BackboneInfo, **_: object) -> None:
        raise AssertionError("a model was loaded")

    with monkeypatch.context() as patched:
        patched.setattr(loading, "load", no_loading)
        assert main(words("transfer", **place, **{**ASKED, "eval_batch_size": "7"})) == 0
        assert main(words("transfer", **backwards, **ASKED)) == 0
        assert main(words("transfer", config=f"runs:/{run.info.run_id}")) == 0
        said = capsys.readouterr().out
        assert said.count(f"has finished as run {run.info.run_id}") == 3
        assert main(words("transfer", **place, **ASKED, dry_run="true", rerun="true")) == 0
        said = capsys.readouterr().out
        assert f"under {3 * 2 + K} prompts" in said
        assert run.data.tags["skillneurons.address"] in said
    assert len(runs("transfer")) == before


def test_the_address_is_of_all_that_decides(place, tuned):
    tracking, made = Tracking.connect(), tuned[2]

    def address(**change: object) -> str:
        return COMMAND.plan({**place, **ASKED, **change}, None, lambda: tracking).address

    two = {"prompts": ",".join(list(made.values())[:2]), "neurons": "neurons-quips,neurons-jests"}
    changes = (
        {"max_eval_rows": "32"},
        {"seed": "4"},
        {"random_prompts": "4"},
        {"top": "20"},
        {"permutations": "200"},
        {"neurons": ""},
        {"tasks": ",".join(list(tuned[3].values())[:3])},
        two,
    )
    addresses = [address(), *(address(**change) for change in changes)]
    assert len(set(addresses)) == len(addresses)
    same = ({"threads": "1"}, {"eval_batch_size": "3"}, {"rerun": "true"})
    assert {address(**change) for change in same} == {addresses[0]}
    # without neurons nothing is correlated with them
    assert address(neurons="", top="20") == address(neurons="")


def test_a_target_is_read_as_its_own_prompts_were_tuned(place, tuned, tmp_path):
    found, tracking = fetch(Tracking.connect(), tuned[2]["jests"]), Tracking.connect()
    for number, one in enumerate(found):
        reversed_words = {
            key: list(reversed(value)) for key, value in one.card["label_words"].items() if key != "variant"
        }
        elsewhere = {**one.card["backbone"], "reference": "elsewhere", "location": "/elsewhere"}
        card = {**one.card, "max_length": 20, "label_words": reversed_words, "backbone": elsewhere}
        replace(one, card=card).save(tmp_path / f"jests{number}")
    references = f"{tuned[2]['quips']},{tmp_path / 'jests0'},{tmp_path / 'jests1'}"
    asked = {**ASKED, "prompts": references, "tasks": place["tasks"]}
    plan = COMMAND.plan(asked, None, lambda: tracking)
    targets = {target.task.name: target for target in plan.targets}
    assert {name: target.max_length for name, target in targets.items()} == {
        "quips": 32,
        "jests": 20,
        "tales": 20,
        UNSEEN: 20,
    }
    assert targets["jests"].words.ids == tuple(reversed(targets["quips"].words.ids))
    assert targets["tales"].words == plan.info.label_words(["no", "yes"])
    assert max(len(row) for row in targets["jests"].encode(plan.info).rows) <= 20
    assert plan.own(targets["tales"]) is None
    assert plan.own(targets["jests"]).seeds == SEEDS


def test_two_tasks_may_have_one_prompt(place, tuned, tmp_path):
    """A prompt whose tuning never beat its start is the start, whatever the task."""
    first, other = (fetch(Tracking.connect(), tuned[2][name])[0] for name in ("quips", "tales"))
    first.save(tmp_path / "first")
    replace(other, embeddings=first.embeddings).save(tmp_path / "other")
    asked = {**ASKED, "prompts": f"{tmp_path / 'first'},{tmp_path / 'other'}", "tasks": place["tasks"]}
    plan = COMMAND.plan(asked, None, Tracking.connect)
    assert [source.task for source in plan.sources] == ["tales", "quips"]
    assert len({prompt.fingerprint for prompt in plan.prompts}) == 1


def test_a_prompt_without_a_seed_is_paired_with_another(place, tuned, tmp_path):
    """Published prompts have none."""
    for name in ("quips", "jests"):
        one = fetch(Tracking.connect(), tuned[2][name])[0]
        replace(one, card={key: value for key, value in one.card.items() if key != "seed"}).save(tmp_path / name)
    tasks = f"{tuned[3]['quips']},{tuned[3]['jests']}"
    before = {run.info.run_id for run in runs("transfer")}
    assert main(words("transfer", **ASKED, prompts=f"{tmp_path / 'quips'},{tmp_path / 'jests'}", tasks=tasks)) == 0
    (run,) = [run for run in runs("transfer") if run.info.run_id not in before]
    found = table(run)
    assert (found["paired_seeds"] == 1).all()
    assert found["relative"].notna().all()
    rows = predictions(run, "quips")
    assert set(rows[rows["source"] == "quips"]["seed"]) == {-1}
    client().delete_run(run.info.run_id)


def test_an_interrupted_command_is_taken_up(place, monkeypatch):
    from skillneurons.transfer import command

    asked, times = {**place, **ASKED, "max_eval_rows": "9", "neurons": ""}, []
    plain = command.score

    def counting(*given: object) -> torch.Tensor:
        times.append(1)
        if len(times) == 3 * 2 + K + 2:
            raise KeyboardInterrupt
        return plain(*given)

    before = {run.info.run_id for run in runs("transfer")}
    monkeypatch.setattr(command, "score", counting)
    assert main(words("transfer", **asked)) == 130
    assert main(words("transfer", **asked)) == 0
    assert len(times) == 4 * (3 * 2 + K) + 2, "the first target is not read twice"
    made = [run for run in runs("transfer") if run.info.run_id not in before]
    assert sorted(run.info.status for run in made) == ["FINISHED", "KILLED"]
    assert not list(Path(".skillneurons/checkpoints").glob("*"))
    for run in made:
        client().delete_run(run.info.run_id)


def test_a_run_made_by_mlflow_points_to_the_finished_one(place, monkeypatch):
    store, done = client(), finished()
    made = store.create_run(done.info.experiment_id)
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
    assert main(words("transfer", **place, **ASKED)) == 0
    assert store.get_run(made.info.run_id).data.tags["skillneurons.same_as"] == done.info.run_id
    store.delete_run(made.info.run_id)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"top": "0"}, ["top"]),
        ({"top": "100"}, ["top"]),
        ({"top": "1"}, ["chooses a neuron", "2.08"]),  # 1% of 48 neurons is none
        ({"random_prompts": "1"}, ["random_prompts"]),
        ({"permutations": "5"}, ["permutations"]),
        ({"max_eval_rows": "1"}, ["max_eval_rows"]),
        ({"device": "cuda"}, ["device=cuda"]),
        ({"prompts": ""}, ["prompts must be given"]),
        ({"neurons": "nowhere"}, ["nowhere"]),
        ({"task": "quips"}, ["tasks"]),
        ({"tasks": "nothing_known"}, ["nothing_known"]),
        ({"neurons": "neurons-quips,neurons-jests"}, ["each task of the prompts", "tales"]),
        ({"neurons": "neurons-quips,neurons-jests,neurons-tales,neurons-quips"}, ["one discover run a task"]),
    ],
)
def test_bad_parameters(refused, parameters, said):
    if parameters.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    line = refused(**parameters)
    for word in said:
        assert word in line


def test_one_task_alone(refused, tuned):
    _, _, made, paths = tuned
    assert "quips alone" in refused(prompts=made["quips"], tasks=paths["quips"], neurons="")


def test_a_task_named_twice(refused, tuned):
    assert "once" in refused(tasks=f"{tuned[3]['quips']},{tuned[3]['quips']}")


def test_a_prompt_named_twice(refused, place):
    assert "twice" in refused(prompts=f"{place['prompts']},{place['prompts']}")


def test_a_run_that_is_not_finished(refused, place):
    tracking = Tracking.connect()
    with tracking.run("tune", {}) as run:
        assert "FINISHED" in refused(prompts=f"{place['prompts']},runs:/{run.id}")
    assert "discover" in refused(neurons=f"runs:/{run.id}")


def test_prompts_of_two_seeds_of_one_number(refused, tuned, tmp_path):
    first, second = fetch(Tracking.connect(), tuned[2]["quips"])
    replace(second, card={**second.card, "seed": first.card["seed"]}).save(tmp_path / "same")
    line = refused(prompts=f"{tuned[2]['quips']},{tmp_path / 'same'}", neurons="")
    assert "twice" in line
    replace(second, embeddings=second.embeddings + 1, card={**second.card, "seed": 0}).save(tmp_path / "other")
    line = refused(prompts=f"{tuned[2]['quips']},{tmp_path / 'other'}", neurons="")
    assert "different seeds" in line


def test_seeds_that_are_not_shared(refused, tuned, tmp_path):
    (_, second) = fetch(Tracking.connect(), tuned[2]["jests"])
    replace(second, card={**second.card, "seed": 7}).save(tmp_path / "seven")
    line = refused(prompts=f"{tuned[2]['quips']},{tmp_path / 'seven'}", neurons="")
    assert "share seeds" in line
    assert "7" in line


def test_seeds_that_are_shared_in_part_are_paired_in_part(place, tuned, tmp_path):
    prompts = fetch(Tracking.connect(), tuned[2]["jests"])
    replace(prompts[1], card={**prompts[1].card, "seed": 7}).save(tmp_path / "seven")
    prompts[0].save(tmp_path / "zero")
    before = {run.info.run_id for run in runs("transfer")}
    references = f"{tuned[2]['quips']},{tmp_path / 'zero'},{tmp_path / 'seven'}"
    tasks = f"{tuned[3]['quips']},{tuned[3]['jests']}"
    assert main(words("transfer", **ASKED, prompts=references, tasks=tasks)) == 0
    (run,) = [run for run in runs("transfer") if run.info.run_id not in before]
    found = table(run).set_index(["source", "target"])
    assert found.loc[("jests", "quips"), "paired_seeds"] == 1
    assert found.loc[("jests", "jests"), "paired_seeds"] == 2
    assert found.loc[("jests", "quips"), "seeds"] == 2
    client().delete_run(run.info.run_id)


def test_prompts_of_two_backbones(refused, place, tuned, tmp_path):
    (first, _) = fetch(Tracking.connect(), tuned[2]["tales"])
    other = {**first.card["backbone"], "fingerprint": "0" * 64, "name": "another"}
    replace(first, embeddings=first.embeddings + 1, card={**first.card, "backbone": other}).save(tmp_path / "other")
    line = refused(prompts=f"{tuned[2]['quips']},{tmp_path / 'other'}")
    assert "backbone" in line
    assert "another" in line
    replace(first, embeddings=first.embeddings + 1, card={**first.card, "placement": "prefix"}).save(tmp_path / "pre")
    assert "placement" in refused(prompts=f"{tuned[2]['quips']},{tmp_path / 'pre'}")


def test_prompts_of_two_lengths_and_of_another_width(refused, tuned, tmp_path):
    first, second = fetch(Tracking.connect(), tuned[2]["tales"])
    replace(first, embeddings=first.embeddings[:4]).save(tmp_path / "short")
    assert "4 x 32, 6 x 32" in refused(prompts=f"{tuned[2]['quips']},{tmp_path / 'short'}", neurons="")
    for number, one in enumerate((first, second)):
        replace(one, embeddings=torch.randn(6, 33)).save(tmp_path / f"wide{number}")
    line = refused(
        prompts=f"{tmp_path / 'wide0'},{tmp_path / 'wide1'}", tasks=",".join(tuned[3].values()), neurons=""
    )
    assert "32 wide" in line


def test_a_text_that_does_not_fit_beside_the_prompt(refused, tuned, tmp_path):
    first, second = fetch(Tracking.connect(), tuned[2]["tales"])
    for number, one in enumerate((first, second)):
        replace(one, card={**one.card, "max_length": 60}).save(tmp_path / f"long{number}")
    line = refused(prompts=f"{tuned[2]['quips']},{tmp_path / 'long0'},{tmp_path / 'long1'}", neurons="")
    assert "6 + 60" in line


def spoilt(path: str, folder: Path, **changes: object) -> Path:
    raw = yaml.safe_load(Path(path).read_text())
    raw["file"] = {"splits": {role: str(Path(path).parent / file) for role, file in raw["file"]["splits"].items()}}
    (folder / "spoilt.yaml").write_text(yaml.safe_dump({**raw, **changes}))
    return folder / "spoilt.yaml"


def test_targets_that_cannot_be_read(refused, tuned, tmp_path):
    quips, riddles = tuned[3]["quips"], tuned[3][UNSEEN]
    only = {"templates": {"decoder_only": "{a}"}, "label_words": {"decoder_only": ["no", "yes"]}}
    line = refused(tasks=f"{quips},{spoilt(riddles, tmp_path, **only)}")
    assert "masked_lm" in line
    several = {"label_words": {"masked_lm": ["no", "incomprehensible"]}, "templates": {"masked_lm": "{a}"}}
    line = refused(tasks=f"{quips},{spoilt(riddles, tmp_path, **several)}")
    assert "'incomprehensible'" in line
    no_test = {"file": {"splits": {"dev": str(Path(riddles).parent / "riddles.train.jsonl")}}}
    assert "test" in refused(tasks=f"{quips},{spoilt(riddles, tmp_path, **no_test)}")
    changed = spoilt(quips, tmp_path, version=2)
    assert "tuned on" in refused(tasks=f"{changed},{riddles}")


def test_neurons_that_do_not_fit(refused, place, tuned, tmp_path):
    prompts = fetch(Tracking.connect(), tuned[2]["tales"])

    def instead(**card: object) -> str:
        some_neurons(prompts, **card).save(tmp_path / "neurons")
        return refused(neurons=f"neurons-quips,neurons-jests,{tmp_path / 'neurons'}")

    assert "another" in instead(backbone={"name": "another", "fingerprint": "0" * 64})
    assert "site" in instead(site="prompt-body")
    assert "protocol" in instead(protocol="paper")
    assert "unknown" in instead(task="unknown")


@pytest.mark.parametrize("architecture", ["t5", "gpt2"])
def test_other_families(architecture, workplace):
    model, paths = tiny_models.build(architecture, workplace / f"tiny-{architecture}"), write_tasks(workplace)
    made = {name: tune(model, paths[name]) for name in ("quips", "tales")}
    asked = {**ASKED, "prompts": ",".join(made.values()), "tasks": f"{paths['quips']},{paths['tales']}"}
    assert main(words("transfer", **asked)) == 0
    run = finished()
    found = table(run)
    assert len(found) == 4
    own = found[found["relation"] == "own"]
    assert (own["relative"] == 1).all()
    # tune has measured the same prompts on the same rows
    for name, reference in made.items():
        rows = predictions(run, name)
        mine = rows[rows["source"] == name].set_index("row_hash")["prediction"]
        tuned_rows = pd.read_parquet(artifact_of(reference)).set_index("row_hash")["prediction"]
        assert mine.to_dict() == tuned_rows.loc[mine.index].to_dict()
    assert "no interval" in run.data.tags["mlflow.note.content"]


def artifact_of(reference: str) -> Path:
    parent = client().get_run(reference.removeprefix("runs:/"))
    child = parent.data.tags["skillneurons.children"]
    return Path(client().download_artifacts(child, "predictions/test.parquet"))
