"""Predictions of a transfer command, and the cells of its matrix.

Shapes: R prompts read (all sources' and then the random ones), S seeds, K random prompts, n rows, T tasks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skillneurons.matrix import Cell, cell
from skillneurons.statistics import holm

RANDOM = "random prompt"
OWN, WITHIN, ACROSS = "own", "within family", "across families"
SIGNIFICANT = 0.05
Relation = Literal["own", "within family", "across families"]


@dataclass(frozen=True)
class Reader:
    """A prompt under which rows were read: of a task (with its family) and seed, or the k-th random one."""

    source: str
    family: str
    seed: int | None
    fingerprint: str


@dataclass(frozen=True)
class Measured:
    """The predictions on one target.

    Attributes:
        task: name of the target.
        family: of the target.
        labels: `[n]`.
        label_names: of the classes.
        hashes: row hashes.
        readers: the R prompts.
        predictions: `[R, n]`.
    """

    task: str
    family: str
    labels: NDArray[np.int64]
    label_names: Sequence[str]
    hashes: Sequence[str]
    readers: Sequence[Reader]
    predictions: NDArray[np.int64]

    @property
    def majority(self) -> float:
        """Share of the commonest label."""
        return float(np.bincount(self.labels).max() / len(self.labels))

    def correct(self, source: str) -> dict[int | None, NDArray[np.bool_]]:
        """Seed -> correctness `[n]` of a source's prompts."""
        chosen = [(i, reader.seed) for i, reader in enumerate(self.readers) if reader.source == source]
        return {seed: np.asarray(self.predictions[i] == self.labels) for i, seed in chosen}

    def rows(self) -> pd.DataFrame:
        """One line a prompt and row: enough to compute every number again."""
        prompt, row = (index.ravel() for index in np.indices(self.predictions.shape))
        labels, readers = _shared(self.label_names), self.readers
        seeds = np.array([-1 if reader.seed is None else reader.seed for reader in readers])
        return pd.DataFrame(
            {
                "source": _shared([reader.source for reader in readers])[prompt],
                "seed": seeds[prompt],
                "prompt": _shared([reader.fingerprint for reader in readers])[prompt],
                "target": self.task,
                "row_hash": _shared(self.hashes)[row],
                "label": labels[self.labels[row]],
                "prediction": labels[self.predictions.ravel()],
                "correct": (self.predictions == self.labels).ravel(),
            }
        )


@dataclass(frozen=True)
class Line:
    """One cell of the matrix with its names.

    Attributes:
        source, source_family: whose prompts.
        target, target_family: whose rows.
        paired: seeds that both have prompts of, by which the relative accuracy is paired.
        cell: the numbers.
        holm_p: that of the difference from random prompts, corrected over all cells but the own ones.
    """

    source: str
    source_family: str
    target: str
    target_family: str
    paired: tuple[int | None, ...]
    cell: Cell
    holm_p: float = float("nan")

    @property
    def relation(self) -> Relation:
        """Of source and target."""
        if self.source == self.target:
            return "own"
        return "within family" if self.source_family == self.target_family else "across families"

    @property
    def beyond_random(self) -> int:
        """1 above random prompts beyond chance, -1 below them, else 0; an own prompt is judged by its plain p."""
        found = self.cell.above_random
        p = found.p_value if self.relation == OWN else self.holm_p
        return int(np.sign(found.value)) if p < SIGNIFICANT else 0

    @property
    def transfers(self) -> bool:
        """Above the majority rate beyond its interval, and above random prompts beyond chance."""
        return not self.cell.at_chance and self.beyond_random > 0

    @property
    def verdict(self) -> str:
        """In words."""
        beside = {1: "above random prompts", 0: "not beyond random prompts", -1: "below random prompts"}
        level = "at chance" if self.cell.at_chance else "above majority"
        return f"{level}, {beside[self.beyond_random]}"

    def row(self) -> dict[str, object]:
        """Its line of the table."""
        c, nothing = self.cell, float("nan")
        found: dict[str, object] = {
            "source": self.source,
            "target": self.target,
            "source_family": self.source_family,
            "target_family": self.target_family,
            "relation": self.relation,
            "n": c.n,
            "seeds": c.seeds,
            "majority": c.majority,
        }
        for name, share in (("accuracy", c.accuracy), ("random_accuracy", c.random)):
            ends = {end: getattr(share, end) for end in ("low", "high", "lowest", "highest")}
            found |= {name: share.value, **{f"{name}_{end}": value for end, value in ends.items()}}
        found["random_prompts"] = c.draws
        found |= _difference("difference", c.above_random.value, c.above_random.low, c.above_random.high)
        found |= {"difference_p": c.above_random.p_value, "difference_holm_p": self.holm_p}
        own, r = c.minus_own, c.relative
        found |= _difference("own_difference", *((own.value, own.low, own.high) if own else (nothing,) * 3))
        for end in ("", "_low", "_high", "_lowest", "_highest", "_chance", "_floor"):
            found[f"relative{end}"] = getattr(r, end[1:] or "value") if r else nothing
        return found | {"paired_seeds": len(self.paired), "verdict": self.verdict}


def lines(measured: Sequence[Measured]) -> list[Line]:
    """All cells, target by target, with the p-values of those that are not a task's own corrected by Holm."""
    found = [line for one in measured for line in _lines(one)]
    moved = [i for i, line in enumerate(found) if line.relation != OWN]
    corrected = holm([found[i].cell.above_random.p_value for i in moved])
    for i, p in zip(moved, corrected, strict=True):
        found[i] = replace(found[i], holm_p=float(p))
    return found


def matrices(found: Sequence[Line]) -> tuple[list[str], Mapping[str, NDArray[np.float64]]]:
    """Names of all tasks by family; `[T, T]` (source, target) of accuracy and relative accuracy, NaN where none."""
    family = {line.source: line.source_family for line in found} | {line.target: line.target_family for line in found}
    names = sorted(family, key=lambda name: (family[name], name))
    made = {what: np.full((len(names), len(names)), np.nan) for what in ("accuracy", "relative")}
    for line in found:
        place = names.index(line.source), names.index(line.target)
        made["accuracy"][place] = line.cell.accuracy.value
        made["relative"][place] = line.cell.relative.value if line.cell.relative else np.nan
    return names, made


def _lines(one: Measured) -> Iterator[Line]:
    families = {reader.source: reader.family for reader in one.readers if reader.source != RANDOM}
    random, own = np.stack(list(one.correct(RANDOM).values())), one.correct(one.task)
    for source, family in families.items():
        ours = one.correct(source)
        shared = tuple(seed for seed in ours if seed in own)
        paired = tuple(np.stack([each[seed] for seed in shared]) for each in (ours, own)) if shared else None
        made = cell(np.stack(list(ours.values())), random, one.majority, paired)  # type: ignore[arg-type]
        yield Line(source, family, one.task, one.family, shared, made)


def _difference(name: str, value: float, low: float, high: float) -> dict[str, float]:
    chance = 0.0 if value == value else value
    return {name: value, f"{name}_low": low, f"{name}_high": high, f"{name}_chance": chance}


def _shared(texts: Sequence[str]) -> NDArray[np.object_]:
    """Texts to pick from by number: each line of a table then points to one, where fixed-width text would copy it."""
    return np.array(list(texts), dtype=object)
