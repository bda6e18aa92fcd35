"""How many prompts hold each neuron for label 1 at each row: all that predictivities of any rows are made of.

Shapes: n rows, S prompts, L layers, F FFN width, R label vectors, M sets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skillneurons.neurons.selection import Mask

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Votes:
    """How many prompts hold a neuron for label 1 at a row: it fires if excitatory, is silent if inhibitory.

    Attributes:
        counts: uint8 `[n, L, F]`.
        prompts: S.
    """

    counts: NDArray[np.uint8]
    prompts: int

    @classmethod
    def of(cls, fired: Sequence[NDArray[np.bool_]], signs: Sequence[NDArray[np.int8]]) -> "Votes":
        """From firing `[n, L, F]` and sign `[L, F]` of each prompt."""
        counts = np.zeros(fired[0].shape, dtype=np.uint8)
        for bits, sign in zip(fired, signs, strict=True):
            counts += bits ^ (sign < 0)
        return cls(counts, len(fired))

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def shape(self) -> tuple[int, int]:
        """(L, F)."""
        return self.counts.shape[1], self.counts.shape[2]

    def take(self, rows: NDArray[np.int64]) -> "Votes":
        """On some rows."""
        return Votes(self.counts[rows], self.prompts)

    def predictivity(self, labels: ArrayLike) -> NDArray[np.float32]:
        """Share of rows right, mean over prompts, `[L, F]`; of several label vectors `[R, n]`: `[R, L, F]`."""
        y = np.asarray(labels, dtype=np.float32)
        return self._weighted(np.full(y.shape, 1 / len(self), dtype=np.float32), y)

    def resampled(self, labels: ArrayLike, weights: Floats) -> NDArray[np.float32]:
        """Of resamples with row weights `[b, n]`: `[b, L, F]`."""
        return self._weighted(weights.astype(np.float32), np.asarray(labels, dtype=np.float32))

    def of_sets(self, labels: ArrayLike, sets: Mask) -> Floats:
        """Share of a set's neurons (and prompts) that are right at a row, `[M, n]` for sets `[M, L, F]`."""
        flat, y = self._flat, np.asarray(labels).astype(bool)
        masks = sets.reshape(len(sets), -1).astype(np.float32)
        for_one = (masks @ flat.T) / (self.prompts * masks.sum(axis=1, keepdims=True))
        return np.asarray(np.where(y, for_one, 1 - for_one), dtype=np.float64)

    @property
    def _flat(self) -> NDArray[np.float32]:
        return self.counts.reshape(len(self), -1).astype(np.float32)

    def _weighted(self, weights: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
        # right = y D + (1 - y)(S - D), which is linear in the votes D
        signed = weights * (2 * labels - 1)
        constant = (weights * (1 - labels)).sum(axis=-1)
        right = signed @ self._flat / self.prompts + constant[..., None]
        return np.asarray(right.reshape(*right.shape[:-1], *self.shape), dtype=np.float32)
