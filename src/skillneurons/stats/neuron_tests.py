"""Chance levels of neurons: exact tails, corrections over tens of thousands of them, AUC.

Shapes: n rows, R permutations, S seeds; `...` is any shape of neurons. method.md §5 says which test
answers which question. A neuron *fires* at a row where its activation is above its baseline, and its
hits are the rows where firing equals the label.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skillneurons.stats.intervals import Estimate, unknown

Floats = NDArray[np.float64]
# A p of 1 would weigh -infinity in a Cauchy sum and veto every other seed. Discrete tests reach 1 often.
_LARGEST_P = 0.99
LEAST_PERMUTATIONS = 100


def hypergeometric_tails(hits_of_one: ArrayLike, fires: ArrayLike, ones: int, n: int) -> tuple[Floats, Floats]:
    """P(X >= x) and P(X <= x) of X ~ Hypergeometric(n, ones, fires), exactly, with both margins fixed.

    Args:
        hits_of_one: x, rows of label 1 at which a neuron fires [...].
        fires: rows at which it fires [...].
        ones: rows of label 1.
        n: rows.

    Returns:
        The upper and the lower tail [...], x included in both.
    """
    x, m = np.asarray(hits_of_one, dtype=np.int64), np.asarray(fires, dtype=np.int64)
    if np.any(x > np.minimum(m, ones)) or np.any(x < np.maximum(0, m - (n - ones))):
        raise ValueError(f"counts must fit margins of {ones} ones in {n} rows. Count on one set of rows.")
    upper, lower = np.empty(x.shape), np.empty(x.shape)
    for margin in np.unique(m):
        here = m == margin
        first, weights = _hypergeometric(int(margin), ones, n)
        place = x[here] - first
        below = np.minimum(1.0, np.cumsum(weights))
        above = np.minimum(1.0, np.cumsum(weights[::-1])[::-1])
        upper[here], lower[here] = above[place], below[place]
    return upper, lower


def cauchy_combination(p_values: ArrayLike) -> Floats:
    """One p-value from several that may depend on each other (Liu & Xie 2020, J. Am. Stat. Assoc. 115).

    T = mean of tan((1/2 - p) pi) is nearly standard Cauchy in its tail whatever the dependence.
    A p above 0.99 counts as 0.99.

    Args:
        p_values: [S, ...]; one seed's p-values come back as they are.

    Returns:
        [...].
    """
    p = np.asarray(p_values, dtype=np.float64)
    if len(p) == 1:
        return np.asarray(p[0])
    p = np.minimum(p, _LARGEST_P)
    # tan loses small p to rounding: there it is 1 / (p pi)
    with np.errstate(divide="ignore"):
        terms = np.where(p < 1e-15, 1 / (p * np.pi), np.tan((0.5 - p) * np.pi))
    total = terms.mean(axis=0)
    with np.errstate(divide="ignore"):
        tail = np.where(total > 1e15, 1 / (total * np.pi), 0.5 - np.arctan(total) / np.pi)
    return np.asarray(tail)


@dataclass(frozen=True)
class Chance:
    """What R label permutations give, the choice of position and sign kept.

    Attributes:
        low, high: the central 95% of a single neuron's predictivity under permuted labels.
        best_low, best_high: the central 95% of the best neuron's, all neurons taken together.
        permutations: R.
    """

    low: float
    high: float
    best_low: float
    best_high: float
    permutations: int


def chance_of(null: ArrayLike) -> Chance:
    """Chance bands from permuted predictivities [R, ...]."""
    flat = np.asarray(null).reshape(len(np.asarray(null)), -1)
    low, high = np.quantile(flat, (0.025, 0.975))
    best_low, best_high = np.quantile(flat.max(axis=1), (0.025, 0.975))
    return Chance(float(low), float(high), float(best_low), float(best_high), len(flat))


def max_t(observed: ArrayLike, null: ArrayLike) -> Floats:
    """Family-wise p-values by the permuted maximum (Westfall & Young 1993), each neuron by its own null.

    p = (1 + permutations whose largest standardised score reaches this neuron's) / (R + 1). The observed labelling
    is one of the R + 1 that mean and deviation are of: left out, its own score alone would not be shrunk by itself,
    and the best of thousands of neurons would pass too often. A neuron whose null does not vary has nothing to
    show: its p is 1.

    Args:
        observed: predictivities [...].
        null: of the same neurons under permuted labels [R, ...].

    Raises:
        ValueError: R is below LEAST_PERMUTATIONS: so few say too little of a neuron's deviation.
    """
    x, y = np.asarray(observed, dtype=np.float64), np.asarray(null)
    if (r := len(y)) < LEAST_PERMUTATIONS:
        raise ValueError(f"max-T needs {LEAST_PERMUTATIONS} permutations or more; got {r}. Draw more.")
    first, squares = y.mean(axis=0, dtype=np.float64), r * y.var(axis=0, dtype=np.float64)
    mean = first + (x - first) / (r + 1)
    spread = np.sqrt((squares + (x - first) ** 2 * r / (r + 1)) / r)
    live = squares > 1e-12
    scale = np.where(live, spread, 1.0)
    best = np.array([np.where(live, (one - mean) / scale, -np.inf).max() for one in y])
    score = np.where(live, (x - mean) / scale, -np.inf)
    # reached within rounding: equal counts must count as equal
    reached = len(best) - np.searchsorted(np.sort(best), score.ravel() - 1e-9, side="left")
    return np.asarray((1 + np.where(live.ravel(), reached, len(best))) / (len(best) + 1)).reshape(x.shape)


def permutation_p(observed: ArrayLike, null: ArrayLike) -> Floats:
    """(1 + permutations that reach it) / (R + 1), a neuron; never below 1 / (R + 1)."""
    x, y = np.asarray(observed), np.asarray(null)
    return np.asarray((1 + (y >= x - 1e-9).sum(axis=0)) / (len(y) + 1), dtype=np.float64)


def smallest_predictivity(n: int, ones: int, tests: int, alpha: float = 0.05) -> float:
    """The smallest predictivity that n rows can show among so many neurons.

    Of a neuron that fires as often as there are ones: the smallest share of hits whose exact tail is at
    most alpha / tests, which is what the first step of Benjamini-Hochberg asks of a single neuron. NaN
    where no outcome is rare enough.
    """
    first, weights = _hypergeometric(ones, ones, n)
    tail = np.minimum(1.0, np.cumsum(weights[::-1])[::-1])
    rare = np.flatnonzero(tail <= alpha / tests)
    if not len(rare):
        return float("nan")
    x = first + int(rare[0])
    return (n - 2 * ones + 2 * x) / n


def binormal_auc(mean_one: ArrayLike, var_one: ArrayLike, mean_zero: ArrayLike, var_zero: ArrayLike) -> Floats:
    """AUC of label 1 against the rest if both are normal: Phi((m1 - m0) / sqrt(v1 + v0)); 1/2 if all is constant."""
    from scipy.special import ndtr

    gap = np.asarray(mean_one, dtype=np.float64) - np.asarray(mean_zero, dtype=np.float64)
    spread = np.sqrt(np.asarray(var_one, dtype=np.float64) + np.asarray(var_zero, dtype=np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(spread > 0, gap / np.where(spread > 0, spread, 1.0), np.sign(gap) * np.inf)
    return np.asarray(ndtr(np.where(gap == 0, 0.0, ratio)))


def exact_auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Share of (label 1, other) pairs in the right order, ties one half; NaN without both.

    Args:
        scores: [n].
        labels: [n], 1 or 0.
    """
    from sklearn.metrics import roc_auc_score

    y = np.asarray(labels)
    return float(roc_auc_score(y, scores)) if y.any() and not y.all() else float("nan")


def auc_interval(auc: float, ones: int, zeros: int, z: float = 1.959964) -> Estimate:
    """An exact AUC with its interval (Hanley & McNeil 1982, Radiology 143), in [0, 1]; NaN without both classes."""
    if not ones or not zeros:
        return unknown(auc)
    above, below = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    variance = auc * (1 - auc) + (ones - 1) * (above - auc * auc) + (zeros - 1) * (below - auc * auc)
    half = z * float(np.sqrt(max(0.0, variance) / (ones * zeros)))
    return Estimate(auc, max(0.0, auc - half), min(1.0, auc + half))


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's rank correlation, ties averaged; NaN where one side is constant."""
    from scipy.stats import rankdata

    a, b = rankdata(np.asarray(x).ravel()), rankdata(np.asarray(y).ravel())
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / norm) if norm else float("nan")


def _hypergeometric(fires: int, ones: int, n: int) -> tuple[int, Floats]:
    """The smallest x, and the probabilities of it and those after it."""
    from scipy.stats import hypergeom

    first = max(0, fires - (n - ones))
    weights = hypergeom.pmf(np.arange(first, min(fires, ones) + 1), n, ones, fires)
    return first, np.asarray(weights / weights.sum(), dtype=np.float64)
