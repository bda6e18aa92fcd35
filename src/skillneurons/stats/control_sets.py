"""Does suppressing skill neurons cost more than suppressing random ones (method.md §5)?

Shapes: n rows, S seeds, K random sets.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, nan

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skillneurons.stats.cluster_bootstrap import RESAMPLES, Clusters, central
from skillneurons.stats.intervals import SIGNIFICANT, Estimate, Ranged, holm, mean_interval, passes, wilson

_ROUNDING = 1e-12


@dataclass(frozen=True)
class Contrast:
    """Accuracy with skill neurons suppressed against accuracy with random sets of the same sizes suppressed.

    Attributes:
        control: mean over the K sets, seeds averaged, with Student's interval over sets (NaN for one set).
        difference: skill minus the mean of the controls, with its bootstrap interval over rows and sets.
        rank_p: (1 + sets that cost as much or more, or with `upward` gain as much or more) / (K + 1): the exact
            one-sided test of being one more random set, however the sets are spread. No tail is extrapolated from
            them: where one set in ten holds a neuron that breaks the model, that would be wrong.
        sets: K, how many were read.
        planned: how many would have been read had the test not been stopped.
        holm_p: `rank_p` as `corrected` gives it; NaN before.
    """

    control: Ranged
    difference: Estimate
    rank_p: float
    sets: int
    planned: int
    holm_p: float = nan

    @property
    def rank_floor(self) -> float:
        """What `rank_p` could not have gone below."""
        return 1 / (self.planned + 1)

    @property
    def significant(self) -> bool:
        """Whether it is beyond what random sets do, once corrected."""
        return passes(self.holm_p)

    @property
    def value(self) -> Estimate:
        """Of the skill neurons, the mean of the random sets as its chance."""
        gap, mean = self.difference, self.control.value
        return Estimate(mean + gap.value, mean + gap.low, mean + gap.high, mean, gap.n)

    @property
    def told(self) -> str:
        """`with random sets 71.0% (lowest 68.1%, highest 73.2% of 59), -3.1 points [-5.0, -1.2], rank p 0.017`."""
        c = self.control
        return (
            f"with random sets {c.value:.1%} (lowest {c.lowest:.1%}, highest {c.highest:.1%} of {self.sets}), "
            f"{self.difference.points}, rank p {self.rank_p:.2g} (Holm {self.holm_p:.2g})"
        )


def corrected(found: Sequence[Contrast | None]) -> Iterator[Contrast | None]:
    """The contrasts of one family with their p-values corrected by Holm's method; None where there is none."""
    adjusted = iter(holm([one.rank_p for one in found if one is not None]).tolist())
    for one in found:
        yield None if one is None else replace(one, holm_p=next(adjusted))


def least_sets(tests: int) -> int:
    """K, the fewest random sets whose rank test can be significant by Holm's method over so many tests."""
    return ceil(tests / SIGNIFICANT - _ROUNDING) - 1


def undecided(skill: float, controls: ArrayLike, planned: int, upward: bool = False) -> bool:
    """Whether the rank test could still be significant if all sets to come did less than the skill neurons.

    Where it could not, no more sets need be read. A test that is stopped so is never significant, so that
    stopping adds no error. Sets too few for any test are all read: they are asked for to be looked at.

    Args:
        skill: the mean with skill neurons suppressed.
        controls: with the random sets read so far `[k]`.
        planned: K.
        upward: as in `contrast`.
    """
    values = np.asarray(controls, dtype=np.float64)
    open_to_test = passes((1 + _ahead(skill, values, upward)) / (planned + 1)) or planned < least_sets(1)
    return len(values) < planned and open_to_test


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
    planned: int = 0,
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
        planned: sets that would have been read had the test not been stopped; 0: K.
    """
    ours = np.asarray(skill, dtype=np.float64).mean(axis=0)
    theirs = np.asarray(controls, dtype=np.float64).mean(axis=1)
    values, sets = theirs.mean(axis=1), len(theirs)
    rows = clusters or Clusters.single(len(ours))
    drawn = np.concatenate(list(_bootstrap(ours, theirs, rows, seed, resamples)))
    return Contrast(
        control=mean_interval(values, within=bounds),
        difference=Estimate(float(ours.mean() - values.mean()), *central(drawn), 0.0, len(ours)),
        rank_p=(1 + _ahead(float(ours.mean()), values, upward)) / (sets + 1),
        sets=sets,
        planned=planned or sets,
    )


def _bootstrap(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], rows: Clusters, seed: int, resamples: int
) -> Iterator[NDArray[np.float64]]:
    """Differences of resamples: how often each row and each set is drawn."""
    rng, sets = np.random.default_rng([seed, 1]), len(theirs)
    for of_rows in rows.weights(seed, resamples):
        of_sets = rng.multinomial(sets, np.full(sets, 1 / sets), size=len(of_rows)) / sets
        yield of_rows @ ours - ((of_rows @ theirs.T) * of_sets).sum(axis=1)


def _ahead(skill: float, sets: NDArray[np.float64], upward: bool) -> int:
    """Sets that do as much or more; equal within rounding counts as equal."""
    return int(((sets - skill) * (1 if upward else -1) >= -_ROUNDING).sum())
