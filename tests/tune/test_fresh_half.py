"""What is chosen is chosen on half A of dev; half B is read first by `discover`, which judges on it."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from conftest import QUICK, words
from skillneurons.backbones.base import BackboneInfo
from skillneurons.cli import main
from skillneurons.data.splits import Split, half_a, halves, load_splits
from skillneurons.data.tasks import load_task
from skillneurons.errors import InputError
from skillneurons.neurons.activation_stream import ActivationReader
from skillneurons.neurons.scores import Neurons
from skillneurons.prompts.soft_prompt import SoftPrompt
from tracked import artifact, client, every_run, refusal, runs

SMALL = {**QUICK, "max_steps": "8", "eval_every": "4", "max_train_rows": "40", "max_eval_rows": "20"}
DISCOVER = {"max_train_rows": "40", "max_dev_rows": "120", "permutations": "100", "cards": "2", "device": "cpu"}


def dev_rows(rows: int | None = None) -> Split:
    return load_splits(load_task("film_notes"), roles=("train", "dev"), max_dev_rows=rows)["dev"]


def test_a_sample_has_the_halves_of_the_whole():
    whole = dev_rows()
    first, second = (set(whole.take(part).hashes) for part in halves(whole.hashes))
    assert not first & second
    assert first | second == set(whole.hashes)
    assert 0.4 < len(first) / len(whole) < 0.6
    for rows in (30, 100, 300):
        some = dev_rows(rows)
        assert set(some.take(halves(some.hashes)[0]).hashes) == first & set(some.hashes)
        assert half_a(some).whole == whole.fingerprint
        assert half_a(some).hashes == tuple(name for name in some.hashes if name in first)


def test_no_row_of_half_b_is_read_before_a_discovery_judges_on_it(workplace, monkeypatch):
    # a real tokenizer: to a tiny one different texts are often the same tokens
    read: dict[str, set[tuple[int, ...]]] = {"search": set(), "tune": set(), "judged": set()}
    stage = "search"
    collate, stream = BackboneInfo.collate, ActivationReader.read

    def spy(self, rows):
        read.setdefault(stage, set()).update(tuple(row) for row in rows)
        return collate(self, rows)

    def judged(self, encoded, rows, fn):
        if len(encoded) == 120 and list(rows) == halves(dev_rows(120).hashes)[1]:
            read["judged"].update(tuple(encoded.rows[i]) for i in rows)
        return stream(self, encoded, rows, fn)

    monkeypatch.setattr(BackboneInfo, "collate", spy)
    monkeypatch.setattr(ActivationReader, "read", judged)
    space = {"space": "rate", "trials": "2", "final_seeds": "0", "seeds": "1"}
    asked = {name: value for name, value in SMALL.items() if name != "learning_rate"}
    assert main(words("search", model="pocket-roberta", max_dev_rows=60, **asked, **space)) == 0
    stage = "tune"
    assert main(words("tune", model="pocket-roberta", max_dev_rows=80, seeds="3,4", **SMALL)) == 0
    stage = "discover"
    found = [*every_run("tags.`skillneurons.stage` = 'search'"), *runs("tune")]
    for run in found:
        assert main(words("discover", prompts=f"runs:/{run.info.run_id}", **DISCOVER)) == 0

    selected = set()
    for run in every_run():
        if _has_prompt(run):
            selected |= set(pd.read_parquet(artifact(run, "predictions/dev.parquet"))["row_hash"])
            assert run.data.tags["skillneurons.selection"].startswith("half A of dev")
    whole = dev_rows()
    second = set(whole.take(halves(whole.hashes)[1]).hashes)
    assert len(selected) > 30
    assert not selected & second

    encode = _encoder("pocket-roberta")
    b_rows = {encode(texts) for texts, name in zip(whole.rows, whole.hashes, strict=True) if name in second}
    assert not read["search"] & b_rows
    assert not read["tune"] & b_rows
    assert len(read["judged"]) > 40
    assert read["judged"] <= b_rows
    for run in runs("discover"):
        card = Neurons.load(artifact(run, "neurons")).card
        assert card["selection"] == "half A"
        assert card["judged_rows"] == len(halves(dev_rows(120).hashes)[1])


def _has_prompt(run) -> bool:
    return any(file.path == "prompt" for file in client().list_artifacts(run.info.run_id))


def _encoder(model: str):
    from skillneurons.backbones.loading import describe

    info, task = describe(model), load_task("film_notes")

    def encode(texts: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(info.encode([task.render(info.family, dict(zip(task.fields, texts, strict=True)))], 32)[0])

    return encode


@pytest.fixture(scope="module")
def prompt(tiny_roberta, tmp_path_factory) -> Path:
    """The folder of a tuned prompt, in no store."""
    folder = tmp_path_factory.mktemp("tuned")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        assert main(words("tune", model=tiny_roberta, **SMALL)) == 0
        return next(artifact(run, "prompt") for run in every_run() if _has_prompt(run))


@pytest.fixture
def tuned(prompt, workplace) -> Path:
    return prompt


def rewritten(folder: Path, to: Path, **card: object) -> Path:
    prompt = SoftPrompt.load(folder)
    SoftPrompt(prompt.embeddings, {**prompt.card, **card}).save(to)
    return to


@pytest.mark.parametrize("selection", [None, {"half": "A", "dev": "of other rows", "rows": 9}])
def test_a_prompt_selected_elsewhere_is_told_from_one_selected_on_half_a(tuned, selection, capsys):
    elsewhere = rewritten(tuned, Path("elsewhere"), selection=selection)
    told = {}
    for name, folder in (("here", tuned), ("elsewhere", elsewhere)):
        assert main(words("discover", prompts=folder, **DISCOVER)) == 0
        told[name] = " ".join(capsys.readouterr().out.split())
    assert "these prompts may have seen rows of half B" in told["elsewhere"]
    assert "may have seen" not in told["here"]
    by_selection = {Neurons.load(artifact(run, "neurons")).card["selection"] for run in runs("discover")}
    assert by_selection == {"half A", "unknown"}


def test_a_prompt_that_starts_from_an_unknown_one_is_unknown_too(tuned, tiny_roberta):
    elsewhere = rewritten(tuned, Path("elsewhere"), selection=None)
    for start in (tuned, elsewhere):
        asked = {**SMALL, "seeds": "7" if start is tuned else "8"}
        assert main(words("tune", model=tiny_roberta, init="prompt", init_prompt=start, **asked)) == 0
    cards = {}
    for run in every_run():
        if _has_prompt(run):
            card = SoftPrompt.load(artifact(run, "prompt")).card
            cards[card["seed"]] = card["selection"]
    assert cards[7]["half"] == "A"
    assert cards[8] is None


def test_a_half_without_a_label_is_refused(tuned, capsys, monkeypatch):
    line = refusal("discover", capsys, monkeypatch, prompts=tuned, **{**DISCOVER, "max_dev_rows": "4"})
    assert "half A holds a row of every label" in line or "half B holds a row of every label" in line


def test_a_prompt_named_twice_is_refused(tuned, capsys, monkeypatch):
    copy = rewritten(tuned, Path("copy"))
    for named in (f"{tuned},{tuned}", f"{tuned},{copy}"):
        assert "each prompt is named once" in refusal("discover", capsys, monkeypatch, prompts=named, **DISCOVER)


def test_an_empty_half_a_is_refused():
    dev = dev_rows()
    with pytest.raises(InputError, match="half A"):
        half_a(dev.take(halves(dev.hashes)[1]))


def test_the_rows_of_a_card_survive_json(tuned):
    card = json.loads((tuned / "prompt.json").read_text())
    assert card["rows"]["builtin"]["name"] == "film_notes"


def test_rows_that_look_the_same_are_in_one_half():
    dev = dev_rows(60)
    composed, decomposed = "caf\u00e9 {}", "cafe\u0301   {} "
    rows = [(form.format(number),) for number in range(30) for form in (composed, decomposed)]
    names = replace(dev, rows=tuple(rows)).twins
    first, second = halves(names)
    assert {number // 2 for number in first} & {number // 2 for number in second} == set()
    assert first
    assert second
