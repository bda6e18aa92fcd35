"""Suppression: what a prompt still scores while chosen neurons of one stack are changed (method.md §3).

Shapes: M sets of neurons, b texts of a batch, B = b x M rows, N positions, W positions of the site,
L layers, F FFN width, n rows of a split, C label words. A set is a mask `[L, F]`; several sets stand as
rows of one batch, each text repeated once a set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skillneurons.backbones.base import Backbone, Inputs, LabelWords
from skillneurons.backbones.batching import Encoded, batches_by_length
from skillneurons.backbones.taps import Tap
from skillneurons.neurons.selection import Mask, Ranking, random_sets, top_neurons
from skillneurons.neurons.sites import Site, at
from skillneurons.seeds import mix

Kind = Literal["zero", "mean", "noise", "resample"]
Positions = Literal["all", "prompt"]


@dataclass(frozen=True)
class Intervention:
    """What a suppressed neuron's activation becomes.

    Attributes:
        kind: `zero` sets it to 0 (the paper); `mean` to `values`; `noise` adds normal noise (Wang et al.
            2022); `resample` takes it from another row of the split, or from the row's own donor, at the same
            place of the site.
        positions: `all`, or `prompt`: those of the neurons' site alone.
        values: `[L, F]`, for `mean`.
        sigma: the noise's standard deviation.
        seed: of the noise, and of which row is taken.
    """

    kind: Kind = "zero"
    positions: Positions = "all"
    values: Tensor | None = None
    sigma: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind == "resample" and self.positions == "all":
            raise ValueError("kind=resample needs positions=prompt, since texts differ in length. Pass both.")
        if (self.kind == "mean") != (self.values is not None):
            raise ValueError(f"values are given exactly for kind=mean; got kind={self.kind}. Pass both or neither.")


@dataclass(frozen=True)
class Sets:
    """Skill neurons at one rate and random sets beside them.

    Attributes:
        rate: percent.
        skill: the set that is suppressed `[L, F]`.
        controls: as many neurons in each layer, drawn `[K, L, F]`; None where there is nothing to draw
            (no neuron, or every one).
        planned: how many may be read; fewer are where the test is lost before.
    """

    rate: float
    skill: Mask
    controls: Mask | None
    planned: int = 0

    @property
    def size(self) -> int:
        """How many neurons are suppressed."""
        return int(self.skill.sum())


def sets_at(
    predictivity: NDArray[np.floating], rate: float, ranking: Ranking, controls: int, seed: int, keep: bool = False
) -> Sets:
    """The sets to suppress at one rate.

    Args:
        predictivity: `[L, F]` or `[K, L, F]`, as `top_neurons` takes it.
        rate: percent.
        ranking: within layers or over all.
        controls: how many random sets.
        seed: of the random sets, which depend on it, the rate and their number alone.
        keep: suppress all neurons but the top ones (and all but the random ones).
    """
    top = top_neurons(predictivity, rate, ranking)
    if not top.any() or top.all():
        return Sets(rate, top ^ keep, None)
    return Sets(rate, top ^ keep, np.stack(list(random_sets(top, rate, controls, seed))) ^ keep, controls)


def suppressed_scores(
    backbone: Backbone,
    site: Site,
    prompt: Tensor,
    encoded: Encoded,
    words: LabelWords,
    masks: Mask,
    how: Intervention,
    keys: Sequence[int],
    batch_size: int = 64,
    donors: Encoded | None = None,
) -> Tensor:
    """Label scores of every row with each set suppressed, whatever the batch size.

    Args:
        backbone: any family.
        site: whose stack is suppressed; the other stack is left alone.
        prompt: `[P, E]`.
        encoded: the split.
        words: label words.
        masks: the sets `[M, L, F]`.
        how: what the neurons become.
        keys: a number a row, from which its noise and its other row are drawn.
        batch_size: rows of one forward pass, texts times sets.
        donors: for `resample`: the text that each row's activations are taken from, in the order of the rows; the
            clean original of an adversarial row restores what the neurons would have been.

    Returns:
        float32 `[M, n, C]`, on the CPU.
    """
    sets = torch.from_numpy(np.asarray(masks)).to(backbone.device)
    result = torch.zeros(len(sets), len(encoded), len(words.ids))
    reading = _Reading(backbone, site, prompt.to(backbone.device), encoded, how, keys, donors)
    at_once = min(len(sets), batch_size)
    with torch.inference_mode():
        for numbers in batches_by_length(encoded.lengths, max(1, batch_size // at_once)):
            taken = reading.donors(numbers)
            for low in range(0, len(sets), at_once):
                scored = reading.scores(numbers, sets[low : low + at_once], words, taken)
                result[low : low + at_once, numbers] = scored
    return result


def other_rows(keys: Sequence[int], seed: int) -> list[int]:
    """For each row another row of the split, drawn from its key."""
    if len(keys) < 2:
        raise ValueError("resampling takes another row's activations; got a split of one row. Use more rows.")
    drawn = [mix(seed, key, 1) % (len(keys) - 1) for key in keys]
    return [other + (other >= row) for row, other in enumerate(drawn)]


@dataclass(frozen=True)
class _Reading:
    """One prompt on one split under one kind of change."""

    backbone: Backbone
    site: Site
    prompt: Tensor
    encoded: Encoded
    how: Intervention
    keys: Sequence[int]
    given: Encoded | None = None

    def donors(self, numbers: Sequence[int]) -> Mapping[int, Tensor]:
        """Layer -> activations `[b, W, F]` of other rows, as the untouched model has them."""
        if self.how.kind != "resample":
            return {}
        if self.given is None:
            others = other_rows(self.keys, self.how.seed)
            texts = [self.encoded.rows[others[i]] for i in numbers]
        else:
            texts = [self.given.rows[i] for i in numbers]
        inputs, found = self._placed(texts), {}
        positions = self.site.positions(inputs)

        def keep(tap: Tap, activation: Tensor) -> None:
            found[tap.layer] = at(activation, positions).clone()

        self.backbone.read(inputs, self.site.taps(self.backbone), keep)
        return found

    def scores(self, numbers: Sequence[int], sets: Tensor, words: LabelWords, donors: Mapping[int, Tensor]) -> Tensor:
        """`[m, b, C]` of b texts under m sets."""
        inputs = self._placed([self.encoded.rows[i] for i in numbers for _ in range(len(sets))])
        positions = self.site.positions(inputs)
        positions = None if positions is None else positions[:: len(sets)]

        def change(tap: Tap, activation: Tensor) -> Tensor | None:
            chosen = sets[:, tap.layer] if tap.stack == self.site.stack else None
            if chosen is None or not bool(chosen.any()):
                return None
            grouped = activation.reshape(len(numbers), len(sets), *activation.shape[1:])
            new = self._becomes(tap.layer, grouped, numbers, positions, donors)
            where = chosen[None, :, None, :] & self._where(grouped, positions)
            return torch.where(where, new.to(grouped.dtype), grouped).flatten(0, 1)

        with self.backbone.tapped(change):
            scored = self.backbone.scores(inputs, words)
        return scored.reshape(len(numbers), len(sets), -1).transpose(0, 1).cpu()

    def _placed(self, rows: Sequence[Sequence[int]]) -> Inputs:
        return self.backbone.place(self.prompt, self.backbone.info.collate(rows).to(self.backbone.device))

    def _where(self, grouped: Tensor, positions: Tensor | None) -> Tensor:
        """The positions that are changed, bool `[b, 1, N, 1]`."""
        texts, _, length, _ = grouped.shape
        if self.how.positions == "all":
            return torch.ones(texts, 1, length, 1, dtype=torch.bool, device=grouped.device)
        where = torch.zeros(texts, length, dtype=torch.bool, device=grouped.device)
        return where.scatter(1, _indices(positions, texts, length, grouped.device), True)[:, None, :, None]

    def _becomes(
        self,
        layer: int,
        grouped: Tensor,
        numbers: Sequence[int],
        positions: Tensor | None,
        donors: Mapping[int, Tensor],
    ) -> Tensor:
        """What suppressed activations become, to be broadcast to `[b, m, N, F]`."""
        if self.how.kind == "zero":
            return torch.zeros((), device=grouped.device)
        if self.how.kind == "mean":
            assert self.how.values is not None
            return self.how.values[layer].to(grouped.device)
        if self.how.kind == "noise":
            return grouped + self._noise(layer, grouped, numbers)[:, None]
        texts, _, length, width = grouped.shape
        where = _indices(positions, texts, length, grouped.device)[..., None].expand(-1, -1, width)
        new = torch.zeros(texts, length, width, dtype=grouped.dtype, device=grouped.device)
        return new.scatter(1, where, donors[layer])[:, None]

    def _noise(self, layer: int, grouped: Tensor, numbers: Sequence[int]) -> Tensor:
        """`[b, N, F]`; a row's noise is drawn on the CPU over its own length, so it is the same in every batch."""
        texts, _, length, width = grouped.shape
        noise = torch.zeros(texts, length, width)
        for row, number in enumerate(numbers):
            own = length if self.site.at_step else len(self.prompt) + len(self.encoded.rows[number])
            generator = torch.Generator().manual_seed(mix(self.how.seed, self.keys[number], 2, layer))
            noise[row, :own] = torch.randn(own, width, generator=generator) * self.how.sigma
        return noise.to(grouped)


def _indices(positions: Tensor | None, texts: int, length: int, device: torch.device) -> Tensor:
    """Positions of the site `[b, W]`; the decoder's first step is the last of its sequence."""
    return torch.full((texts, 1), length - 1, device=device) if positions is None else positions
