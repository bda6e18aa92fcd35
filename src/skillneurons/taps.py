"""FFN taps: where a model's neurons are read and changed.

A neuron is one coordinate of the input of an FFN's output projection (method.md §3). That projection is
found by what every transformer layer has in common, not by its name: it is the last linear map a layer
runs. A probe forward records them in execution order, so a layer whose weights are shared (ALBERT) is
tapped once for each time it runs.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from skillneurons.errors import InputError

Stack = Literal["encoder", "decoder"]
TapFunction = Callable[["Tap", Tensor], Tensor | None]

WIDTHS = ("{}_ffn_dim", "d_ff", "ffn_dim", "intermediate_size", "n_inner", "ffn_hidden_size", "hidden_dim")
DEPTHS = ("{}_layers", "num_{}_layers", "num_hidden_layers", "num_layers")


@dataclass(frozen=True)
class Tap:
    """One FFN's hidden layer.

    Attributes:
        stack: `encoder` or `decoder`; a masked LM is an encoder, a decoder-only model a decoder.
        layer: index within the stack.
        width: F, the number of neurons.
        module: name of the output projection in the model.
        call: which of the module's calls in one forward pass this is (0 unless layers share weights).
    """

    stack: Stack
    layer: int
    width: int
    module: str = field(repr=False)
    call: int = field(repr=False)


@dataclass(frozen=True)
class _Call:
    module: str
    call: int
    width: int


def find_taps(
    model: Any, probe: Callable[[], object], stacks: Sequence[Stack], encoder: nn.Module | None
) -> tuple[Tap, ...]:
    """The taps of a model in execution order, from one run of `probe`.

    Args:
        model: the Hugging Face model.
        probe: runs one small forward pass of it.
        stacks: the stacks it has.
        encoder: the module that holds the encoder, where there is one.

    Raises:
        InputError: the layers found are not those the configuration promises.
    """
    inside = set(encoder.modules()) if encoder is not None else set()
    taps: list[Tap] = []
    for found in _last_linear_calls(model, probe):
        stack: Stack = "encoder" if model.get_submodule(found.module) in inside else "decoder"
        layer = sum(tap.stack == stack for tap in taps)
        taps.append(Tap(stack, layer, found.width, found.module, found.call))
    for stack in stacks:
        _check_stack(model.config, stack, [tap for tap in taps if tap.stack == stack])
    return tuple(taps)


@contextmanager
def tapped(model: nn.Module, taps: Sequence[Tap], fn: TapFunction) -> Iterator[None]:
    """Call `fn(tap, activation [B, N, F])` in every forward pass; a tensor it returns takes its place.

    The model is to be called with `inputs_embeds` by keyword.
    """
    places = {(tap.module, tap.call): tap for tap in taps}
    calls: Counter[str] = Counter()
    batch_size = 0

    def begin(_: nn.Module, args: object, kwargs: dict[str, Any]) -> None:
        nonlocal batch_size
        calls.clear()
        batch_size = len(kwargs["inputs_embeds"])

    def at(name: str, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        tap = places.get((name, calls[name]))
        calls[name] += 1
        # some models (OPT) hand their FFN all tokens of the batch in one row: [B*N, F]
        new = None if tap is None else fn(tap, args[0].view(batch_size, -1, tap.width))
        return None if new is None else (new.reshape(args[0].shape).to(args[0].dtype), *args[1:])

    with ExitStack() as hooks:
        hooks.enter_context(model.register_forward_pre_hook(begin, with_kwargs=True))
        for name in dict.fromkeys(tap.module for tap in taps):
            module = model.get_submodule(name)
            hooks.enter_context(module.register_forward_pre_hook(lambda _, args, name=name: at(name, args)))
        yield


class _Enough(Exception):  # noqa: N818 - it reports no error
    """Everything that was asked for has been read."""


@contextmanager
def stopping(model: nn.Module, taps: Sequence[Tap], fn: TapFunction) -> Iterator[None]:
    """As `tapped`, for one forward pass that ends at the last of the taps."""

    def until_last(tap: Tap, activation: Tensor) -> None:
        fn(tap, activation)
        if tap == taps[-1]:
            raise _Enough

    with suppress(_Enough), tapped(model, taps, until_last):
        yield


def _last_linear_calls(model: nn.Module, probe: Callable[[], object]) -> list[_Call]:
    """The last linear call of each layer that `probe` runs."""
    calls: Counter[str] = Counter()
    open_layers: list[_Call | None] = []
    found: list[_Call] = []

    def on_linear(name: str, width: int) -> None:
        if open_layers:
            open_layers[-1] = _Call(name, calls[name], width)
        calls[name] += 1

    def on_exit() -> None:
        last = open_layers.pop()
        if last is not None:
            found.append(last)

    with ExitStack() as hooks, torch.no_grad():
        for layer in _layers(model):
            hooks.enter_context(layer.register_forward_pre_hook(lambda *_: open_layers.append(None)))
            hooks.enter_context(layer.register_forward_hook(lambda *_: on_exit()))
        for name, module in model.named_modules():
            if isinstance(module, (nn.Linear, Conv1D)):
                hooks.enter_context(
                    module.register_forward_pre_hook(lambda _, args, name=name: on_linear(name, args[0].shape[-1]))
                )
        probe()
    return found


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """The members of the outermost module lists: transformer layers, whatever their class."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _layers(child)


def _check_stack(config: Any, stack: str, taps: list[Tap]) -> None:
    depth = _first(config, [name.format(stack) for name in DEPTHS], 0)
    width = _first(config, [name.format(stack) for name in WIDTHS], 4 * config.hidden_size)
    if len(taps) != depth or {tap.width for tap in taps} != {width}:
        raise InputError(
            f"The FFN layers of a {config.model_type} {stack} can be found: {depth} of width {width}",
            f"{len(taps)} of widths {sorted({tap.width for tap in taps})}",
            "Use another backbone: this architecture's neurons are not supported (tuning is).",
        )


def _first(config: Any, names: Sequence[str], default: int) -> int:
    values = (getattr(config, name, None) for name in names)
    return next((value for value in values if isinstance(value, int)), default)
