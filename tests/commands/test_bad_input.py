"""Each mistake is one clear line and exit code 2, before anything is loaded or written."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from mlflow import MlflowClient

from conftest import QUICK, ROOT, words
from skillneurons.backbones import loading
from skillneurons.backbones.base import BackboneInfo
from skillneurons.cli import COMMANDS, main
from spoilt_models import LOADED, POINTER, SEEN, cutting, write_gguf, writing


@pytest.fixture
def refused(workplace, capsys, monkeypatch):
    """Run a command that must be refused, and give back its line."""

    def no_loading(self: BackboneInfo, **_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(loading, "load", no_loading)
    there = sorted(workplace.rglob("*"))

    def run(entry: str = "tune", **parameters: object) -> str:
        before = sorted(workplace.rglob("*")) or there
        usual = {"prompt_length": 6, "max_length": 32} if entry == "tune" else {}
        assert main(words(entry, **{**usual, **parameters})) == 2
        line = capsys.readouterr().err.strip()
        assert line.startswith("skillneurons: ")
        assert "\n" not in line
        assert "Traceback" not in line
        assert sorted(workplace.rglob("*")) == before, "nothing is written"
        return line

    return run


@pytest.fixture
def a_task(workplace):
    """A file task in the working folder, which a test spoils."""

    def write(rows: list[dict], **changes: object) -> str:
        raw = yaml.safe_load((ROOT / "experiments" / "tasks" / "sst2.yaml").read_text())
        del raw["hub"]
        raw["name"] = "mine"
        raw["file"] = {
            "columns": {"text": "text"},
            "label_names": {0: "negative", 1: "positive"},
            "splits": {"train": "train.jsonl", "test": "test.jsonl"},
        }
        raw.update(changes)
        (workplace / "mine.yaml").write_text(yaml.safe_dump(raw))
        for split in ("train", "test"):
            mine = [
                {"text": f"{split} {row['text']}", **{k: v for k, v in row.items() if k != "text"}} for row in rows
            ]
            (workplace / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mine))
        return "mine.yaml"

    return write


ROWS = [{"text": f"film number {i}", "label": i % 2} for i in range(60)]


def test_unknown_task_names_those_there_are(refused, tiny_roberta):
    line = refused(model=tiny_roberta, task="sst3")
    assert "'sst3'" in line
    assert "film_notes" in line


def test_unknown_model(refused):
    line = refused(model="no-such-model", task="film_notes")
    assert "no-such-model" in line


@pytest.mark.parametrize("fault", SEEN)
def test_a_fault_of_the_model_files_is_seen_before_anything_is_done(refused, tiny_roberta, tmp_path, fault, capsys):
    folder = shutil.copytree(tiny_roberta, tmp_path / "spoilt")
    spoil, message = SEEN[fault]
    spoil(folder)
    capsys.readouterr()
    line = refused(model=folder, task="film_notes")
    assert re.search(message, line), line


def test_a_file_that_may_not_be_read(refused, tiny_roberta, monkeypatch):
    original = Path.open

    def forbidden(file: Path, *given: object, **more: object) -> object:
        if file.name == "model.safetensors":
            raise PermissionError(13, "Permission denied", str(file))
        return original(file, *given, **more)

    monkeypatch.setattr(Path, "open", forbidden)  # root, which tests may run as, reads every file
    line = refused(model=tiny_roberta, task="film_notes")
    assert "model.safetensors is there and whole; got PermissionError (Permission denied)" in line
    assert "chmod" in line


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (writing("tiny.gguf", POINTER), "git-LFS pointer"),
        (writing("tiny.gguf", b""), "an empty file"),
        (writing("tiny.gguf", b"PK\x03\x04" * 99), "not GGUF"),
        (cutting("tiny.gguf", 0.5), "can be read"),
    ],
)
def test_a_fault_of_a_gguf_file(refused, tmp_path, spoil, message):
    file = write_gguf(tmp_path / "tiny.gguf")
    spoil(tmp_path)
    assert message in refused(model=file, task="film_notes")


def test_a_fault_that_loading_sees_fails_the_run_with_its_reason(workplace, tiny_roberta, tmp_path, capsys):
    folder = shutil.copytree(tiny_roberta, tmp_path / "spoilt")
    spoil, message = LOADED["not a number"]
    spoil(folder)
    assert main(words("tune", model=folder, **QUICK)) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skillneurons: ")]
    assert re.search(message, line)
    store = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    runs = store.search_runs([e.experiment_id for e in store.search_experiments()])
    assert {run.info.status for run in runs} == {"FAILED"}
    assert all(re.search(message, run.data.tags["skillneurons.error"]) for run in runs)
    assert not list(workplace.rglob("prompt.*"))


def test_a_hub_that_cannot_be_reached_says_how_to_work_offline(refused):
    line = refused(model="someone/some-model", task="film_notes")
    assert "someone/some-model" in line
    assert "folder" in line
    assert "HF_HOME" in line or "cache" in line


def test_a_hub_task_offline_says_what_to_do(refused, tiny_roberta):
    line = refused(model=tiny_roberta, task="sst2")
    assert "data_dir" in line


def test_missing_data_folder(refused, tiny_roberta):
    line = refused(model=tiny_roberta, task="sst2", data_dir="nowhere")
    assert "nowhere" in line


def test_missing_column(refused, tiny_roberta, a_task, workplace):
    task = a_task([{"words": "x", **row} for row in ROWS])
    spoilt = yaml.safe_load((workplace / task).read_text())
    spoilt["file"]["columns"] = {"text": "sentence"}
    (workplace / task).write_text(yaml.safe_dump(spoilt))
    line = refused(model=tiny_roberta, task=task)
    assert "sentence" in line
    assert "words" in line


def test_empty_split(refused, tiny_roberta, a_task, workplace):
    task = a_task(ROWS)
    (workplace / "test.jsonl").write_text("")
    assert "test" in refused(model=tiny_roberta, task=task)


def test_a_label_outside_the_label_words(refused, tiny_roberta, a_task):
    line = refused(model=tiny_roberta, task=a_task([*ROWS, {"text": "odd", "label": 7}]))
    assert "7" in line


def test_a_label_word_of_several_tokens_shows_its_pieces(refused, tiny_roberta, a_task):
    task = a_task(
        ROWS, label_words={"masked_lm": ["negative", "incomprehensible"]}, templates={"masked_lm": "{text}"}
    )
    line = refused(model=tiny_roberta, task=task)
    assert "'incomprehensible'" in line
    assert "+" in line


def test_one_class_in_train(refused, tiny_roberta, a_task):
    line = refused(model=tiny_roberta, task=a_task([{**row, "label": 1} for row in ROWS]))
    assert "train" in line


def test_prompt_and_text_longer_than_the_positions(refused, tiny_roberta):
    line = refused(model=tiny_roberta, task="film_notes", prompt_length=100, max_length=128)
    assert "100 + 128" in line
    assert "prompt_length" in line


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"learning_rate": "abc"}, ["learning_rate", "'abc'"]),
        ({"lerning_rate": "1"}, ["lerning_rate", "learning_rate"]),
        ({"seeds": "1,1"}, ["seeds must all differ"]),
        ({"seeds": "-1"}, ["seeds"]),
        ({"device": "cuda"}, ["device=cuda"]),
        ({"placement": "suffix"}, ["placement"]),
        ({"task": ""}, ["task must be given"]),
        ({"max_steps": "0"}, ["max_steps"]),
    ],
)
def test_bad_parameters(refused, tiny_roberta, parameters, said):
    line = refused(**{"model": tiny_roberta, **QUICK, **parameters})
    for word in said:
        assert word in line


@pytest.mark.parametrize(("entry", "more"), [("tune", {"task": "film_notes"}), ("discover", {"prompts": "runs:/x"})])
def test_more_processes_than_gpus(refused, tiny_roberta, monkeypatch, entry, more):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    model = {"model": tiny_roberta} if entry == "tune" else {}
    line = refused(entry, processes=4, **model, **more)
    assert "processes is at most 1, the GPUs of this machine; got 4." in line
    assert "device=cpu" in line


@pytest.mark.parametrize("entry", sorted(set(COMMANDS) - {"tune", "discover"}))
def test_what_one_process_works_is_refused_under_a_launcher(workplace, capsys, monkeypatch, entry):
    monkeypatch.setenv("WORLD_SIZE", "4")
    said = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert main([entry]) == 2
        said.append(capsys.readouterr().err)
    assert said[0].startswith(f"skillneurons: {entry} is worked by one process; got 4 of a launcher.")
    assert said[0].count("\n") == 1
    assert not said[1]
    assert not list(workplace.iterdir())


def test_a_prefix_placement_is_for_decoders_alone(refused, tiny_roberta):
    assert "placement" in refused(model=tiny_roberta, task="film_notes", placement="prefix")


def test_an_adversarial_task_has_no_train_split(refused, tiny_roberta, tmp_path):
    folder = tmp_path / "data" / "advglue"
    folder.mkdir(parents=True)
    row = {"text_a": "a", "label": 0, "method": "m", "construction": "c", "original": None}
    (folder / "sst2.jsonl").write_text(json.dumps(row) + "\n")
    line = refused(model=tiny_roberta, task="adv_sst2", data_dir=tmp_path / "data")
    assert "sst2" in line
    assert "train" in line


def test_a_loss_that_is_not_finite_is_a_failed_run(workplace, tiny_roberta, capsys, monkeypatch):
    assert main(words("tune", model=tiny_roberta, **{**QUICK, "learning_rate": "1e37"})) == 1
    err = capsys.readouterr().err
    assert "not finite" in err
    assert "lower learning_rate" in err
    store = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    runs = store.search_runs([e.experiment_id for e in store.search_experiments()])
    assert {run.info.status for run in runs} == {"FAILED"}
    assert len(runs) == 2
    assert all("not finite" in run.data.tags["skillneurons.error"] for run in runs)
    assert not store.search_model_versions("name = 'film_notes.tiny-roberta'")


def test_a_run_that_is_not_finished_lends_no_prompt(workplace, tiny_roberta, capsys):
    assert main(words("tune", model=tiny_roberta, **{**QUICK, "learning_rate": "1e37"})) == 1
    store = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    run = store.search_runs([e.experiment_id for e in store.search_experiments()])[0]
    capsys.readouterr()
    given = {**QUICK, "init": "prompt", "init_prompt": f"runs:/{run.info.run_id}"}
    assert main(words("tune", model=tiny_roberta, **given)) == 2
    assert "FINISHED" in capsys.readouterr().err
    assert main(words("tune", model=tiny_roberta, **{**given, "init_prompt": "runs:/nothere"})) == 2
    assert "names a run" in capsys.readouterr().err


def test_a_tracking_server_that_does_not_answer(workplace, tiny_roberta, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/at/all/mlflow.db")
    assert main(words("tune", model=tiny_roberta, **QUICK)) == 2
    assert "/nowhere/at/all" in capsys.readouterr().err
