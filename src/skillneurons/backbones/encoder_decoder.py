"""Encoder-decoders (T5, BART, …): the encoder reads `P, text, </s>`, the decoder takes one step.

The decoder reads its start token and what its tokenizer puts before every text (BART: `</s><s>`), and
the label is read at what comes next. In BART the prompt takes part in the encoder's positions.
"""

from typing import Any

import torch
from torch import nn

from skillneurons.backbones.base import Backbone, BackboneInfo
from skillneurons.backbones.layout import Layout
from skillneurons.errors import InputError


class EncoderDecoder(Backbone):
    """A backbone whose label is read at the decoder's first step."""

    stacks = ("encoder", "decoder")

    def __init__(self, info: BackboneInfo, model: Any) -> None:
        self._decoder_ids = [_start_token(info, model), *info.frame.begin]
        super().__init__(info, model)

    @property
    def _encoder(self) -> nn.Module:
        return self.model.get_encoder()  # type: ignore[no-any-return]

    @property
    def _embedding(self) -> nn.Embedding:
        # the encoder's own module, since a shared table may be scaled in one and not in the other
        encoder: Any = self._encoder
        # FSMT's encoder is a plain module
        return encoder.get_input_embeddings() if hasattr(encoder, "get_input_embeddings") else encoder.embed_tokens  # type: ignore[no-any-return]

    def _label_positions(self, layout: Layout) -> None:
        return None

    def _besides(self, batch_size: int) -> dict[str, Any]:
        start = torch.tensor([self._decoder_ids], device=self.device)
        return {"decoder_input_ids": start.expand(batch_size, -1), "use_cache": False}


def _start_token(info: BackboneInfo, model: Any) -> int:
    places = (model.config, getattr(model, "generation_config", None))
    given = (getattr(place, "decoder_start_token_id", None) for place in places)
    start = next((i for i in given if i is not None), model.config.pad_token_id)
    if start is None:
        must = f"the configuration of {info.name} names decoder_start_token_id"
        raise InputError(must, "none", "Add it to the model's config.json.")
    return int(start)
