"""How far seeds agree on which neurons are predictive, beside what chance would give.

Shapes: S seeds, L layers, F FFN width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from skillneurons.selection import overlap, top_neurons
from skillneurons.significance import spearman
from skillneurons.statistics import jackknife

PERCENTS = (1.0, 5.0, 15.0)


@dataclass(frozen=True)
class Agreement:
    """A mean over pairs of seeds with its jackknife interval (NaN below three seeds), and its chance value."""

    what: str
    value: float
    low: float
    high: float
    chance: float
    seeds: int
    neurons: int


def agreements(predictivity: NDArray[np.float32], percents: Sequence[float] = PERCENTS) -> list[Agreement]:
    """Spearman over all neurons and overlap@k of each layer's top sets, averaged over layers and pairs.

    Args:
        predictivity: `[S, L, F]`, S >= 2.
        percents: k, in percent of a layer.
    """
    seeds, size = len(predictivity), predictivity[0].size
    pairs = list(combinations(range(seeds), 2))
    ranks = {(i, j): spearman(predictivity[i], predictivity[j]) for i, j in pairs}
    found = [_agreement("Spearman", ranks, (-1.0, 0.0), seeds, size)]
    for percent in percents:
        sets = [top_neurons(one, percent) for one in predictivity]
        if not sets[0].any():
            continue
        shared = {(i, j): float(np.nanmean(overlap(sets[i], sets[j]))) for i, j in pairs}
        chance = float(sets[0].sum(axis=1).mean() / sets[0].shape[1])
        found.append(_agreement(f"overlap@{percent:g}%", shared, (0.0, chance), seeds, size))
    return found


def _agreement(
    what: str, pairs: Mapping[tuple[int, int], float], levels: tuple[float, float], seeds: int, neurons: int
) -> Agreement:
    def mean(chosen: Sequence[int]) -> float:
        inside = set(chosen)
        return float(np.mean([value for (i, j), value in pairs.items() if i in inside and j in inside]))

    interval, (least, chance) = jackknife(seeds, mean), levels
    # of few seeds Student's interval may leave the range of the measure
    low, high = max(interval.low, least), min(interval.high, 1.0)
    if np.isnan(interval.low):
        low = high = interval.low
    return Agreement(what, mean(range(seeds)), low, high, chance, seeds, neurons)
