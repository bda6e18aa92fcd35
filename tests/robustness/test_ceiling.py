"""Ceilings of agreement: what noise alone takes, and what is lost beyond it."""

import numpy as np
import pytest
from scipy import stats

from skillneurons.robustness.ceiling import (
    DRAWS,
    Pool,
    ceiling_of,
    clean_draws,
    corrected,
    reliability,
)
from skillneurons.robustness.consistency import Reading, consistency
from skillneurons.robustness.votes import Votes
from skillneurons.stats.cluster_bootstrap import Clusters

L, F = 2, 60


def rows_of(rng, skill: np.ndarray, n: int) -> tuple[Votes, np.ndarray]:
    """Rows at which a neuron is right with the probability of its skill `[L, F]`, each by itself."""
    labels = rng.permutation(np.arange(n) % 2)
    right = rng.random((n, L, F)) < skill
    fired = right == (labels == 1)[:, None, None]
    return Votes.of([fired], [np.ones((L, F), dtype=np.int8)]), labels


def measured(seed: int, n: int, keep: float = 1.0, pool: int = 800):
    """Discovery on 300 rows, then n adversarial rows whose skills agree with the clean ones by `keep`."""
    rng = np.random.default_rng(seed)
    clean, other = rng.uniform(0.55, 0.9, (2, L, F))
    skill = keep * clean + (1 - keep) * other
    discovery, labels = rows_of(rng, clean, 300)
    first, second = (discovery.resampled(labels, half[None])[0] for half in np.eye(2)[np.arange(300) % 2].T / 150)
    votes, theirs = rows_of(rng, skill, n)
    held, known = rows_of(rng, clean, pool)
    trust = stats.spearmanr(first.ravel(), second.ravel()).statistic
    reading = Reading(votes, theirs, Clusters.single(n), pool=Pool(held, known), reliability=trust)
    return consistency(first, reading, (10,), permutations=20, seed=seed), clean, skill


def test_few_rows_agree_less_and_the_ceiling_says_so():
    values, ceilings, truths = {}, {}, []
    for n in (60, 200):
        runs = [measured(seed, n) for seed in range(8)]
        values[n] = np.mean([found.agreement.estimate.value for found, *_ in runs])
        ceilings[n] = np.mean([found.agreement.ceiling.value for found, *_ in runs])
        truths += [found.agreement.corrected for found, *_ in runs]
    assert values[60] < values[200] - 0.05, "the truth is 1 in both"
    for n, value in values.items():
        assert ceilings[n] == pytest.approx(value, abs=0.03)
    assert np.mean(truths) == pytest.approx(1, abs=0.05)


def test_what_is_lost_beyond_the_noise_is_found():
    runs = [measured(seed, 150, keep=0.3) for seed in range(10)]
    assert np.mean([bool(found.agreement.lost) for found, *_ in runs]) >= 0.8
    truth = np.mean([stats.spearmanr(clean.ravel(), skill.ravel()).statistic for _, clean, skill in runs])
    assert np.mean([found.agreement.corrected for found, *_ in runs]) == pytest.approx(truth, abs=0.1)
    assert all(found.agreement.lost == (found.agreement.ceiling.p_value <= 0.05) for found, *_ in runs)


@pytest.mark.parametrize("pool", [240, 600])
def test_where_nothing_is_lost_the_error_is_the_level(pool):
    """Draws from a pool that is twice as large, or six times, as the rows."""
    lost = [measured(seed, 120, pool=pool)[0] for seed in range(120)]
    for of in ([found.agreement for found in lost], [found.overlap[10] for found in lost]):
        rate = np.mean([bool(one.lost) for one in of])
        assert rate < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 120), rate


def test_draws_have_the_labels_and_the_clusters_of_the_rows():
    labels, clusters = np.array([0, 0, 0, 1, 1, 1]), Clusters.by([0, 0, 1, 2, 2, 2])
    pool = Pool(None, np.array([0] * 6 + [1] * 4))
    weights, share = clean_draws(pool, labels, clusters, 0)
    assert (weights.shape, share) == ((DRAWS, 10), 2 / 6)
    assert weights.sum(1) == pytest.approx(np.ones(DRAWS))
    assert (np.sort(weights[:, :6], axis=1)[:, -2:] * 6).tolist() == [pytest.approx([1, 2])] * DRAWS
    assert np.allclose(np.sort(weights[:, 6:], axis=1)[:, -1], 0.5)
    assert len(np.unique(weights, axis=0)) > 20
    assert clean_draws(Pool(None, np.array([0, 0, 1])), labels, clusters, 0) is None, "too few clean rows"
    assert clean_draws(Pool(None, np.zeros(9, dtype=int)), labels, clusters, 0) is None, "none of a label"


def test_a_ceilings_range_is_that_of_new_rows():
    drawn = np.random.default_rng(1).normal(0.6, 0.02, 4000)
    found = ceiling_of(0.5, drawn, share=0.5)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.02 * np.sqrt(3), rel=0.05)
    assert found.p_value == pytest.approx(stats.norm.cdf(-0.1 / (0.02 * np.sqrt(3))), rel=0.2)
    assert ceiling_of(0.5, np.full(9, 0.5), 0.5).p_value == 1


def test_a_correlation_without_noise():
    assert corrected(0.42, 0.7, 0.7) == pytest.approx(0.6)
    assert corrected(0.9, 0.5, 0.7) == 1
    assert np.isnan(corrected(0.5, -0.1, 0.7))
    rng = np.random.default_rng(2)
    votes, labels = rows_of(rng, np.full((L, F), 0.7), 100)
    nothing = reliability(votes, labels, Clusters.single(100), 0)
    assert np.isnan(nothing) or nothing < 0.4, "all neurons are alike: what differs is noise"
    votes, labels = rows_of(rng, rng.uniform(0.5, 1, (L, F)), 400)
    assert reliability(votes, labels, Clusters.single(400), 0) > 0.9
