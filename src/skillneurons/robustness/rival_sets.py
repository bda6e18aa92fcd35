"""Other neurons and other donors that might explain what restoring the skill neurons returns.

Shapes: m pairs, L layers, F FFN width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skillneurons.neurons.selection import Mask
from skillneurons.seeds import mix
from skillneurons.stats.cluster_bootstrap import Clusters


@dataclass(frozen=True)
class Movers:
    """How far neurons move under attack.

    Attributes:
        shift: |changed - clean| at each neuron's position, prompts averaged `[m, L, F]`.
        norms: of the output weights `[L, F]`: shift times norm is how far the residual stream moves.
        clusters: pairs made from one original.
        seed: which originals the movers are chosen on.
    """

    shift: NDArray[np.float32]
    norms: NDArray[np.float32]
    clusters: Clusters
    seed: int

    @property
    def chosen_on(self) -> NDArray[np.bool_]:
        """The pairs that movers are chosen on `[m]`: those of half of the originals."""
        order = np.random.default_rng([self.seed, 11]).permutation(self.clusters.count)
        return np.asarray(order[self.clusters.of] < self.clusters.count // 2)

    def moved(self, rows: NDArray[np.bool_] | slice = slice(None)) -> NDArray[np.float64]:
        """Shift times output norm over some pairs `[L, F]`."""
        return np.asarray(self.shift[rows].mean(axis=0, dtype=np.float64) * self.norms)


@dataclass(frozen=True)
class RivalSet:
    """Neurons `[L, F]` by name, and the pairs that they are judged on."""

    name: str
    mask: Mask
    rows: NDArray[np.int64]


def rival_sets(
    ranking: NDArray[np.floating], top: Mask, movers: Movers, random: NDArray[np.floating] | None = None
) -> Sequence[RivalSet]:
    """What stands beside the skill neurons, as many in each layer where not said otherwise.

    Args:
        ranking: of the neurons `[L, F]`.
        top: the skill neurons `[L, F]`.
        movers: how far neurons move.
        random: ranking under random prompts `[L, F]`.
    """
    everyone, chosen = np.arange(len(movers.shift)), movers.chosen_on
    found = [RivalSet("next best neurons", _largest(np.where(top, -np.inf, ranking), top), everyone)]
    found.append(RivalSet("neurons matched for shift times output norm", _matched(top, movers.moved()), everyone))
    if random is not None:
        found.append(RivalSet("top neurons of random prompts", _largest(random, top), everyone))
    if chosen.any() and not chosen.all():
        largest, rest = _largest(movers.moved(chosen), top), np.flatnonzero(~chosen)
        found.append(RivalSet("the largest movers", largest, rest))
        if (top & ~largest).any():
            found.append(RivalSet("skill neurons without the largest movers", top & ~largest, rest))
    for layer in np.flatnonzero(top.any(axis=1)).tolist():
        alone = np.zeros_like(top)
        alone[layer] = top[layer]
        found.append(RivalSet(f"skill neurons of layer {layer} alone", alone, everyone))
    return found


def donors_of_label(
    labels: NDArray[np.int64], clusters: Clusters, same: bool, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each pair one of another original, with the same label or another one.

    Returns:
        The pairs that have such a donor, and the donors.
    """
    rows, found = [], []
    for i, label in enumerate(labels.tolist()):
        fits = np.flatnonzero(((labels == label) == same) & (clusters.of != clusters.of[i]))
        if len(fits):
            rows.append(i)
            found.append(fits[mix(seed, i, 13) % len(fits)])
    return np.array(rows, dtype=np.int64), np.array(found, dtype=np.int64)


def _largest(values: NDArray[np.floating], like: Mask) -> Mask:
    """The largest values, as many in each layer as there are in `like`."""
    rank = np.argsort(np.argsort(-np.asarray(values, dtype=np.float64), axis=1, kind="stable"), axis=1)
    return np.asarray(rank < like.sum(axis=1, keepdims=True))


def _matched(top: Mask, values: NDArray[np.float64]) -> Mask:
    """For each chosen neuron the free one of its layer whose value is nearest, those with large values first."""
    found = np.zeros_like(top)
    for layer, chosen in enumerate(top):
        for unit in sorted(np.flatnonzero(chosen).tolist(), key=lambda u: -values[layer, u]):
            free = np.flatnonzero(~chosen & ~found[layer])
            if len(free):
                found[layer, free[np.abs(values[layer, free] - values[layer, unit]).argmin()]] = True
    return found
