"""Word vectors to start from: positive PMI of co-occurrences and its truncated SVD.

Levy & Goldberg 2014 (arXiv 1402.3722 and NIPS 2014), with the context smoothing 0.75 of Levy, Goldberg
& Dagan 2015. Without such a start a small model trained from scratch for minutes stays at the plateau
of the unigram distribution.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

WINDOW = 5
SMOOTHING = 0.75

Floats = NDArray[np.float32]


def cooccurrences(
    ids: NDArray[np.uint16], vocabulary: int, first_word: int, window: int = WINDOW
) -> sparse.csr_array:
    """How often two tokens stand within a window of each other, `[V, V]`, symmetric.

    A pair at distance d counts 1/d. Ids below `first_word` (separators, special tokens) count nowhere.
    """
    total = sparse.csr_array((vocabulary, vocabulary), dtype=np.float32)
    for distance in range(1, window + 1):
        left, right = ids[:-distance], ids[distance:]
        both = (left >= first_word) & (right >= first_word)
        pairs = (left[both].astype(np.int32), right[both].astype(np.int32))
        weights = np.full(int(both.sum()), 1 / distance, np.float32)
        total = total + sparse.coo_array((weights, pairs), shape=total.shape).tocsr()
    return total + total.T


def ppmi(counts: sparse.csr_array, smoothing: float = SMOOTHING) -> sparse.csr_array:
    """Positive pointwise mutual information of a count matrix, contexts smoothed; sparse as it."""
    rows = np.asarray(counts.sum(axis=1)).ravel()
    columns = np.asarray(counts.sum(axis=0)).ravel() ** smoothing
    found = counts.tocoo()
    expected = rows[found.row] * (columns / max(columns.sum(), 1e-12))[found.col]
    values = np.maximum(np.log(found.data / np.maximum(expected, 1e-12)), 0).astype(np.float32)
    result = sparse.coo_array((values, (found.row, found.col)), shape=counts.shape).tocsr()
    result.eliminate_zeros()
    return result


def truncated_svd(
    matrix: sparse.csr_array, rank: int, seed: int, rounds: int = 4, extra: int = 16
) -> tuple[Floats, Floats]:
    """Left singular vectors `[V, rank]` and singular values, largest first (Halko et al. 2011).

    Raises:
        ValueError: the matrix has fewer rows than `rank`.
    """
    if rank > min(matrix.shape):
        raise ValueError(f"rank must be at most {min(matrix.shape)}; got {rank}. Use a smaller hidden size.")
    width = min(rank + extra, min(matrix.shape))
    start = np.random.default_rng(seed).standard_normal((matrix.shape[1], width)).astype(np.float32)
    basis = np.linalg.qr(matrix @ start)[0]
    for _ in range(rounds):
        basis = np.linalg.qr(matrix @ np.linalg.qr(matrix.T @ basis)[0])[0]
    left, values, _ = np.linalg.svd((matrix.T @ basis).T, full_matrices=False)
    return (basis @ left)[:, :rank].astype(np.float32), values[:rank].astype(np.float32)


def word_vectors(ids: NDArray[np.uint16], vocabulary: int, first_word: int, width: int, seed: int) -> Floats:
    """One vector a token `[V, width]`, mean 0 and root mean square 1 in every row, to be scaled by a model.

    U * sqrt(S), centred; a token that co-occurs with nothing gets a random vector.
    """
    left, values = truncated_svd(ppmi(cooccurrences(ids, vocabulary, first_word)), width, seed)
    vectors = left * np.sqrt(values)
    known = np.abs(left).sum(axis=1) > 1e-5
    known[:first_word] = False
    vectors -= vectors[known].mean(axis=0) if known.any() else 0
    noise = np.random.default_rng([seed, 1]).standard_normal(vectors.shape).astype(np.float32)
    vectors = np.where(known[:, None], vectors, noise)
    rms = np.sqrt(np.square(vectors).mean(axis=1, keepdims=True))
    return np.asarray(vectors / np.maximum(rms, 1e-6), dtype=np.float32)
