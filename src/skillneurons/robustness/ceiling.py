"""How well could two rankings agree at all, from so few rows?

Predictivities of n rows are noisy, so that a ranking agrees with itself imperfectly: what agreement is lost to noise
must not be taken for inconsistency. Shapes: n adversarial rows, N clean rows, D draws, L layers, F FFN width.
"""

from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray

from skillneurons.robustness.votes import Floats, Votes
from skillneurons.stats.cluster_bootstrap import Clusters
from skillneurons.stats.intervals import Estimate
from skillneurons.stats.neuron_tests import spearman

DRAWS, SPLITS = 200, 40
MOST = 0.8  # of the clean rows that one draw may take: beyond it draws are all nearly the same


@dataclass(frozen=True)
class Pool:
    """Clean rows that were used for nothing else: of the test split.

    Attributes:
        votes: on them.
        labels: 0 or 1 `[N]`.
    """

    votes: Votes
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Ceiling:
    """An agreement as clean rows of the same number, labels and clustering give it.

    Attributes:
        value: mean over draws; NaN where there are too few clean rows to draw from.
        low, high: where 95% of new draws would lie.
        p_value: one-sided, of an agreement as low as the observed one if nothing but the rows differed.
    """

    value: float = nan
    low: float = nan
    high: float = nan
    p_value: float = nan

    @property
    def estimate(self) -> Estimate:
        """To be drawn."""
        return Estimate(self.value, max(0.0, self.low), self.high)


UNKNOWN = Ceiling()


def clean_draws(pool: Pool, labels: NDArray[np.int64], clusters: Clusters, seed: int) -> tuple[Floats, float] | None:
    """Row weights `[D, N]`: for each original a clean row of its label, as heavy as it has rows; and the share drawn.

    None where the clean rows are too few.
    """
    rng = np.random.default_rng([seed, 17])
    first = clusters.first(labels)
    sizes, weights = np.bincount(clusters.of), np.zeros((DRAWS, len(pool.labels)))
    share = 0.0
    for label in np.unique(first):
        wanted, there = np.flatnonzero(first == label), np.flatnonzero(pool.labels == label)
        if not len(there) or len(wanted) / len(there) > MOST:
            return None
        share = max(share, len(wanted) / len(there))
        for one in weights:
            one[rng.choice(there, len(wanted), replace=False)] = sizes[rng.permutation(wanted)]
    return weights / weights.sum(axis=1, keepdims=True), share


def ceiling_of(observed: float, drawn: Floats, share: float) -> Ceiling:
    """From the same statistic on D draws, each of a `share` of the clean rows.

    Draws from one pool share rows: they differ less among each other than new rows would, by 1 - share in variance,
    and their mean hangs on the pool, by share. Both are put back, under a normal distribution.
    """
    from scipy.special import ndtr

    mean, spread = float(drawn.mean()), float(drawn.std(ddof=1)) * np.sqrt((1 + share) / (1 - share))
    if spread < 1e-12:
        return Ceiling(mean, mean, mean, 1.0 if observed >= mean - 1e-12 else 0.0)
    half = 1.959964 * spread
    return Ceiling(mean, mean - half, min(1.0, mean + half), float(ndtr((observed - mean) / spread)))


def reliability(votes: Votes, labels: NDArray[np.int64], clusters: Clusters, seed: int) -> float:
    """Spearman of two rankings by halves of the originals, mean over splits, stepped up to all (Spearman-Brown)."""
    rng, found = np.random.default_rng([seed, 19]), []
    first = clusters.first(labels)
    for _ in range(SPLITS):
        inside = np.zeros(clusters.count, dtype=np.bool_)
        for label in np.unique(first):
            there = rng.permutation(np.flatnonzero(first == label))
            inside[there[: len(there) // 2]] = True
        half = inside[clusters.of]
        if half.all() or not half.any():
            return nan
        weights = np.stack([half / half.sum(), ~half / (~half).sum()])
        found.append(spearman(*votes.resampled(labels, weights)))
    mean = float(np.nanmean(found))
    return 2 * mean / (1 + mean) if mean > 0 else nan


def corrected(observed: float, *reliabilities: float) -> float:
    """A correlation without the noise of both sides (Spearman 1904), at most 1; NaN where one side is all noise."""
    product = float(np.prod(reliabilities))
    return min(1.0, observed / float(np.sqrt(product))) if product > 0 else nan
