"""Accuracy of one task under another task's prompts, beside its own prompts and random ones (method.md §3).

Shapes: n rows, S seeds, K random prompts.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import inf, nan, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skillneurons.stats.control_sets import share
from skillneurons.stats.intervals import Estimate, Ranged, mean_interval
from skillneurons.stats.skill_test import Skill

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference(Estimate):
    """A difference of two mean accuracies, and the two-sided p of there being none."""

    p_value: float = nan


@dataclass(frozen=True)
class Relative(Ranged):
    """An accuracy as a share of that of the task's own prompt with the same seed, mean over seeds.

    Attributes:
        chance: what always answering the commonest label would give.
        floor: what the random prompts give on average.
        by_seed: the ratios, in the order of the seeds.
    """

    floor: float = nan
    by_seed: tuple[float, ...] = ()

    def columns(self, name: str, stem: str = "") -> dict[str, float]:
        """Those of the estimate, with `<stem>_floor`."""
        return super().columns(name, stem) | {f"{stem or name}_floor": self.floor}


@dataclass(frozen=True)
class Cell:
    """One source's prompts on one target's rows.

    Attributes:
        n: rows of the target.
        majority: share of their commonest label.
        known: whether there is skill: balanced accuracy against permuted labels.
        seeds: S, prompts of the source.
        accuracy: mean over them.
        random: mean over the K random prompts, with Student's interval over them, within [0, 1].
        draws: K.
        above_random: accuracy minus that of the random prompts.
        minus_own: accuracy minus that of the target's own prompts, of the seeds both have; None without any.
        relative: the same as a ratio.
    """

    n: int
    majority: float
    known: Skill
    seeds: int
    accuracy: Ranged
    random: Ranged
    draws: int
    above_random: Difference
    minus_own: Difference | None
    relative: Relative | None

    @property
    def at_chance(self) -> bool:
        """Whether no skill is shown."""
        return not self.known.shown


def cell(
    ours: ArrayLike,
    random: ArrayLike,
    majority: float,
    known: Skill,
    paired: tuple[ArrayLike, ArrayLike] | None = None,
) -> Cell:
    """Judge the prompts of a source on the rows of a target.

    Args:
        ours: correctness of the source's prompts `[S, n]`.
        random: correctness of random prompts on the same rows `[K, n]`, K >= 2.
        majority: share of the commonest label of these rows.
        known: whether the source's prompts have skill on them.
        paired: correctness of the source's and of the target's own prompts, both `[S', n]`, seed by seed;
            None where the target has no prompts of its own.
    """
    x, draws = np.asarray(ours, dtype=np.float64), np.asarray(random, dtype=np.float64)
    floor = mean_interval(draws.mean(axis=1), within=(0, 1))
    minus_own, ratio = None, None
    if paired is not None:
        a, b = (np.asarray(one, dtype=np.float64) for one in paired)
        minus_own, ratio = same_seeds(a, b), relative(a, b, majority, floor.value)
    difference = against(x, draws)
    return Cell(x.shape[1], majority, known, len(x), share(x), floor, len(draws), difference, minus_own, ratio)


@dataclass(frozen=True)
class Block:
    """Correctness of one source's prompts `[S, n]` and of random ones `[K, n]`, K >= 2, on one target's rows."""

    source: str
    target: str
    ours: Floats
    random: Floats


def against(ours: ArrayLike, theirs: ArrayLike) -> Difference:
    """Mean accuracy of some prompts `[S, n]` minus that of others `[K, n]` on the same rows, as `beyond_random`."""
    both = (np.asarray(one, dtype=np.float64) for one in (ours, theirs))
    return beyond_random([Block("", "", *both)])


def beyond_random(blocks: Sequence[Block]) -> Difference:
    """Mean over blocks of the accuracy of sources' prompts minus that of random ones; rows and prompts both vary.

    The tasks are taken as given. The variance is the sum of those of each target's row-wise difference over its rows,
    of each source's prompts over its seeds, and of the random prompts, which are the same for all blocks (what varies
    from row to row and from prompt to prompt is in two of them, so the sum is rather too large). Student's t with the
    degrees of freedom of Welch and Satterthwaite: unlike a bootstrap p it has no floor, which a correction over many
    cells would run into. Of one prompt it is not known how others of its task would differ: no interval, no p.

    Args:
        blocks: one or more; the prompts of a source stand in one order in all of them.
    """
    share, rows, prompts = 1 / len(blocks), dict[str, Floats](), dict[str, Floats]()
    random = np.zeros(len(blocks[0].random))
    for one in blocks:
        gap = share * (one.ours.mean(axis=0) - one.random.mean(axis=0))
        rows[one.target] = rows.get(one.target, 0.0) + gap
        prompts[one.source] = prompts.get(one.source, 0.0) + share * one.ours.mean(axis=1)
        random += share * one.random.mean(axis=1)
    value, n = float(sum(gap.mean() for gap in rows.values())), sum(map(len, rows.values()))
    if min(map(len, prompts.values())) < 2:
        return Difference(value, nan, nan, 0.0, n, nan)
    return _judged(value, [_of_mean(part) for part in (*rows.values(), *prompts.values(), random)], n)


def same_seeds(ours: ArrayLike, theirs: ArrayLike) -> Difference:
    """Mean accuracy of some prompts minus that of others, seed by seed, as `against`; one seed is taken as given.

    Args:
        ours: correctness `[S, n]`.
        theirs: correctness `[S, n]`.
    """
    gaps = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    parts = [_of_mean(gaps.mean(axis=0)), _of_mean(gaps.mean(axis=1))]
    return _judged(float(gaps.mean()), parts, gaps.shape[1])


def relative(ours: ArrayLike, own: ArrayLike, majority: float, floor: float) -> Relative | None:
    """Accuracy as a share of the own prompts', seed by seed; None where one of those is right on no row.

    Args:
        ours: correctness `[S, n]`.
        own: correctness `[S, n]`.
        majority: share of the commonest label of the rows.
        floor: mean accuracy of random prompts.
    """
    base = np.asarray(own, dtype=np.float64).mean(axis=1)
    if not base.all():
        return None
    ratios = np.asarray(ours, dtype=np.float64).mean(axis=1) / base
    mean = asdict(mean_interval(ratios, within=(0, inf))) | {"chance": float((majority / base).mean())}
    return Relative(**mean, floor=float((floor / base).mean()), by_seed=tuple(ratios.tolist()))


def _of_mean(values: Floats) -> tuple[float, int]:
    """The variance of a mean, and its degrees of freedom; nothing for a single value."""
    n = len(values)
    return (float(values.var(ddof=1)) / n, n - 1) if n > 1 else (0.0, 0)


def _judged(value: float, parts: Sequence[tuple[float, int]], n: int) -> Difference:
    from scipy.special import stdtr, stdtrit

    total = sum(variance for variance, _ in parts)
    if total < 1e-18:
        # nothing varies: what is left is the sign of n rows that all say the same
        return Difference(value, value, value, 0.0, n, 1.0 if abs(value) < 1e-12 else 2.0 ** (1 - n))
    freedom = total**2 / sum(variance**2 / df for variance, df in parts if df)
    half = float(stdtrit(freedom, 0.975)) * sqrt(total)
    p = min(1.0, 2 * float(stdtr(freedom, -abs(value) / sqrt(total))))
    return Difference(value, max(-1.0, value - half), min(1.0, value + half), 0.0, n, p)
