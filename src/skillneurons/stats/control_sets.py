"""Does suppressing skill neurons cost more than suppressing random ones (method.md §5)?

Shapes: n rows, S seeds, K random sets.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isnan, nan, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skillneurons.stats.cluster_bootstrap import RESAMPLES, Clusters, central
from skillneurons.stats.intervals import SIGNIFICANT, Estimate, Ranged, holm, mean_interval, wilson


@dataclass(frozen=True)
class Contrast:
    """Accuracy with skill neurons suppressed against accuracy with random sets of the same sizes suppressed.

    Attributes:
        control: mean over the K sets, seeds averaged, with Student's interval over sets (NaN for one set).
        difference: skill minus the mean of the controls, with its bootstrap interval over rows and sets.
        p_value: two-sided bootstrap p of no difference from the *average* random set; its floor is
            2 / (resamples + 1).
        another_set_p: two-sided p of being *one more* random set, by how far the sets lie apart (Crawford &
            Howell 1998: t with K - 1 degrees of freedom; for accuracies they lie one answer apart at least); NaN
            for one set.
        rank_p: (1 + sets that cost as much or more, or with `upward` gain as much or more) / (K + 1).
        rank_floor: 1 / (K + 1), which `rank_p` cannot go below.
        sets: K.
        holm_p, holm_another_p: `p_value` and `another_set_p` as `corrected` gives them; NaN before.
    """

    control: Ranged
    difference: Estimate
    p_value: float
    another_set_p: float
    rank_p: float
    rank_floor: float
    sets: int
    holm_p: float = nan
    holm_another_p: float = nan

    @property
    def significant(self) -> bool:
        """Off the average random set, and not just one more of them, once corrected; NaN is neither."""
        return self.holm_p < SIGNIFICANT and self.holm_another_p < SIGNIFICANT

    @property
    def another(self) -> str:
        """`, of being one more random set 0.02`; empty for one set."""
        return "" if isnan(self.holm_another_p) else f", of being one more random set {self.holm_another_p:.2g}"

    @property
    def value(self) -> Estimate:
        """Of the skill neurons, the mean of the random sets as its chance."""
        gap, mean = self.difference, self.control.value
        return Estimate(mean + gap.value, mean + gap.low, mean + gap.high, mean, gap.n)

    @property
    def both_p(self) -> float:
        """The larger of `p_value` and `another_set_p`: off the average random set, and not just one more of them."""
        return float(np.nanmax([self.p_value, self.another_set_p]))


def corrected(found: Sequence[Contrast | None]) -> Iterator[Contrast | None]:
    """The contrasts of one family with their p-values corrected by Holm's method; None where there is none."""
    tested = [one for one in found if one is not None]
    first = holm([one.p_value for one in tested])
    # one random set alone has no spread, and so no second p
    second = holm([a.another_set_p for a in tested]) if all(a.sets > 1 for a in tested) else np.full(len(tested), nan)
    pairs = iter(zip(first.tolist(), second.tolist(), strict=True))
    for one in found:
        if one is None:
            yield None
        else:
            p, another = next(pairs)
            yield replace(one, holm_p=p, holm_another_p=another)


def share(correct: ArrayLike) -> Ranged:
    """Accuracy of correctness `[S, n]`, averaged over seeds, with the range of the seeds.

    The interval is Wilson's with the n rows, the seeds taken as given: an average over seeds varies less from row
    to row than one seed, so it is rather too wide than too narrow.
    """
    hits = np.asarray(correct, dtype=np.float64)
    # one division of a whole number: rounding cannot carry it past n
    seeds, rows = hits.mean(axis=1), wilson(float(hits.sum()) / len(hits), hits.shape[1])
    value = float(hits.mean())
    return Ranged(value, rows.low, rows.high, n=rows.n, lowest=float(seeds.min()), highest=float(seeds.max()))


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
    # a sum of many shares may miss 0 by rounding
    tail = min(int((drawn <= 1e-12).sum()), int((drawn >= -1e-12).sum()))
    ahead = (values - ours.mean()) * (1 if upward else -1) >= -1e-12
    return Contrast(
        control=mean_interval(values, within=bounds),
        difference=Estimate(difference, *central(drawn), 0.0, len(ours)),
        p_value=min(1.0, 2 * (1 + tail) / (resamples + 1)),
        another_set_p=_another_set(float(ours.mean()), values, _resolution(skill)),
        rank_p=float((1 + ahead.sum()) / (len(values) + 1)),
        rank_floor=1 / (len(values) + 1),
        sets=len(values),
    )


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
