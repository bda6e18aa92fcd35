"""Where prompt, text and padding stand in a row, and what tables of positions a model has.

Shapes: B batch, P prompt length, T text length, N = P + T.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


@dataclass(frozen=True)
class Layout:
    """Where prompt and text go in a row of N = P + T positions.

    Attributes:
        source: `[B, N]`, index into (prompt, text) laid end to end.
        mask: `[B, N]`, 1 at prompt and text.
        order: `[B, N]`, index among the row's prompt and text; past the end at padding.
        prompt: `[B, P]`, positions of the prompt.
        last: `[B]`, position of the last token of prompt and text.
    """

    source: Tensor
    mask: Tensor
    order: Tensor
    prompt: Tensor
    last: Tensor


def arrange(text_mask: Tensor, prompt_length: int, prompt_first: bool) -> Layout:
    """Lay out a prompt and right-padded texts `[B, T]`, each row's prompt next to its own text."""
    size, device = prompt_length + text_mask.shape[1], text_mask.device
    text_length = text_mask.sum(dim=1, keepdim=True)
    used = text_length + prompt_length
    order = torch.arange(size, device=device).expand(len(used), -1)
    real = order < used
    if prompt_first:
        source, start = order, torch.zeros_like(used)
    else:
        source = torch.where(order < text_length, order + prompt_length, order - text_length)
        start = text_length
    # a row with padding has a pad at the end of its text
    source = torch.where(real, source, size - 1)
    prompt = start + torch.arange(prompt_length, device=device)
    return Layout(source, real.long(), order, prompt, (used - 1).squeeze(1))


def text_part(model: Any) -> Any:
    """The part of a model that reads prompt and text: no tower for images or sound, no decoder behind an encoder."""
    if model.config.is_encoder_decoder:
        return model.get_encoder()
    found = model.get_decoder()
    # a vocabulary head may be called decoder, too (ModernBERT)
    return found if isinstance(found, PreTrainedModel) else model.base_model


def text_config(model: Any) -> Any:
    """The configuration of `text_part`, which may be nested in the model's."""
    return getattr(text_part(model), "config", model.config)


def position_tables(model: Any) -> list[nn.Embedding]:
    """The tables of absolute positions that prompt and text read, learned or sinusoidal."""
    names = ("position_embeddings", "embed_positions", "wpe")
    found = [child for name, child in text_part(model).named_modules() if name.rpartition(".")[2] in names]
    # a rotary table is as wide as a head and adds to no embedding (RoFormer)
    least = model.get_input_embeddings().embedding_dim
    return [table for table in found if isinstance(table, nn.Embedding) and table.embedding_dim >= least]


def first_position(model: Any) -> int:
    """The row of its position tables that a model's first token reads (RoBERTa: padding_idx + 1)."""
    trained = _trained_positions(model)
    return max([_first_row(table, trained) for table in position_tables(model)], default=0)


def num_positions(model: Any) -> int | None:
    """Positions for prompt and text: of the tables, else what the model was trained for; None: no limit."""
    trained = _trained_positions(model)
    tables = position_tables(model)
    rows = [table.num_embeddings - _first_row(table, trained) - _offset(table) for table in tables]
    return min(rows, default=trained)


def _trained_positions(model: Any) -> int | None:
    config = text_config(model)
    given = (getattr(config, name, None) for name in ("max_position_embeddings", "max_seq_len"))
    # XLNet's -1 stands for no limit
    return next((value for value in given if isinstance(value, int) and value > 0), None)


def _offset(table: nn.Embedding) -> int:
    """What a table adds to the positions it is given (OPT: 2)."""
    return int(getattr(table, "offset", 0))


def _first_row(table: nn.Embedding, trained: int | None) -> int:
    if table.padding_idx is not None:
        return table.padding_idx + 1
    # rows that are no position of the model stand before the first (Nystromformer: 2)
    spare = 0 if trained is None else table.num_embeddings - _offset(table) - trained
    return max(spare, 0)
