"""Activations of a site in a stream: read batch by batch, reduced inside the tap, never stored.

Shapes: B rows of a batch, W positions of the site, F FFN width, L layers, C classes, R permutations.
Rows of a batch stand sorted by class, so that a class is a slice and a sum over it one reduction.
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from accelerate import Accelerator
from torch import Tensor

from skillneurons.backbones.base import Backbone
from skillneurons.backbones.batching import Encoded, batches_by_length
from skillneurons.backbones.taps import Tap
from skillneurons.neurons.sites import Site, at


@dataclass(frozen=True)
class Rows:
    """The rows of one batch: numbers in the split, sorted by class, and where each class stands."""

    numbers: Tensor
    blocks: tuple[tuple[int, int, int], ...]


Consumer = Callable[[int, Tensor, Rows], None]


@dataclass(frozen=True)
class ActivationReader:
    """Reads a split under one prompt.

    Attributes:
        prompt: `[P, E]`.
        classes: C.
        accelerator: every process reads its share of the batches.
    """

    backbone: Backbone
    site: Site
    prompt: Tensor
    classes: int
    accelerator: Accelerator
    batch_size: int = 32

    @property
    def shape(self) -> tuple[int, int, int]:
        """(L, W, F)."""
        taps = self.site.taps(self.backbone)
        return len(taps), self.site.width, taps[0].width

    def read(self, encoded: Encoded, rows: Sequence[int], fn: Consumer) -> None:
        """Show `fn(layer, activation [B, W, F], rows)` every layer of every batch of the given rows."""
        numbers = torch.as_tensor(rows, dtype=torch.int64)
        batches = batches_by_length(encoded.lengths[numbers], self.batch_size)
        taps = self.site.taps(self.backbone)
        with torch.inference_mode():
            for chosen in batches[self.accelerator.process_index :: self.accelerator.num_processes]:
                batch = _sorted_by_class(numbers[chosen], encoded.labels, self.classes)
                _hand_back()
                self._read_batch(encoded, batch, taps, fn)

    def _read_batch(self, encoded: Encoded, batch: Rows, taps: Sequence[Tap], fn: Consumer) -> None:
        info, device = self.backbone.info, self.backbone.device
        text = info.collate([encoded.rows[i] for i in batch.numbers.tolist()]).to(device)
        inputs = self.backbone.place(self.prompt.to(device), text)
        positions = self.site.positions(inputs)
        self.backbone.read(inputs, taps, lambda tap, a: fn(tap.layer, at(a, positions).float(), batch))


@dataclass(frozen=True)
class Moments:
    """Class-wise moments of activations, added up in float64.

    Attributes:
        mean, variance: float32 `[L, C, W, F]`; the variance divides by n - 1, and is 0 for a single row.
        n: rows of each class, int64 `[C]`.
    """

    mean: Tensor
    variance: Tensor
    n: Tensor

    @property
    def overall(self) -> Tensor:
        """The mean over all rows `[L, W, F]`."""
        weights = (self.n / self.n.sum()).to(self.mean)
        return torch.einsum("lcwf,c->lwf", torch.nan_to_num(self.mean), weights)

    def one_against_rest(self, target: int, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean and variance `[W, F]` of a class in a layer, then of all the others together."""
        rest = [c for c in range(len(self.n)) if c != target and self.n[c]]
        n = self.n[rest].to(self.mean)[:, None, None]
        means, variances = self.mean[layer, rest], self.variance[layer, rest]
        mean = (means * n).sum(0) / n.sum()
        squares = ((n - 1) * variances + n * (means - mean) ** 2).sum(0)
        return self.mean[layer, target], self.variance[layer, target], mean, squares / (n.sum() - 1).clamp(min=1)


def moments(reader: ActivationReader, encoded: Encoded, rows: Sequence[int]) -> Moments:
    """Class-wise means and variances over the rows: sums in float64, about the first batch's mean."""
    layers, width, neurons = reader.shape
    shape, device = (layers, reader.classes, width, neurons), reader.backbone.device
    shift = torch.zeros(layers, width, neurons, device=device)
    total = torch.zeros(shape, dtype=torch.float64, device=device)
    squares = torch.zeros_like(total)
    counts = torch.zeros(layers, reader.classes, dtype=torch.int64)

    def consume(layer: int, activation: Tensor, batch: Rows) -> None:
        if not counts[layer].any():
            shift[layer] = activation.mean(0)
        for c, low, high in batch.blocks:
            centred = activation[low:high] - shift[layer]
            total[layer, c] += centred.sum(0)
            squares[layer, c] += centred.square_().sum(0)
            counts[layer, c] += high - low

    reader.read(encoded, rows, consume)
    return _merged(reader.accelerator, shift, total, squares, counts[0].to(device))


def fires(
    reader: ActivationReader, encoded: Encoded, rows: Sequence[int], baseline: Tensor, also: Consumer | None = None
) -> Tensor:
    """Rows of each class at which a neuron's activation is above its baseline, `[L, C, W, F]` of `counter(n)`.

    Args:
        reader: of one prompt.
        encoded: the split.
        rows: which of its rows.
        baseline: float32 `[L, W, F]`.
        also: is shown the comparisons, 1.0 and 0.0 `[B, W, F]`, in place of the activations.
    """
    layers, width, neurons = reader.shape
    device = reader.backbone.device
    counts = torch.zeros(layers, reader.classes, width, neurons, dtype=counter(len(rows)), device=device)
    baseline = baseline.to(device)

    def consume(layer: int, activation: Tensor, batch: Rows) -> None:
        bits = torch.empty(activation.shape, device=device)
        torch.gt(activation, baseline[layer], out=bits)
        for c, low, high in batch.blocks:
            counts[layer, c] += bits[low:high].sum(0).to(counts.dtype)
        if also is not None:
            also(layer, bits, batch)

    reader.read(encoded, rows, consume)
    return summed(reader.accelerator, counts)


def counter(n: int) -> torch.dtype:
    """The integers that n rows are counted in: half the memory where 16 bits hold them."""
    return torch.int16 if n <= torch.iinfo(torch.int16).max else torch.int32


def summed(accelerator: Accelerator, values: Tensor) -> Tensor:
    """Counters or real numbers added over all processes."""
    if accelerator.num_processes == 1:
        return values
    # no backend of torch.distributed adds 16 bits
    wide = values.int() if values.dtype == torch.int16 else values
    result: Tensor = accelerator.reduce(wide, "sum")
    return result.to(values.dtype)


def _hand_back() -> None:
    """Freed memory goes back to the system: glibc keeps what lies below a living block."""
    if trim := _malloc_trim():
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    """Of glibc; None with another C library, or where a process is no library to itself (Windows)."""
    try:
        return getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (TypeError, OSError):
        return None


def _sorted_by_class(numbers: Tensor, labels: Tensor, classes: int) -> Rows:
    order = torch.argsort(labels[numbers], stable=True)
    numbers = numbers[order]
    sizes = torch.bincount(labels[numbers], minlength=classes).tolist()
    blocks, start = [], 0
    for c, size in enumerate(sizes):
        if size:
            blocks.append((c, start, start + size))
        start += size
    return Rows(numbers, tuple(blocks))


def _merged(accelerator: Accelerator, shift: Tensor, total: Tensor, squares: Tensor, n: Tensor) -> Moments:
    """Chan's parallel update: each process' mean and squared deviations, then those of all together."""
    rows = n.to(total)[None, :, None, None]
    some = rows.clamp(min=1)
    squares -= total**2 / some
    mean = total.div_(some).add_(shift[:, None])
    mean *= rows > 0
    if accelerator.num_processes > 1:
        everywhere = accelerator.reduce(n, "sum")
        all_rows = everywhere.to(total)[None, :, None, None].clamp(min=1)
        grand = accelerator.reduce(mean * rows, "sum") / all_rows
        squares = accelerator.reduce(squares + rows * (mean - grand) ** 2, "sum")
        mean, n, rows = grand, everywhere, all_rows
    variance = squares.clamp_(min=0).div_((rows - 1).clamp(min=1))
    return Moments(mean.float(), variance.float(), n.cpu())
