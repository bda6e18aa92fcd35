"""Every statistic beside another implementation of it, or counted by hand."""

import itertools
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from scipy import stats

from skillneurons.discover.stability import agreements, jackknife
from skillneurons.neurons.selection import expected_overlap, overlap, random_like, top_neurons
from skillneurons.stats import neuron_tests as sig


@pytest.mark.parametrize(("n", "ones"), [(10, 4), (37, 20), (400, 180)])
def test_tails_equal_scipy(n, ones):
    fires = np.arange(n + 1).repeat(3)
    low, high = np.maximum(0, fires - (n - ones)), np.minimum(fires, ones)
    x = np.stack([low, (low + high) // 2, high], axis=1)[::3].ravel()
    upper, lower = sig.hypergeometric_tails(x, fires, ones, n)
    assert upper == pytest.approx(stats.hypergeom.sf(x - 1, n, ones, fires), rel=1e-8)
    assert lower == pytest.approx(stats.hypergeom.cdf(x, n, ones, fires), rel=1e-8)


def test_tails_equal_all_labelings():
    fires, labels = np.array([1, 1, 1, 0, 0, 0, 1]), (1, 1, 1, 0, 0, 0, 0)
    hits = int((fires * labels).sum())
    every = [
        sum(f for f, chosen in zip(fires, y, strict=True) if chosen) for y in set(itertools.permutations(labels))
    ]
    upper, lower = sig.hypergeometric_tails([hits], [fires.sum()], 3, 7)
    assert upper[0] == pytest.approx(np.mean(np.array(every) >= hits))
    assert lower[0] == pytest.approx(np.mean(np.array(every) <= hits))


@pytest.mark.parametrize(("n", "ones", "fires"), [(12, 5, 7), (400, 180, 200), (2000, 999, 3)])
def test_tails_equal_whole_numbers(n, ones, fires):
    first, last = max(0, fires - (n - ones)), min(fires, ones)
    ways = [comb(ones, x) * comb(n - ones, fires - x) for x in range(first, last + 1)]
    upper, lower = sig.hypergeometric_tails(np.arange(first, last + 1), np.full(len(ways), fires), ones, n)
    assert upper == pytest.approx(
        [float(Fraction(sum(ways[i:]), comb(n, fires))) for i in range(len(ways))], rel=1e-9
    )
    assert lower == pytest.approx(
        [float(Fraction(sum(ways[: i + 1]), comb(n, fires))) for i in range(len(ways))], rel=1e-9
    )


def test_counts_that_fit_no_margin_are_refused():
    with pytest.raises(ValueError, match="margins"):
        sig.hypergeometric_tails([5], [4], 6, 10)


def test_a_constant_neuron_shows_nothing():
    upper, lower = sig.hypergeometric_tails([6, 0], [10, 0], 6, 10)
    assert upper.tolist() == lower.tolist() == [1, 1]


def test_cauchy_combination_equals_its_formula_and_scipy():
    p = np.random.default_rng(1).random((5, 20)) * 0.9
    total = np.tan((0.5 - p) * np.pi).mean(axis=0)
    assert sig.cauchy_combination(p) == pytest.approx(stats.cauchy.sf(total))
    tiny = np.full((3, 1), 1e-40)
    assert sig.cauchy_combination(tiny)[0] == pytest.approx(1e-40, rel=1e-6)
    assert sig.cauchy_combination(p[:1]).tolist() == p[0].tolist()
    assert sig.cauchy_combination(np.array([[1.0], [1e-12]]))[0] == pytest.approx(2e-12, rel=1e-6), "1 has no veto"


def test_binormal_auc_is_the_share_of_right_pairs():
    rng = np.random.default_rng(2)
    a, b = rng.normal(1.0, 2.0, 200_000), rng.normal(0.0, 0.5, 200_000)
    assert sig.binormal_auc(1.0, 4.0, 0.0, 0.25) == pytest.approx((a > b).mean(), abs=0.005)
    assert sig.binormal_auc([3.0, 3.0, 2.0], [0.0, 0.0, 0.0], [3.0, 2.0, 3.0], [0.0, 0.0, 0.0]).tolist() == [
        0.5,
        1,
        0,
    ]


def test_exact_auc_is_the_share_of_right_pairs_ties_one_half():
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 5, 80), rng.integers(0, 2, 80)
    pairs = np.sign(x[y == 1][:, None] - x[y == 0])
    assert sig.exact_auc(x, y) == pytest.approx((1 + pairs.mean()) / 2)
    assert np.isnan(sig.exact_auc(x, np.ones(80)))


def test_spearman_equals_scipy_with_ties():
    rng = np.random.default_rng(4)
    x, y = rng.integers(0, 9, 300), rng.integers(0, 9, 300)
    assert sig.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert np.isnan(sig.spearman([1, 1, 1], [1, 2, 3]))


def test_max_t_by_hand():
    rng = np.random.default_rng(3)
    null, observed = rng.normal(size=(120, 3)) * (1, 5, 0.2), np.array([2.4, 9.0, 0.1])
    everything = np.vstack([observed, null])  # the observed labelling is one of all
    scores = (everything - everything.mean(axis=0)) / everything.std(axis=0, ddof=1)
    by_hand = [(1 + (scores[1:].max(axis=1) >= score).sum()) / 121 for score in scores[0]]
    assert sig.max_t(observed, null).tolist() == pytest.approx(by_hand)
    assert by_hand[0] < 0.1 < by_hand[2]
    null[:, 1] = 4.0
    assert sig.max_t(observed, null)[1] == 1, "a neuron that no labelling moves"
    with pytest.raises(ValueError, match="needs 100 permutations"):
        sig.max_t(observed, null[:99])


def test_family_wise_error_is_the_level_however_many_neurons():
    """Tables of binary hits where nothing is to be found; without the observed labelling it would be 11%."""
    rng, reached = np.random.default_rng(11), 0
    tables, neurons, rows = 1_000, 1_000, 100
    for _ in range(tables):
        drawn = rng.binomial(rows, 0.5, size=(101, neurons)) / rows
        reached += bool((sig.max_t(drawn[0], drawn[1:]) < 0.05).any())
    assert 0.03 < reached / tables < 0.07


def test_permutation_p_has_its_floor():
    null = np.array([[0.5], [0.6], [0.7]])
    assert sig.permutation_p([0.65], null) == pytest.approx(2 / 4)
    assert sig.permutation_p([0.99], null) == pytest.approx(1 / 4)


def test_the_smallest_predictivity_is_the_first_that_is_rare():
    n, ones, tests = 60, 30, 100
    got = sig.smallest_predictivity(n, ones, tests)
    hits = round(got * n)
    x = (hits - (n - 2 * ones)) // 2
    assert stats.hypergeom.sf(x - 1, n, ones, ones) <= 0.05 / tests < stats.hypergeom.sf(x - 2, n, ones, ones)
    assert np.isnan(sig.smallest_predictivity(6, 3, 10_000))


def test_the_top_is_counted_a_layer_or_over_all():
    scores = np.array([[0.5, 0.9, 0.7, 0.9], [0.6, 0.1, 0.2, 0.3]])
    assert top_neurons(scores, 50).tolist() == [[False, True, False, True], [True, False, False, True]]
    assert top_neurons(scores, 25).sum(axis=1).tolist() == [1, 1]
    assert top_neurons(scores, 25)[0, 1], "of equals the first"
    assert top_neurons(scores, 37.5, "global").tolist() == [[False, True, True, True], [False] * 4]
    assert not top_neurons(scores, 0).any()
    assert top_neurons(scores, 100).all()
    assert top_neurons(np.zeros((1, 1000)), 3).sum() == 30


def test_classes_take_turns():
    scores = np.array([[[0.9, 0.8, 0.1, 0.2]], [[0.9, 0.1, 0.3, 0.7]]])
    assert top_neurons(scores, 50).tolist() == [[True, False, False, True]]
    assert top_neurons(scores, 75).sum() == 3


def test_overlap_of_a_set_with_itself_is_one_and_by_chance_is_its_share():
    rng = np.random.default_rng(5)
    a = top_neurons(rng.random((3, 200)), 10)
    assert overlap(a, a).tolist() == [1, 1, 1]
    drawn = [random_like(a, rng) for _ in range(300)]
    assert all((one.sum(axis=1) == a.sum(axis=1)).all() for one in drawn)
    assert np.mean([overlap(a, one) for one in drawn]) == pytest.approx(expected_overlap(a, a)[0], abs=0.01)
    assert len({one.tobytes() for one in drawn}) == 300


def test_agreement_over_seeds():
    rng = np.random.default_rng(6)
    shared, own = rng.random((2, 300)), rng.random((4, 2, 300))
    same = agreements(np.stack([shared] * 4).astype(np.float32))
    assert same["Spearman"].value == pytest.approx(1)
    assert same["overlap@5%"].value == 1
    apart = agreements(own.astype(np.float32))
    assert abs(apart["Spearman"].value) < 0.1
    assert apart["overlap@5%"].chance == pytest.approx(0.05)
    assert abs(apart["overlap@5%"].value - 0.05) < 0.06
    pairs = [
        stats.spearmanr(own[i].ravel(), own[j].ravel()).statistic for i, j in itertools.combinations(range(4), 2)
    ]
    assert apart["Spearman"].value == pytest.approx(np.mean(pairs), abs=1e-6)
    assert np.isnan(agreements(own[:2].astype(np.float32))["Spearman"].low)
    spread = np.stack([shared, shared, own[0]]).astype(np.float32)
    assert all(a.high == 1 and a.low in (-1, 0) for a in agreements(spread).values()), (
        "an interval stays in its range"
    )


def test_the_jackknife_of_a_mean_is_students_interval():
    values = np.array([1.0, 4.0, 2.0, 7.0])
    got = jackknife(4, lambda chosen: float(values[list(chosen)].mean()))
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert (got.low, got.high) == pytest.approx((low, high))
