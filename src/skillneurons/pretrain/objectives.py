"""Masked language modelling and span corruption: pure functions of token ids and a random generator."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Masked:
    """A text with tokens hidden (`ids`), and at which positions a loss is taken (`chosen`)."""

    ids: Ids
    chosen: Mask


@dataclass(frozen=True)
class Corrupted:
    """A text with spans replaced by sentinels (`source`), and the spans after their sentinels (`target`)."""

    source: Ids
    target: Ids


def mask_tokens(ids: Ids, rate: float, mask_id: int, words: tuple[int, int], rng: np.random.Generator) -> Masked:
    """Hide a `rate` of a text's words as BERT does (arXiv 1810.04805, 3.1).

    Exactly `round(rate * n)` of the n words are chosen; of these 80% become the mask, 10% a random word,
    and 10% stay.

    Args:
        ids: `[T]`.
        rate: of the words, in (0, 1).
        mask_id: the mask.
        words: first id that is a word, and the id after the last: others are never chosen.
        rng: draws which and how.
    """
    able = np.flatnonzero((ids >= words[0]) & (ids < words[1]))
    chosen = np.zeros(len(ids), dtype=np.bool_)
    chosen[rng.permutation(able)[: round(rate * len(able))]] = True
    fate = rng.random(len(ids))
    random_words = rng.integers(words[0], words[1], len(ids))
    hidden = np.where(fate < 0.8, mask_id, np.where(fate < 0.9, random_words, ids))
    return Masked(np.where(chosen, hidden, ids), chosen)


def noise_spans(length: int, rate: float, mean_span: float, rng: np.random.Generator) -> Mask:
    """Which of `length` tokens are corrupted, `[T]` (T5's `random_spans_noise_mask`, arXiv 1910.10683, 3.1.4).

    Exactly `round(rate * length)` tokens in `round(that / mean_span)` spans of random lengths, no two
    side by side; none starts the text, and one ends it.
    """
    noise = min(max(round(length * rate), 1), length - 1)
    spans = min(max(round(noise / mean_span), 1), noise, length - noise)
    gaps, lengths = _segments(length - noise, spans, rng), _segments(noise, spans, rng)
    flags = np.tile(np.array([False, True]), spans)
    return np.repeat(flags, np.stack([gaps, lengths], axis=1).ravel())


def corrupt_spans(ids: Ids, noise: Mask, sentinels: Sequence[int]) -> Corrupted:
    """Replace each run of noise by the next sentinel; the target holds the runs, each after its sentinel.

    A last sentinel ends the target, as in T5.

    Raises:
        ValueError: there are fewer sentinels than runs and one.
    """
    starts = np.flatnonzero(noise & ~np.concatenate([[False], noise[:-1]]))
    if len(starts) + 1 > len(sentinels):
        raise ValueError(
            f"{len(starts)} spans need {len(starts) + 1} sentinels; got {len(sentinels)}. Use longer spans."
        )
    source, target = ids.copy(), []
    source[starts] = np.asarray(sentinels[: len(starts)], dtype=ids.dtype)
    kept = ~noise
    kept[starts] = True
    ends = np.flatnonzero(noise & ~np.concatenate([noise[1:], [False]])) + 1
    for sentinel, start, end in zip(sentinels, starts, ends, strict=False):
        target += [sentinel, *ids[start:end].tolist()]
    return Corrupted(source[kept], np.asarray([*target, sentinels[len(starts)]], dtype=ids.dtype))


def _segments(total: int, parts: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`total` cut into `parts` pieces of at least one, every way equally likely."""
    cuts = np.sort(rng.permutation(total - 1)[: parts - 1]) + 1
    return np.diff(np.concatenate([[0], cuts, [total]])).astype(np.int64)
