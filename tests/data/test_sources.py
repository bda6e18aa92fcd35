"""One contract for every source of rows, and what each of them refuses."""

import csv
import http.server
import json
import os
import subprocess
import sys
import threading
from decimal import Decimal

import pandas as pd
import pytest
from test_loading import Hub

from conftest import ROOT
from skillneurons.data.generated.catalogue import GENERATORS
from skillneurons.data.sources import BuiltinSource, FileSource, HubSource, label_key, read_file
from skillneurons.errors import InputError

SRC = ROOT / "src"
LABELS = [
    (1, "1"),
    (1.0, "1"),
    ("1", "1"),
    ("1.0", "1"),
    ("1.", "1"),
    (" 1 ", "1"),
    ("-1.00", "-1"),
    (-1, "-1"),
    (Decimal("1.0"), "1"),
    ("01", "01"),
    ("1e0", "1e0"),
    ("01.0", "01.0"),
    ("1.0.0", "1.0.0"),
    ("v1.0", "v1.0"),
    (0.5, "0.5"),
    ("yes", "yes"),
    ("Yes", "Yes"),
    (True, "true"),
    ("True", "true"),
    ("FALSE", "false"),
    (None, ""),
    (float("nan"), ""),
    ("", ""),
    ("  ", ""),
    ("nan", "nan"),
    ("None", "None"),
]
ROWS = [{"text": "good , « oui »", "label": 1}, {"text": 'bad "x"', "label": 0}, {"text": "fine", "label": 1}]


def _write(path, rows=ROWS):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def hub_cache(monkeypatch, tmp_path):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=["file", "hub", "builtin"])
def source(request, tmp_path):
    if request.param == "builtin":
        return BuiltinSource(name="film_notes", seed="v1")
    _write(tmp_path / "data" / "train.jsonl")
    _write(tmp_path / "data" / "test.jsonl", ROWS[:2])
    if request.param == "file":
        return FileSource(splits={"train": "data/train.jsonl", "test": "data/test.jsonl"})
    request.getfixturevalue("hub_cache")
    return HubSource(id=str(tmp_path / "data"), splits={"train": "train", "test": "test"})


class TestContract:
    def test_rows_are_dicts_with_the_columns(self, source, tmp_path):
        for role in source.roles:
            rows = source.read(role, tmp_path)
            assert rows
            assert all({"text", "label"} <= set(row) for row in rows)

    def test_reading_twice_gives_the_same(self, source, tmp_path):
        assert source.read("train", tmp_path) == source.read("train", tmp_path)

    def test_roles_are_described_apart(self, source):
        described = {source.describe(role) for role in source.roles}
        assert len(described) == len(source.roles) >= 2
        assert all(text.startswith(source.kind + ":") for text in described)

    def test_rows_are_those_written(self, source, tmp_path):
        written = GENERATORS["film_notes"]("v1")["train"] if source.kind == "builtin" else ROWS
        assert source.read("train", tmp_path) == written


class TestFiles:
    @pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet"])
    def test_every_format_gives_the_same_rows(self, ending, tmp_path):
        path, frame = tmp_path / f"rows.{ending}", pd.DataFrame(ROWS)
        if ending == "jsonl":
            frame.to_json(path, orient="records", lines=True)
        elif ending == "csv":
            frame.to_csv(path, index=False)
        elif ending == "tsv":
            path.write_text("text\tlabel\n" + "".join(f"{r['text']}\t{r['label']}\n" for r in ROWS), "utf-8")
        else:
            frame.to_parquet(path)
        rows = [(row["text"], label_key(row["label"])) for row in read_file(path)]
        assert rows == [(row["text"], str(row["label"])) for row in ROWS]

    def test_a_quoted_csv_cell_may_hold_commas_and_lines(self, tmp_path):
        (tmp_path / "a.csv").write_text('text,label\n"one, two\nthree",1\n')
        assert read_file(tmp_path / "a.csv") == [{"text": "one, two\nthree", "label": "1"}]

    def test_an_unbalanced_quote_in_tsv_swallows_nothing(self, tmp_path):
        (tmp_path / "a.tsv").write_text('text\tlabel\n"open\t1\nnext\t0\n')
        assert [row["text"] for row in read_file(tmp_path / "a.tsv")] == ['"open', "next"]

    def test_a_byte_order_mark_is_no_part_of_the_first_column(self, tmp_path):
        (tmp_path / "a.csv").write_bytes("text,label\nx,1\n".encode("utf-8-sig"))
        assert list(read_file(tmp_path / "a.csv")[0]) == ["text", "label"]

    @pytest.mark.parametrize("ending", ["csv", "tsv"])
    def test_a_long_cell_is_read_whole_and_the_limit_of_others_left_alone(self, ending, tmp_path):
        long, before = "word " * 60_000, csv.field_size_limit()
        tab = "," if ending == "csv" else "\t"
        (tmp_path / f"a.{ending}").write_text(f"text{tab}label\n{long}{tab}1\n", "utf-8")
        assert read_file(tmp_path / f"a.{ending}") == [{"text": long, "label": "1"}]
        assert csv.field_size_limit() == before

    @pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
    def test_line_ends_of_every_system(self, end, tmp_path):
        (tmp_path / "a.CSV").write_bytes(end.join([b"text,label", b'"x', b'y",1', b"z,0", b""]))
        rows = read_file(tmp_path / "a.CSV")
        assert [(row["text"].split(), row["label"]) for row in rows] == [(["x", "y"], "1"), (["z"], "0")]

    def test_columns_without_a_name_may_be_many(self, tmp_path):
        (tmp_path / "a.csv").write_text("text,label,,\nx,1,,\n")
        assert read_file(tmp_path / "a.csv")[0]["text"] == "x"

    @pytest.mark.parametrize("content", [b"", b"text,label\n", b"\xef\xbb\xbf", b"\n\n"])
    def test_a_file_without_rows_gives_none(self, content, tmp_path):
        (tmp_path / "a.csv").write_bytes(content)
        assert read_file(tmp_path / "a.csv") == []

    def test_a_parquet_column_twice_is_refused_and_a_categorical_one_is_text(self, tmp_path):
        import pyarrow as pa
        import pyarrow.parquet as pq

        frame = pd.DataFrame(ROWS).astype({"text": "category"})
        frame.to_parquet(tmp_path / "a.parquet")
        assert read_file(tmp_path / "a.parquet") == ROWS
        pq.write_table(pa.table([["x"], ["y"]], names=["text", "text"]), tmp_path / "b.parquet")
        with pytest.raises(InputError, match="each column once; got 'text' twice"):
            read_file(tmp_path / "b.parquet")

    def test_globs_read_sorted_and_in_the_order_given(self, tmp_path):
        for name in ("b2", "b1", "a"):
            _write(tmp_path / f"{name}.jsonl", [{"text": name, "label": 0}])
        source = FileSource(splits={"train": ["b*.jsonl", "a.jsonl"]})
        assert [row["text"] for row in source.read("train", tmp_path)] == ["b1", "b2", "a"]

    def test_absolute_paths_and_names_with_glob_characters(self, tmp_path):
        path = _write(tmp_path / "odd [1].jsonl")
        for pattern in (str(path), "odd [1].jsonl"):
            assert FileSource(splits={"train": pattern}).read("train", tmp_path) == ROWS

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.jsonl", b'{"text": "x"}\n{"text": \n', "line 2"),
            ("a.jsonl", b'{"text": "x"}\n[1]\n', "line 2"),
            ("a.jsonl", b'{"text": "\xff"}\n', "UTF-8"),
            ("a.jsonl", b'{"text": "x"}\n{"text": "x", "text": "y"}\n', "line 2 .* 'text' twice"),
            ("a.jsonl", b'{"text": "x", "original": {"a": 1, "a": 2}}\n', "'a' twice"),
            ("a.jsonl", b"[" * 100_000, "line 1"),
            ("a.csv", b"text,label,text\nx,1,y\n", "each column once; got 'text' twice"),
            ("a.tsv", b"text\tlabel\ttext\nx\t1\ty\n", "each column once; got 'text' twice"),
            ("a.csv", "text,label\nx,1\n".encode("utf-16"), "UTF-8"),
            ("a.csv", b"text,label\nx,1\ny\n", "line 3"),
            ("a.csv", b'text,label\n1,"open\n', "line 2"),
            ("a.parquet", b"no parquet", "parquet"),
            ("a.txt", b"x", "end in one of .jsonl"),
        ],
    )
    def test_what_cannot_be_decoded_names_the_place(self, tmp_path, name, content, message):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message) as caught:
            read_file(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_missing_file_and_missing_folder_are_told_apart(self, tmp_path):
        source = FileSource(splits={"train": "no/*.jsonl"})
        with pytest.raises(InputError, match=r"no/\*\.jsonl must be a file"):
            source.read("train", tmp_path)
        with pytest.raises(InputError, match="must be a file"):
            FileSource(splits={"train": "."}).read("train", tmp_path)
        with pytest.raises(InputError, match="data_dir must be a folder"):
            source.read("train", tmp_path / "nowhere")


class TestHub:
    def test_declared_files_stand_in_for_declared_splits(self, tmp_path, hub_cache):
        pd.DataFrame(ROWS[:1]).to_parquet(_folder(tmp_path / "repo/odd/one") / "0000.parquet")
        pd.DataFrame(ROWS[1:]).to_parquet(_folder(tmp_path / "repo/odd/two") / "0000.parquet")
        files = {"one": "odd/one/*.parquet", "two": "odd/two/*.parquet"}
        source = HubSource(id=str(tmp_path / "repo"), files=files, splits={"train": "one", "test": "two"})
        assert source.read("train", tmp_path) == ROWS[:1]
        assert source.read("test", tmp_path) == ROWS[1:]

    def test_an_unknown_split_is_the_definitions_fault(self, tmp_path, hub_cache):
        _write(tmp_path / "repo" / "train.jsonl")
        with pytest.raises(InputError, match="Correct the task's 'hub:'"):
            HubSource(id=str(tmp_path / "repo"), splits={"train": "validation"}).read("train", tmp_path)

    def test_no_network_is_one_line_that_says_how_to_go_on(self, tmp_path):
        code = (
            "from pathlib import Path; from skillneurons.data.sources import HubSource\n"
            "HubSource(id='nyu-mll/glue', config='sst2', splits={'train': 'train'}).read('train', Path())"
        )
        offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", code], cwd=SRC, env=offline, capture_output=True, text=True)
        last = done.stderr.strip().splitlines()[-1]
        assert done.returncode == 1
        assert "InputError: hub:nyu-mll/glue/sst2@train must be readable" in last
        for way_out in ("data_dir=", "HF_DATASETS_OFFLINE=1", "film_notes"):
            assert way_out in last

    def test_a_gated_data_set_says_what_opens_it(self, tmp_path):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
        server.mode, server.daemon_threads = "401", True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        code = (
            "from pathlib import Path; from skillneurons.data.sources import HubSource\n"
            "HubSource(id='someone/gated', splits={'train': 'train'}).read('train', Path())"
        )
        hub = {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(tmp_path),
        }
        env = {**os.environ, **hub}
        done = subprocess.run([sys.executable, "-c", code], cwd=SRC, env=env, capture_output=True, text=True)
        server.shutdown()
        server.server_close()
        last = done.stderr.strip().splitlines()[-1]
        assert "InputError: hub:someone/gated@train must be readable" in last
        assert "gated dataset" in last
        assert "set HF_TOKEN, or pass data_dir=" in last


def _folder(path):
    path.mkdir(parents=True)
    return path


def test_an_unknown_generator_names_those_there_are(tmp_path):
    with pytest.raises(InputError, match="film_notes"):
        BuiltinSource(name="nope", seed="1").read("train", tmp_path)


@pytest.mark.parametrize(("raw", "key"), LABELS)
def test_raw_labels_are_compared_as_text(raw, key):
    assert label_key(raw) == key


def test_a_column_of_labels_is_the_same_through_every_format(tmp_path):
    """Written by pandas, whose whole numbers beside a gap become floats and whose booleans are capitalised."""
    for values in ([1, 0, None], [True, False, None], ["1", "01", ""], [2.5, -1.0, None]):
        keys = []
        for ending in ("jsonl", "csv", "parquet"):
            path, frame = tmp_path / f"a.{ending}", pd.DataFrame({"text": list("abc"), "label": values})
            if ending == "jsonl":
                frame.to_json(path, orient="records", lines=True)
            elif ending == "csv":
                frame.to_csv(path, index=False)
            else:
                frame.to_parquet(path)
            keys.append([label_key(row["label"]) for row in read_file(path)])
        assert keys[0] == keys[1] == keys[2]
        assert len(set(keys[0])) == 3
        assert keys[0][2] == ""


def test_two_raw_labels_that_are_one_are_refused():
    for names in ({1: "a", "1.0": "b"}, {True: "a", "TRUE": "b"}, {"x": "a", " x": "b"}):
        with pytest.raises(ValueError, match="the same label"):
            FileSource(splits={"test": "a.csv"}, label_names=names)


def test_importing_the_sources_loads_nothing_heavy():
    heavy = ("datasets", "pandas", "pyarrow", "torch", "transformers", "mlflow")
    code = f"import sys, skillneurons.data.splits; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=SRC, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
