"""FFN taps: where a model's neurons are read and changed.

A neuron is one coordinate of the input of an FFN's output projection (method.md §3). That projection is
found by what it does, not by its name, from the gradients of one probe forward in which every linear map's
output is cut off from what came before. It is a linear map in a layer

1. whose output the layer's output holds with no other linear map in between,
2. which reads outputs of the same layer's up projections and nothing else: linear maps that all read one
   thing (a residual stream within the layer is a sum over maps that do not), and
3. each token from those of the same token alone.

An attention's or a state space's output projection fails the third, since what it reads is mixed over
tokens; a query, key or up projection fails the first; a bottleneck behind the FFN (MobileBERT) the second.
Of several (adapters, gates behind the FFN) the widest counts. A layer whose weights are shared (ALBERT) is
tapped once for each time it runs.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from skillneurons.errors import InputError

Stack = Literal["encoder", "decoder"]
TapFunction = Callable[["Tap", Tensor], Tensor | None]


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


def find_taps(
    model: Any, probe: Callable[[], object], stacks: Sequence[Stack], encoder: nn.Module | None
) -> tuple[Tap, ...]:
    """The taps of a model in execution order, from one run of `probe`.

    Args:
        model: the Hugging Face model.
        probe: runs one small forward pass of it with `inputs_embeds`, several rows, the last the longest.
        stacks: the stacks it has.
        encoder: the module that holds the encoder, where there is one.

    Raises:
        InputError: a stack has layers without exactly one FFN, of different widths, or not of its tokens.
    """
    trace = _Trace()
    with trace.watching(model), torch.inference_mode(False), torch.enable_grad():
        probe()
    inside = set(encoder.modules()) if encoder is not None else set()
    taps: list[Tap] = []
    for found in trace.ffns:
        stack: Stack = "encoder" if model.get_submodule(found.module) in inside else "decoder"
        layer = sum(tap.stack == stack for tap in taps)
        taps.append(Tap(stack, layer, found.reads.shape[-1], found.module, found.call))
    for stack in stacks:
        of_stack = [(tap, f.reads) for tap, f in zip(taps, trace.ffns, strict=True) if tap.stack == stack]
        problem = trace.problem or _problem(of_stack, trace.tokens[stack == "decoder" and encoder is not None])
        if problem:
            raise InputError(
                f"each layer of a {model.config.model_type} {stack} has one FFN, all of one width, for each token",
                problem,
                "Use another backbone: this architecture's neurons are not supported (tuning is).",
            )
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


@dataclass(eq=False)
class _Map:
    """One call of a linear map in a layer: what it reads, and what it gives as a leaf of the graph."""

    module: str
    call: int
    reads: Tensor
    gives: Tensor


class _Trace:
    """Finds the FFNs' output projections while a model runs once.

    Attributes:
        ffns: their calls in execution order.
        tokens: rows and tokens that the model got, in the encoder (or only stack) and in the decoder.
        problem: what a layer has in place of one FFN, if that was found.
    """

    def __init__(self) -> None:
        self.ffns: list[_Map] = []
        self.tokens: list[tuple[int, int]] = []
        self.problem = ""
        self._calls: Counter[str] = Counter()
        self._open: list[list[_Map]] = []
        self._leaves: list[Tensor] = []
        self._with_ffn: dict[nn.ModuleList, bool] = {}

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Inside, the forward pass of a model is followed."""
        with ExitStack() as hooks:
            hooks.enter_context(model.register_forward_pre_hook(self._begin, with_kwargs=True))
            for name, module in model.named_modules():
                if isinstance(module, (nn.Linear, Conv1D)):
                    hooks.enter_context(module.register_forward_hook(partial(self._linear, name)))
                elif isinstance(module, nn.Embedding):
                    hooks.enter_context(module.register_forward_hook(self._embedded))
            for layers in _layer_lists(model):
                for layer in layers:
                    hooks.enter_context(layer.register_forward_pre_hook(lambda *_: self._open.append([])))
                    hooks.enter_context(layer.register_forward_hook(partial(self._leave, layers)))
            yield

    def _begin(self, _: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        embeds = kwargs["inputs_embeds"]
        # zeros, which a prompt may be, would close gates, and no gradient tell what stands behind them
        given = {**kwargs, "inputs_embeds": self._leaf(_noise(embeds))}
        self.tokens = [embeds.shape[:2]]
        if "decoder_input_ids" in kwargs:  # attention over a single token would mix nothing
            given["decoder_input_ids"] = kwargs["decoder_input_ids"].repeat(1, 3)
            self.tokens.append(given["decoder_input_ids"].shape)
        return args, given

    def _leaf(self, tensor: Tensor) -> Tensor:
        """The same values, as a beginning of the graph."""
        self._leaves.append(tensor.detach().requires_grad_())
        return self._leaves[-1].clone()  # may be changed in place

    def _embedded(self, _: nn.Module, __: Any, out: Any) -> Tensor | None:
        return self._leaf(out) if isinstance(out, Tensor) else None  # a table of positions may give more

    def _linear(self, name: str, _: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        again = self._leaf(out)
        if self._open:
            self._open[-1].append(_Map(name, self._calls[name], args[0], self._leaves[-1]))
        self._calls[name] += 1
        return again

    def _leave(self, layers: nn.ModuleList, _: nn.Module, __: Any, out: Any) -> None:
        maps = self._open.pop()
        reached = _gradients(out if isinstance(out, Tensor) else out[0], [m.gives for m in maps])
        own = {id(m.gives): m.reads for m in maps}
        ffns = [m for m, grad in zip(maps, reached, strict=True) if grad is not None and self._by_token(m, own)]
        widest = max((m.reads.shape[-1] for m in ffns), default=0)
        ffns = [m for m in ffns if m.reads.shape[-1] == widest]
        if len(ffns) > 1 or self._with_ffn.setdefault(layers, bool(ffns)) != bool(ffns):
            self.problem = f"{len(ffns)} in a layer" if len(ffns) > 1 else "none in some layers"
        self.ffns += ffns

    def _by_token(self, this: _Map, own: Mapping[int, Tensor]) -> bool:
        """Whether the last token that a map reads is made of its layer's up projections' last outputs alone."""
        gradients = zip(self._leaves, _gradients(this.reads, self._leaves), strict=True)
        used = [(own.get(id(leaf)), grad) for leaf, grad in gradients if grad is not None]
        first = used[0][0] if used else None
        return first is not None and all(
            reads is not None and torch.equal(reads, first) and not grad.reshape(-1, grad.shape[-1])[:-1].any()
            for reads, grad in used
        )


def _gradients(values: Tensor, leaves: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """Gradients at the leaves of the last token's values in random weights; None where they take no part."""
    if not values.requires_grad or not leaves:
        return [None] * len(leaves)
    last = values.reshape(-1, values.shape[-1])[-1]
    return torch.autograd.grad((last * _noise(last)).sum(), leaves, retain_graph=True, allow_unused=True)


def _noise(like: Tensor) -> Tensor:
    """The same on any device."""
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(0)).to(like)


def _layer_lists(module: nn.Module) -> Iterator[nn.ModuleList]:
    """The outermost module lists: transformer layers, whatever their class."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield child
        else:
            yield from _layer_lists(child)


def _problem(ffns: Sequence[tuple[Tap, Tensor]], tokens: tuple[int, int]) -> str:
    """What is wrong with the FFNs of a stack, or nothing."""
    widths, shapes = {tap.width for tap, _ in ffns}, {tuple(reads.shape[:-1]) for _, reads in ffns}
    if not ffns:
        return "none"
    if len(widths) > 1:
        return f"widths {sorted(widths)}"
    rows, length = tokens
    return (
        ""
        if shapes <= {(rows, length), (rows * length,)}
        else f"shapes {sorted(shapes)} for {rows} rows of {length} tokens"
    )
