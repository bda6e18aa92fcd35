"""Activations of every neuron at the one position chosen for it.

Shapes: n rows, L layers, F FFN width, W positions of the site, B rows of a batch.
"""

from collections.abc import Sequence

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from skillneurons.backbones.base import Backbone
from skillneurons.backbones.batching import Encoded
from skillneurons.neurons.activation_stream import ActivationReader, Rows
from skillneurons.neurons.sites import Site


def chosen_activations(
    backbone: Backbone,
    site: Site,
    prompt: Tensor,
    encoded: Encoded,
    position: NDArray[np.int16],
    batch_size: int = 32,
) -> NDArray[np.float32]:
    """Activations `[n, L, F]` of a split under a prompt `[P, E]`, each neuron at its position `[L, F]` of the site.

    Memory is 4 n L F bytes: for sets of hundreds of rows, as adversarial ones are.
    """
    classes = int(encoded.labels.max()) + 1
    accelerator = Accelerator(cpu=backbone.device.type == "cpu")
    reader = ActivationReader(backbone, site, prompt, classes, accelerator, batch_size)
    layers, _, width = reader.shape
    found = np.empty((len(encoded), layers, width), dtype=np.float32)
    where = torch.from_numpy(position.astype(np.int64)).to(backbone.device)

    def keep(layer: int, activation: Tensor, batch: Rows) -> None:
        chosen = torch.take_along_dim(activation, where[layer][None, None], dim=1)[:, 0]
        found[batch.numbers.numpy(), layer] = chosen.cpu().numpy()

    reader.read(encoded, range(len(encoded)), keep)
    return found


def standardised_shift(
    changed: Sequence[NDArray[np.float32]], clean: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """|changed - clean| in standard deviations over the clean rows, mean over prompts, `[n, L, F]`.

    Args:
        changed: activations of the changed rows under each prompt `[n, L, F]`.
        clean: of their originals, in the same order. A neuron that does not vary over them has shift 0.
    """
    total = np.zeros(clean[0].shape, dtype=np.float32)
    for after, before in zip(changed, clean, strict=True):
        spread = before.std(axis=0, dtype=np.float64).astype(np.float32)
        still = spread < 1e-7
        total += np.where(still, 0, np.abs(after - before) / np.where(still, 1, spread))
    return np.asarray(total / len(clean), dtype=np.float32)
