import os
import subprocess
import sys
from itertools import pairwise
from math import log
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, f1_score  # type: ignore[import-untyped]
from statsmodels.stats.multitest import multipletests  # type: ignore[import-untyped]
from statsmodels.stats.proportion import proportion_confint  # type: ignore[import-untyped]

from conftest import ROOT
from skillneurons.stats.intervals import (
    Accuracy,
    Estimate,
    Ranged,
    accuracy,
    calibrate,
    holm,
    mean_interval,
    wilson,
)


def test_importing_the_modules_does_not_import_scipy() -> None:
    modules = "skillneurons.stats.intervals, skillneurons.stats.mcnemar"
    script = f"import sys, {modules}; print(*sorted(m for m in sys.modules if m == 'scipy'))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert done.stdout.strip() == ""


# Wilson


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (3, 7), (76, 148), (0, 400), (399, 400), (871, 872)])
def test_wilson_agrees_with_statsmodels(successes: int, n: int, confidence: float) -> None:
    interval = wilson(successes, n, confidence)
    low, high = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-12)


def test_wilson_ends_are_the_rates_whose_score_test_is_just_kept() -> None:
    interval, z = wilson(41, 60), stats.norm.ppf(0.975)
    for end in (interval.low, interval.high):
        assert abs(41 / 60 - end) == pytest.approx(z * np.sqrt(end * (1 - end) / 60), rel=1e-12)


def test_wilson_always_holds_the_rate_and_stays_within_0_and_1() -> None:
    for n in range(1, 120):
        for successes in range(n + 1):
            interval = wilson(successes, n)
            assert 0 <= interval.low <= successes / n <= interval.high <= 1
    assert (wilson(0, 9).low, wilson(9, 9).high) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"got {successes} of {n}"):
        wilson(successes, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_a_confidence_that_is_no_probability_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match=r"Use 0\.95 for 95%"):
        wilson(1, 2, confidence)


# Accuracy


@pytest.mark.parametrize(("n", "classes"), [(1, 2), (5, 3), (40, 2), (500, 5)])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.filterwarnings("ignore::UserWarning:sklearn")
def test_accuracy_agrees_with_sklearn_and_statsmodels(n: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, predictions = rng.integers(classes, size=(2, n))
    predictions = np.where(rng.random(n) < 0.6, labels, predictions)
    result = accuracy(labels, predictions, classes)
    hits = int((labels == predictions).sum())
    assert result.n == n
    assert result.value == pytest.approx(hits / n)
    assert (result.low, result.high) == pytest.approx(proportion_confint(hits, n, method="wilson"), abs=1e-12)
    assert result.majority == max((labels == c).mean() for c in range(classes))
    assert result.balanced == pytest.approx(balanced_accuracy_score(labels, predictions))
    assert result.macro_f1 == pytest.approx(f1_score(labels, predictions, average="macro", zero_division=0))
    assert result.collapsed == (len(set(predictions.tolist())) == 1)


def test_accuracy_by_hand() -> None:
    result = accuracy([0, 0, 0, 1, 1], [0, 0, 1, 1, 0], classes=4)
    assert result.value == pytest.approx(3 / 5)
    assert result.majority == pytest.approx(3 / 5)
    assert result.balanced == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert result.macro_f1 == pytest.approx((2 * 2 / 6 + 2 * 1 / 4) / 2)
    assert not result.collapsed


def test_absent_classes_leave_the_measures_alone_but_a_wrongly_predicted_one_counts_in_f1() -> None:
    labels, predictions = [0, 0, 1, 1], [0, 2, 1, 1]
    assert accuracy(labels, predictions, 3) == accuracy(labels, predictions, 9)
    assert accuracy(labels, predictions, 3).balanced == pytest.approx(3 / 4)
    assert accuracy(labels, predictions, 3).macro_f1 == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_a_collapsed_classifier_scores_the_majority_rate_and_is_not_above_it() -> None:
    result = accuracy([1] * 68 + [0] * 32, [1] * 100, 2)
    assert result.collapsed
    assert result.value == result.majority == 0.68
    assert result.balanced == 0.5
    assert not result.above_majority


def test_above_majority_needs_the_whole_interval() -> None:
    labels = np.array([0, 1] * 100)
    near, clear = labels.copy(), labels.copy()
    near[:88], clear[:80] = 1 - near[:88], 1 - clear[:80]
    assert accuracy(labels, near, 2).value > 0.5
    assert not accuracy(labels, near, 2).above_majority
    assert accuracy(labels, clear, 2).above_majority


def test_narrow_integer_types_do_not_overflow() -> None:
    labels = np.array([0, 120, 250], dtype=np.uint8)
    assert accuracy(labels, labels, 251).value == 1.0


def test_metrics_are_named_for_the_tracker() -> None:
    result = Accuracy(0.8, 0.7, 0.9, n=50, majority=0.6, balanced=0.75, macro_f1=0.74, collapsed=False)
    assert result.metrics("adversarial/sst2") == {
        "adversarial/sst2/accuracy": 0.8,
        "adversarial/sst2/accuracy_low": 0.7,
        "adversarial/sst2/accuracy_high": 0.9,
        "adversarial/sst2/majority": 0.6,
        "adversarial/sst2/balanced_accuracy": 0.75,
        "adversarial/sst2/macro_f1": 0.74,
        "adversarial/sst2/n": 50.0,
    }


@pytest.mark.parametrize(
    ("labels", "predictions", "complaint"),
    [
        ([], [], "same n >= 1"),
        ([0, 1], [0], "same n >= 1"),
        ([0, 2], [0, 1], r"integers in 0\.\.1"),
        ([0, 1], [0, -1], r"integers in 0\.\.1"),
        ([0.0, 1.0], [0, 1], r"integers in 0\.\.1"),
    ],
)
def test_accuracy_refuses_rows_that_cannot_be_scored(
    labels: list[Any], predictions: list[Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        accuracy(labels, predictions, 2)


# Holm


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.6, 0.5]) == pytest.approx([1, 1])
    assert holm([0.2]) == pytest.approx([0.2])


@pytest.mark.parametrize("seed", range(5))
def test_holm_agrees_with_statsmodels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = np.round(rng.random(23) ** 4, 2)  # rounding makes ties
    adjusted = holm(p)
    assert adjusted == pytest.approx(multipletests(p, method="holm")[1])
    assert all(x <= y for x, y in pairwise(adjusted[np.argsort(p)]))


def test_holm_leaves_its_input_alone_and_takes_none() -> None:
    p = np.array([0.03, 0.01])
    holm(p)
    assert p.tolist() == [0.03, 0.01]
    assert holm([]).shape == (0,)


@pytest.mark.parametrize("bad", [[0.1, float("nan")], [-0.1], [1.1], [[0.1]]])
def test_holm_refuses_what_is_no_p_value(bad: list[Any]) -> None:
    with pytest.raises(ValueError, match="p-values must be"):
        holm(bad)


# Mean over seeds


def numbers(found: Estimate) -> tuple[float, float, float]:
    return found.value, found.low, found.high


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_mean_interval_agrees_with_scipy_stats(confidence: float) -> None:
    values = [0.84, 0.86, 0.85, 0.91, 0.80]
    low, high = stats.t.interval(confidence, 4, loc=np.mean(values), scale=stats.sem(values))
    found = mean_interval(values, confidence)
    assert numbers(found) == pytest.approx((np.mean(values), low, high))
    assert (found.lowest, found.highest) == (0.80, 0.91)


def test_mean_interval_of_two_by_hand() -> None:
    # t with one degree of freedom is Cauchy: its 97.5% point is tan(0.475 pi); half = t * (0.1/sqrt 2)/sqrt 2
    half = np.tan(0.475 * np.pi) * 0.05
    assert numbers(mean_interval([0.8, 0.9])) == pytest.approx((0.85, 0.85 - half, 0.85 + half))


def test_mean_interval_ends_where_values_can_be() -> None:
    values = [1.0, 1.0, 0.7]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert high > 1
    assert numbers(mean_interval(values, within=(0, 1))) == pytest.approx((0.9, low, 1.0))
    assert numbers(mean_interval([0.0, 0.0, 0.3], within=(0, 1))) == pytest.approx((0.1, 0.0, 1 - low))
    assert all(np.isnan(numbers(mean_interval([0.85], within=(0, 1)))[1:]))


def test_a_single_seed_has_a_mean_but_no_interval() -> None:
    mean, low, high = numbers(mean_interval([0.85]))
    assert mean == 0.85
    assert np.isnan(low)
    assert np.isnan(high)


def test_no_seed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got shape \(0,\)"):
        mean_interval([])


# Calibration


def test_calibration_by_hand() -> None:
    # p(y|x) = (3/4, 1/4); the content-free inputs say (0.9, 0.1) and (0.7, 0.3), on average (0.8, 0.2)
    scores = [[log(3), 0.0]]
    content_free = [[log(9), 0.0], [log(7), log(3)]]
    calibrated = calibrate(scores, content_free)
    assert calibrated == pytest.approx(np.array([[log(0.75 / 0.8), log(0.25 / 0.2)]]))
    assert np.argmax(scores) == 0
    assert np.argmax(calibrated) == 1


def test_calibration_averages_probabilities_not_logits() -> None:
    content_free = np.array([[5.0, 0.0], [-1.0, 0.0]])
    probabilities = np.exp(content_free) / np.exp(content_free).sum(1, keepdims=True)
    expected = np.log([0.5, 0.5]) - np.log(probabilities.mean(0))
    assert calibrate([[0.0, 0.0]], content_free)[0] == pytest.approx(expected)
    assert calibrate([[0.0, 0.0]], content_free.mean(0, keepdims=True))[0] != pytest.approx(expected)


def test_calibration_ignores_a_constant_added_to_any_row_and_survives_large_logits() -> None:
    rng = np.random.default_rng(0)
    scores, content_free = rng.normal(size=(6, 3)), rng.normal(size=(4, 3))
    plain = calibrate(scores, content_free)
    shifted = calibrate(scores + 2000 * rng.normal(size=(6, 1)), content_free - 3000)
    assert plain.shape == (6, 3)
    assert shifted == pytest.approx(plain, abs=1e-9)


def test_an_input_like_the_content_free_one_is_left_undecided() -> None:
    assert calibrate([[2.0, -1.0, 0.5]], [[2.0, -1.0, 0.5]]) == pytest.approx(np.zeros((1, 3)), abs=1e-12)


@pytest.mark.parametrize(("scores", "content_free"), [((2, 2), (1, 3)), ((2, 2), (0, 2)), ((2,), (1, 2))])
def test_calibration_refuses_other_shapes(scores: tuple[int, ...], content_free: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="same label words"):
        calibrate(np.zeros(scores), np.zeros(content_free))


# One value with its uncertainty


def test_an_estimate_says_the_same_in_columns_words_and_a_cell() -> None:
    found = Estimate(0.7123, 0.66, 0.759, 0.5, 80)
    assert found.columns("accuracy") == {
        "accuracy": 0.7123,
        "accuracy_low": 0.66,
        "accuracy_high": 0.759,
        "accuracy_chance": 0.5,
    }
    assert found.ends("skill_accuracy", "skill") == {"skill_accuracy": 0.7123, "skill_low": 0.66, "skill_high": 0.759}
    assert (found.text, found.lines) == ("71.2% [66.0%, 75.9%]", "71.2%\n\\[66.0%, 75.9%]")
    assert Estimate(-0.032, -0.054, -0.01).points == "-3.2 points [-5.4, -1.0]"
    assert (found.beyond, Estimate(0.5, 0.4, 0.6, 0.5).beyond, Estimate(0.5, 0.4, 0.6).beyond) == (True, False, False)
    assert found.half == pytest.approx(0.0495)


def test_a_mean_with_its_range_can_stand_for_its_interval() -> None:
    found = Ranged(0.5, 0.3, 0.7, lowest=0.2, highest=0.9)
    assert set(found.columns("x")) == {"x", "x_low", "x_high", "x_lowest", "x_highest"}
    assert numbers(found.range) == (0.5, 0.2, 0.9)
    assert numbers(found.within(0.4, 0.6)) == (0.5, 0.4, 0.6)
    assert np.isnan(Estimate(0.5, np.nan, np.nan).within(0, 1).low)
