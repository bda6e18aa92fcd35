"""Matrices of tasks by tasks: by explicit enumeration, by scipy, and on planted relations."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from skillneurons.stats.intervals import jackknife
from skillneurons.stats.mantel import gap_between, mantel, mean_over, symmetrised

NAN = float("nan")


def symmetric(size: int, seed: int) -> np.ndarray:
    return symmetrised(np.random.default_rng(seed).random((size, size)))


def levels(rng: np.random.Generator, size: int, noise: float) -> np.ndarray:
    """Each cell is its source's level plus its target's level and a little noise."""
    return rng.normal(size=(size, 1)) + rng.normal(size=(1, size)) + noise * rng.normal(size=(size, size))


def pairs(matrix: np.ndarray) -> np.ndarray:
    return matrix[np.triu_indices(len(matrix), 1)]


@pytest.mark.parametrize("size", [3, 4, 5, 6])
def test_p_is_the_share_of_all_orders(size):
    a, b = symmetric(size, 1), symmetric(size, 2)
    found = mantel(a, b)
    every = [
        stats.spearmanr(pairs(a), pairs(b[np.ix_(order, order)])).statistic for order in permutations(range(size))
    ]
    value = stats.spearmanr(pairs(a), pairs(b)).statistic
    assert found.value == pytest.approx(value)
    assert found.p_value == pytest.approx(np.mean(np.abs(every) >= abs(value) - 1e-9))
    assert found.p_floor == pytest.approx(np.mean(np.abs(every) >= np.abs(every).max() - 1e-9))
    assert found.orders == len(every)
    assert found.exact
    assert found.pairs == size * (size - 1) // 2


def test_within_groups_p_is_the_share_of_the_orders_that_keep_them():
    a, b, groups = symmetric(6, 1), symmetric(6, 2), ["x", "y", "x", "y", "x", "y"]
    found = mantel(a, b, groups=groups)
    kept = [order for order in permutations(range(6)) if all(groups[i] == groups[j] for i, j in enumerate(order))]
    assert len(kept) == 36
    every = [stats.spearmanr(pairs(a), pairs(b[np.ix_(order, order)])).statistic for order in kept]
    assert found.group_p == pytest.approx(np.mean(np.abs(every) >= abs(found.value) - 1e-9))
    assert found.group_floor == pytest.approx(np.mean(np.abs(every) >= np.abs(every).max() - 1e-9))
    assert replace(found, group_p=NAN, group_floor=NAN).p_value == mantel(a, b).p_value
    drawn = mantel(symmetric(20, 3), symmetric(20, 4), orders=499, groups=["x"] * 12 + ["y"] * 8)
    assert drawn.group_floor == pytest.approx(1 / 500)


def test_what_both_sides_owe_to_families_is_no_relation_within_them():
    """Two families of four: overlap and transfer are higher within, and otherwise have nothing in common."""
    groups, plain, within = ["x"] * 4 + ["y"] * 4, 0, 0
    same = np.equal.outer(groups, groups)
    for seed in range(40):
        found = mantel(symmetric(8, 2 * seed) + same, symmetric(8, 2 * seed + 1) + same, groups=groups)
        plain += found.p_value <= 0.05
        within += found.group_p <= 0.05
    assert plain > 20
    assert within <= 6


def test_more_tasks_are_permuted_at_random():
    a, b = symmetric(9, 3), symmetric(9, 4)
    found = mantel(a, b, orders=999, seed=5)
    assert not found.exact
    assert found.p_floor == pytest.approx(1 / 1000)
    rng = np.random.default_rng(0)
    value = stats.spearmanr(pairs(a), pairs(b)).statistic
    orders = [rng.permutation(9) for _ in range(999)]
    drawn = [abs(stats.spearmanr(pairs(a), pairs(b[np.ix_(order, order)])).statistic) for order in orders]
    assert found.p_value == pytest.approx(np.mean(np.array(drawn) >= abs(value)), abs=0.06)
    assert mantel(a, b, orders=999, seed=5) == found
    assert mantel(a, a, orders=999).p_value == pytest.approx(1 / 1000)


def test_a_planted_relation_is_found_and_none_is_not():
    overlap = symmetric(7, 6)
    noise = 0.05 * symmetric(7, 7)
    found = mantel(overlap**2 + noise, overlap)
    assert found.value > 0.9
    assert found.p_value < 0.01
    assert found.low > 0.5
    against = mantel(-overlap, overlap)
    assert against.value == pytest.approx(-1)
    assert against.p_value == pytest.approx(1 / 5040)


def test_the_test_holds_its_level_though_pairs_depend_on_their_tasks():
    """Each task has its own level, so that pairs of one task are alike; a test over pairs would be fooled."""
    rng, times = np.random.default_rng(8), 300
    ours = naive = 0
    for _ in range(times):
        a, b = (symmetrised(levels(rng, 6, 0.3)) for _ in "ab")
        ours += mantel(a, b).p_value <= 0.05
        naive += stats.spearmanr(pairs(a), pairs(b)).pvalue <= 0.05
    assert ours / times <= 0.08
    assert naive / times > 0.1


def test_the_interval_leaves_out_a_task():
    a, b = symmetric(6, 9), symmetric(6, 10)
    found = mantel(a, b)

    def without(chosen):
        return stats.spearmanr(pairs(a[np.ix_(chosen, chosen)]), pairs(b[np.ix_(chosen, chosen)])).statistic

    left = np.array([without([i for i in range(6) if i != out]) for out in range(6)])
    half = stats.t.ppf(0.975, 5) * np.sqrt(5 / 6 * ((left - left.mean()) ** 2).sum())
    expected = np.clip((without(list(range(6))) - half, without(list(range(6))) + half), -1, 1)
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    assert np.isnan(mantel(symmetric(3, 1), symmetric(3, 2)).low)


def test_a_constant_side_has_no_correlation():
    assert np.isnan(mantel(symmetric(5, 1), np.ones((5, 5))).value)


def test_what_mantel_refuses():
    for a, b in ((np.eye(2), np.eye(2)), (np.eye(3), np.eye(4)), (np.full((3, 3), NAN), np.eye(3))):
        with pytest.raises(ValueError, match="T >= 3"):
            mantel(a, b)
    diagonal = symmetric(4, 1)
    np.fill_diagonal(diagonal, NAN)
    assert np.isfinite(mantel(diagonal, symmetric(4, 2)).value), "the diagonal is not read"


def test_both_directions_count_alike():
    m = np.array([[1, 0.2], [0.6, 1]])
    np.testing.assert_allclose(symmetrised(m), [[1, 0.4], [0.4, 1]])


def test_a_mean_over_cells_has_a_jackknife_interval_over_tasks():
    m = np.random.default_rng(11).random((5, 5))
    chosen = ~np.eye(5, dtype=bool)
    m[0, 3] = NAN
    found = mean_over(m, chosen)

    def of(tasks):
        part = m[np.ix_(tasks, tasks)]
        return np.nanmean(part[~np.eye(len(tasks), dtype=bool)])

    expected = jackknife(5, lambda tasks: of(list(tasks)))
    assert found.value == pytest.approx(of(range(5)))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_a_mean_of_task_levels_covers_its_truth():
    """Cells are a source's level plus a target's: the interval over tasks holds 95%, one over cells does not."""
    rng, times, inside, naive = np.random.default_rng(12), 300, 0, 0
    off = ~np.eye(8, dtype=bool)
    for _ in range(times):
        m = levels(rng, 8, 0.2)
        found = mean_over(m, off)
        inside += found.low <= 0 <= found.high
        low, high = stats.t.interval(0.95, 55, m[off].mean(), stats.sem(m[off]))
        naive += low <= 0 <= high
    assert inside / times >= 0.92
    assert naive / times < 0.75


def test_means_that_cannot_be_jackknifed_have_no_interval():
    m = np.random.default_rng(13).random((4, 4))
    one_pair = np.zeros((4, 4), dtype=bool)
    one_pair[0, 1] = one_pair[1, 0] = True
    found = mean_over(m, one_pair)
    assert found.value == pytest.approx((m[0, 1] + m[1, 0]) / 2)
    assert np.isnan(found.low)
    star = np.zeros((4, 4), dtype=bool)
    star[0, 1:] = True  # without its source no cell is left
    assert np.isnan(mean_over(m, star).low)


def test_a_gap_between_families():
    family = np.array([0, 0, 1, 1, 2, 2])
    same = (family[:, None] == family) & ~np.eye(6, dtype=bool)
    other = family[:, None] != family
    m = np.where(same, 0.95, 0.6) + 0.02 * np.random.default_rng(14).normal(size=(6, 6))
    found = gap_between(m, same, other)
    assert found.value == pytest.approx(m[same].mean() - m[other].mean())
    assert found.low > 0.25
    assert found.high < 0.45
