"""Sets of neurons: the top of a ranking, random ones to stand beside it, and how far two sets agree.

A set is a boolean array `[L, F]`. Shapes: L layers, F FFN width.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ranking = Literal["layer", "global"]
Mask = NDArray[np.bool_]


def top_neurons(predictivity: ArrayLike, percent: float, ranking: Ranking = "layer") -> Mask:
    """Skill neurons at `percent`: the most predictive `int(F * percent / 100)` of each layer, or of all.

    Of equally predictive neurons the one that stands first is taken, so that a set is reproducible.

    Args:
        predictivity: [L, F]; for several classes [K, L, F], where the classes take turns (Wang et al.
            2022: equal numbers of each).
        percent: of F (or of L x F with the ranking `global`), 0 to 100.
        ranking: `layer` as the paper, or `global`.
    """
    values = np.asarray(predictivity, dtype=np.float64)
    if values.ndim == 3:
        return _turns(values, percent, ranking)
    chosen = np.zeros(values.shape, dtype=np.bool_)
    if ranking == "global":
        order = np.argsort(-values.ravel(), kind="stable")
        chosen.ravel()[order[: _count(values.size, percent)]] = True
        return chosen
    order = np.argsort(-values, axis=1, kind="stable")[:, : _count(values.shape[1], percent)]
    np.put_along_axis(chosen, order, True, axis=1)
    return chosen


def random_like(chosen: Mask, rng: np.random.Generator) -> Mask:
    """A random set with as many neurons in each layer."""
    order = rng.permuted(np.tile(np.arange(chosen.shape[1]), (len(chosen), 1)), axis=1)
    return np.asarray(np.argsort(order, axis=1) < chosen.sum(axis=1, keepdims=True))


def random_sets(chosen: Mask, percent: float, count: int, seed: int) -> Iterator[Mask]:
    """Random sets with as many neurons in each layer, the same for every measure at one percentage."""
    for k in range(count):
        yield random_like(chosen, np.random.default_rng([seed, round(percent * 1_000_000), k]))


def overlap(a: Mask, b: Mask) -> NDArray[np.float64]:
    """Share of a layer's neurons in `a` that are in `b` too [L]; NaN where `a` has none there."""
    size = a.sum(axis=1)
    both = (a & b).sum(axis=1)
    return np.where(size > 0, both / np.maximum(size, 1), np.nan)


def expected_overlap(a: Mask, b: Mask) -> NDArray[np.float64]:
    """What `overlap` is on average for a random set as large as `b` in each layer [L]."""
    share = b.sum(axis=1) / b.shape[1]
    return np.where(a.any(axis=1), share, np.nan)


def _count(size: int, percent: float) -> int:
    # int() as the paper; 3% of 1,000 must be 30 although 0.03 * 1000 is a little less in floating point
    return int(size * percent / 100 + 1e-9)


def _turns(values: NDArray[np.float64], percent: float, ranking: Ranking) -> Mask:
    """Each class adds its best neuron that is not yet in, until the count is reached."""
    if ranking == "global":
        flat = values.reshape(len(values), 1, -1)
        return _turns(flat, percent, "layer").reshape(values.shape[1:])
    chosen = np.zeros(values.shape[1:], dtype=np.bool_)
    orders = np.argsort(-values, axis=2, kind="stable")
    wanted = _count(values.shape[2], percent)
    for layer in range(values.shape[1]):
        queues = [iter(order[layer]) for order in orders]
        while chosen[layer].sum() < wanted:
            for queue in queues:
                if chosen[layer].sum() < wanted:
                    chosen[layer, next(i for i in queue if not chosen[layer, i])] = True
    return chosen
