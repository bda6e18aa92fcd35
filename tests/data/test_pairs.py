"""Adversarial rows with their originals: in their own rows, in another task, built in, and none."""

import json
from collections import Counter

import numpy as np
import pytest
import yaml

from skillneurons.data.generated.catalogue import GENERATORS
from skillneurons.data.pairs import bare, load_pairs
from skillneurons.data.splits import load_splits, row_hash
from skillneurons.data.tasks import load_task
from skillneurons.errors import InputError
from skillneurons.robustness.plan import Attacked

LABELS = ("bad", "good")


def write(folder, rows, name="adv", fields=("text",), originals=None, **keys):
    """A task of one test file."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"splits": {"test": f"{name}.jsonl"}, "extras": ["original"], "originals": originals or {}}
    template = [" ".join("{" + field + "}" for field in fields)]
    words = {"templates": {"masked_lm": template}, "label_words": {"masked_lm": list(LABELS)}}
    task = {"name": name, "version": 1, "family": "x", "fields": list(fields), "labels": list(LABELS)}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({**task, **words, "file": source, **keys}))
    return load_task(folder / f"{name}.yaml")


def one_field(*originals):
    return [{"text": f"row {i}", "label": LABELS[i % 2], "original": text} for i, text in enumerate(originals)]


def refused(task, **arguments):
    with pytest.raises(InputError) as caught:
        load_pairs(task, **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def clusters_of(pairs):
    return Attacked(None, pairs, (), None).clusters


def test_an_original_is_a_text_a_field_or_none(tmp_path):
    rows = one_field("first", {"text": "second"}, None, "", {"old": "fifth"}, {}, "  ")
    pairs = load_pairs(write(tmp_path, rows, originals={"old": "text"}))
    assert len(pairs.adversarial) == 7
    assert pairs.rows.tolist() == [0, 1, 4]
    assert pairs.clean.rows == (("first",), ("second",), ("fifth",))
    assert pairs.clean.labels.tolist() == [0, 1, 0]
    assert pairs.clean.hashes == tuple(row_hash([text]) for text in ("first", "second", "fifth"))
    assert pairs.clean.extras == {}
    assert pairs.changed.rows == (("row 0",), ("row 1",), ("row 4",))
    assert (pairs.changed.labels == pairs.clean.labels).all()
    assert pairs.paired
    assert not pairs.flips
    again = load_pairs(write(tmp_path, one_field("first", {"text": "other"}, None, ""), name="adv2"))
    assert again.clean.fingerprint != pairs.clean.take([0, 1]).fingerprint


def test_of_two_fields_the_changed_one_is_put_back(tmp_path):
    rows = [
        {"a": "a0 changed", "b": "b0", "label": "good", "original": {"question1": "a0"}},
        {"a": "a1", "b": "b1 changed", "label": "bad", "original": {"b": "b1"}},
        {"a": "a2 changed", "b": "b2 changed", "label": "bad", "original": {"question1": "a2", "b": "b2"}},
    ]
    pairs = load_pairs(write(tmp_path, rows, fields=("a", "b"), originals={"question1": "a"}))
    assert pairs.clean.rows == (("a0", "b0"), ("a1", "b1"), ("a2", "b2"))
    assert pairs.rows.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("fields", "original"),
    [
        (("a", "b"), "which of them?"),
        (("a", "b"), {"c": "x"}),
        (("a", "b"), {"a": 3}),
        (("a", "b"), ["x"]),
        (("a",), 7),
        (("a",), {"a": None}),
    ],
)
def test_an_original_that_cannot_be_placed_is_refused(tmp_path, fields, original):
    row = dict.fromkeys(fields, "x")
    message = refused(write(tmp_path, [{**row, "label": "bad", "original": original}], fields=fields))
    assert f"({', '.join(fields)})" in message
    assert repr(original) in message


@pytest.mark.parametrize("original", ["\ud800", {"text": " "}])
def test_an_original_that_is_no_text_is_refused(tmp_path, original):
    assert "text" in refused(write(tmp_path, one_field("fine", original)))


def test_a_set_without_originals_is_unpaired(tmp_path):
    for rows in (one_field(None, "", None), [{"text": "x", "label": "bad"}]):
        pairs = load_pairs(write(tmp_path, rows))
        assert (pairs.clean, pairs.rows, pairs.paired) == (None, None, False)
        with pytest.raises(ValueError, match="no known original"):
            _ = pairs.changed


def counterpart(folder, turned=True, count=6, **keys):
    labels = [LABELS[i % 2] for i in range(6)]
    clean = [{"text": f"clean {i}", "label": label} for i, label in enumerate(labels)]
    write(folder, clean[:count], "clean_rows")
    other = labels if not turned else [LABELS[1 - LABELS.index(label)] for label in labels]
    edited = [{"text": f"edited {i}", "label": label} for i, label in enumerate(other)]
    return write(folder, edited, "edited", counterpart={"originals": "clean_rows", **keys})


def test_originals_of_another_task_stand_row_by_row(tmp_path):
    pairs = load_pairs(counterpart(tmp_path, flips=True))
    assert pairs.rows.tolist() == list(range(6))
    assert pairs.clean.rows[3] == ("clean 3",)
    assert (pairs.clean.labels != pairs.changed.labels).all()
    assert pairs.flips
    assert clusters_of(pairs).alone
    kept = load_pairs(counterpart(tmp_path, turned=False))
    assert (kept.clean.labels == kept.changed.labels).all()
    assert not kept.flips
    loose = load_pairs(counterpart(tmp_path, aligned=False))
    assert (loose.rows, loose.paired, len(loose.clean)) == (None, False, 6)


def test_rows_that_do_not_fit_their_originals_are_refused(tmp_path):
    assert "6 that are not" in refused(counterpart(tmp_path, turned=False, flips=True))
    assert "its label turned" in refused(counterpart(tmp_path, turned=False, flips=True))
    assert "6 that are not" in refused(counterpart(tmp_path, turned=True))
    assert "5 and 6 rows" in refused(counterpart(tmp_path, count=5, flips=True))
    task = counterpart(tmp_path)
    write(tmp_path, [{"a": "x", "label": "bad"}], "clean_rows", fields=("a",))
    assert "fields and labels" in refused(task)


@pytest.mark.parametrize("limit", [1, 4, 9, 30, 99])
def test_fewer_rows_are_those_of_load_splits_and_keep_their_originals(tmp_path, limit):
    task = write(tmp_path, one_field(*[f"clean {i}" if i % 3 else None for i in range(30)]))
    whole, some = load_pairs(task), load_pairs(task, max_rows=limit)
    expected = load_splits(task, roles=["test"], max_eval_rows=limit)["test"]
    assert some.adversarial.fingerprint == expected.fingerprint
    known = dict(zip(whole.changed.rows, whole.clean.rows, strict=True))
    with_original = [row for row in expected.rows if row in known]
    if with_original:
        assert some.changed.rows == tuple(with_original)
        assert some.clean.rows == tuple(known[row] for row in with_original)
        assert (some.clean.labels == some.changed.labels).all()
    else:
        assert (some.clean, some.rows, some.paired) == (None, None, False)


def test_rows_without_any_original_left_are_unpaired(tmp_path):
    task = write(tmp_path, one_field(*[None] * 29, "clean 29"))
    kept = [load_pairs(task, max_rows=limit) for limit in range(1, 30)]
    assert {one.paired for one in kept} == {True, False}
    assert all(one.paired == (one.clean is not None) for one in kept)


def test_fewer_rows_of_counterparts(tmp_path):
    paired = load_pairs(counterpart(tmp_path, flips=True), max_rows=4)
    assert [row[0].split()[1] for row in paired.changed.rows] == [row[0].split()[1] for row in paired.clean.rows]
    assert len(paired.clean) == 4
    loose = load_pairs(counterpart(tmp_path, aligned=False), max_rows=4)
    assert (len(loose.adversarial), len(loose.clean)) == (4, 4)
    other = load_task(tmp_path / "clean_rows.yaml")
    assert loose.clean.fingerprint == load_splits(other, roles=["test"], max_eval_rows=4)["test"].fingerprint


def test_rows_of_one_original_are_one_cluster(tmp_path):
    pairs = load_pairs(write(tmp_path, one_field("same", None, "same", "other", {"text": "other"}, None)))
    found = clusters_of(pairs)
    assert found.of[0] == found.of[2]
    assert found.of[3] != found.of[0]
    assert found.of[3] != found.of[4], "an original with two labels is two: labels can be permuted"
    assert found.count == 5
    assert found.permuted(pairs.adversarial.labels, 3, 0).shape == (3, 6)


def test_an_original_is_known_by_its_letters_however_it_is_spaced(tmp_path):
    versions = ("It 's long , too .", None, "it's long, too.", None, "It's long , too. ", None, "its longer, too.")
    found = clusters_of(load_pairs(write(tmp_path, one_field(*versions))))
    assert found.of.tolist() == [0, 1, 0, 2, 0, 3, 4]
    assert bare(["A b.", "c"]) != bare(["A", "b. c"])
    assert bare(["Un caf\u00e9"]) == bare(["un cafe\u0301"]) != bare(["un cafe"])
    assert bare(["?!"]) != bare(["..."])


ADVERSARIAL = sorted(name for name in GENERATORS if name.startswith("adv_"))


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_built_in_originals_are_test_rows_of_the_clean_task(name):
    task = load_task(name)
    pairs, clean = load_pairs(task), load_splits(load_task(task.clean), roles=["test"])["test"]
    known = dict(zip(clean.hashes, clean.labels.tolist(), strict=True))
    assert len(pairs.clean) == len(pairs.adversarial) > 0
    assert [known.get(name) for name in pairs.clean.hashes] == pairs.changed.labels.tolist()
    assert all(a != b for a, b in zip(pairs.clean.rows, pairs.changed.rows, strict=True))
    of_original = Counter(pairs.clean.hashes)
    found = clusters_of(pairs)
    assert found.count == len(of_original) < len(pairs.adversarial)
    assert sorted(np.bincount(found.of).tolist()) == sorted(of_original.values())


def test_there_are_built_in_adversarial_tasks():
    assert len(ADVERSARIAL) >= 4
