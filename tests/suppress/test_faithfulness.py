"""Faithfulness over size by the definition, on neurons that do a known part, and on orders that mean nothing."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from skillneurons.neurons.selection import top_neurons
from skillneurons.stats.cluster_bootstrap import Clusters, ratio_interval
from skillneurons.suppress.faithfulness import NODES, SIZES, WEIGHTS, measure, orders_of, sets_of
from skillneurons.suppress.figures import faithfulness_curves

L, F, N = 2, 1000, 80


def model(does: np.ndarray, noise: float = 0.3, seed: int = 0):
    """Scores under sets where each neuron that is not suppressed adds what it does to the right label's margin."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(N) % 2)
    each, calls = rng.normal(0, noise, N), []

    def read(masks):
        calls.append(len(masks))
        gap = ((~masks) * does).sum((1, 2))[:, None] + each - 0.2
        toward = np.where(labels == 1, gap, -gap) / 2
        return np.stack([-toward, toward], axis=-1)[:, None].astype(np.float32)

    return SimpleNamespace(labels=labels, read=read, calls=calls)


def test_areas_and_shares_by_hand():
    rng = np.random.default_rng(1)
    does = rng.random((L, F)) / (L * F)
    ranking = does + rng.normal(0, 2e-4, does.shape)
    m = model(does, noise=0.01)
    found = measure(ranking, "layer", m.read, m.labels)
    tops = [top_neurons(ranking, size) for size in SIZES]
    shares = [does[top].sum() / does.sum() for top in tops]
    for one, share, top in zip(found.sizes, shares, tops, strict=True):
        # what all others suppressed keep is what the top does; what is lost without it too, for sums
        assert (one.kept.value, one.lost.value) == pytest.approx((share, share), abs=1e-4)
        assert (one.neurons, one.n) == (top.sum(), N)
    x, y = np.array([0, *SIZES, 100]) / 100, np.array([0, *shares, 1])
    assert found.cpr.value.value == pytest.approx(np.trapezoid(y, x), abs=1e-4)
    assert found.lost.value.value == pytest.approx(np.trapezoid(y, x), abs=1e-4)
    assert found.cmd.value.value == pytest.approx(np.trapezoid(np.abs(1 - y), x), abs=1e-4)
    assert pytest.approx(0.5) == WEIGHTS @ NODES
    behind = [does[top_neurons(orders_of(ranking, "layer", 0, 0)[1], size)].sum() / does.sum() for size in SIZES]
    assert found.cpr.next_best.value == pytest.approx(np.trapezoid([0, *behind, 1], x), abs=1e-4)
    assert found.orders == found.planned == 39
    assert found.cpr.value.chance == pytest.approx(0.5, abs=0.01), "a random order keeps as much as its size"
    assert found.cpr.against.rank_p == 1 / 40
    kept, lost = faithfulness_curves(found, "made up").axes
    for axes, name in ((kept, "kept"), (lost, "lost")):
        own, random, *_ = (line.get_ydata() for line in axes.lines)
        assert own.tolist() == [getattr(one, name).value for one in found.sizes]
        assert random.tolist() == [getattr(one, name).chance for one in found.sizes]


def test_the_minimal_set_and_what_the_rest_knows():
    """Two of a hundred neurons do all."""
    does = np.zeros((L, F))
    does[:, :20] = 2 / 40
    ranking = np.random.default_rng(3).random((L, F)) / 2
    ranking[:, :20] += 1
    m = model(does)
    found = measure(ranking, "layer", m.read, m.labels)
    assert (found.minimal.value, found.minimal.low, found.minimal.high) == (2, 2, 2)
    assert found.sizes[4].kept.value == pytest.approx(1)
    assert found.without.value == found.sizes[4].lost_accuracy.value < 0.5
    assert not found.complement.shown
    kept, _, smallest = found.claims(0.03)
    assert (kept.verdict, kept.holds) == ("beyond random orders", True)
    assert "90% of the margin is kept from 2% on [2%, 2%]" in smallest.plain
    assert smallest.verdict == "no skill shown in the rest"
    assert found.cmd.value.value < 0.02 < found.cmd.value.chance
    # the order that begins behind the top 5% has the neurons that matter at its end
    assert found.cpr.next_best.value < found.cpr.value.chance
    many = model(np.full((L, F), 2 / (L * F)), noise=0.0)
    spread = measure(ranking, "layer", many.read, many.labels)
    assert np.isinf(spread.minimal.value)
    assert spread.without is None
    assert "is not kept by up to 50%" in spread.claims(0.03)[-1].plain


def test_an_order_that_means_nothing_is_stopped_and_claims_nothing():
    rng, claimed = np.random.default_rng(5), 0
    for seed in range(60):
        does = rng.exponential(1 / F, (L, F)) ** 2
        m = model(does / does.sum(), seed=seed)
        found = measure(rng.random((L, F)), "layer", m.read, m.labels, seed=seed)
        claimed += any(one.against.significant for one in (found.cpr, found.lost))
        assert found.claims(1e-6)[0].holds is None or claimed
    assert claimed <= 8, "5% of 60 are 3; 9 come once in a thousand times"
    assert found.orders < found.planned or claimed


def test_where_the_neurons_carry_nothing_no_share_is_told():
    m = model(np.zeros((L, F)))
    found = measure(np.random.default_rng(0).random((L, F)), "layer", m.read, m.labels)
    assert found.small
    assert found.orders == 9
    assert [claim.verdict for claim in found.claims(0.03)] == ["cannot tell"]
    harm = model(np.full((L, F), -1 / (L * F)), noise=0.01)
    assert measure(np.random.default_rng(0).random((L, F)), "layer", harm.read, harm.labels).small, "a way down"
    assert np.isnan(found.cpr.value.low)


def test_sets_are_nested_and_random_orders_are_as_large():
    ranking = np.random.default_rng(7).random((L, F))
    for order in orders_of(ranking, "layer", 3, 0):
        sets = sets_of(order, "layer")
        kept, lost = ~sets[: len(SIZES)], sets[len(SIZES) :]
        assert np.array_equal(kept, lost)
        assert [one.sum() for one in lost] == [L * int(F * size / 100 + 1e-9) for size in SIZES]
        assert all((small <= large).all() for small, large in pairwise(lost))


def test_intervals_are_of_the_rows_and_their_originals():
    rng = np.random.default_rng(9)
    labels, rows = np.arange(40) % 2, Clusters.by(np.arange(40) // 4)
    ranking, parts = rng.random((1, F)), rng.random((F, 40))

    def read(masks):
        gap = ((~masks[:, 0]) @ parts) / F
        toward = np.where(labels == 1, gap, -gap) / 2
        return np.stack([-toward, toward], axis=-1)[:, None].astype(np.float32)

    found = measure(ranking, "layer", read, labels, controls=3, clusters=rows)
    top = top_neurons(ranking, 10)[0]
    expected = ratio_interval(parts[top].sum(0), parts.sum(0), rows)
    tenth = found.sizes[SIZES.index(10)]
    assert (tenth.kept.value, tenth.kept.low, tenth.kept.high) == pytest.approx(
        (expected.value, expected.low, expected.high), abs=1e-5
    )
    assert found.claims(0.03)[0].verdict == "cannot tell (3 random orders of the 39 that it takes)"
