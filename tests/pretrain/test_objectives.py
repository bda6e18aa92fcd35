import numpy as np
import pytest

from skillneurons.pretrain.objectives import corrupt_spans, mask_tokens, noise_spans

SENTINELS = range(100, 132)


class Chosen:
    """A generator that gives what a test has written down."""

    def __init__(self, order, fate, words):
        self._order, self._fate, self._words = order, fate, words

    def permutation(self, able):
        return np.asarray(self._order)

    def random(self, n):
        return np.asarray(self._fate)

    def integers(self, low, high, n):
        return np.full(n, self._words)


def test_masking_a_text_written_by_hand():
    # six words between two separators; positions 2, 4, 5 are drawn: masked, replaced, kept
    ids = np.array([2, 50, 51, 52, 53, 54, 55, 2])
    rng = Chosen([2, 4, 5, 1, 3, 6], [0.5, 0.5, 0.79, 0.5, 0.85, 0.95, 0.5, 0.5], 77)
    masked = mask_tokens(ids, 0.5, 4, (40, 90), rng)
    assert masked.ids.tolist() == [2, 50, 4, 52, 77, 54, 55, 2]
    assert masked.chosen.tolist() == [False, False, True, False, True, True, False, False]


def test_masking_over_many_draws():
    rng, chosen, masked, same, total = np.random.default_rng(0), 0, 0, 0, 0
    ids = np.arange(1000, 1200)
    for _ in range(300):
        one = mask_tokens(ids, 0.15, 4, (40, 8000), rng)
        assert one.chosen.sum() == 30
        assert (one.ids[~one.chosen] == ids[~one.chosen]).all()
        at = one.ids[one.chosen]
        chosen, masked, same = chosen + len(at), masked + (at == 4).sum(), same + (at == ids[one.chosen]).sum()
        total += len(ids)
    assert chosen / total == 0.15
    assert masked / chosen == pytest.approx(0.8, abs=0.01)
    assert same / chosen == pytest.approx(0.1, abs=0.01)


def test_span_corruption_of_the_example_in_the_paper():
    # "Thank you for inviting me to your party last week", figure 2 of arXiv 1910.10683
    words = ["thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week"]
    ids = np.arange(len(words))
    noise = np.array([word in ("for", "inviting", "last") for word in words])
    found = corrupt_spans(ids, noise, SENTINELS)
    assert found.source.tolist() == [0, 1, 100, 4, 5, 6, 7, 101, 9]
    assert found.target.tolist() == [100, 2, 3, 101, 8, 102]


def rebuilt(source, target):
    spans, current = {}, None
    for token in target.tolist():
        current = token if token >= 100 else current
        spans.setdefault(current, [])
        if token < 100:
            spans[current].append(token)
    return [t for token in source.tolist() for t in (spans[token] if token >= 100 else [token])]


def test_spans_over_many_draws():
    rng, spans, hidden = np.random.default_rng(0), 0, 0
    for length in (16, 33, 64, 90, 99):
        ids = np.arange(length)
        for _ in range(100):
            noise = noise_spans(length, 0.15, 3.0, rng)
            assert noise.sum() == round(0.15 * length)
            assert not noise[0]
            found = corrupt_spans(ids, noise, SENTINELS)
            assert rebuilt(found.source, found.target) == ids.tolist()
            used = [t for t in found.target.tolist() if t >= 100]
            assert used == list(SENTINELS[: len(used)])
            assert [t for t in found.source.tolist() if t >= 100] == used[:-1]
            spans, hidden = spans + len(used) - 1, hidden + int(noise.sum())
    assert hidden / spans == pytest.approx(3, abs=0.25)


def test_spans_are_everywhere_but_at_the_start():
    rng = np.random.default_rng(1)
    share = np.mean([noise_spans(60, 0.15, 3.0, rng) for _ in range(4000)], axis=0)
    assert share[0] == 0
    assert share[-1] == 1
    assert share[15:50].min() > 0.08
    assert share[15:50].max() < 0.25


def test_too_few_sentinels():
    with pytest.raises(ValueError, match="2 spans need 3 sentinels; got 2"):
        corrupt_spans(np.arange(6), np.array([False, True, False, True, False, False]), SENTINELS[:2])
