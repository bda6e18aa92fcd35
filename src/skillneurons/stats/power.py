"""The smallest effect that a study of this size sees with 80%, before anything is read.

What is not known beforehand is assumed and said: between two sets of neurons, or two prompts, answers change in
CHANGED of the rows, and sets or prompts differ by the standard deviations SPREADS.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from skillneurons.stats.intervals import SIGNIFICANT

POWER, CHANGED = 0.8, 0.1
SPREADS = (0.01, 0.03)  # of random sets
PROMPT_SPREADS = (0.02, 0.05)  # of prompts, tuned and random
LARGEST, STUDIES = 1.0, 4_000


def rank_power(effect: float, deviation: float, sets: int, tests: int) -> float:
    """How often skill neurons are beyond enough of K random sets for the rank test, at Holm's first step.

    The sets ahead of a skill value z are Binomial(K, Phi(z - effect / deviation)); the mean over a normal z by
    Gauss-Hermite quadrature.

    Args:
        effect: mean difference between skill neurons and random sets.
        deviation: standard deviation of one set's value, that of the skill neurons too.
        sets: K.
        tests: how many are corrected together.
    """
    from scipy.special import bdtr, ndtr

    allowed = int(SIGNIFICANT / tests * (sets + 1) + 1e-9) - 1  # sets that may be ahead
    if allowed < 0:
        return 0.0
    places, weights = np.polynomial.hermite_e.hermegauss(99)
    ahead = bdtr(float(allowed), sets, ndtr(places - effect / deviation))
    return float(np.dot(weights, ahead) / weights.sum())


def smallest_by_rank(rows: int, sets: int, tests: int, spread: float) -> float:
    """The difference of accuracies that suppression sees with 80%; infinite where no test can be significant.

    Args:
        rows: n.
        sets: K, random sets a rate.
        tests: rates, or directions.
        spread: standard deviation of random sets' true accuracies.
    """
    deviation = float(np.hypot(spread, np.sqrt(CHANGED / rows)))
    return _smallest(lambda effect: rank_power(effect, deviation, sets, tests))


def welch_power(effect: float, variances: NDArray[np.float64], freedom: NDArray[np.float64], tests: int) -> float:
    """Of Welch's t-test, two-sided, at Holm's first step; simulated, for the variances are estimated too."""
    from scipy.special import stdtr

    rng = np.random.default_rng(0)
    estimated = variances * rng.chisquare(freedom, (STUDIES, len(freedom))) / freedom
    found = effect + rng.standard_normal(STUDIES) * np.sqrt(variances.sum())
    total = estimated.sum(axis=1)
    df = total**2 / (estimated**2 / freedom).sum(axis=1)
    return float((stdtr(df, -found / np.sqrt(total)) <= SIGNIFICANT / (2 * tests)).mean())


def smallest_by_welch(rows: int, sources: int, seeds: int, draws: int, tests: int, spread: float) -> float:
    """The difference of accuracies that a pair of families shows with 80%; infinite with one prompt a task.

    Args:
        rows: n, of all targets.
        sources: tasks whose prompts are read.
        seeds: S, prompts a task.
        draws: K, random prompts.
        tests: pairs of families.
        spread: standard deviation of prompts' true accuracies.
    """
    if seeds < 2:
        return float("inf")
    variances = np.array([CHANGED / rows, spread**2 / draws, *[spread**2 / (sources**2 * seeds)] * sources])
    freedom = np.array([rows - 1, draws - 1, *[seeds - 1] * sources], dtype=np.float64)
    return _smallest(lambda effect: welch_power(effect, variances, freedom, tests))


def told(smallest: Callable[[float], float], spreads: tuple[float, float], of: str, study: str) -> str:
    """`80% power for differences of 2.9 points (random sets' sd 1) to 7.5 points (sd 3); n=400 rows, K=59`."""
    low, high = (smallest(spread) for spread in spreads)
    if not np.isfinite(high):
        return f"no difference could be shown: too few for a test; {study}"
    first, second = (f"{100 * one:.1f} points" for one in (low, high))
    return (
        f"80% power for differences of {first} ({of} differ by an sd of {100 * spreads[0]:g}) to {second} "
        f"(of {100 * spreads[1]:g}); {study}; {CHANGED:.0%} of the answers taken to change"
    )


def _smallest(power: Callable[[float], float]) -> float:
    """By bisection; infinite where not even all would be seen."""
    if power(LARGEST) < POWER:
        return float("inf")
    low, high = 0.0, LARGEST
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high
