from functools import cache
from math import comb
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import cochrans_q, mcnemar  # type: ignore[import-untyped]

from skillneurons.stats.mcnemar import McNemar, cochran, mcnemar_exact


def paired_rows(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [both, only_a, only_b, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


@cache
def compared(only_a: int, only_b: int, n: int) -> McNemar:
    return mcnemar_exact(*paired_rows(n - only_a - only_b, only_a, only_b, 0))


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (3, 3), (5, 0), (9, 2), (2, 9), (40, 61), (700, 610)])
def test_mcnemar_agrees_with_statsmodels_and_with_the_sum_by_hand(only_a: int, only_b: int) -> None:
    a, b = paired_rows(100, only_a, only_b, 7)
    result = mcnemar_exact(a, b)
    assert (result.only_a, result.only_b, result.n) == (only_a, only_b, 107 + only_a + only_b)
    assert result.difference == pytest.approx(a.mean() - b.mean())
    reference = mcnemar([[100, only_a], [only_b, 7]], exact=True).pvalue
    discordant = only_a + only_b
    by_hand = 2 * sum(comb(discordant, k) for k in range(min(only_a, only_b) + 1)) / 2**discordant
    assert result.p_value == pytest.approx(reference, rel=1e-9)
    assert result.p_value == pytest.approx(min(1, by_hand), rel=1e-9)


def test_without_discordant_pairs_p_is_one_and_the_interval_still_has_width() -> None:
    result = compared(0, 0, 100)
    z2 = stats.norm.ppf(0.975) ** 2
    assert (result.p_value, result.difference) == (1.0, 0.0)
    # the score test then keeps delta as long as n delta^2 <= z^2 delta (1 - delta)
    assert (result.low, result.high) == pytest.approx((-z2 / (100 + z2), z2 / (100 + z2)))


def test_swapping_the_classifiers_mirrors_the_interval() -> None:
    a, b = paired_rows(30, 9, 2, 9)
    there, back = mcnemar_exact(a, b), mcnemar_exact(b, a)
    assert there.p_value == back.p_value
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


def test_interval_of_the_published_example() -> None:
    # Airway data of Fagerland, Lydersen and Laake 2014 (cells 1, 1, 7, 12): Tango -0.517 to -0.026
    result = mcnemar_exact(*paired_rows(1, 1, 7, 12))
    assert (round(result.low, 3), round(result.high, 3)) == (-0.517, -0.026)


def likeliest_variance(only_a: int, only_b: int, n: int, delta: float) -> float:
    """n var(difference) at the constrained maximum of the likelihood, by search instead of formula."""
    share_b = np.linspace(max(0.0, -delta), (1 - delta) / 2, 2_000_001)[1:-1]
    share_a, rest = share_b + delta, 1 - 2 * share_b - delta
    likelihood = only_a * np.log(share_a) + only_b * np.log(share_b) + (n - only_a - only_b) * np.log(rest)
    best = share_b[likelihood.argmax()]
    return float(2 * best + delta - delta**2)


@pytest.mark.parametrize(("only_a", "only_b", "n"), [(12, 2, 50), (7, 30, 148), (4, 4, 20)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_interval_ends_are_just_kept_by_the_score_test(only_a: int, only_b: int, n: int, confidence: float) -> None:
    result = mcnemar_exact(*paired_rows(n - only_a - only_b, only_a, only_b, 0), confidence=confidence)
    for end in (result.low, result.high):
        variance = likeliest_variance(only_a, only_b, n, end) / n
        score = (result.difference - end) / np.sqrt(variance)
        assert abs(score) == pytest.approx(stats.norm.ppf((1 + confidence) / 2), rel=1e-4)


def test_interval_holds_the_difference_and_excludes_zero_just_when_the_score_test_rejects() -> None:
    z, n = stats.norm.ppf(0.975), 25
    for only_a in range(n + 1):
        for only_b in range(n + 1 - only_a):
            result = compared(only_a, only_b, n)
            assert -1 <= result.low <= result.difference <= result.high <= 1
            rejected = (only_a - only_b) ** 2 > z**2 * (only_a + only_b)
            assert (result.low > 0 or result.high < 0) == rejected


@pytest.mark.parametrize(("share_a", "share_b"), [(0.05, 0.05), (0.15, 0.05), (0.3, 0.1), (0.25, 0.25), (0.4, 0.02)])
def test_coverage_of_the_interval_summed_over_every_possible_table(share_a: float, share_b: float) -> None:
    n, covered, total = 60, 0.0, 0.0
    for only_a in range(n + 1):
        for only_b in range(n + 1 - only_a):
            result = compared(only_a, only_b, n)
            weight = stats.multinomial.pmf(
                [only_a, only_b, n - only_a - only_b], n, [share_a, share_b, 1 - share_a - share_b]
            )
            total += weight
            covered += weight * (result.low <= share_a - share_b <= result.high)
    assert total == pytest.approx(1)
    assert 0.94 <= covered <= 0.965


def test_coverage_in_simulated_pairs_of_correlated_classifiers() -> None:
    rng, n, runs = np.random.default_rng(0), 148, 4000
    ease = rng.random((runs, n))  # a row that is hard for one is hard for both
    a, b = ease + 0.3 * rng.random((runs, n)) > 0.30, ease + 0.3 * rng.random((runs, n)) > 0.38
    difference = (0.38 - 0.15) - (0.30 - 0.15)
    results = [mcnemar_exact(x, y) for x, y in zip(a, b, strict=True)]
    assert np.mean([r.difference for r in results]) == pytest.approx(difference, abs=0.002)
    assert np.mean([r.low <= difference <= r.high for r in results]) == pytest.approx(0.95, abs=0.011)


def test_the_exact_test_rejects_a_true_null_at_most_5_percent_of_the_time() -> None:
    for discordant in (6, 17, 60):
        p = [compared(k, discordant - k, 100).p_value for k in range(discordant + 1)]
        chance = stats.binom.pmf(range(discordant + 1), discordant, 0.5)
        assert 0 < chance[np.array(p) <= 0.05].sum() <= 0.05


@pytest.mark.parametrize(("a", "b"), [([True], [True, False]), ([], []), ([[True]], [[True]])])
def test_mcnemar_refuses_rows_that_do_not_pair(a: list[Any], b: list[Any]) -> None:
    with pytest.raises(ValueError, match="same rows in the same order"):
        mcnemar_exact(a, b)


def test_cochrans_q_is_statsmodels_and_of_two_prompts_mcnemars():
    rng = np.random.default_rng(0)
    correct = rng.random((4, 80)) < np.array([0.5, 0.6, 0.7, 0.75])[:, None]
    assert cochran(correct) == pytest.approx(cochrans_q(correct.T).pvalue)
    two = correct[[0, 3]]
    (a, b), (not_a, not_b) = two, ~two
    table = [[(a & b).sum(), (a & not_b).sum()], [(not_a & b).sum(), (not_a & not_b).sum()]]
    assert cochran(two) == pytest.approx(mcnemar(table, exact=False, correction=False).pvalue)
    assert cochran(np.stack([correct[0]] * 3)) == 1


def test_seeds_that_differ_by_rows_alone_are_called_different_as_often_as_the_level_says():
    rng, flagged = np.random.default_rng(1), 0
    for _ in range(400):
        level = rng.beta(4, 2, 200)  # rows of different difficulty, the same for all seeds
        flagged += cochran(rng.random((5, 200)) < level) <= 0.05
    assert flagged / 400 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
