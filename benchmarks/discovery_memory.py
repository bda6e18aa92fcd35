"""Peak memory of discovery: at roberta-base's size, and with few and with many rows. Weights are random.

Every case is a process of its own, whose peak the kernel tells. `python benchmarks/discovery_memory.py`.
"""

import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from discovery import BATCH, PERMUTATIONS, a_backbone, rows

from skillneurons.backbones import loading
from skillneurons.backbones.loading import describe
from skillneurons.data.splits import halves
from skillneurons.discover.counting import Protocol, Question, count
from skillneurons.discover.predictivity import combine
from skillneurons.neurons.sites import site_of


@dataclass(frozen=True)
class Case:
    """One measurement."""

    width: int
    layers: int
    vocabulary: int
    prompt_length: int
    seeds: int
    n: int
    protocol: Protocol

    def __str__(self) -> str:
        return (
            f"{self.layers} layers x {4 * self.width} neurons x {self.prompt_length} positions x {self.seeds} seeds, "
            f"{self.n} rows of train and of dev, protocol {self.protocol}"
        )


CASES = (
    Case(128, 2, 2_000, 20, 1, 1_000, "split"),
    Case(128, 2, 2_000, 20, 1, 20_000, "split"),
    Case(768, 12, 50_265, 100, 5, 64, "split"),
    Case(768, 12, 50_265, 100, 5, 128, "paper"),
)


def measure(case: Case, folder: str) -> float:
    """Peak resident memory of this process after the case's discovery, its backbone loaded from a folder, GiB."""
    backbone = loading.load(describe(folder))
    train, dev = rows(case.n, 1), rows(case.n, 2)
    parts = halves([f"{i:05d}" for i in range(case.n)])
    everything = (range(case.n), range(case.n))
    asked = Question(
        train, dev, parts if case.protocol == "split" else everything, (1,), 2, case.protocol, PERMUTATIONS, 0, BATCH
    )
    site = site_of(backbone.info, "prompt", case.prompt_length)
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randn(case.seeds, case.prompt_length, case.width, generator=generator) * 0.02
    counts = (count(backbone, site, prompt, asked, Accelerator(cpu=True)) for prompt in prompts)
    combine(counts, case.seeds, asked, {"targets": ["one"]})
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    for number, case in enumerate(CASES):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            a_backbone(folder, "roberta", case.width, case.layers, case.vocabulary)
            command = [sys.executable, __file__, str(number), str(folder)]
            found = subprocess.run(command, check=True, capture_output=True, text=True)
        print(f"{case}: {float(found.stdout.split()[-1]):.2f} GiB", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(measure(CASES[int(sys.argv[1])], sys.argv[2]))
    else:
        main()
