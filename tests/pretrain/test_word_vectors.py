import numpy as np
import pytest

from skillneurons.pretrain.word_vectors import cooccurrences, ppmi, truncated_svd, word_vectors

WORDS, FIRST = 12, 2


@pytest.fixture
def ids():
    return np.random.default_rng(0).integers(1, WORDS, 400).astype(np.uint16)


def dense_counts(ids, window):
    counts = np.zeros((WORDS, WORDS))
    for i, left in enumerate(ids):
        for d in range(1, window + 1):
            if i + d < len(ids) and left >= FIRST and ids[i + d] >= FIRST:
                counts[left, ids[i + d]] += 1 / d
                counts[ids[i + d], left] += 1 / d
    return counts


def dense_ppmi(counts):
    joint = counts / counts.sum()
    rows, columns = joint.sum(1), counts.sum(0) ** 0.75
    with np.errstate(divide="ignore", invalid="ignore"):
        pmi = np.log(joint / rows[:, None] / (columns / columns.sum())[None])
    return np.where(np.isfinite(pmi), np.maximum(pmi, 0), 0)


def test_counts_and_ppmi_as_computed_densely(ids):
    counts = cooccurrences(ids, WORDS, FIRST, window=3)
    assert np.allclose(counts.toarray(), dense_counts(ids, 3), atol=1e-4)
    assert np.allclose(ppmi(counts).toarray(), dense_ppmi(dense_counts(ids, 3)), atol=1e-5)


def test_svd_as_computed_densely(ids):
    matrix = ppmi(cooccurrences(ids, WORDS, FIRST, window=3))
    left, values = truncated_svd(matrix, 4, seed=0)
    exact_left, exact, _ = np.linalg.svd(matrix.toarray())
    assert np.allclose(values, exact[:4], rtol=1e-4)
    assert np.allclose(np.abs((left * exact_left[:, :4]).sum(0)), 1, atol=1e-3)


def test_vectors_have_one_scale_and_one_seed(ids):
    vectors = word_vectors(ids, WORDS, FIRST, 4, seed=0)
    assert vectors.shape == (WORDS, 4)
    assert np.allclose(np.square(vectors).mean(axis=1), 1, atol=1e-4)
    assert np.array_equal(vectors, word_vectors(ids, WORDS, FIRST, 4, seed=0))


def test_words_of_one_company_are_near():
    # 2 and 3 stand in the same company, 4 does not; the bars between sentences count nowhere
    company = [[2, 5, 6], [3, 5, 6], [4, 7, 8]]
    text = np.array([token for one in company * 50 for token in [*one, *[1] * 5]], dtype=np.uint16)
    vectors = word_vectors(text, 9, FIRST, 3, seed=0)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert unit[2] @ unit[3] > 0.9 > unit[2] @ unit[4]


def test_a_rank_above_the_size(ids):
    with pytest.raises(ValueError, match="rank must be at most 12; got 13"):
        truncated_svd(cooccurrences(ids, WORDS, FIRST), 13, seed=0)
