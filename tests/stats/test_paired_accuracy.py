"""What a change costs: small tables by hand, and statsmodels beside every test and interval."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from skillneurons.stats.cluster_bootstrap import Clusters, mean_interval, sign_flip_p, wilson_interval
from skillneurons.stats.mcnemar import mcnemar_exact
from skillneurons.stats.paired_accuracy import Estimate, clustered_share, compare


def table(both, fell, rose, neither):
    """Correctness of a clean and a changed version `[n]` with these counts."""
    cells = [(True, True)] * both + [(True, False)] * fell + [(False, True)] * rose + [(False, False)] * neither
    return tuple(np.array(column) for column in zip(*cells, strict=True))


def compared(both, fell, rose, neither, flips=False, classes=2):
    clean, changed = table(both, fell, rose, neither)
    return compare(clean[None], changed[None], Clusters.single(len(clean)), classes, flips)


def ends(estimate):
    return estimate.low, estimate.high


@pytest.mark.parametrize("cells", [(20, 12, 3, 5), (9, 20, 0, 0), (10, 2, 6, 4), (28, 1, 0, 71), (50, 0, 0, 2)])
def test_one_prompt_by_the_textbook(cells):
    both, fell, rose, neither = cells
    n, right, found = sum(cells), both + fell, compared(*cells)
    assert (found.n, found.originals, found.exact) == (n, n, True)
    assert (found.only_clean, found.only_changed, found.right) == (fell, rose, right)
    assert found.p_value == pytest.approx(mcnemar([[both, fell], [rose, neither]], exact=True).pvalue)
    theirs = mcnemar_exact(*table(*cells))
    assert (found.difference.value, *ends(found.difference)) == pytest.approx(
        (theirs.difference, theirs.low, theirs.high)
    )
    assert found.difference.chance == 0
    shares = ((found.clean, right, n), (found.changed, both + rose, n), (found.both, both, n))
    for share, hits, of in (*shares, (found.success, fell, right)):
        assert share.value == pytest.approx(hits / of)
        assert ends(share) == pytest.approx(proportion_confint(hits, of, method="wilson"), abs=1e-12)
    assert (found.success.chance, found.both.chance) == (0.5, 0.25)


def test_intervals_of_attack_success_are_of_all_rows_right_before():
    """A share of n rows times n may fall below a whole number by rounding."""
    odd = [(right, n) for n in range(2, 120) for right in range(1, n) if int(right / n * n) != right]
    assert (29, 100) in odd
    for right, n in odd[::12]:
        found = compared(right - 1, 1, 0, n - right)
        assert ends(found.success) == pytest.approx(proportion_confint(1, right, method="wilson"), abs=1e-12)


def test_rows_wrong_before_never_count_as_attacked():
    base = compared(10, 6, 0, 0)
    for rose, neither in ((0, 50), (30, 0), (17, 3)):
        found = compared(10, 6, rose, neither)
        assert (found.success.value, found.right) == (base.success.value, base.right)
        assert ends(found.success) == pytest.approx(ends(base.success))
    none = compared(0, 0, 7, 5)
    assert np.isnan(none.success.value)
    assert none.difference.value == pytest.approx(-7 / 12)


def test_a_change_that_turns_the_label_attacks_nothing():
    found = compared(20, 9, 3, 8, flips=True)
    assert np.isnan([found.success.value, *ends(found.success), found.success.chance]).all()
    assert found.both.value == pytest.approx(20 / 40)
    assert compared(20, 9, 3, 8, classes=4).success.chance == 0.75
    assert compared(20, 9, 3, 8, classes=4).both.chance == 1 / 16


def test_several_prompts_are_averaged():
    rng = np.random.default_rng(0)
    clean, changed = rng.random((3, 50)) < 0.8, rng.random((3, 50)) < 0.5
    single = Clusters.single(50)
    found = compare(clean, changed, single, 2)
    parts = [compare(a[None], b[None], single, 2) for a, b in zip(clean, changed, strict=True)]
    assert not found.exact
    for name in ("clean", "changed", "difference", "both"):
        assert getattr(found, name).value == pytest.approx(np.mean([getattr(one, name).value for one in parts]))
    for name in ("only_clean", "only_changed", "right"):
        assert getattr(found, name) == pytest.approx(np.mean([getattr(one, name) for one in parts]))
    pooled = sum(one.only_clean for one in parts) / sum(one.right for one in parts)
    assert found.success.value == pytest.approx(pooled)
    assert (found.clean.lowest, found.clean.highest) == (clean.mean(1).min(), clean.mean(1).max())
    gap = clean.mean(0) - changed.mean(0)
    assert found.p_value == sign_flip_p(gap, single)
    # closed forms at n rows: not narrower than resampling these rows
    drawn = mean_interval(gap, single)
    assert found.difference.high - found.difference.low >= 0.95 * (drawn.high - drawn.low)
    # prompts that agree in everything are as good as one
    same = compare(clean[[0, 0]], changed[[0, 0]], single, 2)
    for name in ("clean", "changed", "difference", "both", "success"):
        assert ends(getattr(same, name)) == pytest.approx(ends(getattr(parts[0], name)))


def test_rows_of_one_original_stand_together():
    clean, changed = table(20, 12, 3, 5)
    names = np.arange(40) // 2
    clusters, gap = Clusters.by(names), clean.astype(float) - changed
    found = compare(clean[None], changed[None], clusters, 2)
    assert (found.n, found.originals, found.exact) == (40, 20, False)
    assert found.p_value == sign_flip_p(gap, clusters)
    for estimate, interval in (
        (found.difference, mean_interval(gap, clusters)),
        (found.clean, wilson_interval(clean, np.ones(40), clusters)),
        (found.success, wilson_interval(clean & ~changed, clean, clusters)),
    ):
        assert ends(estimate) == pytest.approx(ends(interval))
    single = compare(clean[None], changed[None], Clusters.single(40), 2)
    assert (found.clean.value, found.difference.value) == (single.clean.value, single.difference.value)


def test_where_resampling_shows_no_spread_the_closed_form_at_the_originals_stands_in():
    ones = np.ones((1, 30), dtype=bool)
    clusters = Clusters.by(np.arange(30) // 3)
    found = compare(ones, ~ones, clusters, 2)
    t = stats.t.ppf(0.975, 9)  # Wilson's at ten rows right of ten, with nine degrees of freedom
    assert ends(found.clean) == ends(found.success) == pytest.approx((10 / (10 + t * t), 1))
    ten = mcnemar_exact(ones[0, :10], ~ones[0, :10])
    assert ends(found.difference) == pytest.approx((ten.low, ten.high))
    assert ends(clustered_share(~ones, clusters)) == pytest.approx((0, t * t / (10 + t * t)))


def test_an_estimate_in_columns_and_words():
    found = Estimate(0.125, 0.05, 0.21, 0.5)
    assert found.columns("x") == {"x": 0.125, "x_low": 0.05, "x_high": 0.21, "x_chance": 0.5}
    assert found.text == "12.5% [5.0%, 21.0%]"


def test_chance_lies_beyond_a_known_interval_alone():
    assert Estimate(0.3, 0.2, 0.4, 0.5).beyond
    assert Estimate(0.7, 0.6, 0.8, 0.5).beyond
    assert not Estimate(0.5, 0.4, 0.6, 0.5).beyond
    assert not Estimate(*[float("nan")] * 4).beyond
