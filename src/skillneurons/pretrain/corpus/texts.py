"""The text a backbone is trained on: train splits named one by one, and nothing of what is evaluated on.

Layout: `<folder>/<dataset>/train.jsonl`, one object a line with `text_a`, `text_b` (or null) and `label`.
Every other `.jsonl` under the folder (dev, test, adversarial, contrast sets) is read for one purpose: no
row that repeats one of its texts, or a run of 13 of its words, is trained on.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skillneurons import fingerprints
from skillneurons.errors import InputError, listed
from skillneurons.pretrain.corpus.decontamination import Unseen, normalised

# what a data set or a file may not be called: these are for evaluation only
REFUSED = ("dev", "test", "valid", "val", "advglue", "adv", "contrast", "cad", "published", "heldout", "hard")
HELD_OUT_OF = 50


@dataclass(frozen=True)
class Row:
    """One row of a train split; a held-out row is measured on and never trained on."""

    dataset: int
    first: str
    second: str | None
    label: int
    held_out: bool


@dataclass(frozen=True)
class SourceFile:
    """One file of the corpus as its card lists it; `dropped` counts rows by reason."""

    name: str
    sha256: str
    rows: int
    kept: int
    held_out: int
    dropped: Mapping[str, int]


@dataclass(frozen=True)
class Corpus:
    """The rows of several train splits, data set by data set in the order they were named.

    Attributes:
        datasets: their names.
        rows: what is left of them, in file order.
        sources: where each came from.
        unseen: name -> SHA-256 of the files whose texts were kept out.
        unseen_texts: how many distinct texts those hold.
    """

    datasets: tuple[str, ...]
    rows: tuple[Row, ...]
    sources: tuple[SourceFile, ...]
    unseen: Mapping[str, str]
    unseen_texts: int

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what decides the rows: the files read and those kept out."""
        return corpus_fingerprint({source.name: source.sha256 for source in self.sources}, self.unseen)


def corpus_fingerprint(files: Mapping[str, str], unseen: Mapping[str, str]) -> str:
    """SHA-256 of a corpus from the hashes of its files."""
    return fingerprints.of_value({"files": list(files.items()), "unseen": dict(unseen), "held": HELD_OUT_OF})


def corpus_files(folder: Path, datasets: Sequence[str]) -> tuple[dict[str, Path], dict[str, Path]]:
    """The files to train on and those to keep out, by name; nothing is read.

    Raises:
        InputError: the folder or a file is missing, or a name is one that is for evaluation only.
    """
    if not folder.is_dir():
        raise InputError("corpus is a folder", str(folder), "Give the folder that holds <dataset>/train.jsonl.")
    for name in datasets:
        refuse_evaluation(name)
    train = {f"{name}/train": folder / name / "train.jsonl" for name in datasets}
    if lost := [name for name, file in train.items() if not file.is_file()]:
        there = sorted(file.parent.name for file in folder.glob("*/train.jsonl"))
        must = f"every data set of the recipe has a train.jsonl under {folder}"
        raise InputError(must, f"none for {listed(lost)}", f"There are: {listed(there) or 'none'}.")
    others = sorted(file for file in folder.glob("*/*.jsonl") if file.stem != "train")
    return train, {f"{file.parent.name}/{file.stem}": file for file in others}


def refuse_evaluation(name: str) -> None:
    """Refuse a data set, or a `<dataset>/<split>`, whose name says that it is for evaluation.

    Raises:
        InputError: it does, or it leads out of the corpus folder.
    """
    parts = re.split(r"[^a-z0-9]+", name.lower())
    if set(parts) & set(REFUSED) or "/" in name or name.startswith((".", "~")):
        must = "only train splits are trained on, each named by its data set's folder"
        raise InputError(must, repr(name), "Evaluation data (dev, test, adversarial, contrast sets) stay unseen.")


def hashes_of(files: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 of each file's content."""
    found = {}
    for name, file in files.items():
        with file.open("rb") as stream:
            found[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def read_corpus(folder: Path, datasets: Sequence[str]) -> Corpus:
    """Read the train splits of the named data sets, without what the other files of the folder hold.

    A row is dropped if one of its texts, compared in lower case and without regard to spacing, is a text
    of a file for evaluation or shares 13 words in a row with one; a repeated row is dropped too. One row
    in 50, by the hash of its first text, is held out; a row that shares a text with a held-out one, of
    whichever data set, is dropped from training.

    Raises:
        InputError: see `corpus_files`; or a line is not as it should be.
    """
    train, others = corpus_files(folder, datasets)
    texts = (text for file in others.values() for text in _evaluation_texts(file))
    unseen = Unseen(texts)
    hashes, rows, sources = hashes_of(train), [], []
    read = [(name, *_read_train(index, file, unseen)) for index, (name, file) in enumerate(train.items())]
    held_texts = {text for _, found, _, _ in read for row in found if row.held_out for text in _texts_of(row)}
    for name, found, dropped, count in read:
        kept = [row for row in found if row.held_out or not _texts_of(row) & held_texts]
        dropped["shares a text with a held-out row"] = len(found) - len(kept)
        rows += kept
        held = sum(row.held_out for row in kept)
        sources.append(
            SourceFile(name, hashes[name], count, len(kept), held, {k: v for k, v in dropped.items() if v})
        )
    return Corpus(tuple(datasets), tuple(rows), tuple(sources), hashes_of(others), len(unseen))


def held_out(first: str) -> bool:
    """Whether the row with this first text is held out."""
    return int(hashlib.sha256(normalised(first).encode()).hexdigest()[:12], 16) % HELD_OUT_OF == 0


def _read_train(index: int, file: Path, unseen: Unseen) -> tuple[list[Row], Counter[str], int]:
    kept: list[Row] = []
    dropped: Counter[str] = Counter()
    seen: set[tuple[str, str | None, int]] = set()
    count = 0
    for count, (first, second, label) in enumerate(_labelled(file), start=1):  # noqa: B007
        reasons = [why for text in (first, second) if text and (why := unseen.why(text))]
        key = (first, second, label)
        if not first.strip() or key in seen:
            dropped["empty or repeated"] += 1
        elif reasons:
            same = "same" in reasons
            dropped["a text of an evaluation file" if same else "13 words in a row of one"] += 1
        else:
            kept.append(Row(index, first, second, label, held_out(first)))
        seen.add(key)
    return kept, dropped, count


def _texts_of(row: Row) -> set[str]:
    return {normalised(text) for text in (row.first, row.second) if text}


def _labelled(file: Path) -> Iterator[tuple[str, str | None, int]]:
    for entry in _objects(file):
        yield entry["text_a"], entry.get("text_b"), int(float(entry["label"]))


def _evaluation_texts(file: Path) -> Iterator[str]:
    for entry in _objects(file):
        original = entry.get("original")  # a text, or those of the changed fields by name
        originals = original.values() if isinstance(original, Mapping) else (original,)
        yield from (str(text) for text in (entry["text_a"], entry.get("text_b"), *originals) if text)


def _checked(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    first, second = entry["text_a"], entry.get("text_b")
    if not (isinstance(first, str) and isinstance(second, str | None) and float(entry["label"]).is_integer()):
        raise ValueError(f"{entry!r:.80}")
    f"{first}{second}".encode()  # a lone surrogate decodes from JSON, but can be neither hashed nor tokenised
    return entry


def _objects(file: Path) -> Iterator[Mapping[str, Any]]:
    with file.open(encoding="utf-8-sig") as lines:  # str.splitlines would also split at U+2028
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
                yield _checked(entry)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                must = f"every line of {file} is an object with texts text_a and text_b (or null) and a whole label"
                got = f"line {number}: {type(error).__name__} ({error})"
                raise InputError(must, got, "Mend the file.") from error
