"""Resampling of whole originals: by plain loops, by scipy, and by all the samples there are."""

from itertools import product

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from skillneurons.stats.cluster_bootstrap import (
    FLIPS,
    RELIABLE,
    Clusters,
    central,
    deviation,
    mean_interval,
    ratio_interval,
    sign_flip_p,
    wilson_interval,
)
from skillneurons.stats.mcnemar import mcnemar_exact

UNEVEN = Clusters.by(["b", "a", "b", "c", "a", "b"])


def ends(interval):
    return interval.low, interval.high


def resampled_by_hand(clusters, statistic, draws=3000, seed=5):
    """`statistic(rows)` of whole clusters drawn one after another."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(draws):
        drawn = [np.flatnonzero(clusters.of == g) for g in rng.integers(clusters.count, size=clusters.count)]
        found.append(statistic(np.concatenate(drawn)))
    return np.quantile(found, (0.025, 0.975))


def test_clusters_are_numbered_as_they_come():
    assert UNEVEN.of.tolist() == [0, 1, 0, 2, 1, 0]
    assert (UNEVEN.count, UNEVEN.alone) == (3, False)
    assert Clusters.by([7, 3, 7]).of.tolist() == [0, 1, 0]
    single = Clusters.single(4)
    assert (single.of.tolist(), single.count, single.alone) == ([0, 1, 2, 3], 4, True)


def test_some_rows_keep_their_company():
    taken = UNEVEN.take([5, 3, 0])
    assert taken.of.tolist() == [0, 1, 0]
    assert UNEVEN.take([0, 1, 3]).alone
    assert UNEVEN.take([4, 4]).count == 1


def test_weights_are_shares_of_a_sample_of_whole_clusters():
    blocks = list(UNEVEN.weights(0, 250))
    weights = np.concatenate(blocks)
    assert [len(block) for block in blocks] == [100, 100, 50]
    assert weights.sum(axis=1) == pytest.approx(np.ones(250))
    for group in ([0, 2, 5], [1, 4]):
        assert (weights[:, group] == weights[:, group[:1]]).all()
    times = weights / weights[weights > 0].min()
    assert times.max() > 1.5, "clusters are drawn with replacement"
    assert (weights == 0).any()
    even = np.concatenate(list(Clusters.by([0, 0, 1, 1, 2, 2, 3, 3]).weights(1, 4000)))
    assert even.mean(axis=0) == pytest.approx(np.full(8, 1 / 8), abs=0.005)
    again = np.concatenate(list(UNEVEN.weights(0, 250)))
    assert np.array_equal(again, weights)
    assert not np.array_equal(np.concatenate(list(UNEVEN.weights(1, 250))), weights)


def test_a_clusters_rows_keep_one_label_under_permutation():
    labels = np.array([1, 0, 1, 0, 0, 1])
    found = UNEVEN.permuted(labels, 600, 0)
    assert found.shape == (600, 6)
    assert (found[:, [0, 2, 5]] == found[:, :1]).all()
    assert (found[:, 1] == found[:, 4]).all()
    # one of three clusters has label 1: each of them equally often
    of_clusters = found[:, [0, 1, 3]]
    assert (of_clusters.sum(axis=1) == 1).all()
    assert stats.chisquare(of_clusters.sum(axis=0)).pvalue > 0.01
    with pytest.raises(ValueError, match="one original have one label"):
        UNEVEN.permuted([1, 0, 1, 0, 0, 0], 2, 0)


def test_single_rows_are_plainly_permuted():
    labels = np.array([1, 1, 0, 0])
    found = Clusters.single(4).permuted(labels, 3000, 2)
    assert (found.sum(axis=1) == 2).all()
    kinds, counts = np.unique(found, axis=0, return_counts=True)
    assert len(kinds) == 6
    assert stats.chisquare(counts).pvalue > 0.01
    assert np.array_equal(found, Clusters.single(4).permuted(labels, 3000, 2))


def test_the_interval_of_a_mean_of_single_rows_is_students():
    x = np.random.default_rng(0).normal(size=30)
    found = mean_interval(x, Clusters.single(30))
    assert ends(found) == pytest.approx(stats.t.interval(0.95, 29, x.mean(), stats.sem(x)))
    assert found.value == pytest.approx(x.mean())
    assert np.isnan(ends(mean_interval([1.0, 2.0], Clusters.by([0, 0])))).all(), "one original has no spread"


def test_intervals_over_clusters_are_statsmodels_and_near_those_of_a_loop():
    rng = np.random.default_rng(3)
    clusters = Clusters.by(rng.integers(0, 25, 90))
    level = rng.normal(size=clusters.count)[clusters.of]
    x, y = level + rng.normal(size=90), rng.random(90) < 0.6
    fitted = sm.OLS(x, np.ones(90)).fit(cov_type="cluster", cov_kwds={"groups": clusters.of, "use_correction": True})
    assert fitted.bse[0] == pytest.approx(deviation(x - x.mean(), clusters) / 90)
    assert ends(mean_interval(x, clusters)) == pytest.approx(
        resampled_by_hand(clusters, lambda rows: x[rows].mean()), abs=0.1
    )
    above = y & (rng.random(90) < 0.4)
    by_hand = resampled_by_hand(clusters, lambda rows: above[rows].sum() / y[rows].sum())
    assert ends(ratio_interval(above, y, clusters)) == pytest.approx(by_hand, abs=0.05)
    assert ends(wilson_interval(above, y, clusters)) == pytest.approx(by_hand, abs=0.05)


def test_a_ratio_to_what_may_be_nothing_is_not_told():
    rng = np.random.default_rng(5)
    x = rng.normal(size=50)
    clear, unclear = (y - y.mean() + mean for y, mean in ((rng.normal(size=50), 0.6), (rng.normal(size=50), 0.3)))
    assert clear.sum() > RELIABLE * deviation(clear - clear.mean(), Clusters.single(50))
    assert np.isfinite(ratio_interval(x, clear, Clusters.single(50)).value)
    assert np.isnan(ratio_interval(x, unclear, Clusters.single(50)).value)
    assert np.isnan(ratio_interval([1, 0], [0, 0], Clusters.single(2)).value)
    assert np.isnan(central(np.zeros(0))).all()


def test_a_share_of_single_rows_is_wilsons_and_of_clusters_at_what_they_are_worth():
    x, ones = np.arange(40) < 13, np.ones(40)
    assert ends(wilson_interval(x, ones, Clusters.single(40))) == pytest.approx(
        proportion_confint(13, 40, method="wilson")
    )
    # every row four times over is worth ten rows
    names = np.arange(40) // 4
    x, clusters = names < 3, Clusters.by(names)
    worth, t = 0.3 * 0.7 / (np.repeat([0.7, -0.3], [3, 7]).var(ddof=1) / 10), stats.t.ppf(0.975, 9)
    assert worth == pytest.approx(9)
    centre, half = 0.3 + t * t / 18, t * np.sqrt(0.3 * 0.7 / 9 + (t / 18) ** 2)
    found = ((centre - half) / (1 + t * t / 9), (centre + half) / (1 + t * t / 9))
    assert ends(wilson_interval(x, ones, clusters)) == pytest.approx(found)
    none = wilson_interval(np.zeros(40), ones, clusters)
    assert ends(none) == pytest.approx((0, t * t / (10 + t * t)))
    assert np.isnan(wilson_interval(x, np.zeros(40), clusters).value)


@pytest.mark.parametrize(("originals", "rate"), [(20, 0.7), (20, 0.9), (60, 0.8)])
def test_coverage_of_a_clustered_share(originals, rate):
    """Up to five rows an original, right together: the bootstrap of so few held 83 to 94%."""
    rng, held, repetitions = np.random.default_rng(originals), 0, 500
    for _ in range(repetitions):
        clusters = Clusters.by(np.repeat(np.arange(originals), rng.integers(1, 6, originals)))
        level = stats.beta.rvs(4 * rate, 4 * (1 - rate), size=originals, random_state=rng)
        x = rng.random(len(clusters.of)) < level[clusters.of]
        low, high = ends(wilson_interval(x, np.ones(len(x)), clusters))
        held += low <= rate <= high
    assert held / repetitions > 0.92


@pytest.mark.parametrize("seed", range(3))
def test_sign_flips_by_all_there_are(seed):
    rng = np.random.default_rng(seed)
    clusters = Clusters.by(rng.integers(0, 9, 20))
    x = np.round(rng.normal(0.4, 1, 20), 1)
    sums = np.array([x[clusters.of == g].sum() for g in range(clusters.count)])
    signs = np.array(list(product((-1, 1), repeat=len(sums))))
    exact = (np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9).mean()
    assert sign_flip_p(x, clusters) == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / FLIPS) + 1e-4)


@pytest.mark.parametrize(("fell", "rose"), [(9, 2), (5, 4), (12, 1)])
def test_sign_flips_of_single_rows_are_mcnemars(fell, rose):
    a = np.array([True] * fell + [False] * rose + [True] * 20)
    b = np.array([False] * fell + [True] * rose + [True] * 20)
    exact = mcnemar_exact(a, b).p_value
    found = sign_flip_p(a.astype(float) - b, Clusters.single(len(a)))
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact / FLIPS) + 1e-4)


def test_sign_flips_have_a_floor_and_nothing_moved_is_no_difference():
    assert sign_flip_p(np.ones(40), Clusters.single(40)) == 1 / (FLIPS + 1)
    assert sign_flip_p(np.zeros(5), Clusters.single(5)) == 1
    assert sign_flip_p([1, -1, 0.5, -0.5], Clusters.by([0, 0, 1, 1])) == 1
    one = sign_flip_p(np.ones(40), Clusters.by(np.zeros(40)))
    assert one == 1, "a single original says nothing, however many rows were made from it"


def test_rows_made_twice_say_nothing_new():
    """Each row four times: clusters give the interval of the rows themselves, single rows one half as wide."""
    x = np.random.default_rng(4).normal(0.3, 1, size=60)
    fourfold, names = np.repeat(x, 4), np.repeat(np.arange(60), 4)
    plain = mean_interval(x, Clusters.single(60))
    together, apart = mean_interval(fourfold, Clusters.by(names)), mean_interval(fourfold, Clusters.single(240))
    assert ends(together) == pytest.approx(ends(plain))
    assert (apart.high - apart.low) / (plain.high - plain.low) == pytest.approx(0.5, abs=0.06)
    y = np.random.default_rng(5).random(60) < 0.7
    ratios = ratio_interval(np.repeat(x * y, 4), np.repeat(y, 4), Clusters.by(names))
    assert ends(ratios) == pytest.approx(ends(ratio_interval(x * y, y, Clusters.single(60))))
    assert sign_flip_p(fourfold, Clusters.by(names)) == pytest.approx(sign_flip_p(x, Clusters.single(60)))
    assert sign_flip_p(fourfold, Clusters.single(240)) < sign_flip_p(x, Clusters.single(60)) / 3


def test_coverage_of_a_clustered_mean():
    """Rows of an original are alike: the interval over originals holds the truth, that over rows does not."""
    rng, together, apart = np.random.default_rng(6), [], []
    for _ in range(150):
        clusters = Clusters.by(np.repeat(np.arange(40), 4))
        x = rng.normal(size=40)[clusters.of] + 0.3 * rng.normal(size=160)
        for found, kept in ((clusters, together), (Clusters.single(160), apart)):
            low, high = ends(mean_interval(x, found))
            kept.append(low <= 0 <= high)
    assert np.mean(together) > 0.9
    assert np.mean(apart) < 0.8
