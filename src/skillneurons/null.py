"""Permuted labels: how often neurons hit when the labels mean nothing, counted in the same stream.

Shapes: R permutations, K targets, L layers, W positions, F FFN width, B rows of a batch, C classes.
"""

import numpy as np
import torch
from torch import Tensor

from skillneurons.encoding import mix
from skillneurons.stream import Rows, counter

BUFFERED_ROWS = 96


def permuted_labels(labels: Tensor, permutations: int, seed: int) -> Tensor:
    """R shuffled copies of the labels, `[R, n]` uint8: the same ones for every prompt."""
    rng = np.random.default_rng(mix(seed, 7))
    copies = np.tile(labels.numpy().astype(np.uint8), (permutations, 1))
    return torch.from_numpy(rng.permuted(copies, axis=1))


class ChosenNull:
    """Permuted counts where position is fixed already: a matrix product a layer and batch.

    Attributes:
        counts: `[K, R, L, F]` of `counter(n)`, rows with permuted label 1 at which the neuron fires.
    """

    def __init__(self, permuted: Tensor, targets: tuple[int, ...], position: Tensor, place: Tensor) -> None:
        """`permuted` `[R, n]`, `position` `[K, L, F]`, `place` `[rows of the split]`: a row's number among the n."""
        self._permuted, self._targets, self._position, self._place = permuted, targets, position, place
        shape, kind = (len(targets), len(permuted), *position.shape[1:]), counter(permuted.shape[1])
        self.counts = torch.zeros(shape, dtype=kind, device=position.device)

    def add(self, layer: int, bits: Tensor, batch: Rows) -> None:
        """One batch of comparisons `[B, W, F]`."""
        labels = self._permuted[:, self._place[batch.numbers]].to(bits.device)
        for k, target in enumerate(self._targets):
            chosen = torch.take_along_dim(bits, self._position[k, layer][None, None], dim=1)[:, 0]
            self.counts[k, :, layer] += ((labels == target).float() @ chosen).to(self.counts.dtype)


class LargeNull:
    """Permuted counts at every position: what `protocol=paper` needs, since it chooses and scores on one split.

    Comparisons of several batches wait as bytes, so that each product is deep enough to be worth its
    traffic through the counters.

    Attributes:
        counts: `[L, R, W, F]` for one target: 16 bits where n allows, else 32.
    """

    def __init__(self, permuted: Tensor, target: int, shape: tuple[int, int, int], device: torch.device) -> None:
        layers, width, neurons = shape
        self._permuted, self._target = permuted, target
        kind = counter(permuted.shape[1])
        self.counts = torch.zeros(layers, len(permuted), width, neurons, dtype=kind, device=device)
        self._waiting: list[list[Tensor]] = [[] for _ in range(layers)]
        self._numbers: list[list[Tensor]] = [[] for _ in range(layers)]

    def add(self, layer: int, bits: Tensor, batch: Rows) -> None:
        """One batch of comparisons `[B, W, F]`; `batch.numbers` index the permuted labels."""
        self._waiting[layer].append(bits.bool())
        self._numbers[layer].append(batch.numbers)
        if sum(map(len, self._numbers[layer])) >= BUFFERED_ROWS:
            self._flush(layer)

    def finish(self) -> Tensor:
        """The counts, with everything that waited."""
        for layer in range(len(self._waiting)):
            self._flush(layer)
        return self.counts

    def _flush(self, layer: int) -> None:
        if not self._waiting[layer]:
            return
        labels = (self._permuted[:, torch.cat(self._numbers[layer])] == self._target).float()
        labels = labels.to(self.counts.device)
        for position in range(self.counts.shape[2]):
            bits = torch.cat([bits[:, position] for bits in self._waiting[layer]]).float()
            self.counts[layer, :, position] += (labels @ bits).to(self.counts.dtype)
        self._waiting[layer], self._numbers[layer] = [], []
