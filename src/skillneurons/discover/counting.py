"""What neurons are counted for: baseline on train, position and sign on half A of dev, hits on half B.

`predictivity.combine` makes scores and tests of it (method.md §3). Shapes: K targets, S seeds (prompts), L layers,
W positions, F FFN width, R permutations.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from skillneurons.backbones.base import Backbone
from skillneurons.backbones.batching import Encoded
from skillneurons.backbones.tokenization import LabelWords
from skillneurons.discover.permutation_null import ChosenNull, LargeNull, permuted_labels
from skillneurons.neurons.activation_stream import ActivationReader, Moments, counter, fires, moments, summed
from skillneurons.neurons.attribution import Attribution
from skillneurons.neurons.sites import Site
from skillneurons.stats import neuron_tests

Protocol = Literal["split", "paper"]
Choice = tuple[Tensor, Tensor, Tensor]  # position, direction there, rows right so: `[K, L, F]` each


@dataclass(frozen=True)
class Question:
    """What is asked of every prompt.

    Attributes:
        train: rows of the baseline.
        dev: rows that are counted.
        halves: half A and half B of dev as row numbers; with protocol `paper` both are all of dev.
        targets: classes that are told from the rest: (1,) for two labels.
        classes: C.
        permutations: R.
        seed: of the permutations.
        words: two label words, whose margin effects are of; None, then effects are not estimated.
        effect_steps: 1 for attribution patching, more for integrated gradients.
    """

    train: Encoded
    dev: Encoded
    halves: tuple[Sequence[int], Sequence[int]]
    targets: tuple[int, ...]
    classes: int
    protocol: Protocol = "split"
    permutations: int = 200
    seed: int = 0
    batch_size: int = 32
    words: LabelWords | None = None
    effect_steps: int = 1

    @property
    def judged(self) -> Sequence[int]:
        """The rows that predictivities and tests are of."""
        return self.halves[1]

    def ones(self, target: int) -> int:
        """Judged rows of a class."""
        return int((self.dev.labels[torch.as_tensor(self.judged)] == target).sum())


@dataclass(frozen=True)
class Counted:
    """What one prompt's activations come to; all arrays on the CPU.

    Attributes:
        baseline: `[L, W, F]`.
        hits: `[K, L, W, F]`, over all of dev; 16 bits where its rows allow, as those of `null`.
        position, sign: int64 `[K, L, F]`, chosen on half A.
        selected: int32 `[K, L, F]`, rows of half A right there, in that direction: what neurons are ranked by.
        ones_fired, fired: int32 `[K, L, F]`, judged rows of the class, and of all, at which it fires there.
        auc: `[K, L, F]`, binormal from train.
        null: `[K, R, L, F]`, judged rows right under permuted labels, in the neuron's direction.
        effect_selected, effect: `[L, F]`, mean effect on the right label's margin on half A and on the judged rows;
            empty where effects are not estimated, as the next.
        effect_null: `[R, L, F]`, the latter under permuted labels.
    """

    baseline: Tensor
    hits: Tensor
    position: Tensor
    sign: Tensor
    selected: Tensor
    ones_fired: Tensor
    fired: Tensor
    auc: Tensor
    null: Tensor
    effect_selected: Tensor
    effect: Tensor
    effect_null: Tensor


def count(backbone: Backbone, site: Site, prompt: Tensor, asked: Question, accelerator: Accelerator) -> Counted:
    """Read train and dev under one prompt `[P, E]`."""
    reader = ActivationReader(backbone, site, prompt, asked.classes, accelerator, asked.batch_size)
    learned = moments(reader, asked.train, range(len(asked.train)))
    train = _Train(learned.overall.float(), torch.stack([_auc(learned, target) for target in asked.targets]))
    del learned  # twice the size of what is kept of it
    counted = (_count_paper if asked.protocol == "paper" else _count_split)(reader, asked, train)
    return replace(counted, **_effects(reader, asked, train.baseline)) if asked.words else counted


def _effects(reader: ActivationReader, asked: Question, baseline: Tensor) -> dict[str, Tensor]:
    """Of half A, of the judged rows, and of these under the labels that are permuted for the other null too."""
    assert asked.words is not None
    one = Attribution(
        reader.backbone,
        reader.site,
        reader.prompt,
        asked.words,
        baseline,
        asked.effect_steps,
        asked.batch_size,
        reader.accelerator,
    )
    judged = torch.as_tensor(asked.judged)
    labels = (asked.dev.labels == asked.targets[0]).to(torch.uint8)
    permuted = labels.repeat(1 + asked.permutations, 1)
    permuted[1:, judged] = permuted_labels(labels[judged], asked.permutations, asked.seed)
    found = one.mean(asked.dev, asked.judged, permuted).cpu()
    first = one.mean(asked.dev, asked.halves[0], labels[None]).cpu()
    return {"effect_selected": first[0], "effect": found[0], "effect_null": found[1:]}


@dataclass(frozen=True)
class _Train:
    """What is kept of train: the baseline `[L, W, F]` and the AUC at every position `[K, L, W, F]`."""

    baseline: Tensor
    auc: Tensor


def _count_split(reader: ActivationReader, asked: Question, train: _Train) -> Counted:
    first, second = asked.halves
    hits = _hits(fires(reader, asked.dev, first, train.baseline), asked, first)
    choice = _choose(hits, len(first))
    position, sign, _ = choice
    permuted = permuted_labels(asked.dev.labels[torch.as_tensor(second)], asked.permutations, asked.seed)
    null = ChosenNull(permuted, asked.targets, position, _places(second, len(asked.dev)))
    fired = fires(reader, asked.dev, second, train.baseline, null.add)
    hits += _hits(fired, asked, second)
    ones, total = _chosen_fired(fired, asked, position)
    by_chance = summed(reader.accelerator, null.counts).int()
    found = [right(by_chance[k], total[k], sign[k], asked, target) for k, target in enumerate(asked.targets)]
    return _counted(asked, train, hits, choice, ones, total, torch.stack(found))


def _count_paper(reader: ActivationReader, asked: Question, train: _Train) -> Counted:
    """Choice and score on all of dev: the null takes the maximum over positions in every permutation."""
    if len(asked.targets) > 1:
        raise ValueError("protocol=paper is for two labels, as in the paper. Use protocol=split for more.")
    n, everything = len(asked.dev), range(len(asked.dev))
    permuted = permuted_labels(asked.dev.labels, asked.permutations, asked.seed)
    large = LargeNull(permuted, asked.targets[0], reader.shape, reader.backbone.device)
    fired = fires(reader, asked.dev, everything, train.baseline, large.add)
    hits = _hits(fired, asked, everything)
    choice = _choose(hits, n)
    best = _best_by_permutation(large.finish(), fired.sum(1, dtype=torch.int32), asked, reader.accelerator)
    return _counted(asked, train, hits, choice, *_chosen_fired(fired, asked, choice[0]), best[None])


def _chosen_fired(fired: Tensor, asked: Question, position: Tensor) -> tuple[Tensor, Tensor]:
    """Judged rows of the class, and of all, at which a neuron fires at its position, int32 `[K, L, F]`."""
    total = fired.sum(1, dtype=torch.int32)
    ones = [_at(fired[:, target], position[k]).int() for k, target in enumerate(asked.targets)]
    return torch.stack(ones), torch.stack([_at(total, p) for p in position])


def _counted(
    asked: Question,
    train: _Train,
    hits: Tensor,
    choice: Choice,
    ones: Tensor,
    total: Tensor,
    null: Tensor,
) -> Counted:
    """Everything on the CPU, in as few bits as hold it."""
    kind, (position, sign, selected) = counter(len(asked.dev)), choice
    auc = torch.stack([_at(values, position[k].to(values.device)) for k, values in enumerate(train.auc)])
    counts = (hits.to(kind), position, sign, selected, ones, total)
    held = (train.baseline, *counts, auc, null.to(kind), *[torch.zeros(0)] * 3)
    return Counted(*(tensor.cpu() for tensor in held))


def _hits(fired: Tensor, asked: Question, rows: Sequence[int]) -> Tensor:
    """Rows where firing equals being of the class, `[K, L, W, F]` of `counter(rows of dev)`."""
    labels, total = asked.dev.labels[torch.as_tensor(rows)], fired.sum(1, dtype=torch.int32)
    kind = counter(len(asked.dev))
    # fires at ones, silent at the others
    return torch.stack([(2 * fired[:, k].int() - total + int((labels != k).sum())).to(kind) for k in asked.targets])


def _choose(hits: Tensor, n: int) -> Choice:
    """Where max(acc, 1 - acc) is largest (the first such position)."""
    position = (2 * hits.int() - n).abs().argmax(dim=2)
    there = hits.gather(2, position[:, :, None])[:, :, 0].int()
    return position, torch.where(2 * there >= n, 1, -1), torch.maximum(there, n - there)


def right(fired_ones: Tensor, fired: Tensor, sign: Tensor, asked: Question, target: int) -> Tensor:
    """Judged rows right in the neuron's direction, from rows of (permuted) class at which it fires."""
    n = len(asked.judged)
    hits = 2 * fired_ones - fired + (n - asked.ones(target))
    return torch.where(sign > 0, hits, n - hits).int()


def _at(values: Tensor, position: Tensor) -> Tensor:
    """`[L, W, F]` at `[L, F]` positions."""
    return values.gather(1, position[:, None])[:, 0]


def _auc(learned: Moments, target: int) -> Tensor:
    """Binormal AUC of every neuron at every position, float32 `[L, W, F]` on the CPU."""
    found = np.empty(learned.mean[:, 0].shape, dtype=np.float32)
    for layer, auc in enumerate(found):
        parts = (part.cpu().numpy() for part in learned.one_against_rest(target, layer))
        auc[:] = neuron_tests.binormal_auc(*parts)
    return torch.from_numpy(found)


def _places(rows: Sequence[int], size: int) -> Tensor:
    """Each row's number among the given ones; a row that is not among them has none."""
    places = torch.full((size,), -1, dtype=torch.int64)
    places[torch.as_tensor(rows)] = torch.arange(len(rows))
    return places


def _best_by_permutation(fired_ones: Tensor, fired: Tensor, asked: Question, accelerator: Accelerator) -> Tensor:
    """Max over positions of max(acc, 1 - acc) times n, int32 `[R, L, F]`."""
    n, ones = len(asked.judged), asked.ones(asked.targets[0])
    layers, permutations, _, width = fired_ones.shape
    best = torch.empty(permutations, layers, width, dtype=torch.int32, device=fired_ones.device)
    # with hits = 2 counts - fired + n - ones, max(hits, n - hits) is half of n + |2 hits - n|
    offset = n - 2 * ones - 2 * fired
    for permutation in range(permutations):
        counts = fired_ones[:, permutation]
        if accelerator.num_processes > 1:
            counts = accelerator.reduce(counts.int(), "sum")
        best[permutation] = (n + torch.add(offset, counts, alpha=4).abs_().amax(1)) // 2
    return best
