"""Two classifiers on the same rows: McNemar's exact test, and Tango's interval of the difference.

scipy.special is imported where it is used, so that importing this module stays cheap.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike

from skillneurons.stats.intervals import Estimate, normal_quantile, require_paired

# Halvings of an interval of at most 2: the edge is then exact to the last bit.
_HALVINGS = 60


@dataclass(frozen=True)
class McNemar:
    """Two classifiers a and b on the same rows.

    Attributes:
        only_a: rows that only a has right.
        only_b: rows that only b has right.
        n: all rows.
        p_value: exact two-sided p of equal accuracies.
        difference: accuracy of a minus accuracy of b.
        low: lower end of the difference's interval.
        high: upper end of the difference's interval.
    """

    only_a: int
    only_b: int
    n: int
    p_value: float
    difference: float
    low: float
    high: float

    @property
    def gap(self) -> Estimate:
        """The difference with its interval."""
        return Estimate(self.difference, self.low, self.high, 0.0, self.n)


def mcnemar_exact(a_correct: ArrayLike, b_correct: ArrayLike, confidence: float = 0.95) -> McNemar:
    """McNemar's exact test of two classifiers on the same rows, and the difference's interval.

    The p-value is the two-sided binomial (1/2) tail of the discordant pairs, 1 when there are none.
    The interval is Tango's score interval (Statistics in Medicine 17, 1998, 891-908). It inverts the
    asymptotic McNemar test, so near the 5% line it may exclude 0 where the exact p is just above 0.05;
    it keeps a sensible width when no pair is discordant.

    Args:
        a_correct: whether a is right [n], booleans.
        b_correct: whether b is right on the same rows [n].
        confidence: of the interval.

    Raises:
        ValueError: no row, or unequal lengths.
    """
    from scipy.special import bdtr

    a, b = np.asarray(a_correct, dtype=bool), np.asarray(b_correct, dtype=bool)
    require_paired(a, b)
    only_a, only_b, n = int((a & ~b).sum()), int((b & ~a).sum()), len(a)
    tail = float(bdtr(min(only_a, only_b), only_a + only_b, 0.5))
    interval = tango(only_a / n, only_b / n, n, confidence)
    return McNemar(only_a, only_b, n, min(1.0, 2 * tail), (only_a - only_b) / n, interval.low, interval.high)


def cochran(correct: ArrayLike) -> float:
    """P of several classifiers being right equally often on the same rows (Cochran 1950, Biometrika 37).

    Chi-squared with S - 1 degrees of freedom. Rows on which all agree say nothing; where all are such p is 1.

    Args:
        correct: `[S, n]`, S >= 2.
    """
    from scipy.special import chdtrc

    x = np.asarray(correct, dtype=np.float64)
    seeds, columns, rows = len(x), x.sum(axis=1), x.sum(axis=0)
    apart = float((rows * (seeds - rows)).sum())
    if not apart:
        return 1.0
    q = (seeds - 1) * (seeds * float((columns**2).sum()) - float(columns.sum()) ** 2) / apart
    return float(chdtrc(seeds - 1, q))


def tango(only_a: float, only_b: float, n: int, confidence: float = 0.95) -> Estimate:
    """The difference a - b, and all that Tango's score test keeps (Statistics in Medicine 17, 1998, 891-908).

    Args:
        only_a: share of the n pairs that only a has right; a mean over seeds may be no whole number of pairs.
        only_b: that only b has right.
        n: pairs.
        confidence: of the interval.
    """
    difference, z = only_a - only_b, normal_quantile(confidence)

    def kept(delta: float) -> bool:
        # q: the likeliest share of "only b" if the difference were delta, the larger root of
        # 2q^2 + linear q - only_b delta (1 - delta) = 0
        linear = (2 - difference) * delta - only_a - only_b
        root = max(0.0, linear * linear + 8 * only_b * delta * (1 - delta))
        q = (sqrt(root) - linear) / 4
        return (difference - delta) ** 2 <= z * z * (2 * q + delta * (1 - delta)) / n

    return Estimate(difference, _edge(difference, -1.0, kept), _edge(difference, 1.0, kept), 0.0, n)


def _edge(inside: float, outside: float, kept: Callable[[float], bool]) -> float:
    """The last kept value on the way from inside to outside."""
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if kept(middle):
            inside = middle
        else:
            outside = middle
    return inside
