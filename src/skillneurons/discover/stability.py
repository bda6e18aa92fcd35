"""How far seeds agree on which neurons are predictive, beside what chance would give.

Shapes: S seeds, L layers, F FFN width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from skillneurons.neurons.selection import overlap, top_neurons
from skillneurons.stats.intervals import Estimate, jackknife
from skillneurons.stats.neuron_tests import spearman

PERCENTS = (1.0, 5.0, 15.0)


def agreements(predictivity: NDArray[np.float32], percents: Sequence[float] = PERCENTS) -> dict[str, Estimate]:
    """Means over pairs of seeds with jackknife intervals (NaN below three seeds) and chance values, by name.

    Spearman over all neurons and overlap@k of each layer's top sets, averaged over layers.

    Args:
        predictivity: `[S, L, F]`, S >= 2.
        percents: k, in percent of a layer.
    """
    seeds = len(predictivity)
    pairs = list(combinations(range(seeds), 2))
    ranks = {(i, j): spearman(predictivity[i], predictivity[j]) for i, j in pairs}
    found = {"Spearman": _agreement(ranks, seeds, -1.0, 0.0)}
    for percent in percents:
        sets = [top_neurons(one, percent) for one in predictivity]
        if not sets[0].any():
            continue
        shared = {(i, j): float(np.nanmean(overlap(sets[i], sets[j]))) for i, j in pairs}
        chance = float(sets[0].sum(axis=1).mean() / sets[0].shape[1])
        found[f"overlap@{percent:g}%"] = _agreement(shared, seeds, 0.0, chance)
    return found


def _agreement(pairs: Mapping[tuple[int, int], float], seeds: int, least: float, chance: float) -> Estimate:
    def mean(chosen: Sequence[int]) -> float:
        inside = set(chosen)
        return float(np.mean([value for (i, j), value in pairs.items() if i in inside and j in inside]))

    # of few seeds Student's interval may leave the range of the measure
    return replace(jackknife(seeds, mean), chance=chance).within(least, 1.0)
