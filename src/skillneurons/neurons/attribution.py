"""What a neuron does to the answer, from gradients: the first-order effect of taking it to its baseline.

A skill neuron predicts the label; whether the model uses it is another question. Attribution patching (Nanda 2023;
Syed et al. 2023, arXiv 2310.10348) estimates the effect of every neuron from one backward pass a batch: activation
minus baseline, times the gradient of the label margin. Integrated gradients (Sundararajan et al. 2017, arXiv
1703.01365) take the mean gradient on the way from the baseline, a layer at a time.
Shapes: b rows of a batch, n rows, L layers, W positions of a site, F FFN width, R label vectors.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from skillneurons.backbones.base import Backbone, Inputs, LabelWords
from skillneurons.backbones.batching import Encoded, batches_by_length
from skillneurons.backbones.taps import Tap
from skillneurons.neurons.activation_stream import summed
from skillneurons.neurons.sites import Site, at


@dataclass(frozen=True)
class Attribution:
    """One prompt on a two-label task.

    Attributes:
        prompt: `[P, E]`.
        words: two label words.
        baseline: `[L, W, F]`, what a suppressed neuron's activation would be.
        steps: 1 for attribution patching; more for integrated gradients, which cost L times as many passes.
        accelerator: of several processes each reads its share of the batches.
    """

    backbone: Backbone
    site: Site
    prompt: Tensor
    words: LabelWords
    baseline: Tensor
    steps: int = 1
    batch_size: int = 32
    accelerator: Accelerator | None = None

    def of_rows(self, encoded: Encoded, rows: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
        """Row numbers `[b]`, and how much each neuron raises score 1 minus score 0 there `[b, L, F]`."""
        numbers, one = torch.as_tensor(rows, dtype=torch.int64), self.accelerator
        first, every = (one.process_index, one.num_processes) if one else (0, 1)
        for chosen in batches_by_length(encoded.lengths[numbers], self.batch_size)[first::every]:
            batch = numbers[chosen]
            yield batch, self._of_batch([encoded.rows[i] for i in batch.tolist()])

    def mean(self, encoded: Encoded, rows: Sequence[int], labels: Tensor) -> Tensor:
        """Mean effect on the right label's margin `[R, L, F]`, for label vectors `[R, n]` of all rows of the split.

        Positive: the neuron speaks for the right label, and taking it to its baseline lowers the margin by so much.
        """
        layers, _, width = self.baseline.shape
        total = torch.zeros(len(labels), layers, width, device=self.backbone.device)
        for batch, values in self.of_rows(encoded, rows):
            signs = (2 * labels[:, batch].float() - 1).to(values.device)
            total += torch.einsum("rb,blf->rlf", signs, values)
        return (summed(self.accelerator, total) if self.accelerator else total) / len(rows)

    def _of_batch(self, texts: Sequence[Sequence[int]]) -> Tensor:
        device = self.backbone.device
        inputs = self.backbone.place(self.prompt.to(device), self.backbone.info.collate(texts).to(device))
        values, gradients = self._pass(inputs, {})
        baseline = self.baseline.to(device)
        if self.steps > 1:
            gradients = [self._on_the_way(inputs, layer, values[layer], baseline) for layer in range(len(values))]
        found = [(a - b) * g for a, b, g in zip(values, baseline, gradients, strict=True)]
        return torch.stack([one.sum(dim=1) for one in found], dim=1)

    def _on_the_way(self, inputs: Inputs, layer: int, value: Tensor, baseline: Tensor) -> Tensor:
        """The mean gradient `[b, W, F]` of one layer between its baseline and its activations (midpoints)."""
        total = torch.zeros_like(value)
        for step in range(self.steps):
            share = (step + 0.5) / self.steps
            there = baseline[layer] + share * (value - baseline[layer])
            total += self._pass(inputs, {layer: there})[1][layer]
        return total / self.steps

    def _pass(self, inputs: Inputs, instead: dict[int, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Activations at the site and gradients of score 1 minus score 0, `[b, W, F]` a layer.

        Args:
            inputs: placed.
            instead: layer -> activations that take the place of its own at the site.
        """
        positions, values, added = self.site.positions(inputs), {}, {}

        def watch(tap: Tap, activation: Tensor) -> Tensor | None:
            if tap.stack != self.site.stack:
                return None
            here = at(activation, positions).detach()
            values[tap.layer] = here.float()
            shift = instead[tap.layer] - here if tap.layer in instead else torch.zeros_like(here)
            added[tap.layer] = shift.to(activation.dtype).requires_grad_(True)
            rows = torch.arange(len(activation), device=activation.device)[:, None]
            last = torch.full((len(activation), 1), activation.shape[1] - 1, device=activation.device)
            places = (rows, last if positions is None else positions)
            return activation.index_put(places, added[tap.layer], accumulate=True)

        with torch.enable_grad(), self.backbone.tapped(watch):
            scored = self.backbone.scores(inputs, self.words)
            gradients = torch.autograd.grad((scored[:, 1] - scored[:, 0]).sum(), [added[i] for i in sorted(added)])
        return [values[i] for i in sorted(values)], [one.float() for one in gradients]
