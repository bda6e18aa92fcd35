"""A clean and a changed version of the same rows: what the change costs (method.md §5).

Shapes: S seeds (prompts), n pairs of rows. Intervals take the prompts as given; with one row an original they
are closed forms at n pairs, which for a mean over prompts are rather too wide than too narrow.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skillneurons.stats.cluster_bootstrap import Clusters, mean_interval, sign_flip_p, wilson_interval
from skillneurons.stats.control_sets import share
from skillneurons.stats.intervals import Estimate, Ranged, unknown
from skillneurons.stats.mcnemar import mcnemar_exact, tango


@dataclass(frozen=True)
class PairedAccuracy:
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
    clean: Ranged
    changed: Ranged
    difference: Estimate
    p_value: float
    exact: bool
    only_clean: float
    only_changed: float
    right: float
    success: Estimate
    both: Estimate


def compare(
    clean: ArrayLike, changed: ArrayLike, clusters: Clusters, classes: int, flips: bool = False
) -> PairedAccuracy:
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
    n = clusters.count  # of independent pairs
    moved = tango(float(fell.mean()), float(rose.mean()), n)
    spread = moved if clusters.alone else mean_interval(gap, clusters)
    both, ones = (before & after).mean(axis=0), np.ones(before.shape[1])
    return PairedAccuracy(
        n=before.shape[1],
        originals=n,
        clean=clustered_share(before, clusters),
        changed=clustered_share(after, clusters),
        # where no original moves, so many of them leave room for some
        difference=replace(spread if spread.half > 1e-12 else moved, value=float(gap.mean()), chance=0.0),
        p_value=mcnemar_exact(before[0], after[0]).p_value if exact else sign_flip_p(gap, clusters),
        exact=exact,
        only_clean=float(fell.sum()),
        only_changed=float(rose.sum()),
        right=float(right.sum()),
        success=unknown(chance=float("nan"))
        if flips or not right.any()
        else replace(_success(fell, right, clusters), chance=1 - 1 / classes),
        both=replace(wilson_interval(both, ones, clusters), chance=1 / classes**2),
    )


def margin(scores: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Score of the right label minus the best other one, of scores `[..., n, C]`: `[..., n]`."""
    values = np.asarray(scores, dtype=np.float64)
    rows = np.arange(len(labels))
    own = values[..., rows, labels]
    others = values.copy()
    others[..., rows, labels] = -np.inf
    return np.asarray(own - others.max(axis=-1))


def clustered_share(correct: ArrayLike, clusters: Clusters) -> Ranged:
    """Accuracy of `[S, n]` with Wilson's interval: over rows, or over originals where several rows share one."""
    hits = np.asarray(correct, dtype=np.float64)
    spread = wilson_interval(hits.mean(axis=0), np.ones(hits.shape[1]), clusters)
    return replace(share(hits), low=spread.low, high=spread.high)


def _success(fell: NDArray[np.float64], right: NDArray[np.float64], clusters: Clusters) -> Estimate:
    # a mean over prompts may be no whole number; one that is may come out a little below itself
    whole = np.floor(right.sum() + 1e-9)
    scale = max(1.0, whole) / right.sum() if clusters.alone else 1.0
    return wilson_interval(fell * scale, right * scale, clusters)
