"""Decoder-only models (GPT-2, OPT, Llama, Gemma, …): `text, P` (suffix) or `P, text` (prefix).

Behind the text, prompt positions can see it; before it, under causal attention, they cannot, and their
activations are the same for every input. The label is read at the last token.
"""

from typing import Any

from torch import Tensor

from skillneurons.backbones.base import Backbone, BackboneInfo
from skillneurons.backbones.layout import Layout


class DecoderOnly(Backbone):
    """A backbone whose label continues the text."""

    stacks = ("decoder",)

    def __init__(self, info: BackboneInfo, model: Any) -> None:
        self.prompt_first = info.placement == "prefix"
        super().__init__(info, model)

    @property
    def _encoder(self) -> None:
        return None

    def _label_positions(self, layout: Layout) -> Tensor:
        return layout.last

    def _besides(self, batch_size: int) -> dict[str, Any]:
        return {"use_cache": False}
