"""Where prompt, text and padding stand in a row, and what tables of positions a model has.

Shapes: B batch, P prompt length, T text length, N = P + T.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Side = Literal["right", "left"]


@dataclass(frozen=True)
class Layout:
    """Where prompt and text go in a row of N = P + T positions.

    Attributes:
        source: `[B, N]`, index into (prompt, text) laid end to end.
        mask: `[B, N]`, 1 at prompt and text.
        order: `[B, N]`, index among the row's prompt and text; below 0 or past the end at padding.
        prompt: `[B, P]`, positions of the prompt.
        last: `[B]`, position of the last token of prompt and text.
    """

    source: Tensor
    mask: Tensor
    order: Tensor
    prompt: Tensor
    last: Tensor


def arrange(text_mask: Tensor, prompt_length: int, prompt_first: bool, side: Side) -> Layout:
    """Lay out a prompt and right-padded texts `[B, T]`, each row's prompt next to its own text."""
    size, device = prompt_length + text_mask.shape[1], text_mask.device
    text_length = text_mask.sum(dim=1, keepdim=True)
    used = text_length + prompt_length
    pads = size - used if side == "left" else torch.zeros_like(used)
    order = torch.arange(size, device=device) - pads
    real = (order >= 0) & (order < used)
    if prompt_first:
        source, start = order, pads
    else:
        source = torch.where(order < text_length, order + prompt_length, order - text_length)
        start = pads + text_length
    # a row with padding has a pad at the end of its text
    source = torch.where(real, source, size - 1)
    prompt = start + torch.arange(prompt_length, device=device)
    return Layout(source, real.long(), order, prompt, (pads + used - 1).squeeze(1))


def position_tables(module: nn.Module) -> list[nn.Embedding]:
    """The tables of absolute positions in a model, learned or sinusoidal."""
    names = ("position_embeddings", "embed_positions", "wpe")
    found = [child for name, child in module.named_modules() if name.rpartition(".")[2] in names]
    return [table for table in found if isinstance(table, nn.Embedding)]


def first_position(table: nn.Embedding) -> int:
    """The row of a position table that the first token of a text reads (RoBERTa: padding_idx + 1)."""
    return 0 if table.padding_idx is None else table.padding_idx + 1
