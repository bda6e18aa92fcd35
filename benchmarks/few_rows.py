"""How much of a loss of consistency do few rows give by themselves? Clean rows in the place of adversarial ones.

`python benchmarks/few_rows.py <prompts> [draws] [data_dir]`: prompts of one task as `runs:/<tune>` or folders, by
default 100 draws. Neurons are ranked on half of the test rows, and again on as many *clean* rows of the other half as
adversarial sets have, in two ways. Fixed: position and direction are those of the first rows (as `robustness` does).
Chosen anew: the best position and direction on either rows (as the published study does). What agreement is missing
is missing for the number of rows alone, for nothing else differs.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from skillneurons.backbones.loading import load
from skillneurons.commands.evaluated_task import evaluated_task
from skillneurons.data.splits import load_splits
from skillneurons.neurons.activation_stream import ActivationReader, Rows, fires, moments
from skillneurons.neurons.selection import overlap, top_neurons
from skillneurons.neurons.sites import site_of
from skillneurons.prompts.predictor import find_backbone
from skillneurons.stats.neuron_tests import spearman
from skillneurons.tracking.registry import fetch
from skillneurons.tracking.runs import Tracking

SIZES = {78: "QQP", 81: "RTE", 121: "MNLI", 148: "SST-2, QNLI", 162: "MNLI-mm", 400: ""}  # rows of AdvGLUE's dev sets
PERCENTS = (1, 5, 15)
TRAIN_ROWS = 1000
Bits = NDArray[np.bool_]


@dataclass(frozen=True)
class Ranked:
    """How often each neuron's firing equals the label, at every position `[W, L, F]`."""

    hits: NDArray[np.float32]

    @classmethod
    def on(cls, fired: Bits, labels: NDArray[np.int64], rows: NDArray[np.int64]) -> "Ranked":
        """`fired`: `[n, W, L, F]`."""
        equal = np.zeros(fired.shape[1:], dtype=np.float32)
        for row in rows.tolist():
            equal += fired[row] == bool(labels[row])
        return cls(equal / len(rows))

    @property
    def best(self) -> NDArray[np.float32]:
        """Of all positions and both directions `[L, F]`."""
        return np.asarray(np.maximum(self.hits, 1 - self.hits).max(axis=0))

    def at(self, first: "Ranked") -> NDArray[np.float32]:
        """At the position and in the direction that were best there `[L, F]`."""
        position = np.maximum(first.hits, 1 - first.hits).argmax(axis=0)[None]
        there, here = (np.take_along_axis(one.hits, position, axis=0)[0] for one in (first, self))
        return np.where(there >= 0.5, here, 1 - here)


def firing(prompts: str, data_dir: str | None) -> tuple[str, list[Bits], NDArray[np.int64]]:
    """What the table is of; whether neurons fire at each test row `[n, W, L, F]`, a prompt each; the labels."""
    found = fetch(Tracking.connect(), prompts)
    info = find_backbone(found[0])
    backbone, test = load(info), evaluated_task(found, data_dir=data_dir)
    train = load_splits(test.task, data_dir=data_dir, roles=("train",), max_train_rows=TRAIN_ROWS)["train"]
    encoded = test.encode(info)
    told = info.encode(list(train.rows), test.max_length or found[0].card["max_length"])
    rows = type(encoded)(told, torch.tensor(train.labels))
    bits = []
    for prompt in found:
        site = site_of(info, "prompt-body", prompt.length)
        reader = ActivationReader(backbone, site, prompt.embeddings, 2, Accelerator(cpu=True), 64)
        layers, width, neurons = reader.shape
        fired = np.zeros((len(encoded), width, layers, neurons), dtype=np.bool_)

        def keep(layer: int, values: torch.Tensor, batch: Rows, fired: Bits = fired) -> None:
            fired[batch.numbers.numpy(), :, layer] = values.numpy() > 0

        fires(reader, encoded, range(len(encoded)), moments(reader, rows, range(len(rows))).overall.float(), keep)
        bits.append(fired)
    return f"{test.task.name} · {info.name}", bits, test.split.labels


def agreements(bits: Sequence[Bits], labels: NDArray[np.int64], n: int, draws: int) -> dict[str, NDArray[np.float64]]:
    """Way -> Spearman and overlaps of two rankings on different clean rows `[draws, 1 + percents]`."""
    found: dict[str, list[list[float]]] = {"fixed": [], "chosen anew": []}
    for draw in range(draws):
        order = np.random.default_rng([n, draw]).permutation(len(labels))
        first, second = order[: len(order) // 2], order[len(order) // 2 :][:n]
        pairs = [(Ranked.on(one, labels, first), Ranked.on(one, labels, second)) for one in bits]
        before = np.mean([a.best for a, _ in pairs], axis=0)
        fixed, anew = np.mean([b.at(a) for a, b in pairs], axis=0), np.mean([b.best for _, b in pairs], axis=0)
        for way, after in (("fixed", fixed), ("chosen anew", anew)):
            tops = [(top_neurons(before, k), top_neurons(after, k)) for k in PERCENTS]
            found[way].append([spearman(before, after), *(float(np.nanmean(overlap(*pair))) for pair in tops)])
    return {way: np.array(rows) for way, rows in found.items()}


def table(prompts: str, draws: int, data_dir: str | None) -> Iterator[str]:
    """In Markdown: mean and central 95% of the draws."""
    name, bits, labels = firing(prompts, data_dir)
    heads = [f"overlap@{k}% (chance {k}%)" for k in PERCENTS]
    yield f"| {name}, {len(bits)} prompts | rows | ranked | Spearman (chance 0) | {' | '.join(heads)} |"
    yield "|---" * (4 + len(heads)) + "|"
    for n, sets in SIZES.items():
        for way, rows in agreements(bits, labels, n, draws).items():
            low, high = np.quantile(rows, (0.025, 0.975), axis=0)
            mean = rows.mean(axis=0)
            first = f"{mean[0]:.2f} ({low[0]:.2f} – {high[0]:.2f})"
            rest = [f"{m:.0%} ({a:.0%} – {b:.0%})" for m, a, b in zip(mean[1:], low[1:], high[1:], strict=True)]
            yield f"| {sets} | {n} | {way} | {' | '.join([first, *rest])} |"


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if not arguments:
        print(__doc__)
        sys.exit(0)
    for line in table(
        arguments[0], int(arguments[1]) if len(arguments) > 1 else 100, arguments[2] if len(arguments) > 2 else None
    ):
        print(line, flush=True)
