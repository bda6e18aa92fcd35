"""Splits of labelled text: read, mapped to a task, kept apart, cut to size, and fingerprinted.

Rows are told apart by a hash of their field texts, so nothing here depends on file order: the same text
always falls on the same side of a carved split, and a smaller sample is part of a larger one. A split that
decides something (train, dev) never shares a text with the one it is judged on, nor a twin of one that a
reader could not tell from it.
"""

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skillneurons.data.sources import Row, label_key
from skillneurons.data.tasks import AnySource, Task
from skillneurons.errors import InputError, listed

if TYPE_CHECKING:
    import pandas as pd

ROLES = ("train", "dev", "test")  # a text stays in the last role that holds it
HASH_CHARS = 16


@dataclass(frozen=True, eq=False)
class Split:
    """The rows of one role of a task.

    Attributes:
        rows: one tuple of field texts a row, in the order of the task's fields.
        labels: [n] int64, indices into label_names (the paper's order).
        hashes: one a row, 16 hex characters of SHA-256 over the field texts as canonical JSON.
        extras: metadata columns, each with one value a row.
        source: where the rows come from, in words.
        dropped_leaks: rows removed because a later role (dev, test) holds the same texts, or twins of them.
        whole: the fingerprint of the role before it was cut to size or to a half.
        fields: the names of the texts of a row.
    """

    task: str
    role: str
    rows: tuple[tuple[str, ...], ...]
    labels: NDArray[np.int64]
    hashes: tuple[str, ...]
    extras: Mapping[str, tuple[object, ...]]
    source: str
    label_names: tuple[str, ...] = ()
    dropped_leaks: int = 0
    whole: str = ""
    fields: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over hashes and labels in order; the same rows from any source share it."""
        lines = (f"{name} {label}\n" for name, label in zip(self.hashes, self.labels.tolist(), strict=True))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def twins(self) -> list[str]:
        """A name a row, the same for rows that look the same (`twin_key`)."""
        return [twin_key(texts) for texts in self.rows]

    @property
    def counts(self) -> tuple[int, ...]:
        """Rows of each label, in label order."""
        return tuple(np.bincount(self.labels, minlength=len(self.label_names)).tolist())

    @property
    def majority_rate(self) -> float:
        """The share of the commonest label: what a constant answer scores."""
        return max(self.counts) / len(self)

    def predictions(self, predicted: NDArray[np.int64], *along: Mapping[str, Any]) -> "pd.DataFrame":
        """One line a row and a place of the other axes: what a paired comparison needs.

        Args:
            predicted: classes `[.., n]`.
            along: the columns of each other axis, by name.
        """
        import pandas as pd  # here, since reading a task needs none

        *places, row = (index.ravel() for index in np.indices(predicted.shape))
        names = np.array(self.label_names, dtype=object)
        axes = zip(places, along, strict=True)
        found = {name: pd.Series(values).to_numpy()[at] for at, columns in axes for name, values in columns.items()}
        facts = {"row_hash": np.array(self.hashes, dtype=object)[row], "label": names[self.labels[row]]}
        return pd.DataFrame({**found, **facts, "prediction": names[predicted.ravel()]})

    def take(self, indices: Iterable[int]) -> "Split":
        """The split of these rows, in the order given, with its own fingerprint."""
        chosen = [int(i) for i in indices]
        return replace(
            self,
            rows=tuple(self.rows[i] for i in chosen),
            labels=_frozen(self.labels[chosen]),
            hashes=tuple(self.hashes[i] for i in chosen),
            extras={name: tuple(values[i] for i in chosen) for name, values in self.extras.items()},
        )


def load_splits(
    task: Task,
    *,
    data_dir: str | Path | None = None,
    roles: Sequence[str] = ROLES,
    max_train_rows: int | None = None,
    max_dev_rows: int | None = None,
    max_eval_rows: int | None = None,
    dev_fraction: float = 0.1,
) -> dict[str, Split]:
    """Loads the roles asked for, each the same whatever else is asked for.

    A role the source lacks (test, then dev) is carved from train by row hash. Rows whose texts stand in
    test, or look the same as one that does (see `twin_key`), are removed from train and dev, rows of dev from
    train; only then are splits cut to size.

    Args:
        task: What to load.
        roles: Any of train, dev and test.
        data_dir: Folder of the task's `file:` source; without it the hub is read, where the task has one.
        max_train_rows: Keeps the train rows with the smallest salted hashes.
        max_dev_rows: The same for dev; max_eval_rows where not given.
        max_eval_rows: The same for test.
        dev_fraction: The share of train that a carved role takes.

    Raises:
        InputError: A role cannot be had, the source cannot be read or mapped, a split is empty, or train
            has one class only.
    """
    max_dev_rows = max_eval_rows if max_dev_rows is None else max_dev_rows
    limits = {"train": max_train_rows, "dev": max_dev_rows, "test": max_eval_rows}
    source, folder = task.source(data_dir)
    _check_request(task, source, roles, limits, dev_fraction)
    needed = source.roles if {*roles} & {"train", "dev"} or "test" not in source.roles else ("test",)
    splits = {role: _read(task, source, folder, role) for role in needed}
    splits = _without_leaks(_carved(splits, dev_fraction))
    whole = {role: replace(split, whole=split.fingerprint) for role, split in splits.items()}
    return {role: _checked(_smallest(whole[role], limits[role])) for role in roles}


def row_hash(texts: Sequence[str]) -> str:
    """The name of a row: 16 hex characters of SHA-256 over its field texts as canonical JSON."""
    text = json.dumps(list(texts), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_CHARS]


def twin_key(texts: Sequence[str]) -> str:
    """The same for rows that look the same: canonically equivalent characters (Unicode NFC), any kind of blanks.

    A row's name stays `row_hash`, by which results are kept. Compatibility forms, case and punctuation do count:
    a tokenizer sees them, and a task may turn on them.
    """
    return row_hash([" ".join(unicodedata.normalize("NFC", text).split()) for text in texts])


def salted(name: str, salt: str) -> float:
    """A number in [0, 1) that a row hash and a salt decide, uniform over rows."""
    digest = hashlib.sha256(f"{salt} {name}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def halves(names: Sequence[str]) -> tuple[list[int], list[int]]:
    """The rows of dev that may be chosen on (half A) and those that judge what was chosen (half B).

    A row's half follows from its name alone (`Split.twins`), so the halves of a sample are parts of the halves of
    the whole, and what one command chose on never judges it in another.
    """
    first = [salted(name, "half") < 0.5 for name in names]
    return [i for i, yes in enumerate(first) if yes], [i for i, yes in enumerate(first) if not yes]


def half_a(dev: Split) -> Split:
    """The rows of dev that may be chosen on.

    Raises:
        InputError: There is none.
    """
    return _checked(replace(dev.take(halves(dev.twins)[0]), source=f"{dev.source} (half A)"))


def sample(split: Split, limit: int) -> list[int]:
    """The numbers of the `limit` rows with the smallest salted hashes, rising: samples are nested."""
    labelled = zip(split.hashes, split.labels.tolist(), strict=True)
    keys = [(salted(name, "sample"), label, i) for i, (name, label) in enumerate(labelled)]
    return sorted(i for _, _, i in sorted(keys)[:limit])


def _check_request(
    task: Task, source: AnySource, roles: Sequence[str], limits: Mapping[str, int | None], dev_fraction: float
) -> None:
    for role in roles:
        if role not in ROLES:
            raise InputError(f"A role must be one of {listed(ROLES)}", repr(role), "Correct it.")
        if role not in source.roles and "train" not in source.roles:
            hint = f" Tune on its clean counterpart {task.clean}." if task.clean else ""
            must = f"A role of {task.name} ({source.kind}) must be one of {listed(source.roles)}"
            raise InputError(must, role, f"Ask for {listed(source.roles)}.{hint}")
    for role, limit in limits.items():
        if limit is not None and limit < 1:
            raise InputError(f"The most {role} rows must be 1 or more", str(limit), "Leave it out to take all rows.")
    if not 0 < dev_fraction < 1:
        raise InputError("dev_fraction must lie between 0 and 1", str(dev_fraction), "Take 0.1, for example.")


def _read(task: Task, source: AnySource, folder: Path, role: str) -> Split:
    """One role as the source gives it: columns and labels mapped, dropped labels gone."""
    where, raw = source.describe(role), source.read(role, folder)
    columns = [source.columns.get(name, name) for name in task.fields]
    _check_columns(raw, [*columns, source.label], where)
    texts, names = _texts(raw, columns, where), _label_names(raw, task, source, where)
    kept = [i for i, name in enumerate(names) if name not in source.drop]
    rows = tuple(texts[i] for i in kept)
    return Split(
        task=task.name,
        role=role,
        rows=rows,
        labels=_frozen([task.labels.index(names[i]) for i in kept]),
        hashes=tuple(map(row_hash, rows)),
        extras={name: tuple(raw[i].get(name) for i in kept) for name in source.extras if name in raw[0]},
        source=where,
        label_names=task.labels,
        fields=tuple(task.fields),
    )


def _check_columns(raw: Sequence[Row], columns: Sequence[str], where: str) -> None:
    if not raw:
        raise InputError(f"{where} must hold rows", "none", "Check the file or split.")
    for number, row in enumerate(raw, start=1):
        if missing := [name for name in columns if name not in row]:
            must = f"{where} must have the columns {listed(columns)}"
            got = f"row {number} without {listed(missing)} (it has {listed(map(repr, row))})"
            raise InputError(must, got, "Correct 'columns' and 'label' in the task's YAML, or the rows.")


def _texts(raw: Sequence[Row], columns: Sequence[str], where: str) -> list[tuple[str, ...]]:
    """The field texts of every row; a null, a number or nothing but blanks is no text."""
    rows = [tuple(row[column] for column in columns) for row in raw]
    bad = [i for i, texts in enumerate(rows, start=1) if not is_text(texts)]
    if bad:
        must = f"Every row of {where} must hold UTF-8 text in {listed(columns)}"
        got = f"{len(bad)} row{'s' * (len(bad) > 1)} without (first: row {bad[0]}, {rows[bad[0] - 1]!r:.200})"
        raise InputError(must, got, "Mend or remove such rows.")
    return rows  # type: ignore[return-value]


def is_text(texts: tuple[object, ...]) -> bool:
    """Whether a row's fields are strings without NUL that can be tokenised, at least one of them not blank."""
    strings = [text for text in texts if isinstance(text, str)]
    # A lone surrogate decodes from JSON but can be neither hashed nor tokenised.
    encodable = all(
        "\0" not in text and (text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)) for text in strings
    )
    return len(strings) == len(texts) and encodable and any(text.strip() for text in strings)


def _label_names(raw: Sequence[Row], task: Task, source: AnySource, where: str) -> list[str]:
    """Every row's label name, dropped ones included."""
    names = source.label_names or {label_key(name): name for name in (*task.labels, *source.drop)}
    keys = [label_key(row[source.label]) for row in raw]
    if unknown := Counter(key for key in keys if key not in names):
        must = f"Raw labels of {where} must be among {listed(names)}"
        got = listed(f"{repr(key) if key else 'no label'} in {n} row{'s' * (n > 1)}" for key, n in unknown.items())
        raise InputError(must, got, "Add them to 'label_names' (and to 'drop' to leave such rows out).")
    return [names[key] for key in keys]


def _carved(splits: Mapping[str, Split], fraction: float) -> dict[str, Split]:
    """The splits with test and dev cut out of train where they are missing."""
    splits = dict(splits)
    for role in ("test", "dev"):
        if role not in splits and "train" in splits:
            train = splits["train"]
            inside = [salted(name, f"carve {role}") < fraction for name in train.hashes]
            part = train.take(i for i, yes in enumerate(inside) if yes)
            splits[role] = replace(part, role=role, source=f"{train.source} (carved {fraction:g})")
            splits["train"] = train.take(i for i, yes in enumerate(inside) if not yes)
    return splits


def _without_leaks(splits: Mapping[str, Split]) -> dict[str, Split]:
    """The splits with every text gone from the roles before the last one that holds it."""
    clean, seen = {}, set[str]()
    for role in reversed([role for role in ROLES if role in splits]):
        split = splits[role]
        names = split.twins
        kept = [i for i, name in enumerate(names) if name not in seen]
        seen.update(names)
        leaks = len(split) - len(kept)
        clean[role] = replace(split.take(kept), dropped_leaks=leaks) if leaks else split
    return clean


def _smallest(split: Split, limit: int | None) -> Split:
    return split if limit is None or limit >= len(split) else split.take(sample(split, limit))


def _checked(split: Split) -> Split:
    """The split, if it can be used."""
    name = f"The {split.role} split of {split.task} ({split.source})"
    if not len(split):
        got = f"none ({split.dropped_leaks} were removed because a later split holds the same texts)"
        raise InputError(f"{name} must hold rows", got, "Give more rows or a larger dev_fraction.")
    if split.role == "train" and np.count_nonzero(split.counts) < 2:
        got = f"{len(split)} rows of {split.label_names[int(split.labels[0])]} alone"
        raise InputError(f"{name} must hold two classes or more", got, "Give more rows or raise max_train_rows.")
    return split


def _frozen(labels: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    array = np.array(labels, dtype=np.int64)
    array.setflags(write=False)
    return array
