"""Does suppressing skill neurons cost more than suppressing random ones (method.md §5)?

Shapes: n rows, S seeds, K random sets.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skillneurons.resampling import RESAMPLES, Clusters
from skillneurons.statistics import Interval, Mean, mean_interval, wilson


@dataclass(frozen=True)
class Share:
    """An accuracy averaged over seeds.

    Attributes:
        value: mean over seeds and rows.
        low, high: Wilson's interval with the n rows, the seeds taken as given: an average over seeds
            varies less from row to row than one seed, so the interval is rather too wide than too narrow.
        lowest, highest: of the seeds.
    """

    value: float
    low: float
    high: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class Contrast:
    """Accuracy with skill neurons suppressed against accuracy with random sets of the same sizes suppressed.

    Attributes:
        control: mean over the K sets with Student's interval over sets (NaN for one set), within [0, 1].
        lowest, highest: of the sets, seeds averaged.
        difference: skill minus the mean of the controls.
        low, high: its 95% bootstrap interval, over rows and sets.
        p_value: two-sided bootstrap p of no difference from the *average* random set; its floor is
            2 / (resamples + 1).
        another_set_p: two-sided p of being *one more* random set, by how far the sets lie apart (Crawford &
            Howell 1998: t with K - 1 degrees of freedom; for accuracies they lie one answer apart at least); NaN
            for one set.
        rank_p: (1 + sets that cost as much or more, or with `upward` gain as much or more) / (K + 1).
        rank_floor: 1 / (K + 1), which `rank_p` cannot go below.
        sets: K.
    """

    control: Mean
    lowest: float
    highest: float
    difference: float
    low: float
    high: float
    p_value: float
    another_set_p: float
    rank_p: float
    rank_floor: float
    sets: int

    @property
    def both_p(self) -> float:
        """The larger of `p_value` and `another_set_p`: off the average random set, and not just one more of them."""
        return float(np.nanmax([self.p_value, self.another_set_p]))


def share(correct: ArrayLike) -> Share:
    """Accuracy of correctness `[S, n]`."""
    hits = np.asarray(correct, dtype=np.float64)
    seeds, interval = hits.mean(axis=1), _wilson(hits)
    return Share(float(hits.mean()), interval.low, interval.high, float(seeds.min()), float(seeds.max()))


def contrast(
    skill: ArrayLike,
    controls: ArrayLike,
    seed: int = 0,
    resamples: int = RESAMPLES,
    clusters: Clusters | None = None,
    bounds: tuple[float, float] = (0, 1),
    upward: bool = False,
) -> Contrast:
    """Skill neurons against K random sets, seeds averaged, rows and sets drawn anew.

    Args:
        skill: correctness, or another value of a row, `[S, n]`.
        controls: the same `[K, S, n]` on the same rows with the same prompts.
        seed: of the bootstrap.
        resamples: of the bootstrap.
        clusters: rows that are drawn together; else each by itself.
        bounds: between which a row's value lies.
        upward: whether the skill neurons are expected to stand above the random sets, instead of below.
    """
    ours = np.asarray(skill, dtype=np.float64).mean(axis=0)
    theirs = np.asarray(controls, dtype=np.float64).mean(axis=1)
    values = theirs.mean(axis=1)
    difference = float(ours.mean() - values.mean())
    rows = clusters or Clusters.single(len(ours))
    drawn = np.concatenate(list(_bootstrap(ours, theirs, rows, seed, resamples)))
    low, high = np.quantile(drawn, (0.025, 0.975))
    # a sum of many shares may miss 0 by rounding
    tail = min(int((drawn <= 1e-12).sum()), int((drawn >= -1e-12).sum()))
    mean = mean_interval(values, within=bounds)
    ahead = (values - ours.mean()) * (1 if upward else -1) >= -1e-12
    return Contrast(
        control=mean,
        lowest=float(values.min()),
        highest=float(values.max()),
        difference=difference,
        low=float(low),
        high=float(high),
        p_value=min(1.0, 2 * (1 + tail) / (resamples + 1)),
        another_set_p=_another_set(float(ours.mean()), values, _resolution(skill)),
        rank_p=float((1 + ahead.sum()) / (len(values) + 1)),
        rank_floor=1 / (len(values) + 1),
        sets=len(values),
    )


def _wilson(hits: NDArray[np.float64]) -> Interval:
    # one division of a whole number: rounding cannot carry it past n
    return wilson(float(hits.sum()) / len(hits), hits.shape[1])


def _bootstrap(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], rows: Clusters, seed: int, resamples: int
) -> Iterator[NDArray[np.float64]]:
    """Differences of resamples: how often each row and each set is drawn."""
    rng, sets = np.random.default_rng([seed, 1]), len(theirs)
    for of_rows in rows.weights(seed, resamples):
        of_sets = rng.multinomial(sets, np.full(sets, 1 / sets), size=len(of_rows)) / sets
        yield of_rows @ ours - ((of_rows @ theirs.T) * of_sets).sum(axis=1)


def _resolution(skill: ArrayLike) -> float:
    """Of an accuracy: one answer of one prompt. Sets that answer alike are no closer to each other than that."""
    answers = np.asarray(skill)
    return 1 / answers.size if answers.dtype == np.bool_ else 0.0


def _another_set(value: float, sets: NDArray[np.float64], resolution: float) -> float:
    from scipy.special import stdtr

    if len(sets) < 2:
        return float("nan")
    spread = max(float(sets.std(ddof=1)), resolution) * sqrt(1 + 1 / len(sets))
    distance = abs(value - float(sets.mean()))
    if spread < 1e-12:
        return 1.0 if distance < 1e-12 else 0.0
    return float(2 * stdtr(len(sets) - 1, -distance / spread))
