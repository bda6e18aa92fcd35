"""One reader of YAML: numbers as JSON has them, words as they stand, and no key twice."""

import json
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from conftest import ROOT
from skillneurons import declarations
from skillneurons.backbones.references import resolve
from skillneurons.data.tasks import load_task
from skillneurons.errors import InputError
from skillneurons.pretrain.recipe import read_recipe
from skillneurons.search.space import read_space
from skillneurons.tracking.runs import Run, Tracking

NUMBERS = ["1e-05", "1e-3", "1E5", "1e+2", "-2.5", "0.1", "-0", "7", "1.5e300", "123456789012345678901234567890"]
WORDS = [
    "yes",
    "no",
    "on",
    "off",
    "Yes",
    "NO",
    "y",
    "1:30",
    "12:30:45",
    "2026-01-31",
    "2026-01-31T10:00:00Z",
    "1_000",
    "0b11",
    "=",
    "1e",
    "e5",
    "0x",
    "0o8",
    "nan",
    "inf",
    "NaN",
    "tRUE",
    "nUll",
]
AWKWARD = [
    *WORDS,
    *NUMBERS,
    "true",
    "null",
    "~",
    "",
    "010",
    "0o17",
    "0x1f",
    ".5",
    "1.",
    ".inf",
    "<<",
    "- a",
    "a: b",
    "ü\n",
]
TASK = (ROOT / "experiments" / "tasks" / "sst2.yaml").read_text(encoding="utf-8")
SPACE = "search: tune\nversion: 1\nparameters:\n  learning_rate: {low: 1e-4, high: 1}\nfirst: {learning_rate: 1e-3}\n"


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_of_json_is_that_number(text):
    read = declarations.parse(text)
    assert read == json.loads(text)
    assert type(read) is type(json.loads(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [("010", 10), ("0o17", 0o17), ("0x1F", 0x1F), ("+3", 3), (".5", 0.5), ("1.", 1.0), ("-.5e1", -5.0)],
)
def test_other_numbers_are_those_of_the_core_schema(text, value):
    assert declarations.parse(text) == value
    assert type(declarations.parse(text)) is type(value)


@pytest.mark.parametrize("text", WORDS)
def test_a_word_stays_a_word(text):
    assert declarations.parse(text) == text


def test_json_is_read_as_json():
    value = {"a": [1e-05, 1e22, -0.0, None, True, "yes"], "b": {"c": 1e-300, "d": "1e-05"}}
    assert declarations.parse(json.dumps(value)) == value


def test_what_is_written_is_read_back_the_same():
    value = {text or "empty": text for text in AWKWARD} | {"rate": 1e-05, "none": None, "some": [0.1, 1, True, "no"]}
    assert declarations.parse(declarations.written(value)) == value


def test_the_projects_own_files_mean_the_same_under_both_versions_of_yaml():
    files = sorted((ROOT / "experiments").rglob("*.yaml"))
    assert len(files) > 30
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert declarations.parse(text) == yaml.safe_load(text), file.name


@pytest.mark.parametrize(
    "text", ["a: 1\nb: 2\na: 3\n", "x:\n  - {a: 1, 'a': 2}\n", "1: a\n0x1: b\n", "a: &x {b: 1, b: 2}\n", "{a: , a: }"]
)
def test_a_key_twice_is_refused(text):
    with pytest.raises(yaml.YAMLError, match="twice"):
        declarations.parse(text)


def test_a_merged_key_may_be_overridden():
    text = "one: &one {a: 1, b: 2}\ntwo: &two {<<: *one, a: 3}\nthree: {<<: [*two, *one], b: 4}\n"
    assert declarations.parse(text)["two"] == {"a": 3, "b": 2}
    assert declarations.parse(text)["three"] == {"a": 3, "b": 4}


READERS = {
    "task": (load_task, TASK + "version: 2\n"),
    "space": (read_space, SPACE + "version: 1\n"),
    "recipe": (lambda path: read_recipe(path), "recipe: pretrain\nrecipe: pretrain\n"),
    "model": (lambda path: resolve(Path(path).stem, None, [Path(path).parent]), "id: a/b\nid: c/d\n"),
}


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("spoilt", ["twice", "a list", "broken", "latin-1", "a number for a name", "deep", "wrong"])
def test_every_reader_refuses_what_is_no_mapping_of_names_in_one_line(kind, spoilt, tmp_path):
    read, twice = READERS[kind]
    texts = {"twice": twice, "a list": "- a", "broken": "a: [", "latin-1": "a: ü", "a number for a name": "1: a"}
    texts |= {"deep": "[" * 5000, "wrong": "a: !!int b"}
    file = tmp_path / "mine.yaml"
    file.write_bytes(texts[spoilt].encode("latin-1" if spoilt == "latin-1" else "utf-8"))
    with pytest.raises(InputError) as refused:
        read(file if kind == "recipe" else str(file))
    assert "mine.yaml" in str(refused.value)
    assert refused.value.must.startswith(kind)
    assert "\n" not in str(refused.value)
    assert spoilt != "twice" or "twice" in refused.value.got


def test_a_rate_without_a_dot_is_a_number(tmp_path):
    (tmp_path / "space.yaml").write_text(SPACE, encoding="utf-8")
    space = read_space(str(tmp_path / "space.yaml"))
    assert space.first == {"learning_rate": 0.001}
    assert space.parameters["learning_rate"].low == 0.0001


def test_label_words_yes_and_no_need_no_quotes(tmp_path):
    text = TASK.replace("masked_lm: [negative, positive]", "masked_lm: [no, yes]")
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    assert load_task(tmp_path / "mine.yaml").label_words["masked_lm"] == ("no", "yes")


@pytest.mark.parametrize("tune", ["{1: x}", "[learning_rate]", "fast"])
def test_what_a_model_is_tuned_with_has_names(tune, tmp_path):
    (tmp_path / "mine.yaml").write_text(f"id: a/b\ntune: {tune}\n", encoding="utf-8")
    with pytest.raises(InputError, match="tune in .* maps parameters to values"):
        resolve("mine", None, [tmp_path])


def test_a_revision_of_digits_is_asked_for_in_quotes(tmp_path):
    (tmp_path / "mine.yaml").write_text("id: a/b\nrevision: 12e4567\n", encoding="utf-8")
    with pytest.raises(InputError, match="revision in .* is text; got revision: inf"):
        resolve("mine", None, [tmp_path])


def test_a_run_gives_back_its_table_and_its_configuration(tmp_path):
    import pandas as pd

    frame = pd.DataFrame({"p": [1e-05, 3e-300, float("nan")], "word": ["yes", "1e-05", None]})
    kept: dict[str, str] = {}

    class Store(MlflowClient):
        def __init__(self) -> None: ...

        def log_dict(self, run_id, dictionary, artifact_file):
            kept[artifact_file] = json.dumps(dictionary)

        def log_text(self, run_id, text, artifact_file):
            kept[artifact_file] = text

        def get_run(self, run_id):
            return type("R", (), {"data": type("D", (), {"tags": {}})})

        def log_batch(self, *_, **__): ...

    class Reading(Tracking):
        def text(self, run_id, path):
            return kept[path]

    run = Run(Store(), "one")
    run.table(frame, "t.json")
    run.yaml({"init_text": "1e5", "learning_rate": 1e-05}, "config.yaml")
    back = Reading(Store(), "0").table("one", "t.json")
    assert back["p"].tolist()[:2] == [1e-05, 3e-300]
    assert back["p"].isna().tolist() == [False, False, True]
    assert back["word"].tolist()[:2] == ["yes", "1e-05"]
    assert declarations.parse(kept["config.yaml"]) == {"init_text": "1e5", "learning_rate": 1e-05}
