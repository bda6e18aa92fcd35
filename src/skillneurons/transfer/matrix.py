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
from skillneurons.stats.skill_test import skill
from skillneurons.transfer.cell import Block, Cell, Difference, Relative, beyond_random, cell

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

    def of(self, source: str) -> NDArray[np.int64]:
        """The predictions of a source's prompts `[S, n]`."""
        return self.predictions[[reader.source == source for reader in self.readers]]

    @property
    def families(self) -> dict[str, str]:
        """Source -> its family, random prompts left out."""
        return {reader.source: reader.family for reader in self.readers if reader.source != RANDOM}

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
        holm_p: that of the difference from random prompts, corrected over the cells of its pair of families and for
            the choice of that pair; NaN where the pair itself is not beyond random prompts, or has one prompt a task.
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
        """Skill beyond chance, and above random prompts beyond chance."""
        return self.cell.known.shown and self.beyond_random > 0

    @property
    def verdict(self) -> str:
        """In words."""
        beside = {1: "above random prompts", 0: "not beyond random prompts", -1: "below random prompts"}
        told = beside[self.beyond_random]
        if np.isnan(self.cell.above_random.p_value):
            told = "not tested against random prompts: one prompt"
        elif self.relation != OWN and np.isnan(self.holm_p):
            told = "not beyond random prompts, as its families are not"
        return f"{'no skill shown' if self.cell.at_chance else 'skill'}, {told}"

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
        found |= c.known.columns("balanced_accuracy")
        found |= c.accuracy.columns("accuracy") | c.random.columns("random_accuracy")
        found |= {"random_prompts": c.draws, **c.above_random.columns("difference")}
        found |= {"difference_p": c.above_random.p_value, "difference_holm_p": self.holm_p}
        found |= (c.minus_own or Estimate(nan, nan, nan, nan)).columns("own_difference")
        found |= (c.relative or Relative(nan, nan, nan, nan)).columns("relative")
        return found | {"paired_seeds": len(self.paired), "verdict": self.verdict}


@dataclass(frozen=True)
class FamilyTest:
    """All prompts of a family on all other tasks of a family, beside random prompts: what is tested first.

    Attributes:
        source_family, target_family: whose prompts, whose rows.
        cells: how many pairs of tasks.
        majority: mean share of the commonest label.
        difference: mean over the cells.
        holm_p: corrected over the pairs of families; NaN where a task has one prompt.
    """

    source_family: str
    target_family: str
    cells: int
    majority: float
    difference: Difference
    holm_p: float = nan

    @property
    def tested(self) -> bool:
        """Whether every task has two prompts or more."""
        return not np.isnan(self.difference.p_value)

    @property
    def beyond(self) -> int:
        """1 above random prompts beyond chance, -1 below, else 0."""
        return int(np.sign(self.difference.value)) if self.holm_p < SIGNIFICANT else 0

    @property
    def room(self) -> float:
        """The largest difference that is not excluded."""
        return max(abs(self.difference.low), abs(self.difference.high))

    def verdict(self, allowed: float) -> str:
        """In words; a difference within `allowed`, a fraction, counts as none."""
        if not self.tested:
            return "not tested: one prompt a task"
        if self.beyond:
            return "above random prompts" if self.beyond > 0 else "below random prompts"
        return "no difference from random prompts" if self.room <= allowed else "cannot tell"

    def row(self, allowed: float) -> dict[str, object]:
        """Its line of the table."""
        found = {"source_family": self.source_family, "target_family": self.target_family, "cells": self.cells}
        numbers = {"n": self.difference.n, **self.difference.columns("difference")}
        found |= numbers | {"difference_p": self.difference.p_value, "difference_holm_p": self.holm_p}
        return found | {"verdict": self.verdict(allowed)}


def family_tests(measured: Sequence[TargetPredictions]) -> list[FamilyTest]:
    """Every pair of families, own prompts left out; Holm over the pairs."""
    blocks: dict[tuple[str, str], list[tuple[Block, float]]] = {}
    for one in measured:
        random = _stacked(one.correct(RANDOM))
        for source, family in one.families.items():
            if source != one.task:
                block = Block(source, one.task, _stacked(one.correct(source)), random)
                blocks.setdefault((family, one.family), []).append((block, one.split.majority_rate))
    found = [
        FamilyTest(*names, len(some), float(np.mean([m for _, m in some])), beyond_random([b for b, _ in some]))
        for names, some in sorted(blocks.items())
    ]
    known = [i for i, test in enumerate(found) if test.tested]
    for i, p in zip(known, holm([found[i].difference.p_value for i in known]), strict=True):
        found[i] = replace(found[i], holm_p=float(p))
    return found


def lines(
    measured: Sequence[TargetPredictions], tests: Sequence[FamilyTest] | None = None, seed: int = 0
) -> list[NamedCell]:
    """All cells, target by target.

    A cell is tested where its pair of families is beyond random prompts: Holm over the cells of the pair, times the
    pairs tested over the pairs chosen (Benjamini & Bogomolov 2014), so that the error is 5% on average over the
    chosen pairs.

    Args:
        measured: every target.
        tests: of the pairs of families; None: they are made.
        seed: of the permuted labels.
    """
    tests = family_tests(measured) if tests is None else tests
    found = [line for one in measured for line in _lines(one, seed)]
    chosen = [test for test in tests if test.beyond]
    for test in chosen:
        pair = (test.source_family, test.target_family)
        inside = [
            i
            for i, line in enumerate(found)
            if line.relation != OWN and (line.source_family, line.target_family) == pair
        ]
        corrected = holm([found[i].cell.above_random.p_value for i in inside])
        for i, p in zip(inside, corrected, strict=True):
            times = sum(one.tested for one in tests) / len(chosen)
            found[i] = replace(found[i], holm_p=min(1.0, float(p) * times))
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


def _lines(one: TargetPredictions, seed: int) -> Iterator[NamedCell]:
    random, own = _stacked(one.correct(RANDOM)), one.correct(one.task)
    for source, family in one.families.items():
        ours = one.correct(source)
        shared = tuple(seed for seed in ours if seed in own)
        paired = (_stacked(ours, shared), _stacked(own, shared)) if shared else None
        known = skill(one.of(source), one.split.labels, seed=seed)
        made = cell(_stacked(ours), random, one.split.majority_rate, known, paired)
        yield NamedCell(source, family, one.task, one.family, shared, made)


def _stacked(
    by_seed: Mapping[int | None, NDArray[np.bool_]], seeds: Sequence[int | None] | None = None
) -> NDArray[np.float64]:
    """`[S, n]`."""
    return np.stack([by_seed[seed] for seed in (by_seed if seeds is None else seeds)]).astype(np.float64)
