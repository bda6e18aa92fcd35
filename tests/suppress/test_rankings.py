"""Both rankings side by side: counted by hand, and on neurons of which it is known which act."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from skillneurons.suppress.rankings import needed_more

L, F, N = 1, 50, 200


def read_of(does: np.ndarray, labels: np.ndarray, noise: np.ndarray):
    """Each neuron that is left adds its part to the right label's margin."""

    def read(masks):
        gap = ((~masks) * does).sum((1, 2))[:, None] + noise
        toward = np.where(labels == 1, gap, -gap) / 2
        return np.stack([-toward, toward], axis=-1)[:, None].astype(np.float32)

    return read


def top(units: range) -> np.ndarray:
    mask = np.zeros((L, F), dtype=bool)
    mask[0, list(units)] = True
    return mask


def test_the_set_that_acts_is_needed_more_and_the_numbers_are_mcnemars():
    rng = np.random.default_rng(0)
    labels, noise = rng.integers(0, 2, N), rng.normal(0, 1, N)
    does = np.zeros((L, F))
    does[0, :5] = 0.4
    read = read_of(does, labels, noise)
    tops = (np.stack([top(range(20, 25)), top(range(20, 22))]), np.stack([top(range(5)), top(range(2))]))
    found = needed_more([10, 4], tops, read, labels, 2)
    ps = []
    for i, one in enumerate(found):
        right = [read(part[i : i + 1])[0, 0].argmax(-1) == labels for part in tops]
        lost, won = int((right[0] & ~right[1]).sum()), int((~right[0] & right[1]).sum())
        assert (one.pair.clean.value, one.pair.changed.value) == (right[0].mean(), right[1].mean())
        assert one.pair.difference.value == pytest.approx((lost - won) / N)
        ps.append(stats.binomtest(lost, lost + won).pvalue)
        assert one.pair.p_value == pytest.approx(ps[-1])
        assert one.verdict(False, 0.03) == "the neurons by effect are needed more"
    assert [one.holm_p for one in found] == pytest.approx(multipletests(ps, method="holm")[1])
    kept = needed_more([10], (~tops[0][:1], ~tops[1][:1]), read, labels, 2)[0]
    assert kept.verdict(True, 0.03) == "the neurons by effect carry more"


def test_no_difference_only_within_the_margin():
    labels = np.arange(N) % 2
    read = read_of(np.zeros((L, F)), labels, np.random.default_rng(1).normal(0.5, 1, N))
    one = needed_more([4], (top(range(2))[None], top(range(5, 7))[None]), read, labels, 2)[0]
    assert one.pair.difference.value == 0
    assert one.verdict(False, 0.03) == "no difference"
    assert one.verdict(False, 0.01) == "cannot tell"
