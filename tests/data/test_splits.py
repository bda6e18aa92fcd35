"""Splits against independent computation: hashes, carving, leaks, samples, fingerprints, refusals."""

import hashlib
import json
import random

import numpy as np
import pandas as pd
import pytest

from skillneurons.data.generated.grammar import FACTORS
from skillneurons.data.sources import FileSource, HubSource
from skillneurons.data.splits import Split, load_splits, row_hash, twin_key
from skillneurons.data.tasks import Task, load_task
from skillneurons.errors import InputError

NAMES = {"0": "entailment", "1": "not_entailment", "2": "other"}  # raw order is not the task's


def _task(splits=None, **changes):
    mapping = {
        "columns": {"a": "text_a"},
        "label_names": NAMES,
        "drop": ["other"],
        "extras": ["note", "none"],
    }
    files = splits or {"train": "train.jsonl", "test": "test.jsonl"}
    words = {"masked_lm": ("no", "yes")}
    return Task(
        **{
            "name": "pair",
            "version": 1,
            "family": "nli",
            "fields": ("a", "b"),
            "labels": ("not_entailment", "entailment"),
            "templates": {"masked_lm": ("{a}", "{b}")},
            "label_words": words,
            "file": FileSource(splits=files, **mapping),
            **changes,
        }
    )


def _rows(n, start=0):
    return [{"text_a": f"text é {i}", "b": f"b{i}", "label": i % 3, "note": i} for i in range(start, start + n)]


def _write(folder, **files):
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def _hash(*texts):
    text = "[" + ",".join(json.dumps(text, ensure_ascii=False) for text in texts) + "]"
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


@pytest.fixture
def folder(tmp_path):
    return _write(tmp_path, train=_rows(600), test=_rows(60, start=1000))


@pytest.fixture
def splits(folder):
    return load_splits(_task(), data_dir=folder)


class TestRows:
    def test_rows_labels_and_extras_are_mapped_and_dropped_ones_gone(self, splits):
        kept = [row for row in _rows(60, start=1000) if row["label"] != 2]
        assert splits["test"].rows == tuple((row["text_a"], row["b"]) for row in kept)
        assert splits["test"].labels.tolist() == [{0: 1, 1: 0}[row["label"]] for row in kept]
        assert splits["test"].labels.dtype == np.int64
        assert splits["test"].extras == {"note": tuple(row["note"] for row in kept)}
        assert splits["test"].source == "file:test.jsonl"

    def test_counts_and_majority_rate(self, splits):
        labels = splits["train"].labels.tolist()
        counts = (labels.count(0), labels.count(1))
        assert splits["train"].counts == counts
        assert splits["train"].majority_rate == max(counts) / len(labels)
        assert len(splits["train"]) == sum(counts)

    def test_hashes_are_of_the_texts_alone(self, splits):
        assert splits["train"].hashes == tuple(_hash(*row) for row in splits["train"].rows)

    def test_fingerprint_is_of_hashes_and_labels_in_order(self, splits):
        split = splits["test"]
        lines = "".join(f"{h} {y}\n" for h, y in zip(split.hashes, split.labels.tolist(), strict=True))
        assert split.fingerprint == hashlib.sha256(lines.encode()).hexdigest()

    def test_fingerprint_does_not_depend_on_the_source(self, splits, monkeypatch, tmp_path_factory):
        import datasets

        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
        repository = _write(tmp_path_factory.mktemp("repository"), train=_rows(600), test=_rows(60, start=1000))
        names = {"train": "train", "test": "test"}
        hub = HubSource(id=str(repository), splits=names, columns={"a": "text_a"}, label_names=NAMES, drop=("other",))
        from_hub = load_splits(_task(hub=hub))
        assert {role: split.fingerprint for role, split in from_hub.items()} == {
            role: split.fingerprint for role, split in splits.items()
        }
        assert from_hub["test"].source.startswith("hub:")

    @pytest.mark.parametrize("change", ["text", "label", "order"])
    def test_fingerprint_changes_with_the_data(self, folder, splits, change):
        rows = _rows(60, start=1000)
        if change == "order":
            rows.reverse()
        else:
            rows[0].update({"text": {"b": "!"}, "label": {"label": 1 - rows[0]["label"] % 2}}[change])
        _write(folder, test=rows)
        assert load_splits(_task(), data_dir=folder)["test"].fingerprint != splits["test"].fingerprint

    def test_take_keeps_the_order_given(self, splits):
        part = splits["test"].take(np.array([5, 0]))
        assert part.rows == (splits["test"].rows[5], splits["test"].rows[0])
        assert part.extras["note"] == (splits["test"].extras["note"][5], splits["test"].extras["note"][0])
        assert part.fingerprint != splits["test"].take([0, 5]).fingerprint
        assert splits["test"].take(range(len(splits["test"]))).fingerprint == splits["test"].fingerprint

    def test_labels_cannot_be_written_to(self, splits):
        with pytest.raises(ValueError, match="read-only"):
            splits["test"].labels[0] = 1

    def test_without_label_names_the_raw_labels_are_the_names(self, tmp_path):
        rows = [{"a": str(i), "b": "x", "label": ("entailment", "not_entailment")[i % 2]} for i in range(9)]
        _write(tmp_path, train=rows, test=rows[:1])
        files = FileSource(splits={"train": "train.jsonl", "test": "test.jsonl"})
        assert load_splits(_task(file=files), data_dir=tmp_path, roles=["test"])["test"].labels.tolist() == [1]


class TestCarving:
    def test_dev_is_cut_from_train_and_nothing_is_lost(self, splits):
        kept = [row for row in _rows(600) if row["label"] != 2]
        together = sorted(splits["train"].rows + splits["dev"].rows)
        assert together == sorted((row["text_a"], row["b"]) for row in kept)
        assert 20 <= len(splits["dev"]) <= 60  # 400 rows, a tenth: 40, sd 6
        assert "carved" in splits["dev"].source

    def test_the_rule_of_the_cut_is_fixed(self, folder, splits):
        def drawn(name, role):
            digest = hashlib.sha256(f"carve {role} {name}".encode()).digest()
            return int.from_bytes(digest[:6], "big") < 0.1 * 2**48

        rows = [_hash(row["text_a"], row["b"]) for row in _rows(600) if row["label"] != 2]
        assert splits["dev"].hashes == tuple(name for name in rows if drawn(name, "dev"))
        both = load_splits(_task({"train": "train.jsonl"}), data_dir=folder)
        assert both["test"].hashes == tuple(name for name in rows if drawn(name, "test"))
        assert both["dev"].hashes == tuple(n for n in rows if drawn(n, "dev") and not drawn(n, "test"))

    def test_a_row_keeps_its_side_whatever_the_order_and_the_others(self, folder, splits):
        rows = _rows(600)
        random.Random(1).shuffle(rows)
        _write(folder, train=rows[:300] + _rows(50, start=5000))
        other = load_splits(_task(), data_dir=folder)
        shared = {*other["dev"].hashes, *other["train"].hashes} & {
            *splits["dev"].hashes,
            *splits["train"].hashes,
        }
        assert len(shared) > 150
        assert {*other["dev"].hashes} & shared == {*splits["dev"].hashes} & shared

    def test_equal_texts_land_on_one_side(self, folder):
        _write(folder, train=_rows(600) + _rows(600))
        splits = load_splits(_task(), data_dir=folder)
        assert len(splits["dev"]) == 2 * len({*splits["dev"].hashes})
        assert not {*splits["dev"].hashes} & {*splits["train"].hashes}
        assert splits["train"].dropped_leaks == 0

    def test_a_larger_fraction_takes_more_and_keeps_what_it_had(self, folder, splits):
        larger = load_splits(_task(), data_dir=folder, dev_fraction=0.3)["dev"]
        assert {*splits["dev"].hashes} < {*larger.hashes}
        assert 85 <= len(larger) <= 155  # 400 rows: 120, sd 9

    def test_test_is_carved_too_when_it_is_missing(self, folder):
        splits = load_splits(_task({"train": "train.jsonl"}), data_dir=folder)
        hashes = [{*splits[role].hashes} for role in ("train", "dev", "test")]
        assert len(set.union(*hashes)) == sum(map(len, hashes)) == 400
        assert all(20 <= len(part) <= 60 for part in hashes[1:])

    def test_a_dev_split_that_is_there_is_taken_whole(self, folder):
        _write(folder, dev=_rows(30, start=2000))
        files = {role: f"{role}.jsonl" for role in ("train", "dev", "test")}
        splits = load_splits(_task(files), data_dir=folder)
        assert (len(splits["train"]), len(splits["dev"])) == (400, 20)
        assert splits["dev"].source == "file:dev.jsonl"

    @pytest.mark.parametrize("roles", [("train",), ("dev",), ("test",), ("dev", "test")])
    def test_a_role_is_the_same_whatever_else_is_asked_for(self, folder, splits, roles):
        _write(folder, test=_rows(60, start=1000) + _rows(12))
        everything = load_splits(_task(), data_dir=folder)
        some = load_splits(_task(), data_dir=folder, roles=roles)
        assert tuple(some) == roles
        assert all(some[role].fingerprint == everything[role].fingerprint for role in roles)


class TestLeaks:
    def test_texts_of_test_leave_train_and_dev_and_texts_of_dev_leave_train(self, folder):
        train, dev, test = _rows(60), _rows(12, start=48), _rows(12, start=54)
        _write(folder, train=train, dev=dev, test=test)
        files = {role: f"{role}.jsonl" for role in ("train", "dev", "test")}
        splits = load_splits(_task(files), data_dir=folder)
        # of three rows in a row, two are kept (label 2 is dropped)
        assert [len(splits[role]) for role in files] == [32, 4, 8]
        assert [splits[role].dropped_leaks for role in files] == [8, 4, 0]
        assert {*splits["train"].rows} == {(r["text_a"], r["b"]) for r in train[:48] if r["label"] != 2}

    def test_a_text_leaks_whatever_its_label(self, folder):
        _write(folder, test=[{**row, "label": (row["label"] + 1) % 2} for row in _rows(3)])
        splits = load_splits(_task(), data_dir=folder)
        assert splits["train"].dropped_leaks + splits["dev"].dropped_leaks == 2

    def test_leaks_go_before_sizes_are_cut(self, folder):
        _write(folder, test=_rows(300))
        splits = load_splits(_task(), data_dir=folder, max_eval_rows=5)
        assert len(splits["test"]) == 5
        seen = {_hash(row["text_a"], row["b"]) for row in _rows(300)}
        assert not seen & {*splits["train"].hashes, *splits["dev"].hashes}


class TestTwins:
    """A text that looks like one of a later role is that text: composed or decomposed, with whatever blanks."""

    TWINS = ("text\u00a0e\u0301  7", " text é 7\n", "text e\u0301\t7", "\u2003text é\r\n7")

    @pytest.mark.parametrize("twin", TWINS)
    def test_leave_train_and_dev(self, folder, twin):
        alike = [{**_rows(8)[7], "text_a": twin}]
        _write(folder, train=_rows(60, start=100) + alike, dev=_rows(9, start=200) + alike, test=_rows(8))
        files = {role: f"{role}.jsonl" for role in ("train", "dev", "test")}
        splits = load_splits(_task(files), data_dir=folder)
        assert [splits[role].dropped_leaks for role in files] == [1, 1, 0]
        assert not any(twin in row for role in ("train", "dev") for row in splits[role].rows)

    @pytest.mark.parametrize("other", ["Text é 7", "text e 7", "text é7", "text é 7.", "text é ７"])
    def test_what_a_reader_can_tell_apart_stays(self, folder, other):
        _write(folder, train=[*_rows(60, start=100), {**_rows(8)[7], "text_a": other}], test=_rows(8))
        splits = load_splits(_task(), data_dir=folder)
        assert sum(other in row for role in ("train", "dev") for row in splits[role].rows) == 1

    def test_are_never_on_two_sides_of_a_carved_split(self, folder):
        alike = [{**row, "text_a": row["text_a"].replace("é", "e\u0301").replace(" ", "  ")} for row in _rows(600)]
        _write(folder, train=_rows(600) + alike)
        splits = load_splits(_task({"train": "train.jsonl"}), data_dir=folder)
        notes = [{note % 600 for note in splits[role].extras["note"]} for role in ("train", "dev", "test")]
        assert all(notes)
        assert not notes[0] & notes[1] | notes[0] & notes[2] | notes[1] & notes[2]
        assert splits["train"].dropped_leaks > 20

    def test_keep_their_own_names(self):
        assert row_hash(("text e\u0301",)) == _hash("text e\u0301") != row_hash(("text é",))
        assert twin_key(("text e\u0301",)) == row_hash(("text é",)) == twin_key(("text é",))


class TestSizes:
    def test_smaller_samples_are_nested_and_in_file_order(self, folder, splits):
        small, large = (load_splits(_task(), data_dir=folder, max_train_rows=n)["train"] for n in (100, 200))
        assert (len(small), len(large)) == (100, 200)
        for part, whole in ((small, large), (large, splits["train"])):
            places = [whole.hashes.index(name) for name in part.hashes]
            assert places == sorted(places)

    def test_a_sample_does_not_depend_on_file_order(self, folder):
        before = load_splits(_task(), data_dir=folder, max_train_rows=50)["train"]
        _write(folder, train=_rows(600)[::-1])
        after = load_splits(_task(), data_dir=folder, max_train_rows=50)["train"]
        assert after.hashes == before.hashes[::-1]

    def test_a_sample_is_no_prefix_and_no_side_of_the_carving(self, folder):
        part = load_splits(_task(), data_dir=folder, max_train_rows=100)["train"]
        notes = np.array(part.extras["note"])
        assert 200 < notes.mean() < 400  # 0..599: mean 300, standard error 16

    def test_dev_is_cut_like_test_unless_said_otherwise(self, folder):
        sizes = {}
        for key, limits in {
            "one": {"max_eval_rows": 9},
            "two": {"max_eval_rows": 9, "max_dev_rows": 5},
        }.items():
            splits = load_splits(_task(), data_dir=folder, **limits)
            sizes[key] = (len(splits["dev"]), len(splits["test"]))
        assert sizes == {"one": (9, 9), "two": (5, 9)}


class TestRefusals:
    def test_adversarial_data_cannot_be_tuned_on(self, folder):
        task = _task({"test": "test.jsonl"}, name="adv_pair", clean="pair")
        for role in ("train", "dev"):
            with pytest.raises(InputError, match=r"Ask for test\. Tune on its clean counterpart pair"):
                load_splits(task, data_dir=folder, roles=[role])
        assert len(load_splits(task, data_dir=folder, roles=["test"])["test"]) == 40

    def test_unmapped_labels_are_named_and_counted(self, folder):
        _write(folder, test=[{**row, "label": -1} if row["label"] == 1 else row for row in _rows(9)])
        with pytest.raises(InputError, match="'-1' in 3 rows"):
            load_splits(_task(), data_dir=folder)

    @pytest.mark.parametrize("value", [None, 3, float("nan"), ["x"], "\ud800", "a\0b"])
    def test_what_is_no_text_is_counted_and_the_first_named(self, folder, value):
        rows = _rows(9)
        rows[3]["b"] = rows[7]["b"] = value
        _write(folder, test=rows)
        with pytest.raises(InputError, match=r"2 rows without \(first: row 4"):
            load_splits(_task(), data_dir=folder)

    def test_one_blank_field_is_a_text_but_a_blank_row_is_not(self, folder):
        rows = _rows(9)
        rows[0]["b"] = ""
        _write(folder, test=rows)
        assert load_splits(_task(), data_dir=folder)["test"].rows[0][1] == ""
        rows[0]["text_a"] = " "
        _write(folder, test=rows)
        with pytest.raises(InputError, match="1 row without"):
            load_splits(_task(), data_dir=folder)

    def test_a_missing_column_names_row_and_columns(self, folder):
        rows = _rows(9)
        del rows[2]["b"]
        _write(folder, test=rows)
        with pytest.raises(InputError, match=r"row 3 without b .it has 'text_a', 'label', 'note'"):
            load_splits(_task(), data_dir=folder)

    def test_a_header_with_blanks_is_shown_with_them(self, tmp_path):
        (tmp_path / "test.csv").write_text("text_a , b,label\nx,y,1\n")
        files = FileSource(splits={"test": "test.csv"}, columns={"a": "text_a"}, label_names=NAMES, drop=["other"])
        with pytest.raises(InputError, match=r"without text_a, b .it has 'text_a ', ' b', 'label'"):
            load_splits(_task(file=files), data_dir=tmp_path, roles=["test"])

    @pytest.mark.parametrize("label", [None, float("nan"), ""])
    def test_rows_without_a_label_are_counted_as_such(self, folder, label):
        _write(folder, test=[{**row, "label": label} if row["label"] == 1 else row for row in _rows(9)])
        with pytest.raises(InputError, match="got no label in 3 rows"):
            load_splits(_task(), data_dir=folder)

    def test_parquet_columns_of_bytes_and_gaps_among_labels(self, tmp_path):
        frame = pd.DataFrame({"text_a": [b"x", b"y"], "b": ["", ""], "label": [1.0, None]})
        files = FileSource(
            splits={"test": "test.parquet"}, columns={"a": "text_a"}, label_names=NAMES, drop=["other"]
        )
        frame.to_parquet(tmp_path / "test.parquet")
        with pytest.raises(InputError, match=r"must hold UTF-8 text .* 2 rows without \(first: row 1, \(b'x'"):
            load_splits(_task(file=files), data_dir=tmp_path, roles=["test"])
        frame.assign(text_a=["x", "y"]).to_parquet(tmp_path / "test.parquet")
        with pytest.raises(InputError, match="got no label in 1 row"):
            load_splits(_task(file=files), data_dir=tmp_path, roles=["test"])

    def test_no_rows(self, folder):
        _write(folder, test=[])
        with pytest.raises(InputError, match=r"file:test\.jsonl must hold rows; got none"):
            load_splits(_task(), data_dir=folder)
        _write(folder, test=[{**row, "label": 2} for row in _rows(9)])
        with pytest.raises(InputError, match=r"The test split of pair .* must hold rows"):
            load_splits(_task(), data_dir=folder)

    def test_train_all_leaked(self, folder):
        _write(folder, test=_rows(600))
        with pytest.raises(InputError, match="were removed because a later split holds the same texts"):
            load_splits(_task(), data_dir=folder)

    def test_train_of_one_class(self, folder):
        with pytest.raises(InputError, match="two classes or more; got 1 rows"):
            load_splits(_task(), data_dir=folder, max_train_rows=1)
        _write(folder, train=[{**row, "label": 0} for row in _rows(99)])
        with pytest.raises(InputError, match="rows of entailment alone"):
            load_splits(_task(), data_dir=folder)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"roles": ["valid"]}, "one of train, dev, test; got 'valid'"),
            ({"max_train_rows": 0}, "1 or more; got 0"),
            ({"max_eval_rows": -1}, "1 or more; got -1"),
            ({"dev_fraction": 0}, "between 0 and 1; got 0"),
            ({"dev_fraction": 1.0}, "between 0 and 1; got 1.0"),
            ({"data_dir": "/nowhere"}, "data_dir must be a folder; got /nowhere"),
        ],
    )
    def test_arguments_out_of_range(self, folder, arguments, message):
        with pytest.raises(InputError, match=message):
            load_splits(_task(), **{"data_dir": folder, **arguments})


def test_the_built_in_task_needs_nothing():
    splits = load_splits(load_task("film_notes"), data_dir="/nowhere", max_train_rows=64)
    assert [len(splits[role]) for role in ("train", "dev", "test")] == [64, 600, 1000]
    assert set(splits["test"].extras) == {"polarity", *FACTORS}
    assert all(split.dropped_leaks == 0 for split in splits.values())
    assert isinstance(splits["dev"], Split)


def test_the_built_in_tasks_fingerprints_are_fixed():
    found = {role: split.fingerprint[:12] for role, split in load_splits(load_task("film_notes")).items()}
    assert found == {"train": "3278c5d8a043", "dev": "b99eb0c5432f", "test": "9926f9f44c64"}
