"""A clean and a changed version of the same rows: what the change costs (method.md §5).

Shapes: S seeds (prompts), n pairs of rows. Intervals take the prompts as given; with one row an original they
are closed forms at n pairs, which for a mean over prompts are rather too wide than too narrow.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skillneurons.contrast import Share, share
from skillneurons.mcnemar import mcnemar_exact, tango
from skillneurons.resampling import Clusters, mean_interval, ratio_interval, sign_flip_p
from skillneurons.statistics import Interval, wilson


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval and what chance would give."""

    value: float
    low: float
    high: float
    chance: float

    def columns(self, name: str) -> dict[str, float]:
        """`name`, `name_low`, `name_high`, `name_chance`."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high, f"{name}_chance": self.chance}

    @property
    def beyond(self) -> bool:
        """Whether chance lies outside the interval; of an unknown one it does not."""
        return self.low > self.chance or self.chance > self.high

    @property
    def text(self) -> str:
        """`12.3% [8.0%, 17.1%]`."""
        return f"{self.value:.1%} [{self.low:.1%}, {self.high:.1%}]"


@dataclass(frozen=True)
class Pair:
    """Both versions of some rows under one or several prompts.

    Attributes:
        n: pairs.
        originals: different clean rows among them.
        clean, changed: accuracies, prompts averaged.
        difference: clean minus changed; chance is 0.
        p_value: two-sided, of no difference: exact McNemar of one prompt where every original stands once, else
            by sign flips of whole originals.
        exact: which of the two.
        only_clean, only_changed: rows that are right in one version alone, mean over prompts.
        right: rows that are right in the clean version, mean over prompts.
        success: share of these that are wrong in the changed version (attack success rate); a coin's is
            (C - 1) / C. NaN where the change turns the label.
        both: share of rows right in both versions (contrast consistency, Gardner et al. 2020); a coin's is 1 / C².
    """

    n: int
    originals: int
    clean: Share
    changed: Share
    difference: Estimate
    p_value: float
    exact: bool
    only_clean: float
    only_changed: float
    right: float
    success: Estimate
    both: Estimate


def compare(clean: ArrayLike, changed: ArrayLike, clusters: Clusters, classes: int, flips: bool = False) -> Pair:
    """What the change costs.

    Args:
        clean: correctness of the originals `[S, n]`.
        changed: of the changed rows, in the same order.
        clusters: pairs made from one original.
        classes: C, for what a coin scores.
        flips: whether the change turns the label: then nothing was attacked.
    """
    before, after = np.asarray(clean, dtype=bool), np.asarray(changed, dtype=bool)
    gap = (before.astype(np.float64) - after).mean(axis=0)
    fell, rose, right = ((x).mean(axis=0) for x in (before & ~after, ~before & after, before))
    exact = len(before) == 1 and clusters.alone
    unknown = Estimate(float("nan"), float("nan"), float("nan"), float("nan"))
    n = clusters.count  # of independent pairs
    moved = tango(float(fell.mean()), float(rose.mean()), n)
    both = (before & after).mean(axis=0)
    return Pair(
        n=before.shape[1],
        originals=n,
        clean=clustered_share(before, clusters),
        changed=clustered_share(after, clusters),
        difference=_estimate(float(gap.mean()), _either(mean_interval(gap, clusters), moved, clusters), 0.0),
        p_value=mcnemar_exact(before[0], after[0]).p_value if exact else sign_flip_p(gap, clusters),
        exact=exact,
        only_clean=float(fell.sum()),
        only_changed=float(rose.sum()),
        right=float(right.sum()),
        success=unknown if flips or not right.any() else _success(fell, right, clusters, 1 - 1 / classes),
        both=_estimate(float(both.mean()), _share_of(both, clusters), 1 / classes**2),
    )


def clustered_share(correct: ArrayLike, clusters: Clusters) -> Share:
    """Accuracy of `[S, n]`: Wilson's interval where every row is by itself, else a bootstrap of the originals."""
    hits = np.asarray(correct, dtype=np.float64)
    whole, interval = share(hits), _share_of(hits.mean(axis=0), clusters)
    return Share(whole.value, interval.low, interval.high, whole.lowest, whole.highest)


def _share_of(values: NDArray[np.float64], clusters: Clusters) -> Interval:
    mean = min(1.0, float(values.mean()))
    return _either(mean_interval(values, clusters), wilson(mean * clusters.count, clusters.count), clusters)


def _success(fell: NDArray[np.float64], right: NDArray[np.float64], clusters: Clusters, chance: float) -> Estimate:
    value = float(fell.sum() / right.sum())
    # a mean over prompts may be no whole number; one that is may come out a little below itself
    n = max(1, int(right.mean() * clusters.count + 1e-9))
    interval = _either(ratio_interval(fell, right, clusters), wilson(value * n, n), clusters)
    return _estimate(value, interval, chance)


def _either(drawn: Interval, closed: Interval, clusters: Clusters) -> Interval:
    """The closed form where every row is by itself or resampling shows no spread at all; else the bootstrap."""
    return closed if clusters.alone or drawn.high - drawn.low < 1e-12 else drawn


def _estimate(value: float, interval: Interval, chance: float) -> Estimate:
    return Estimate(value, interval.low, interval.high, chance)
