"""Predictions of a transfer command, and the cells of its matrix.

Shapes: R prompts read (all sources' and then the random ones), S seeds, K random prompts, n rows, T tasks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skillneurons.data.splits import Split
from skillneurons.stats.intervals import SIGNIFICANT, Estimate, holm
from skillneurons.transfer.cell import Cell, Relative, cell

RANDOM = "random prompt"
OWN, WITHIN, ACROSS = "own", "within family", "across families"
Relation = Literal["own", "within family", "across families"]


@dataclass(frozen=True)
class PromptSource:
    """A prompt under which rows were read: of a task (with its family) and seed, or the k-th random one."""

    source: str
    family: str
    seed: int | None
    fingerprint: str


@dataclass(frozen=True)
class TargetPredictions:
    """The predictions on one target.

    Attributes:
        task: name of the target.
        family: of the target.
        split: its n rows.
        readers: the R prompts.
        predictions: `[R, n]`.
    """

    task: str
    family: str
    split: Split
    readers: Sequence[PromptSource]
    predictions: NDArray[np.int64]

    def correct(self, source: str) -> dict[int | None, NDArray[np.bool_]]:
        """Seed -> correctness `[n]` of a source's prompts."""
        chosen = [(i, reader.seed) for i, reader in enumerate(self.readers) if reader.source == source]
        return {seed: np.asarray(self.predictions[i] == self.split.labels) for i, seed in chosen}

    def rows(self) -> pd.DataFrame:
        """One line a prompt and row: enough to compute every number again."""
        named = {
            "source": [reader.source for reader in self.readers],
            "seed": [-1 if reader.seed is None else reader.seed for reader in self.readers],
            "prompt": [reader.fingerprint for reader in self.readers],
        }
        frame = self.split.predictions(self.predictions, named)
        frame.insert(3, "target", self.task)
        return frame.assign(correct=frame["label"] == frame["prediction"])


@dataclass(frozen=True)
class NamedCell:
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
    holm_p: float = nan

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
        c = self.cell
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
        found |= c.accuracy.columns("accuracy") | c.random.columns("random_accuracy")
        found |= {"random_prompts": c.draws, **c.above_random.columns("difference")}
        found |= {"difference_p": c.above_random.p_value, "difference_holm_p": self.holm_p}
        found |= (c.minus_own or Estimate(nan, nan, nan, nan)).columns("own_difference")
        found |= (c.relative or Relative(nan, nan, nan, nan)).columns("relative")
        return found | {"paired_seeds": len(self.paired), "verdict": self.verdict}


def lines(measured: Sequence[TargetPredictions]) -> list[NamedCell]:
    """All cells, target by target, with the p-values of those that are not a task's own corrected by Holm."""
    found = [line for one in measured for line in _lines(one)]
    moved = [i for i, line in enumerate(found) if line.relation != OWN]
    corrected = holm([found[i].cell.above_random.p_value for i in moved])
    for i, p in zip(moved, corrected, strict=True):
        found[i] = replace(found[i], holm_p=float(p))
    return found


def matrices(found: Sequence[NamedCell]) -> tuple[list[str], Mapping[str, NDArray[np.float64]]]:
    """Names of all tasks by family; `[T, T]` (source, target) of accuracy and relative accuracy, NaN where none."""
    family = {line.source: line.source_family for line in found} | {line.target: line.target_family for line in found}
    names = sorted(family, key=lambda name: (family[name], name))
    made = {what: np.full((len(names), len(names)), np.nan) for what in ("accuracy", "relative")}
    for line in found:
        place = names.index(line.source), names.index(line.target)
        made["accuracy"][place] = line.cell.accuracy.value
        made["relative"][place] = line.cell.relative.value if line.cell.relative else np.nan
    return names, made


def _lines(one: TargetPredictions) -> Iterator[NamedCell]:
    families = {reader.source: reader.family for reader in one.readers if reader.source != RANDOM}
    random, own = np.stack(list(one.correct(RANDOM).values())), one.correct(one.task)
    for source, family in families.items():
        ours = one.correct(source)
        shared = tuple(seed for seed in ours if seed in own)
        paired = tuple(np.stack([each[seed] for seed in shared]) for each in (ours, own)) if shared else None
        made = cell(np.stack(list(ours.values())), random, one.split.majority_rate, paired)  # type: ignore[arg-type]
        yield NamedCell(source, family, one.task, one.family, shared, made)
