"""Skill against random sets: by brute force, by scipy, and on sets of which it is known what they are."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from skillneurons.stats.control_sets import contrast, share
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
    assert found.p_value == pytest.approx(min(1, 2 * min((every <= 1e-9).mean(), (every >= -1e-9).mean())), abs=0.01)
    assert ends(found.difference) == pytest.approx(tuple(np.quantile(every, (0.025, 0.975))), abs=1e-9)


def test_the_interval_agrees_with_theory_where_theory_is_known():
    # identical sets vary not at all: what is left is the paired difference over rows
    skill, one = draws((1, 400), 0.6, 4), draws((1, 400), 0.7, 5)
    found = contrast(skill, np.stack([one] * 5), seed=6, resamples=20_000)
    paired = skill[0].astype(float) - one[0]
    half = 1.96 * paired.std() / np.sqrt(400)
    assert ends(found.difference) == pytest.approx((paired.mean() - half, paired.mean() + half), abs=0.004)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(paired.mean()) / (paired.std() / 20)), abs=0.006)


def test_one_more_set_is_a_t_test_of_a_single_value():
    skill, controls = draws((1, 60), 0.5, 7), draws((8, 1, 60), 0.6, 8)
    sets = controls.mean((1, 2))
    t = (skill.mean() - sets.mean()) / (sets.std(ddof=1) * np.sqrt(1 + 1 / 8))
    assert contrast(skill, controls).another_set_p == pytest.approx(2 * stats.t.sf(abs(t), 7))
    assert np.isnan(contrast(skill, controls[:1]).another_set_p)
    same = np.stack([skill] * 4)
    assert contrast(skill, same).another_set_p == 1
    # sets that answer alike lie apart by one answer at least: alike by chance is not alike in truth
    gap = abs((~skill).mean() - skill.mean()) / (1 / 60 * np.sqrt(1 + 1 / 4))
    assert contrast(~skill, same).another_set_p == pytest.approx(2 * stats.t.sf(gap, 3))


def test_a_rank_counts_the_side_on_which_an_effect_is_expected():
    rows = np.arange(20)
    skill, controls = rows[None] < 15, np.stack([rows[None] < k for k in (3, 12, 15, 16)])
    down, up = contrast(skill, controls), contrast(skill, controls, upward=True)
    assert (down.rank_p, up.rank_p) == (4 / 5, 3 / 5)
    assert contrast(rows[None] < 18, controls, upward=True).rank_p == 1 / 5
    assert contrast(rows[None] < 2, controls).rank_p == 1 / 5
    assert (down.difference.value, down.p_value) == (up.difference.value, up.p_value)
    assert down.both_p == max(down.p_value, down.another_set_p)
    alone = contrast(skill, controls[:1])
    assert alone.both_p == alone.p_value


def test_seed_decides_and_floors_hold():
    skill, controls = np.zeros((1, 30), dtype=bool), np.ones((4, 1, 30), dtype=bool)
    found = contrast(skill, controls, resamples=500)
    assert found.p_value == pytest.approx(2 / 501)
    assert ends(found.difference) == pytest.approx((-1, -1))
    skill, controls = draws((1, 30), 0.5, 1), draws((4, 1, 30), 0.6, 2)
    assert contrast(skill, controls, seed=1) == contrast(skill, controls, seed=1)
    assert ends(contrast(skill, controls, seed=1).difference) != ends(contrast(skill, controls, seed=2).difference)


def test_no_difference_at_all():
    skill = draws((2, 30), 0.5, 1)
    found = contrast(skill, np.stack([skill] * 3))
    assert (found.difference.value, found.difference.low, found.difference.high) == pytest.approx((0, 0, 0))
    assert found.p_value == 1
    assert found.rank_p == 1


def test_sets_that_differ_in_truth_fool_the_bootstrap_alone_and_not_both_tests():
    """A set like the others, where sets differ: it is off their mean, yet one of them."""
    rng, bootstrap, another = np.random.default_rng(9), [], []
    for _ in range(200):
        rates = rng.normal(0.75, 0.06, size=11)
        rows = rng.random(300)
        correct = (rows < rates[:, None])[:, None]  # rows hard for one are hard for all
        found = contrast(correct[0], correct[1:], seed=int(rng.integers(2**31)), resamples=400)
        bootstrap.append(found.p_value < 0.05)
        another.append(found.another_set_p < 0.05)
    assert np.mean(bootstrap) > 0.2, "so the finding may not rest on the bootstrap alone"
    assert np.mean(another) < 0.1
    print("share below 0.05: bootstrap", np.mean(bootstrap), "one more set", np.mean(another))
