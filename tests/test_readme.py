"""What README says to type works as it stands, after what `make demo` runs (all cut to a few rows and steps)."""

import os
import re
import shlex
import shutil
import subprocess

import pandas as pd
import pytest
import yaml

from conftest import ROOT, environment
from skillneurons.cli import main
from skillneurons.data.pairs import load_pairs
from skillneurons.data.splits import load_splits
from skillneurons.data.tasks import load_task
from tracked import runs

README = (ROOT / "README.md").read_text(encoding="utf-8")
# what is added to a command, unless it says so itself
ROWS = {"max_train_rows": 60, "max_dev_rows": 40}
STEPS = {
    "max_steps": 4,
    "eval_every": 2,
    "max_length": 24,
    "max_train_rows": 60,
    "max_eval_rows": 40,
    "device": "cpu",
}
SMALL = {
    "main": {**STEPS, "seeds": 0},
    "tune": STEPS,
    "discover": {**ROWS, "permutations": 100, "random_prompts": 1, "cards": 2, "device": "cpu"},
    "suppress": {"max_eval_rows": 30, "controls": 2, "device": "cpu"},
    "robustness": {"max_eval_rows": 30, "controls": 2, "permutations": 40, "rates": 5, "device": "cpu"},
    "transfer": {"max_eval_rows": 30, "device": "cpu"},
    "search": {**STEPS, "trials": 2, "final_seeds": 0, "prompt_length": 4},
}
SHORTER = {"max_steps", "max_eval_rows", "trials", "rates"}  # ours, though the command says another


def blocks(kind: str) -> list[str]:
    """The commands of README's blocks of a kind, each on one line."""
    found = re.findall(rf"```{kind}\n(.*?)```", README, flags=re.S)
    return [line for block in found for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def small(words: list[str]) -> list[str]:
    """A command's words with the limits."""
    name, rest = words[0], words[1:]
    given = {word[2:].replace("-", "_") for word in rest if word.startswith("--")}
    for key, value in SMALL[name].items():
        if key not in given:
            rest += [f"--{key}", str(value)]
        elif key in SHORTER:
            rest[rest.index(f"--{key}") + 1] = str(value)
    return [name, *rest]


@pytest.fixture(scope="module")
def after_the_demo(tmp_path_factory):
    """A place where the chain has run on both of the pair."""
    folder = tmp_path_factory.mktemp("readme")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.delenv("SKILLNEURONS_STATE", raising=False)
        assert main(small(["main", "--prompt_length", "4"])) == 0
        yield folder


def test_there_are_commands_of_every_kind():
    names = {shlex.split(line)[1] for line in blocks("sh") if line.startswith("skillneurons ")}
    assert names == set(SMALL)
    assert any(line.startswith("mlflow run . -e tune") for line in blocks("sh"))


@pytest.mark.parametrize("line", blocks("sh"))
@pytest.mark.usefixtures("after_the_demo")
def test_a_command_works_as_it_stands(line):
    words = shlex.split(line)
    if words[0] == "skillneurons":
        if words[1] == "transfer":  # prompts of one length, as those of the commands before have in earnest
            for task in ("film_notes", "meal_notes"):
                assert main(small(["tune", "--model", "pocket-roberta", "--task", task, "--prompt_length", "5"])) == 0
        assert main(small(words[1:])) == 0
        return
    assert words[:3] == ["mlflow", "run", "."]
    limits = [part for key, value in {**STEPS, "prompt_length": 4}.items() for part in ("-P", f"{key}={value}")]
    words = [word for word in words if not word.startswith(("prompt_length=", "max_steps="))]
    words = [word for word, after in zip(words, [*words[1:], ""], strict=True) if word != "-P" or "=" in after]
    done = subprocess.run(
        [*words, *limits],
        cwd=ROOT,
        env=environment(MLFLOW_TRACKING_URI=os.environ["MLFLOW_TRACKING_URI"]),
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_own_data_from_readme_alone(tmp_path, monkeypatch, capsys):
    """The YAML files as they stand there, rows in three columns, and the four commands, the task named once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    folder = tmp_path / "reviews"
    folder.mkdir()
    task, attacked = re.findall(r"```yaml\n(.*?)```", README, flags=re.S)
    (folder / "reviews.yaml").write_text(task)
    (folder / "attacked.yaml").write_text(attacked)
    names = dict(zip(("negative", "positive"), yaml.safe_load(task)["labels"], strict=True))
    notes = load_splits(load_task("film_notes"), roles=("train", "test"))
    for role, n in (("train", 300), ("test", 60)):
        split = notes[role]
        both = enumerate(zip(split.rows[:n], split.labels[:n], strict=True))
        rows = [(number, row[0], names[split.label_names[label]]) for number, (row, label) in both]
        pd.DataFrame(rows, columns=["id", "text", "label"]).to_csv(folder / f"{role}.csv", index=False)
    pairs = load_pairs(load_task("adv_film_notes"), max_rows=30)
    both = zip(pairs.changed.rows, pairs.changed.labels, pairs.clean.rows, strict=True)
    changed = [(row[0], names[pairs.changed.label_names[label]], clean[0]) for row, label, clean in both]
    pd.DataFrame(changed, columns=["text", "label", "original"]).to_csv(folder / "attacked.csv", index=False)
    lines = blocks("own")
    assert [shlex.split(line)[1] for line in lines] == ["tune", "discover", "suppress", "robustness"]
    assert sum("reviews.yaml" in line for line in lines) == 1
    for line in lines:
        assert main(small(shlex.split(line)[1:])) == 0, capsys.readouterr().err
    (run,) = runs("robustness")
    assert "reviews_attacked" in run.data.tags["mlflow.note.content"]
    assert (run.data.tags["skillneurons.stage"], run.info.status) == ("robustness", "FINISHED")


def test_the_named_files_are_there():
    named = [path.partition("#")[0] for path in re.findall(r"\]\(([^)]+)\)", README) if "://" not in path]
    assert len(named) > 20
    assert [path for path in named if path and not (ROOT / path).exists()] == []
    assert shutil.which("make") is None or (ROOT / "Makefile").is_file()
