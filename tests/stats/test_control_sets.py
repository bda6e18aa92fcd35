"""Skill against random sets: by brute force, by scipy, and on sets of which it is known what they are."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from skillneurons.stats.control_sets import contrast, corrected, least_sets, share, undecided
from skillneurons.stats.intervals import wilson


def draws(shape, rate, seed):
    return np.random.default_rng(seed).random(shape) < rate


def ends(found):
    return found.low, found.high


def test_an_accuracy_over_seeds_has_its_rows_interval():
    correct = draws((3, 40), 0.7, 0)
    found = share(correct)
    assert found.value == pytest.approx(correct.mean())
    expected = stats.binomtest(round(correct[0].sum()), 40).proportion_ci(method="wilson")
    one = share(correct[:1])
    assert (one.low, one.high) == pytest.approx((expected.low, expected.high))
    assert (found.low, found.high) == pytest.approx(ends(wilson(correct.sum() / 3, 40)))
    assert (found.lowest, found.highest) == pytest.approx((correct.mean(1).min(), correct.mean(1).max()))
    perfect = share(np.ones((3, 7), dtype=bool))
    assert perfect.high == 1
    assert perfect.low < 0.8


def test_difference_and_controls_are_plain_means():
    skill, controls = draws((2, 50), 0.5, 1), draws((6, 2, 50), 0.8, 2)
    found = contrast(skill, controls, seed=3)
    sets = controls.mean((1, 2))
    assert found.difference.value == pytest.approx(skill.mean() - controls.mean())
    assert found.control.value == pytest.approx(sets.mean())
    t = stats.t.interval(0.95, 5, sets.mean(), stats.sem(sets))
    assert ends(found.control) == pytest.approx(t)
    assert (found.control.lowest, found.control.highest, found.sets) == (sets.min(), sets.max(), 6)
    assert found.rank_floor == pytest.approx(1 / 7)
    assert found.rank_p == pytest.approx(1 / 7)


def test_the_bootstrap_is_the_whole_bootstrap_distribution_in_a_small_case():
    skill = np.array([[1, 0, 0]])
    controls = np.array([[[1, 1, 0]], [[1, 1, 1]]])
    every = []
    for rows in product(range(3), repeat=3):
        for sets in product(range(2), repeat=2):
            theirs = np.mean([controls[k, 0, list(rows)].mean() for k in sets])
            every.append(skill[0, list(rows)].mean() - theirs)
    every = np.array(every)
    found = contrast(skill, controls, seed=0, resamples=40_000)
    assert ends(found.difference) == pytest.approx(tuple(np.quantile(every, (0.025, 0.975))), abs=1e-9)


def test_the_interval_agrees_with_theory_where_theory_is_known():
    # identical sets vary not at all: what is left is the paired difference over rows
    skill, one = draws((1, 400), 0.6, 4), draws((1, 400), 0.7, 5)
    found = contrast(skill, np.stack([one] * 5), seed=6, resamples=20_000)
    paired = skill[0].astype(float) - one[0]
    half = 1.96 * paired.std() / np.sqrt(400)
    assert ends(found.difference) == pytest.approx((paired.mean() - half, paired.mean() + half), abs=0.004)


def test_a_rank_counts_the_side_on_which_an_effect_is_expected():
    rows = np.arange(20)
    skill, controls = rows[None] < 15, np.stack([rows[None] < k for k in (3, 12, 15, 16)])
    down, up = contrast(skill, controls), contrast(skill, controls, upward=True)
    assert (down.rank_p, up.rank_p) == (4 / 5, 3 / 5)
    assert contrast(rows[None] < 18, controls, upward=True).rank_p == 1 / 5
    assert contrast(rows[None] < 2, controls).rank_p == 1 / 5
    assert down.difference == up.difference
    assert contrast(skill, controls, planned=59).rank_floor == 1 / 60


def test_seed_decides_and_floors_hold():
    skill, controls = np.zeros((1, 30), dtype=bool), np.ones((4, 1, 30), dtype=bool)
    found = contrast(skill, controls, resamples=500)
    assert ends(found.difference) == pytest.approx((-1, -1))
    skill, controls = draws((1, 30), 0.5, 1), draws((4, 1, 30), 0.6, 2)
    assert contrast(skill, controls, seed=1) == contrast(skill, controls, seed=1)
    assert ends(contrast(skill, controls, seed=1).difference) != ends(contrast(skill, controls, seed=2).difference)


def test_no_difference_at_all():
    skill = draws((2, 30), 0.5, 1)
    found = contrast(skill, np.stack([skill] * 3))
    assert (found.difference.value, found.difference.low, found.difference.high) == pytest.approx((0, 0, 0))
    assert found.rank_p == 1


def test_the_fewest_sets_that_a_rank_test_over_several_rates_needs():
    assert [least_sets(tests) for tests in (1, 2, 3, 8, 12)] == [19, 39, 59, 159, 239]
    rows = np.arange(40)
    best = [contrast(rows[None] < 2, np.repeat(rows[None, None] < 30, k, axis=0)) for k in (58, 59)]
    for one, enough in zip(best, (False, True), strict=True):
        family = list(corrected([one, None, one, one]))
        assert family[1] is None
        assert family[0].holm_p == pytest.approx(3 * one.rank_p)
        assert family[0].significant is enough


def test_a_test_is_stopped_where_it_is_lost():
    """With 59 sets and 5%, two sets may do as much; the third ends it."""
    assert undecided(0.5, [], 59)
    assert undecided(0.5, [0.4, 0.5, 0.9], 59)
    assert not undecided(0.5, [0.4, 0.5, 0.5, 0.9], 59)
    assert undecided(0.5, [0.4, 0.5, 0.9, 0.9], 59, upward=False)
    assert not undecided(0.5, [0.4, 0.5, 0.9, 0.9, 0.9], 59, upward=True)
    assert not undecided(0.5, [0.9] * 59, 59), "all were read"
    assert undecided(0.5, [0.4, 0.4], 3), "too few for any test are read to be looked at"


@pytest.mark.parametrize("heavy", [False, True])
def test_a_set_like_the_others_passes_as_often_as_the_level_says(heavy):
    """Sets that differ in truth; with `heavy` one in twelve holds a neuron that breaks the model."""
    rng, passed, repetitions = np.random.default_rng(9), 0, 400
    for _ in range(repetitions):
        rates = rng.normal(0.75, 0.03, size=20)
        if heavy:
            rates -= 0.15 * (rng.random(20) < 1 / 12)
        correct = (rng.random(100) < rates[:, None])[:, None]  # rows hard for one are hard for all
        passed += next(corrected([contrast(correct[0], correct[1:], resamples=10)])).significant
    assert passed / repetitions < 0.05 + 3 * np.sqrt(0.05 * 0.95 / repetitions)
