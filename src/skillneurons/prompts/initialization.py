"""Where a soft prompt starts."""

from collections.abc import Sequence
from typing import Literal

import torch

from skillneurons.errors import InputError

Init = Literal["normal", "vocabulary", "text", "prompt"]


def normal(length: int, width: int, std: float, seed: int) -> torch.Tensor:
    """Independent draws from N(0, std²), `[P, E]`, the same for a seed on every machine and device."""
    return torch.randn(length, width, generator=torch.Generator().manual_seed(seed)) * std


def from_vocabulary(embeddings: torch.Tensor, length: int, seed: int) -> torch.Tensor:
    """Embeddings of `P` distinct tokens drawn from the vocabulary `[V, E]` (Lester et al. 2021)."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(embeddings.shape[0], generator=generator)[:length]
    if len(chosen) < length:
        chosen = torch.randint(embeddings.shape[0], (length,), generator=generator)
    return embeddings[chosen.to(embeddings.device)].detach().to("cpu", torch.float32).clone()


def like_vocabulary(embeddings: torch.Tensor, length: int, seed: int) -> torch.Tensor:
    """A prompt `[P, E]` nobody tuned: normal, with the vocabulary's `[V, E]` mean and deviation a coordinate."""
    std, mean = torch.std_mean(embeddings.float().cpu(), dim=0)
    return mean + std * normal(length, embeddings.shape[1], 1.0, seed)


def from_tokens(embeddings: torch.Tensor, tokens: Sequence[int], length: int, seed: int) -> torch.Tensor:
    """The words of a text, repeated or cut to `P` positions; seeds differ by where the text begins.

    The text is rotated by the seed so that prompts of different seeds start from different tensors.
    """
    if not tokens:
        raise InputError("init_text has at least one token", "an empty text", "Give it some words.")
    rotated = [tokens[(seed + i) % len(tokens)] for i in range(length)]
    return embeddings[torch.tensor(rotated, device=embeddings.device)].detach().to("cpu", torch.float32).clone()


def from_prompt(source: torch.Tensor, length: int, width: int) -> torch.Tensor:
    """Another prompt `[P, E]` as the start; its shape must be the one asked for."""
    if tuple(source.shape) != (length, width):
        raise InputError(
            f"the prompt to start from is [{length}, {width}]",
            str(list(source.shape)),
            "Choose prompt_length and model as that prompt has them.",
        )
    return source.detach().to("cpu", torch.float32).clone()
