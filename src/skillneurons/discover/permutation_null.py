"""Permuted labels: how often neurons hit when the labels mean nothing, counted in the same stream.

Shapes: R permutations, K targets, L layers, W positions, F FFN width, B rows of a batch, C classes.
"""

import numpy as np
import torch
from torch import Tensor

from skillneurons.neurons.activation_stream import Rows, counter
from skillneurons.seeds import mix

BUFFERED_ROWS = 128


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

    Comparisons of several batches wait as bits, eight rows a byte, so that each product is deep enough to be
    worth its traffic through the counters.

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
        packed = _packed(bits)
        self._waiting[layer].append(packed)
        # rows that fill the last bytes never fire: any number will do
        filled = torch.nn.functional.pad(batch.numbers, (0, 8 * len(packed) - len(bits)))
        self._numbers[layer].append(filled.view(8, -1))
        if 8 * sum(map(len, self._waiting[layer])) >= BUFFERED_ROWS:
            self._flush(layer)

    def finish(self) -> Tensor:
        """The counts, with everything that waited."""
        for layer in range(len(self._waiting)):
            self._flush(layer)
        return self.counts

    def _flush(self, layer: int) -> None:
        if not self._waiting[layer]:
            return
        numbers, packed = torch.cat(self._numbers[layer], dim=1).flatten(), torch.cat(self._waiting[layer])
        self._waiting[layer], self._numbers[layer] = [], []
        labels = (self._permuted[:, numbers] == self._target).float().to(self.counts.device)
        for position in range(self.counts.shape[2]):
            self.counts[layer, :, position] += (labels @ _unpacked(packed[:, position])).to(self.counts.dtype)


def _packed(bits: Tensor) -> Tensor:
    """Comparisons `[B, ...]` as uint8 `[ceil(B / 8), ...]`: row k of eight equal parts is bit k."""
    size = -(-len(bits) // 8)
    rows = torch.zeros(8 * size, *bits.shape[1:], dtype=torch.uint8, device=bits.device)
    rows[: len(bits)] = bits
    packed = rows[:size].clone()
    for k in range(1, 8):
        packed |= rows[k * size : (k + 1) * size] << k
    return packed


def _unpacked(packed: Tensor) -> Tensor:
    """Bits of `[n, F]` bytes as floats `[8 n, F]`, bit 0 of all of them first."""
    return torch.cat([packed >> k & 1 for k in range(8)]).float()
