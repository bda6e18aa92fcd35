"""Every task with files, on the real data in SKILLNEURONS_DATA: rows and balance as its manifest says."""

import csv
import os
import re
from pathlib import Path

import pytest

from skillneurons.data.splits import load_splits
from skillneurons.data.tasks import load_task

DATA = os.environ.get("SKILLNEURONS_DATA")
FOLDER = Path(__file__).parents[2] / "experiments" / "tasks"
TASKS = [task for task in (load_task(path) for path in sorted(FOLDER.glob("*.yaml"))) if task.file]
CASES = [(task, role) for task in TASKS for role in task.file.roles]
pytestmark = pytest.mark.skipif(not DATA, reason="SKILLNEURONS_DATA names no folder with the real data")


@pytest.fixture(scope="module")
def manifest():
    """File without ending -> label name -> rows."""
    with (Path(DATA) / "MANIFEST.tsv").open() as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    counts = {row["file"]: re.findall(r"\d+ (\w+): (\d+)", row["labels"]) for row in rows}
    return {name: {label: int(n) for label, n in found} for name, found in counts.items()}


def test_there_is_something_to_compare():
    assert len(TASKS) == 17
    assert len(CASES) >= 28
    assert len(ATTACKED) == 4


@pytest.mark.parametrize(("task", "role"), CASES, ids=lambda value: getattr(value, "name", value))
def test_rows_and_balance_are_the_manifests(task, role, manifest):
    [path] = task.file.splits[role]
    expected = manifest[path.removesuffix(".jsonl")]
    carved = role == "train" and "dev" not in task.file.roles
    parts = ["train", "dev"] if carved else [role]
    splits = load_splits(task, data_dir=DATA, roles=parts)
    found = {name: sum(splits[p].counts[i] for p in parts) for i, name in enumerate(task.labels)}
    lost = sum(splits[p].dropped_leaks for p in parts)
    assert sum(found.values()) + lost == sum(expected[name] for name in task.labels)
    assert all(0 <= expected[name] - found[name] <= lost for name in task.labels)
    assert set(expected) == set(found) | set(task.file.drop)


@pytest.mark.parametrize("task", [task for task in TASKS if not task.clean], ids=lambda task: task.name)
def test_no_text_is_in_two_splits(task):
    splits = load_splits(task, data_dir=DATA)
    train, dev, test = ({*splits[role].hashes} for role in ("train", "dev", "test"))
    assert train
    assert dev
    assert not train & dev
    assert not (train | dev) & test


def test_leaks_of_the_real_files_are_known():
    tasks = {task.name: task for task in TASKS}
    movie = load_splits(tasks["movie_rationales"], data_dir=DATA)  # its train file repeats its dev file
    imdb = load_splits(tasks["imdb"], data_dir=DATA)
    assert {role: split.dropped_leaks for role, split in movie.items()} == {"train": 200, "dev": 0, "test": 0}
    assert {role: split.dropped_leaks for role, split in imdb.items()} == {"train": 40, "dev": 7, "test": 0}


ATTACKED = [task for task in TASKS if task.name.startswith("adv_")]


@pytest.mark.parametrize("task", ATTACKED, ids=lambda task: task.name)
def test_adversarial_rows_carry_how_they_were_made(task):
    split = load_splits(task, data_dir=DATA, roles=["test"])["test"]
    assert set(split.extras) == {"method", "construction", "original"}
    assert all(isinstance(method, str) for method in split.extras["method"])
    originals = [original for original in split.extras["original"] if original]
    assert len(originals) > len(split) / 2


def test_labels_mean_what_they_say():
    """Two rows a person has read: the paper's label 1 is entailment, whatever number the file gives it."""
    qnli = load_splits(load_task("qnli", FOLDER), data_dir=DATA, roles=["test"])["test"]
    question = "What came into force after the new constitution was herald?"
    assert qnli.labels[[row[0] for row in qnli.rows].index(question)] == 1
    mnli = load_splits(load_task("mnli", FOLDER), data_dir=DATA, roles=["test"])["test"]
    hypothesis = "Federal agencies don't have to make use of CIOs in developing their plans and policies."
    assert mnli.labels[[row[0] for row in mnli.rows].index(hypothesis)] == 0
