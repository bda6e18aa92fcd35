"""Numbers that travel with every accuracy: intervals, corrections, calibration.

Shapes: `n` rows, `C` classes, `k` content-free inputs. Rates and p-values are fractions in [0, 1].
scipy.special is imported where it is used, so that importing this module stays cheap.
"""

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from math import inf, nan, sqrt
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval, and what is needed to judge it.

    Attributes:
        value: the number.
        low, high: ends of the interval, included; NaN where nothing is known of the spread.
        chance: what chance would give; None where the number has none of its own.
        n: rows it is of; 0 where it is not of rows.
    """

    value: float
    low: float
    high: float
    chance: float | None = None
    n: int = 0

    @property
    def beyond(self) -> bool:
        """Whether chance lies outside the interval; of an unknown one it does not."""
        return self.chance is not None and (self.low > self.chance or self.chance > self.high)

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    @property
    def text(self) -> str:
        """`71.2% [66.0%, 75.9%]`."""
        return f"{self.value:.1%} [{self.low:.1%}, {self.high:.1%}]"

    @property
    def lines(self) -> str:
        """The same on two lines, for a cell of rich's tables."""
        return self.text.replace(" [", "\n\\[")

    @property
    def points(self) -> str:
        """Of a difference: `+3.2 points [+1.0, +5.4]`."""
        value, low, high = (round(100 * x, 1) + 0.0 for x in (self.value, self.low, self.high))  # no -0.0
        return f"{value:+.1f} points [{low:+.1f}, {high:+.1f}]"

    def ends(self, name: str, stem: str = "") -> dict[str, float]:
        """`name`, `<stem>_low`, `<stem>_high`; the stem is the name by itself."""
        return {name: self.value, f"{stem or name}_low": self.low, f"{stem or name}_high": self.high}

    def columns(self, name: str, stem: str = "") -> dict[str, float]:
        """All of a table's: the ends, and `<stem>_chance` where there is one."""
        found = self.ends(name, stem)
        return found if self.chance is None else {**found, f"{stem or name}_chance": self.chance}

    def within(self, lowest: float, highest: float) -> Self:
        """With the ends cut at what the value can be at all."""
        low, high = np.clip((self.low, self.high), lowest, highest).tolist()
        return replace(self, low=low, high=high)


@dataclass(frozen=True)
class Ranged(Estimate):
    """A mean over seeds, sets or draws, with the lowest and the highest of them."""

    lowest: float = nan
    highest: float = nan

    @property
    def range(self) -> Estimate:
        """The lowest and the highest in place of the interval."""
        return Estimate(self.value, self.lowest, self.highest, self.chance, self.n)

    def columns(self, name: str, stem: str = "") -> dict[str, float]:
        """Those of the estimate, with `<stem>_lowest` and `<stem>_highest`."""
        return super().columns(name, stem) | {
            f"{stem or name}_lowest": self.lowest,
            f"{stem or name}_highest": self.highest,
        }


def exact(value: float) -> Estimate:
    """A value that has no spread."""
    return Estimate(value, value, value)


def unknown(value: float = nan, chance: float | None = None) -> Estimate:
    """A value of whose spread nothing is known."""
    return Estimate(value, nan, nan, chance)


@dataclass(frozen=True)
class Accuracy(Estimate):
    """A share of correct predictions with its Wilson interval and what is needed to judge it, as fractions.

    Attributes:
        majority: share of the most frequent label among these rows.
        balanced: balanced accuracy, the mean recall over the classes present in the labels.
        macro_f1: mean F1 over the classes present in the labels or the predictions.
        collapsed: whether all predictions are one class.
    """

    _: KW_ONLY
    majority: float
    balanced: float
    macro_f1: float
    collapsed: bool

    @property
    def above_majority(self) -> bool:
        """Whether the whole interval lies above the majority rate."""
        return self.low > self.majority

    def metrics(self, prefix: str) -> dict[str, float]:
        """The metrics `<prefix>/accuracy`, `…_low`, `…_high`, `<prefix>/majority` and the others."""
        named = {
            **self.columns("accuracy"),
            "majority": self.majority,
            "balanced_accuracy": self.balanced,
            "macro_f1": self.macro_f1,
            "n": float(self.n),
        }
        return {f"{prefix}/{name}": value for name, value in named.items()}


def accuracy(labels: ArrayLike, predictions: ArrayLike, classes: int, confidence: float = 0.95) -> Accuracy:
    """Accuracy with its Wilson interval, the majority rate and two class-balanced measures.

    Args:
        labels: true classes [n], integers in 0..classes-1.
        predictions: predicted classes [n], likewise.
        classes: C, the classes of the task.
        confidence: of the interval.

    Raises:
        ValueError: no row, unequal lengths, or a class that the task does not have.
    """
    table = _confusion(labels, predictions, classes)
    n, hits = int(table.sum()), np.diagonal(table)
    true, predicted = table.sum(1), table.sum(0)
    share = wilson(int(hits.sum()), n, confidence)
    present, seen = true > 0, true + predicted > 0
    return Accuracy(
        value=share.value,
        low=share.low,
        high=share.high,
        n=n,
        majority=float(true.max() / n),
        balanced=float((hits[present] / true[present]).mean()),
        macro_f1=float((2 * hits[seen] / (true + predicted)[seen]).mean()),
        collapsed=int(np.count_nonzero(predicted)) == 1,
    )


def wilson(successes: float, n: float, confidence: float = 0.95, quantile: float | None = None) -> Estimate:
    """A proportion with Wilson's score interval, without continuity correction (Wilson 1927).

    A mean over seeds has a fractional number of successes, and rows that go together a fractional n.

    Args:
        successes: right rows.
        n: rows.
        confidence: of the interval.
        quantile: in place of the normal one of that confidence.

    Raises:
        ValueError: unless 0 <= successes <= n and n > 0.
    """
    if not 0 <= successes <= n or n <= 0:
        raise ValueError(
            f"an interval needs 0 <= successes <= n and n > 0; got {successes} of {n}. "
            "Pass counts of a non-empty set."
        )
    z, rate = quantile or normal_quantile(confidence), successes / n
    centre = rate + z * z / (2 * n)
    half = z * sqrt(rate * (1 - rate) / n + (z / (2 * n)) ** 2)
    scale = 1 + z * z / n
    # At 0 and n successes the end is exactly 0 or 1; rounding must not move it past the rate.
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == n else (centre + half) / scale
    return Estimate(rate, low, high, n=round(n))


def passes(p_value: float) -> bool:
    """Whether a p-value is significant: at most SIGNIFICANT, up to rounding; NaN is not."""
    return p_value <= SIGNIFICANT + 1e-12


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down adjusted p-values (Holm 1979), in the order given.

    Args:
        p_values: [m], each in [0, 1].

    Returns:
        [m], monotone in the p-values and at most 1.

    Raises:
        ValueError: a value that is no p-value, NaN included.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values must be one row of numbers in [0, 1]; got {p}. Drop missing tests first.")
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def mean_interval(
    values: ArrayLike, confidence: float = 0.95, *, within: tuple[float, float] = (-inf, inf)
) -> Ranged:
    """Mean over seeds, sets or draws with Student's t interval (S - 1 degrees of freedom).

    One value says nothing about the spread: its interval is (NaN, NaN).

    Args:
        values: [S], one number a seed.
        confidence: of the interval.
        within: what a value can be at all, e.g. (0, 1) of an accuracy; the interval ends there.

    Raises:
        ValueError: no value.
    """
    from scipy.special import stdtrit

    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) == 0:
        raise ValueError(f"a mean needs a row of values; got shape {x.shape}. Pass one number a seed.")
    mean, half = float(x.mean()), nan
    if len(x) > 1:
        half = float(stdtrit(len(x) - 1, _upper(confidence))) * float(x.std(ddof=1)) / sqrt(len(x))
    ends = mean - half, mean + half
    return Ranged(mean, *ends, lowest=float(x.min()), highest=float(x.max())).within(*within)


def jackknife(seeds: int, statistic: Callable[[Sequence[int]], float], confidence: float = 0.95) -> Estimate:
    """A statistic of seeds with Student's t interval by leaving each out in turn; NaN below three seeds."""
    from scipy.special import stdtrit

    whole = statistic(range(seeds))
    if seeds < 3:
        return unknown(whole)
    left = np.array([statistic([s for s in range(seeds) if s != out]) for out in range(seeds)])
    spread = float(np.sqrt((seeds - 1) / seeds * ((left - left.mean()) ** 2).sum()))
    half = float(stdtrit(seeds - 1, (1 + confidence) / 2)) * spread
    return Estimate(whole, whole - half, whole + half)


def calibrate(scores: ArrayLike, content_free: ArrayLike) -> NDArray[np.float64]:
    """Label scores with the model's bias at content-free inputs divided out.

    Contextual calibration (Zhao et al. 2021, arXiv 2102.09690): log p(y|x) - log mean_k p(y|cf_k),
    with p the softmax over the label words. The argmax is the calibrated prediction.

    Args:
        scores: label-word logits [n, C].
        content_free: label-word logits [k, C] at content-free inputs such as "N/A", k >= 1.

    Returns:
        Calibrated scores [n, C], in nats; not normalised.

    Raises:
        ValueError: other shapes.
    """
    from scipy.special import log_softmax, logsumexp

    x, free = np.asarray(scores, dtype=np.float64), np.asarray(content_free, dtype=np.float64)
    if x.ndim != 2 or free.ndim != 2 or x.shape[1] != free.shape[1] or len(free) == 0:
        raise ValueError(
            f"calibration needs logits [n, C] and [k, C] with k >= 1; got {x.shape} and {free.shape}. "
            "Score the same label words on both."
        )
    prior = logsumexp(log_softmax(free, axis=1), axis=0) - np.log(len(free))
    return np.asarray(log_softmax(x, axis=1) - prior, dtype=np.float64)


def normal_quantile(confidence: float) -> float:
    """How many standard deviations hold this share of a normal distribution's middle."""
    from scipy.special import ndtri

    return float(ndtri(_upper(confidence)))


def require_paired(a: NDArray[Any], b: NDArray[Any]) -> None:
    """Raise ValueError unless a and b are one row of the same n >= 1 values."""
    if a.ndim != 1 or a.shape != b.shape or len(a) == 0:
        raise ValueError(
            f"both must be one row of the same n >= 1 values; got shapes {a.shape} and {b.shape}. "
            "Score the same rows in the same order."
        )


def _upper(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1; got {confidence}. Use 0.95 for 95%.")
    return (1 + confidence) / 2


def _confusion(labels: ArrayLike, predictions: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Counts [C, C]: rows are labels, columns are predictions."""
    y, guess = np.asarray(labels), np.asarray(predictions)
    require_paired(y, guess)
    both = np.concatenate([y, guess])
    if both.dtype.kind not in "iu" or both.min() < 0 or both.max() >= classes:
        raise ValueError(
            f"labels and predictions must be integers in 0..{classes - 1}; got {np.unique(both)[:12]}. "
            "Map them to the task's classes."
        )
    cells = y.astype(np.int64) * classes + guess.astype(np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.int64)
