"""Neurons of two tasks: on sets of which the overlap is known, and where predictivities tie."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from skillneurons.neurons.scores import Neurons
from skillneurons.neurons.selection import top_neurons
from skillneurons.transfer.similarity import layer_spearman, similarity, top_set

L, F = 3, 200


def neurons(task: str, by_seed: np.ndarray, **card: object) -> Neurons:
    """Neurons of predictivities `[S, L, F]` (or `[K, S, L, F]`)."""
    scores = (by_seed[None] if by_seed.ndim == 3 else by_seed).astype(np.float32)
    k, s = scores.shape[:2]
    empty = np.zeros((k, s, L, F), dtype=np.float32)
    facts = {"task": task, "targets": ["x"] * k, "seeds": list(range(s)), **card}
    return Neurons(
        baseline=np.zeros((s, L, 1, F), dtype=np.float32),
        accuracy=empty[:, :, :, None],
        position=empty.astype(np.int16),
        sign=empty.astype(np.int8),
        selected=scores,
        seed_predictivity=scores,
        predictivity=scores.mean(axis=1),
        p_value=empty.astype(np.float64),
        q_value=empty[:, 0].astype(np.float64),
        family_p=empty[:, 0].astype(np.float64),
        auc=empty,
        random_selected=empty[:, :0],
        random_predictivity=empty[:, :0],
        effect_selected=empty[0, :0],
        effect=empty[0, :0],
        effect_p=np.ones((L, F)),
        card=facts,
    )


def noise(seed: int, seeds: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).random((seeds, L, F))


def test_a_task_is_like_itself():
    one = neurons("a", noise(0))
    found = similarity(one, one, 5)
    assert found.overlap.value == 1
    assert found.spearman.value == pytest.approx(1)
    assert (found.layers, found.neurons, found.seeds) == (L, L * F, 3)


def test_overlap_and_spearman_are_means_over_layers():
    a, b = neurons("a", noise(1)), neurons("b", noise(2))
    found = similarity(a, b, 10)
    shares, ranks = [], []
    for layer in range(L):
        x, y = a.predictivity[0, layer], b.predictivity[0, layer]
        shares.append(len({*np.argsort(-x)[:20]} & {*np.argsort(-y)[:20]}) / 20)
        ranks.append(stats.spearmanr(x, y).statistic)
    assert found.overlap.value == pytest.approx(np.mean(shares))
    assert found.spearman.value == pytest.approx(np.mean(ranks))
    assert found.overlap.chance == pytest.approx(0.1)


def test_a_planted_overlap():
    base = np.zeros((L, F))
    base[:, :20] = 1
    a, b = (neurons(name, base + 0.3 * noise(seed)) for name, seed in (("a", 3), ("b", 4)))
    half = base.copy()
    half[:, 10:30], half[:, :10] = 1, 0
    assert similarity(a, b, 10).overlap.value == 1
    assert similarity(a, neurons("c", half + 0.3 * noise(5)), 10).overlap.value == pytest.approx(0.5)


def test_the_interval_leaves_out_a_seed_of_both():
    a, b = neurons("a", noise(6)), neurons("b", noise(7))
    found = similarity(a, b, 10)

    def shared(chosen):
        sets = [top_neurons(one.seed_predictivity[0, chosen].mean(0), 10) for one in (a, b)]
        return (sets[0] & sets[1]).sum() / sets[0].sum()

    left = np.array([shared([s for s in range(3) if s != out]) for out in range(3)])
    half = stats.t.ppf(0.975, 2) * np.sqrt(2 / 3 * ((left - left.mean()) ** 2).sum())
    assert found.overlap.low == pytest.approx(max(0, found.overlap.value - half))
    assert found.overlap.high == pytest.approx(min(1, found.overlap.value + half))
    assert np.isnan(similarity(neurons("a", noise(6, 2)), neurons("b", noise(7, 2)), 10).overlap.low)


def test_tasks_of_other_seeds_have_no_interval():
    found = similarity(neurons("a", noise(8)), neurons("b", noise(9), seeds=[0, 1, 5]), 10)
    assert found.seeds == 0
    assert np.isnan(found.overlap.low)
    assert np.isfinite(found.overlap.value)


def test_ties_are_not_shared_beyond_chance():
    """Predictivities that are all equal: with one order of the tied for all tasks, overlap would be 1."""
    flat = np.full((L, F), 0.5)
    shared = [(top_set(flat, 10, f"task {i}") & top_set(flat, 10, f"other {i}")).sum() / 60 for i in range(100)]
    assert np.mean(shared) == pytest.approx(0.1, abs=0.02)
    assert (top_neurons(flat, 10) & top_neurons(flat, 10)).sum() == 60
    np.testing.assert_array_equal(top_set(flat, 10, "a"), top_set(flat, 10, "a"))
    distinct = np.random.default_rng(10).random((L, F))
    np.testing.assert_array_equal(top_set(distinct, 10, "a"), top_neurons(distinct, 10))


def test_several_classes():
    scores = np.random.default_rng(11).random((3, 2, L, F))
    one = neurons("a", scores)
    assert similarity(one, one, 5).overlap.value == 1
    other = replace(one, card={**one.card, "task": "b"})
    assert similarity(one, other, 5).spearman.value == pytest.approx(1)


def test_layer_spearman_is_within_layers():
    a, b = noise(12)[0], noise(13)[0]
    # a shift of a whole layer does not count
    assert layer_spearman(a + 5 * np.arange(L)[:, None], b) == pytest.approx(layer_spearman(a, b))
