"""How far two tasks have the same skill neurons, beside what unrelated neurons would give (method.md §3).

Shapes: K targets, S seeds, L layers, F FFN width.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skillneurons.neurons.scores import Neurons
from skillneurons.neurons.selection import Mask, expected_overlap, overlap, top_neurons
from skillneurons.stats.intervals import Estimate, jackknife
from skillneurons.stats.neuron_tests import spearman

Scores = NDArray[np.float64]
Chosen = Sequence[int] | None  # numbers of seeds; None for all


@dataclass(frozen=True)
class Similarity:
    """The neurons of two tasks.

    Attributes:
        overlap: share of the top neurons of a layer that both have, mean over layers, beside what unrelated sets of
            these sizes share on average; its interval leaves out a seed of both tasks (NaN below three seeds, and
            where the tasks have other seeds).
        spearman: of all predictivities of a layer, mean over layers, with the same interval; by chance 0.
        neurons: compared, L x F.
        layers: L.
        seeds: that both have.
    """

    overlap: Estimate
    spearman: Estimate
    neurons: int
    layers: int
    seeds: int


def similarity(a: Neurons, b: Neurons, percent: float) -> Similarity:
    """Compare the predictivities of two tasks on one backbone and site.

    Args:
        a: of one task.
        b: of another, on the same backbone at the same site.
        percent: k, how much of each layer counts as top.
    """
    layers, width = a.shape

    def tops(chosen: Chosen) -> tuple[Mask, Mask]:
        first, second = (top_set(_ranked(one, chosen), percent, one.card["task"]) for one in (a, b))
        return first, second

    def shared(chosen: Chosen) -> float:
        return float(np.mean(overlap(*tops(chosen))))

    def alike(chosen: Chosen) -> float:
        return layer_spearman(*(_ranked(one, chosen).reshape(-1, layers, width).max(axis=0) for one in (a, b)))

    seeds = _common_seeds(a, b)
    return Similarity(
        _over_seeds(shared, seeds, 0.0, float(np.mean(expected_overlap(*tops(None))))),
        _over_seeds(alike, seeds, -1.0, 0.0),
        layers * width,
        layers,
        seeds,
    )


def top_set(ranking: Scores | NDArray[np.float32], percent: float, task: str) -> Mask:
    """The top neurons of each layer, those of equal predictivity in an order of the task's own.

    Predictivities are counts of few rows and often tie; in one order for all tasks the first of the tied
    would be in every task's set, and overlap would be above chance between unrelated tasks.

    Args:
        ranking: `[L, F]` or `[K, L, F]`, as `top_neurons` takes it.
        percent: of a layer.
        task: its name.
    """
    values = np.asarray(ranking, dtype=np.float64)
    seed = int.from_bytes(hashlib.sha256(task.encode()).digest()[:8])
    order = np.random.default_rng(seed).permutation(values.shape[-1])
    return top_neurons(values[..., order], percent)[:, np.argsort(order)]


def layer_spearman(a: Scores, b: Scores) -> float:
    """Spearman of two predictivities `[L, F]` within layers, mean over layers."""
    return float(np.mean([spearman(x, y) for x, y in zip(a, b, strict=True)]))


def _ranked(one: Neurons, chosen: Chosen) -> Scores:
    """Predictivities of some seeds `[L, F]`, or `[K, L, F]`; of all of them those that were reported."""
    if chosen is None or len(chosen) == one.seed_predictivity.shape[1]:
        found = np.asarray(one.predictivity, dtype=np.float64)
    else:
        found = one.seed_predictivity[:, list(chosen)].mean(axis=1, dtype=np.float64)
    return np.asarray(found[0] if len(found) == 1 else found)


def _common_seeds(a: Neurons, b: Neurons) -> int:
    """How many seeds both have; 0 where they differ, since leaving one out would mean two things."""
    lists = [list(one.card.get("seeds") or []) for one in (a, b)]
    return len(lists[0]) if lists[0] == lists[1] else 0


def _over_seeds(statistic: Callable[[Chosen], float], seeds: int, lowest: float, chance: float) -> Estimate:
    return replace(jackknife(seeds, statistic), value=statistic(None), chance=chance).within(lowest, 1.0)
