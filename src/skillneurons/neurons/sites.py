"""Sites: which stack's neurons are read, and at which positions (method.md §3).

| site | masked LM | encoder-decoder | decoder-only (suffix) |
|---|---|---|---|
| prompt | all P, the mask among them | all P of the encoder | all P, the last among them |
| prompt-body | P - 1, without the mask | all P of the encoder | P - 1, without the last |
| decoder | none | the decoder's first step | none |
| label | the mask | the decoder's first step | the last position |
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from skillneurons.backbones.base import Backbone, BackboneInfo, Inputs
from skillneurons.backbones.taps import Stack, Tap
from skillneurons.errors import InputError

SiteName = Literal["prompt", "prompt-body", "decoder", "label"]


@dataclass(frozen=True)
class Site:
    """Where neurons are read in one family.

    Attributes:
        name: as asked for.
        stack: whose FFNs are tapped.
        first, last: the prompt positions read, as a slice; of one position in the decoder if `at_step`.
        at_step: whether the position is the decoder's first step instead of the prompt's.
    """

    name: SiteName
    stack: Stack
    first: int
    last: int
    at_step: bool = False

    @property
    def width(self) -> int:
        """How many positions are read."""
        return self.last - self.first

    def taps(self, backbone: Backbone) -> tuple[Tap, ...]:
        """The taps of its stack, first layer first."""
        return tuple(tap for tap in backbone.taps if tap.stack == self.stack)

    def positions(self, inputs: Inputs) -> Tensor | None:
        """Indices `[B, width]` into the stack's sequence; None for the decoder's first step, its last position."""
        return None if self.at_step else inputs.prompt_positions[:, self.first : self.last]


def site_of(info: BackboneInfo, name: SiteName, prompt_length: int) -> Site:
    """The site of that name in a backbone's family.

    Raises:
        InputError: the family does not have it, or nothing there could depend on the text.
    """
    if name not in get_args(SiteName):
        raise InputError(f"site is one of {', '.join(get_args(SiteName))}", str(name), "Choose one.")
    if info.placement == "prefix":
        raise InputError(
            "skill neurons need prompt positions that can see the text",
            f"a prefix before the text of {info.name}, whose activations are the same for every text",
            "Tune with placement=auto, which puts the prompt behind the text.",
        )
    if info.family == "encoder_decoder":
        if name in ("decoder", "label"):
            return Site(name, "decoder", 0, 1, at_step=True)
        return Site(name, "encoder", 0, prompt_length)
    if name == "decoder":
        raise InputError(
            "site=decoder needs an encoder-decoder", f"{info.name} ({info.family})", "Use site=label instead."
        )
    stack: Stack = "encoder" if info.family == "masked_lm" else "decoder"
    label = 0 if info.family == "masked_lm" else prompt_length - 1
    if name == "label":
        return Site(name, stack, label, label + 1)
    if name == "prompt":
        return Site(name, stack, 0, prompt_length)
    if prompt_length < 2:
        raise InputError(
            "site=prompt-body needs a prompt position that is not the label's", "a prompt of 1", "Use site=prompt."
        )
    return Site(name, stack, 1, prompt_length) if label == 0 else Site(name, stack, 0, prompt_length - 1)


def at(activation: Tensor, positions: Tensor | None) -> Tensor:
    """Activations at a site, `[B, width, F]`: a view where all rows have it in one place.

    Args:
        activation: `[B, N, F]`.
        positions: `[B, width]` as `Site.positions` gives them.
    """
    if positions is None:
        return activation[:, -1:]
    first = positions[0]
    if bool((positions == first).all()):
        start = int(first[0])
        return activation[:, start : start + len(first)]
    rows = torch.arange(len(activation), device=activation.device)
    return activation[rows[:, None], positions]
