"""Adversarial rows and the clean originals they were made from.

An adversarial task carries a row's original beside it (`original`: the clean text of the changed field), or
names another task whose rows are the originals (`counterpart`), or has none.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skillneurons.data.splits import Split, is_text, load_splits, row_hash, sample
from skillneurons.data.tasks import Task, load_task
from skillneurons.errors import InputError

ORIGINAL = "original"  # the column of the clean texts


@dataclass(frozen=True, eq=False)
class Pairs:
    """An adversarial split and its originals.

    Attributes:
        adversarial: n rows.
        clean: m originals; None where there is none.
        rows: the adversarial row that each original belongs to `[m]`; None where originals have another order.
        flips: whether the change turns the label (contrast and counterfactual sets).
    """

    adversarial: Split
    clean: Split | None
    rows: NDArray[np.int64] | None
    flips: bool = False

    @property
    def paired(self) -> bool:
        """Whether rows can be compared one by one."""
        return self.rows is not None and len(self.rows) > 0

    @cached_property
    def changed(self) -> Split:
        """The adversarial rows that have an original, in the order of the originals `[m]`."""
        if self.rows is None:
            raise ValueError("rows of this set have no known original. Ask `paired` first.")
        return self.adversarial.take(self.rows)


def bare(texts: Sequence[str]) -> str:
    """A row's letters and digits, field by field: what its spaced, cased and pointed versions share."""
    composed = [unicodedata.normalize("NFC", text) for text in texts]
    return "\n".join("".join(filter(str.isalnum, text.lower())) or text for text in composed)


def load_pairs(task: Task, data_dir: str | Path | None = None, max_rows: int | None = None) -> Pairs:
    """The test rows of an adversarial task with their originals.

    Args:
        task: any task; one that is not adversarial has no originals.
        data_dir: folder of `file:` sources.
        max_rows: keeps the rows with the smallest salted hashes, pairs together.

    Raises:
        InputError: an original that cannot be placed, or originals that do not fit the rows.
    """
    split = load_splits(task, data_dir=data_dir, roles=("test",))["test"]
    pairs = _counterparts(task, split, data_dir) if task.counterpart else _beside(task, split, data_dir)
    return pairs if max_rows is None else _cut(pairs, max_rows)


def _beside(task: Task, split: Split, data_dir: str | Path | None) -> Pairs:
    """Originals in the rows' own column `original`; a null, an empty or a blank one is a row without."""
    source, _ = task.source(data_dir)
    held = split.extras.get(ORIGINAL, ())
    rows = [i for i, original in enumerate(held) if original and str(original).strip()]
    if not rows:
        return Pairs(split, None, None)
    texts = tuple(_clean_texts(task, split.rows[i], held[i], source.originals) for i in rows)
    hashes, where = tuple(map(row_hash, texts)), f"{split.source} (originals)"
    clean = replace(split, rows=texts, labels=split.labels[rows], hashes=hashes, extras={}, source=where)
    return Pairs(split, clean, np.array(rows))


def _clean_texts(task: Task, texts: tuple[str, ...], original: object, fields: Mapping[str, str]) -> tuple[str, ...]:
    """A row's texts with the changed fields put back."""
    back: Mapping[object, object] = {}
    if isinstance(original, str) and len(task.fields) == 1:
        back = {task.fields[0]: original}
    elif isinstance(original, Mapping):
        back = {fields.get(key, key): text for key, text in original.items()}
    clean = tuple(back.get(name, text) for name, text in zip(task.fields, texts, strict=True))
    if back and set(back) <= set(task.fields) and is_text(clean):
        return clean  # type: ignore[return-value]
    must = f"the originals of {task.name} are texts, or field -> text for its fields ({', '.join(task.fields)})"
    raise InputError(must, f"{original!r:.120}", "Name the keys under 'originals' in the task's YAML.")


def _counterparts(task: Task, split: Split, data_dir: str | Path | None) -> Pairs:
    """Originals that are the test rows of another task."""
    told = task.counterpart
    assert told is not None
    near = task.folder / f"{told.originals}.yaml"
    other = load_task(near if near.is_file() else told.originals)
    if other.fields != task.fields or other.labels != task.labels:
        must = f"the originals of {task.name} have its fields and labels"
        raise InputError(must, f"others in {other.name}", "Mend 'counterpart' in the task's YAML.")
    clean = load_splits(other, data_dir=data_dir, roles=("test",))["test"]
    if not told.aligned:
        return Pairs(split, clean, None, told.flips)
    same = len(clean) == len(split)
    wrong = int(((clean.labels != split.labels) != told.flips).sum()) if same else 0
    if not same or wrong:
        must = f"row i of {other.name} is the original of row i of {task.name}" + ", its label turned" * told.flips
        got = f"{wrong} that are not" if same else f"{len(clean)} and {len(split)} rows"
        raise InputError(must, got, "Mend the files, or set 'aligned: false'.")
    return Pairs(split, clean, np.arange(len(split)), told.flips)


def _cut(pairs: Pairs, limit: int) -> Pairs:
    """The rows that `load_splits` keeps of so many, with their originals."""
    kept = sample(pairs.adversarial, min(limit, len(pairs.adversarial)))
    adversarial, clean = pairs.adversarial.take(kept), pairs.clean
    if clean is None or pairs.rows is None:
        some = clean and clean.take(sample(clean, min(limit, len(clean))))
        return replace(pairs, adversarial=adversarial, clean=some)
    place = {number: i for i, number in enumerate(kept)}
    held = [i for i, row in enumerate(pairs.rows.tolist()) if row in place]
    if not held:
        return replace(pairs, adversarial=adversarial, clean=None, rows=None)
    rows = np.array([place[int(pairs.rows[i])] for i in held], dtype=np.int64)
    return replace(pairs, adversarial=adversarial, clean=clean.take(held), rows=rows)
