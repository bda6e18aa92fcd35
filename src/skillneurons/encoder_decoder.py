"""Encoder-decoders (T5, BART, …): the encoder reads `P, text, </s>`, the decoder takes one step.

The decoder reads its start token and what its tokenizer puts before every text (BART: `</s><s>`), and
the label is read at what comes next. In BART the prompt takes part in the encoder's positions.
"""

from typing import Any

import torch
from torch import Tensor, nn

from skillneurons.backbone import Backbone, BackboneInfo, Inputs
from skillneurons.errors import InputError
from skillneurons.layout import Layout, position_tables


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
        return self._encoder.get_input_embeddings()  # type: ignore[no-any-return, operator]

    @property
    def _left_padding(self) -> bool:
        return not position_tables(self._encoder)

    def _label_positions(self, layout: Layout) -> None:
        return None

    def _arguments(self, inputs: Inputs) -> dict[str, Any]:
        start = torch.tensor([self._decoder_ids], device=self.device)
        decoder_ids: Tensor = start.expand(len(inputs.embeds), -1)
        return {**super()._arguments(inputs), "decoder_input_ids": decoder_ids, "use_cache": False}


def _start_token(info: BackboneInfo, model: Any) -> int:
    places = (model.config, getattr(model, "generation_config", None))
    given = (getattr(place, "decoder_start_token_id", None) for place in places)
    start = next((i for i in given if i is not None), model.config.pad_token_id)
    if start is None:
        must = f"the configuration of {info.name} names decoder_start_token_id"
        raise InputError(must, "none", "Add it to the model's config.json.")
    return int(start)
