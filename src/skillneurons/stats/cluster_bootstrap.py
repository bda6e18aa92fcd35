"""Intervals and tests over rows, where rows made from one original stand and fall together.

Several attacks on one text are no independent evidence: the original is drawn, and its rows come with it.
Shapes: n rows, G originals (clusters), R resamples or permutations.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skillneurons.stats.intervals import Estimate, unknown, wilson

Floats = NDArray[np.float64]
RESAMPLES = 2000
FLIPS = 9999
RELIABLE = 3.0  # standard errors that a denominator must be away from 0
_AT_ONCE = 100  # resamples held in memory together


@dataclass(frozen=True)
class Clusters:
    """Which rows belong together.

    Attributes:
        of: the cluster of each row, int64 `[n]`, 0 to G - 1.
    """

    of: NDArray[np.int64]

    @classmethod
    def by(cls, names: ArrayLike) -> "Clusters":
        """Rows with one name are one cluster, in the order of first appearance."""
        values = np.asarray(names)
        _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
        rank = np.empty(len(first), dtype=np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        return cls(rank[inverse.ravel()])

    @classmethod
    def single(cls, n: int) -> "Clusters":
        """Every row by itself."""
        return cls(np.arange(n))

    @property
    def count(self) -> int:
        """G."""
        return int(self.of.max()) + 1

    @property
    def alone(self) -> bool:
        """Whether every row is by itself."""
        return self.count == len(self.of)

    def take(self, rows: ArrayLike) -> "Clusters":
        """Those of some rows."""
        return Clusters.by(self.of[np.asarray(rows)])

    def first(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        """The value of each cluster's first row `[G]`, of values of rows `[n]`."""
        _, rows = np.unique(self.of, return_index=True)
        return values[rows]

    def weights(self, seed: int, resamples: int = RESAMPLES) -> Iterator[Floats]:
        """Blocks `[b, n]` of row weights, each line of which sums to 1: G clusters drawn with replacement."""
        rng, size = np.random.default_rng(seed), self.count
        for start in range(0, resamples, _AT_ONCE):
            drawn = rng.multinomial(size, np.full(size, 1 / size), size=min(_AT_ONCE, resamples - start))
            rows = drawn[:, self.of].astype(np.float64)
            yield rows / rows.sum(axis=1, keepdims=True)

    def permuted(self, labels: ArrayLike, permutations: int, seed: int) -> NDArray[np.uint8]:
        """R label vectors `[R, n]`: the labels of the clusters shuffled, each cluster keeping one label.

        Raises:
            ValueError: a cluster holds two labels.
        """
        values, rng = np.asarray(labels, dtype=np.uint8), np.random.default_rng([seed, 7])
        first = self.first(values)
        if (values != first[self.of]).any():
            raise ValueError("rows made from one original have one label. Cluster rows by their original.")
        copies = np.tile(first, (permutations, 1))
        return np.asarray(rng.permuted(copies, axis=1)[:, self.of])


def mean_interval(values: ArrayLike, clusters: Clusters) -> Estimate:
    """A mean over rows `[n]` with its cluster-robust interval (95%)."""
    x = np.asarray(values, dtype=np.float64)
    return ratio_interval(x, np.ones_like(x), clusters)


def ratio_interval(above: ArrayLike, below: ArrayLike, clusters: Clusters) -> Estimate:
    """sum(above) / sum(below) over rows `[n]` with its cluster-robust interval (95%).

    Linearised (Cochran 1977, §6), with Student's t of G - 1 degrees of freedom: with few originals a percentile
    bootstrap is too narrow. Where the sum below is itself hardly known to differ from 0 (fewer than RELIABLE
    standard errors away), so is its inverse, and no interval holds: then nothing is returned.
    """
    from scipy.special import stdtrit

    x, y = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    total, size = float(y.sum()), clusters.count
    if abs(total) < 1e-12 or abs(total) < RELIABLE * deviation(y - y.mean(), clusters):
        return unknown()
    value = float(x.sum()) / total
    if size < 2:
        return unknown(value)
    half = float(stdtrit(size - 1, 0.975)) * deviation(x - value * y, clusters) / abs(total)
    return Estimate(value, value - half, value + half)


def deviation(values: ArrayLike, clusters: Clusters) -> float:
    """Standard error of a sum over rows `[n]` of mean 0, rows of one original going together; 0 of one original."""
    sums, size = np.bincount(clusters.of, weights=np.asarray(values, dtype=np.float64)), clusters.count
    return float(np.sqrt(size / (size - 1) * (sums @ sums))) if size > 1 else 0.0


def wilson_interval(above: ArrayLike, below: ArrayLike, clusters: Clusters) -> Estimate:
    """A share sum(above) / sum(below) of rows `[n]` with Wilson's interval at as many rows as it is worth.

    The design effect of originals (Korn & Graubard 1998, with Wilson's interval for theirs) gives the rows, and
    Student's t of G - 1 degrees of freedom stands for the normal quantile. Never more than `below` counts.
    """
    from scipy.special import stdtrit

    x, y = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    total = float(y.sum())
    if total <= 0:
        return unknown()
    value = min(1.0, float(x.sum()) / total)
    if clusters.alone:
        return wilson(min(value * total, total), total)
    size = np.unique(clusters.of[y > 0]).size
    if size < 2:
        return unknown(value)
    variance = (deviation(x - value * y, clusters) / total) ** 2
    worth = min(total, value * (1 - value) / variance) if variance > 1e-15 else float(size)
    return wilson(value * worth, worth, quantile=float(stdtrit(size - 1, 0.975)))


def central(drawn: NDArray[np.floating]) -> tuple[float, float]:
    """The ends of the central 95%; NaN of nothing."""
    if not len(drawn):
        return float("nan"), float("nan")
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def sign_flip_p(differences: ArrayLike, clusters: Clusters, seed: int = 0) -> float:
    """Two-sided p of paired differences `[n]` being as often up as down: a cluster's sum changes its sign.

    Monte Carlo over FLIPS sign vectors; never below 1 / (FLIPS + 1).
    """
    x = np.bincount(clusters.of, weights=np.asarray(differences, dtype=np.float64))
    x = x[np.abs(x) > 1e-12]
    if not len(x):
        return 1.0
    rng, reached = np.random.default_rng([seed, 3]), 0
    for start in range(0, FLIPS, 1000):
        signs = rng.integers(0, 2, size=(min(1000, FLIPS - start), len(x))) * 2 - 1
        reached += int((np.abs(signs @ x) >= abs(x.sum()) - 1e-9).sum())
    return (1 + reached) / (FLIPS + 1)
