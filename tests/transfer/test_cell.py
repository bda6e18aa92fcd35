"""A cell of the transfer matrix: by scipy, by hand, and on prompts of which it is known what they are."""

import numpy as np
import pytest
from scipy import stats

from skillneurons.stats.control_sets import share
from skillneurons.stats.skill_test import Skill
from skillneurons.transfer.cell import Block, against, beyond_random, cell, relative, same_seeds


def draws(shape, rate, seed):
    return np.random.default_rng(seed).random(shape) < rate


def test_a_difference_of_prompts_alone_is_welchs_test():
    # every row alike within a prompt: rows add no variance
    ours, theirs = (
        np.repeat(np.array(v)[:, None], 50, axis=1) for v in ([0.8, 0.7, 0.9], [0.5, 0.6, 0.4, 0.55, 0.3])
    )
    found = against(ours, theirs)
    expected = stats.ttest_ind(ours[:, 0], theirs[:, 0], equal_var=False)
    assert found.value == pytest.approx(0.8 - 0.47)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_one_prompt_is_not_tested():
    found = against(np.full((1, 50), 0.9), draws((5, 50), 0.5, 0))
    assert found.value == pytest.approx(0.9 - draws((5, 50), 0.5, 0).mean())
    assert np.isnan([found.low, found.high, found.p_value]).all()


def test_several_cells_are_weighed_and_their_variances_added_by_hand():
    """Two sources on two targets; the random prompts are the same for all."""
    sizes, rng = {"t": 40, "u": 60}, np.random.default_rng(1)
    ours = {(s, t): rng.random((3, n)) < 0.7 for s in "ab" for t, n in sizes.items()}
    random = {t: rng.random((5, n)) < 0.5 for t, n in sizes.items()}
    cells = [*ours][:3]  # b on u is left out, as an own prompt would be
    found = beyond_random([Block(*key, ours[key].astype(float), random[key[1]].astype(float)) for key in cells])
    value = np.mean([ours[key].mean() - random[key[1]].mean() for key in cells])
    of_t = (ours["a", "t"].mean(0) + ours["b", "t"].mean(0) - 2 * random["t"].mean(0)) / 3
    of_u = (ours["a", "u"].mean(0) - random["u"].mean(0)) / 3
    of_a = (ours["a", "t"].mean(1) + ours["a", "u"].mean(1)) / 3
    of_b, of_random = ours["b", "t"].mean(1) / 3, (2 * random["t"].mean(1) + random["u"].mean(1)) / 3
    parts = [part.var(ddof=1) / len(part) for part in (of_t, of_u, of_a, of_b, of_random)]
    df = sum(parts) ** 2 / sum(v**2 / (n - 1) for v, n in zip(parts, (40, 60, 3, 3, 5), strict=True))
    assert (found.value, found.n) == (pytest.approx(value), 100)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(value) / np.sqrt(sum(parts)), df))


def test_where_all_prompts_are_alike_rows_are_paired():
    ours, theirs = draws((1, 200), 0.7, 0), draws((1, 200), 0.6, 1)
    found = against(np.repeat(ours, 3, axis=0), np.repeat(theirs, 4, axis=0))
    expected = stats.ttest_rel(ours[0].astype(float), theirs[0].astype(float))
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_the_three_variances_add_up():
    ours, theirs = draws((3, 80), 0.7, 2).astype(float), draws((6, 80), 0.5, 3).astype(float)
    rows = (ours.mean(0) - theirs.mean(0)).var(ddof=1) / 80
    seeds, sets = ours.mean(1).var(ddof=1) / 3, theirs.mean(1).var(ddof=1) / 6
    total = rows + seeds + sets
    df = total**2 / (rows**2 / 79 + seeds**2 / 2 + sets**2 / 5)
    found = against(ours, theirs)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(found.value) / np.sqrt(total), df))
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, df) * np.sqrt(total))


def test_level_and_power_where_prompts_truly_differ_among_themselves():
    """Where accuracies of prompts lie 5 points apart, an ordinary source is called different in about 5%."""
    rng, false, true, naive = np.random.default_rng(0), 0, 0, 0
    times = 400
    for _ in range(times):
        hardness = rng.random(300)
        level = rng.normal(0.6, 0.05, 13)
        right = rng.random((13, 300)) < np.clip(level[:, None] + 0.3 * (0.5 - hardness), 0, 1)
        better = rng.random((3, 300)) < np.clip(rng.normal(0.85, 0.05, (3, 1)) + 0.3 * (0.5 - hardness), 0, 1)
        false += against(right[:3], right[3:]).p_value < 0.05
        true += against(better, right[3:]).p_value < 0.05
        gap = right[:1].mean(0) - right[3:].mean(0)
        naive += stats.ttest_1samp(gap, 0).pvalue < 0.05
    assert false / times <= 0.07
    assert true / times > 0.85
    assert naive / times > 0.2, "a test over rows alone would not hold its level here"


def test_nothing_that_varies_leaves_the_sign_of_the_rows():
    ones, zeros = np.ones((2, 6), dtype=bool), np.zeros((3, 6), dtype=bool)
    assert against(ones, zeros).p_value == pytest.approx(2 * 0.5**6)
    assert against(ones, ones).p_value == 1
    assert (against(ones, zeros).low, against(ones, zeros).high) == (1, 1)


def test_seed_by_seed_differences():
    ours, own = draws((3, 60), 0.6, 4).astype(float), draws((3, 60), 0.8, 5).astype(float)
    gaps = ours - own
    rows, seeds = gaps.mean(0).var(ddof=1) / 60, gaps.mean(1).var(ddof=1) / 3
    df = (rows + seeds) ** 2 / (rows**2 / 59 + seeds**2 / 2)
    found = same_seeds(ours, own)
    assert found.value == pytest.approx(ours.mean() - own.mean())
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(found.value) / np.sqrt(rows + seeds), df))
    alone = same_seeds(ours[:1], own[:1])
    assert alone.p_value == pytest.approx(stats.ttest_rel(ours[0], own[0]).pvalue)


def test_relative_accuracy_is_a_mean_of_ratios():
    ours, own = draws((3, 60), 0.6, 4), draws((3, 60), 0.8, 5)
    found = relative(ours, own, 0.55, 0.4)
    ratios = ours.mean(1) / own.mean(1)
    assert found.by_seed == pytest.approx(tuple(ratios))
    assert found.value == pytest.approx(ratios.mean())
    assert found.value != pytest.approx(ours.mean() / own.mean(), abs=1e-6)
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 2, ratios.mean(), stats.sem(ratios)))
    assert (found.lowest, found.highest) == (ratios.min(), ratios.max())
    assert found.chance == pytest.approx(np.mean(0.55 / own.mean(1)))
    assert found.floor == pytest.approx(np.mean(0.4 / own.mean(1)))
    assert np.isnan(relative(ours[:1], own[:1], 0.5, 0.5).low)
    assert relative(ours, np.zeros((3, 60)), 0.5, 0.5) is None


def test_a_cell_carries_what_judges_it():
    ours, own, random = draws((3, 60), 0.8, 6), draws((3, 60), 0.9, 7), draws((5, 60), 0.5, 8)
    shown, hidden = (Skill(0.6, 0.5, 0.7, 0.5, 60, p) for p in (0.01, 0.06))
    found = cell(ours, random, 0.55, shown, (ours[1:], own[1:]))
    assert found.accuracy == share(ours)
    assert (found.n, found.seeds, found.draws) == (60, 3, 5)
    values = random.mean(1)
    assert found.random.value == pytest.approx(values.mean())
    assert (found.random.low, found.random.high) == pytest.approx(
        tuple(np.clip(stats.t.interval(0.95, 4, values.mean(), stats.sem(values)), 0, 1))
    )
    assert (found.random.lowest, found.random.highest) == (values.min(), values.max())
    assert found.relative.by_seed == pytest.approx(tuple(ours[1:].mean(1) / own[1:].mean(1)))
    assert not found.at_chance
    assert cell(ours, random, 0.55, hidden).at_chance
    without = cell(ours, random, 0.9, shown)
    assert not without.at_chance, "skill is not a matter of the majority rate"
    assert without.relative is None
    assert without.minus_own is None
    itself = cell(own, random, 0.55, shown, (own, own))
    assert itself.relative.value == 1
    assert (itself.relative.low, itself.relative.high) == (1, 1)
    assert (itself.minus_own.value, itself.minus_own.low, itself.minus_own.p_value) == (0, 0, 1)


def test_a_share_of_another_accuracy_is_not_below_0():
    ours, own = np.zeros((3, 20), dtype=bool), np.ones((3, 20), dtype=bool)
    ours[0, :9] = True
    found = relative(ours, own, 0.55, 0.4)
    assert stats.t.interval(0.95, 2, 0.15, stats.sem([0.45, 0, 0]))[0] < -0.1
    assert (found.value, found.low) == (pytest.approx(0.15), 0.0)
    assert found.high == pytest.approx(stats.t.interval(0.95, 2, 0.15, stats.sem([0.45, 0, 0]))[1])
