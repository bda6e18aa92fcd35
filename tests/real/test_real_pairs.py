"""Adversarial rows of the real data in SKILLNEURONS_DATA with their originals, as its README counts them."""

import os
from pathlib import Path

import pytest

from skillneurons.data.pairs import bare, load_pairs
from skillneurons.data.splits import load_splits
from skillneurons.data.tasks import load_task
from skillneurons.robustness.plan import Attacked

DATA = os.environ.get("SKILLNEURONS_DATA")
FOLDER = Path(__file__).parents[2] / "experiments" / "tasks"
pytestmark = pytest.mark.skipif(not DATA, reason="SKILLNEURONS_DATA names no folder with the real data")


def pairs_of(name):
    return load_pairs(load_task(name, FOLDER), DATA)


# of each set: rows, pairs, different originals, originals in the clean task's test split
@pytest.mark.parametrize(
    ("name", "rows", "paired", "originals", "known"),
    [("adv_sst2", 148, 131, 62, 119), ("adv_qqp", 78, 71, 26, 0), ("adv_qnli", 148, 133, 62, 133)],
)
def test_advglue_pairs(name, rows, paired, originals, known):
    task, pairs = load_task(name, FOLDER), pairs_of(name)
    assert (len(pairs.adversarial), len(pairs.clean)) == (rows, paired)
    human = {i for i, kind in enumerate(pairs.adversarial.extras["construction"]) if kind == "human"}
    assert human == set(range(rows)) - set(pairs.rows.tolist())
    assert (pairs.clean.labels == pairs.changed.labels).all()
    both = list(zip(pairs.clean.rows, pairs.changed.rows, strict=True))
    assert {sum(a != b for a, b in zip(*one, strict=True)) for one in both} == {1}, "one field is changed"
    clean = load_splits(load_task(task.clean, FOLDER), data_dir=DATA, roles=["test"])["test"]
    held = {bare(texts): label for texts, label in zip(clean.rows, clean.labels.tolist(), strict=True)}
    found = [
        (held[bare(texts)], label)
        for texts, label in zip(pairs.clean.rows, pairs.clean.labels, strict=True)
        if bare(texts) in held
    ]
    assert len(found) == known
    assert all(a == b for a, b in found)
    clusters = Attacked(task, pairs, (), None).clusters
    assert clusters.take(pairs.rows).count == originals
    assert clusters.count == originals + rows - paired
    assert clusters.permuted(pairs.adversarial.labels, 2, 0).shape == (2, rows)


def test_contrast_sets_turn_the_label_row_by_row():
    pairs = pairs_of("contrast_imdb")
    assert (len(pairs.adversarial), len(pairs.clean), pairs.paired, pairs.flips) == (488, 488, True, True)
    assert (pairs.clean.labels + pairs.changed.labels == 1).all()
    shared = [
        len({*a.split()} & {*b.split()}) / len({*a.split()})
        for (a,), (b,) in zip(pairs.clean.rows, pairs.changed.rows, strict=True)
    ]
    assert sorted(shared)[24] > 0.5, "a review and its edit are the same review"
    few = load_pairs(load_task("contrast_imdb", FOLDER), DATA, 40)
    whole = dict(zip(pairs.changed.rows, pairs.clean.rows, strict=True))
    assert [whole[row] for row in few.changed.rows] == list(few.clean.rows)


def test_counterfactual_reviews_are_not_paired():
    pairs = pairs_of("cad_imdb")
    assert (len(pairs.adversarial), len(pairs.clean), pairs.paired, pairs.flips) == (488, 488, False, True)
    assert pairs.clean.counts == pairs.adversarial.counts[::-1]
