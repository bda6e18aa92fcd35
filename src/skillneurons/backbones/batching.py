"""Token ids of a split and the batches cut from them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from skillneurons.seeds import mix

BUCKET_BATCHES = 32


@dataclass(frozen=True)
class Encoded:
    """A tokenised split: done once, shared by all seeds and all prompts of one length limit.

    Attributes:
        rows: token ids of each text, special tokens included, prompt not.
        labels: int64 `[n]`.
    """

    rows: Sequence[Sequence[int]]
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> torch.Tensor:
        """Tokens in each row, int64 `[n]`."""
        return torch.tensor([len(row) for row in self.rows], dtype=torch.int64)


def batches_of_epoch(lengths: torch.Tensor, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Row numbers of one shuffled epoch, batch by batch, rows of like length together.

    Every row appears exactly once. Rows are shuffled, cut into buckets of 32 batches, sorted by length
    within a bucket (so that a batch carries little padding) and the batches are shuffled again. The
    result depends on its arguments alone: resuming needs no iterator state.
    """
    generator = torch.Generator().manual_seed(mix(seed, epoch))
    order = torch.randperm(len(lengths), generator=generator)
    batches: list[list[int]] = []
    for bucket in torch.split(order, batch_size * BUCKET_BATCHES):
        by_length = bucket[torch.argsort(lengths[bucket], stable=True)]
        batches += [chunk.tolist() for chunk in torch.split(by_length, batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def endless_batches(lengths: torch.Tensor, batch_size: int, seed: int, start: int) -> Iterator[list[int]]:
    """Batches of epoch after epoch, from training step `start` on."""
    per_epoch = -(-len(lengths) // batch_size)
    epoch, skip = divmod(start, per_epoch)
    while True:
        yield from batches_of_epoch(lengths, batch_size, seed, epoch)[skip:]
        epoch, skip = epoch + 1, 0


def batches_by_length(lengths: torch.Tensor, batch_size: int) -> list[list[int]]:
    """Row numbers for evaluation, longest first: each row exactly once, little padding."""
    order = torch.argsort(lengths, descending=True, stable=True)
    return [chunk.tolist() for chunk in torch.split(order, batch_size)]
