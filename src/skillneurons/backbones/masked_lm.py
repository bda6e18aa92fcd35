"""Masked LMs (RoBERTa, BERT, ALBERT, …): `<mask>, P - 1 vectors, <s>, text, </s>`, read at the mask.

Row 0 of a prompt is never used: the mask's embedding stands there. Prompt positions, the mask included,
get no position embedding; `<s>` has the position it would have after P tokens. Token types are 0
throughout and LayerNorm sees prompt and text alike. This is the placement of the published prompts
(github.com/thunlp/Prompt-Transferability 1.0, `modelling_roberta.py`).
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from skillneurons.backbones.base import Backbone, Inputs
from skillneurons.backbones.layout import Layout
from skillneurons.backbones.tokenization import TextBatch
from skillneurons.errors import InputError


class MaskedLM(Backbone):
    """A backbone whose label is read at the mask."""

    stacks = ("encoder",)

    def place(self, prompt: Tensor, batch: TextBatch) -> Inputs:
        """See `Backbone.place`; row 0 of the prompt is replaced by the mask."""
        if prompt.shape[-2] < 1:
            must = "a masked LM's prompt has at least one row, where the mask stands"
            raise InputError(must, "an empty prompt", "Use prompt_length=1 or more.")
        self._check_width(prompt)
        mask = self.embed(torch.tensor([self.info.tokenizer.mask_token_id], device=self.device))
        free = prompt[..., 1:, :].to(mask)
        return super().place(torch.cat([mask.expand(*free.shape[:-2], 1, -1), free], dim=-2), batch)

    @property
    def _encoder(self) -> nn.Module:
        return self.model  # type: ignore[no-any-return]

    def _label_positions(self, layout: Layout) -> Tensor:
        return layout.prompt[:, 0]

    @contextmanager
    def _placed(self, inputs: Inputs) -> Iterator[None]:
        """Keep position embeddings away from the prompt."""
        at_prompt = torch.zeros_like(inputs.attention_mask, dtype=torch.bool)
        at_prompt = at_prompt.scatter(1, inputs.prompt_positions, True)[..., None]

        def blank(_: nn.Module, args: Any, positions: Tensor) -> Tensor:
            # Longformer fills a row up to whole windows
            filled = nn.functional.pad(at_prompt, (0, 0, 0, positions.shape[1] - at_prompt.shape[1]))
            return torch.where(filled, positions.new_zeros(()), positions)

        with ExitStack() as hooks:
            for table in self._tables:
                hooks.enter_context(table.register_forward_hook(blank))
            yield
