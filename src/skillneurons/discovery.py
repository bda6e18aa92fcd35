"""Skill neurons of a task: baseline on train, position and sign on half A of dev, scores and tests on half B.

method.md §3 defines predictivity and §5 the tests. Shapes: K targets, S seeds (prompts), L layers,
W positions, F FFN width, R permutations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from skillneurons import significance
from skillneurons.backbone import Backbone
from skillneurons.encoding import Encoded
from skillneurons.neurons import Neurons
from skillneurons.null import LARGEST_16, ChosenNull, LargeNull, permuted_labels
from skillneurons.sites import Site
from skillneurons.stream import Moments, Reader, fires, moments

Protocol = Literal["split", "paper"]


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
        ones_fired, fired: int32 `[K, L, F]`, judged rows of the class, and of all, at which it fires there.
        auc: `[K, L, F]`, binormal from train.
        null: `[K, R, L, F]`, judged rows right under permuted labels, in the neuron's direction.
    """

    baseline: Tensor
    hits: Tensor
    position: Tensor
    sign: Tensor
    ones_fired: Tensor
    fired: Tensor
    auc: Tensor
    null: Tensor


def halves(labels: Sequence[int], hashes: Sequence[str]) -> tuple[list[int], list[int]]:
    """Half A and half B: every other row of each class in the order of the row hashes."""
    order = sorted(range(len(labels)), key=lambda i: (labels[i], hashes[i], i))
    return sorted(order[0::2]), sorted(order[1::2])


def count(backbone: Backbone, site: Site, prompt: Tensor, asked: Question, accelerator: Accelerator) -> Counted:
    """Read train and dev under one prompt `[P, E]`."""
    reader = Reader(backbone, site, prompt, asked.classes, accelerator, asked.batch_size)
    learned = moments(reader, asked.train, range(len(asked.train)))
    baseline = learned.overall.float()
    counted = _count_paper if asked.protocol == "paper" else _count_split
    return counted(reader, asked, learned, baseline)


def combine(counts: Sequence[Counted], asked: Question, card: Mapping[str, Any]) -> Neurons:
    """Predictivities, p- and q-values and chance levels of several prompts of one task."""
    n = len(asked.judged)
    scores = np.stack([_scores(one, asked) for one in counts], axis=1)
    p_values = np.stack([_p_values(one, asked) for one in counts], axis=1)
    predictivity = scores.mean(axis=1)
    null = _null_mean(counts, n)
    combined = significance.cauchy_combination(np.moveaxis(p_values, 1, 0))
    moved = np.moveaxis(null, 1, 0)
    chance = significance.chance_of(moved)
    size = int(np.prod(predictivity.shape))
    facts = {
        "chance": asdict(chance),
        "smallest_predictivity": min(
            significance.smallest_predictivity(n, asked.ones(k), size) for k in asked.targets
        ),
        "judged_rows": n,
        "majority": max(max(asked.ones(k), n - asked.ones(k)) for k in asked.targets) / n,
    }
    return Neurons(
        baseline=np.stack([one.baseline.numpy() for one in counts]),
        accuracy=_accuracies(counts, len(asked.dev)),
        position=np.stack([one.position.numpy() for one in counts], axis=1).astype(np.int16),
        sign=np.stack([one.sign.numpy() for one in counts], axis=1).astype(np.int8),
        seed_predictivity=scores.astype(np.float32),
        predictivity=predictivity.astype(np.float32),
        p_value=p_values,
        q_value=significance.benjamini_hochberg(combined),
        family_p=significance.max_t(predictivity, moved),
        auc=np.stack([one.auc.numpy() for one in counts], axis=1).astype(np.float32),
        card={**card, **facts},
    )


def _count_split(reader: Reader, asked: Question, learned: Moments, baseline: Tensor) -> Counted:
    first, second = asked.halves
    hits_a = _hits(fires(reader, asked.dev, first, baseline), asked, first)
    position, sign = _choose(hits_a, len(first))
    permuted = permuted_labels(asked.dev.labels[torch.as_tensor(second)], asked.permutations, asked.seed)
    null = ChosenNull(permuted, asked.targets, position, _places(second, len(asked.dev)))
    fired_b = fires(reader, asked.dev, second, baseline, null.add)
    null_fired = (
        reader.accelerator.reduce(null.counts, "sum") if reader.accelerator.num_processes > 1 else null.counts
    )
    return _counted(
        asked, learned, baseline, hits_a + _hits(fired_b, asked, second), fired_b, position, sign, null_fired
    )


def _count_paper(reader: Reader, asked: Question, learned: Moments, baseline: Tensor) -> Counted:
    """Choice and score on all of dev: the null takes the maximum over positions in every permutation."""
    if len(asked.targets) > 1:
        raise ValueError("protocol=paper is for two labels, as in the paper. Use protocol=split for more.")
    n, everything = len(asked.dev), range(len(asked.dev))
    permuted = permuted_labels(asked.dev.labels, asked.permutations, asked.seed)
    large = LargeNull(permuted, asked.targets[0], reader.shape, reader.backbone.device)
    fired = fires(reader, asked.dev, everything, baseline, large.add)
    hits = _hits(fired, asked, everything)
    position, sign = _choose(hits, n)
    best = _best_by_permutation(large.finish(), fired.sum(1), asked, reader.accelerator)
    return _counted(asked, learned, baseline, hits, fired, position, sign, best[None], directed=True)


def _counted(
    asked: Question,
    learned: Moments,
    baseline: Tensor,
    hits: Tensor,
    fired: Tensor,
    position: Tensor,
    sign: Tensor,
    null: Tensor,
    directed: bool = False,
) -> Counted:
    """Everything at the chosen positions, on the CPU."""
    ones = torch.stack([_at(fired[:, target], position[k]) for k, target in enumerate(asked.targets)])
    total = torch.stack([_at(fired.sum(1, dtype=torch.int32), p) for p in position])
    auc = torch.stack([_auc(learned, target, position[k]) for k, target in enumerate(asked.targets)])
    if not directed:
        null = torch.stack([_right(null[k], total[k], sign[k], asked, t) for k, t in enumerate(asked.targets)])
    kind = torch.int16 if len(asked.dev) <= LARGEST_16 else torch.int32
    held = (baseline, hits.to(kind), position, sign, ones, total, auc, null.to(kind))
    return Counted(*(tensor.cpu() for tensor in held))


def _hits(fired: Tensor, asked: Question, rows: Sequence[int]) -> Tensor:
    """Rows where firing equals being of the class, int32 `[K, L, W, F]`."""
    labels, total = asked.dev.labels[torch.as_tensor(rows)], fired.sum(1, dtype=torch.int32)
    # fires at ones, silent at the others
    return torch.stack([2 * fired[:, k] - total + int((labels != k).sum()) for k in asked.targets])


def _choose(hits: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Where max(acc, 1 - acc) is largest (the first such position), and the direction there, `[K, L, F]`."""
    position = (2 * hits - n).abs().argmax(dim=2)
    there = hits.gather(2, position[:, :, None])[:, :, 0]
    return position, torch.where(2 * there >= n, 1, -1)


def _right(fired_ones: Tensor, fired: Tensor, sign: Tensor, asked: Question, target: int) -> Tensor:
    """Judged rows right in the neuron's direction, from rows of (permuted) class at which it fires."""
    n = len(asked.judged)
    hits = 2 * fired_ones - fired + (n - asked.ones(target))
    return torch.where(sign > 0, hits, n - hits).int()


def _at(values: Tensor, position: Tensor) -> Tensor:
    """`[L, W, F]` at `[L, F]` positions."""
    return values.gather(1, position[:, None])[:, 0]


def _auc(learned: Moments, target: int, position: Tensor) -> Tensor:
    parts = [_at(part, position.to(part.device)).cpu().numpy() for part in learned.one_against_rest(target)]
    return torch.from_numpy(significance.binormal_auc(*parts))


def _places(rows: Sequence[int], size: int) -> Tensor:
    """Each row's number among the given ones; a row that is not among them has none."""
    places = torch.full((size,), -1, dtype=torch.int64)
    places[torch.as_tensor(rows)] = torch.arange(len(rows))
    return places


def _scores(one: Counted, asked: Question) -> NDArray[np.float64]:
    right = [_right(one.ones_fired[k], one.fired[k], one.sign[k], asked, t) for k, t in enumerate(asked.targets)]
    return torch.stack(right).double().numpy() / len(asked.judged)


def _p_values(one: Counted, asked: Question) -> NDArray[np.float64]:
    """Exact tails in the chosen direction; with protocol `paper` the share of permutations that reach it."""
    n = len(asked.judged)
    if asked.protocol == "paper":
        return np.stack([significance.permutation_p(_scores(one, asked)[0], one.null[0].numpy() / n)])
    found = []
    for k, target in enumerate(asked.targets):
        tails = significance.hypergeometric_tails(
            one.ones_fired[k].numpy(), one.fired[k].numpy(), asked.ones(target), n
        )
        found.append(np.where(one.sign[k].numpy() > 0, *tails))
    return np.stack(found)


def _accuracies(counts: Sequence[Counted], n: int) -> NDArray[np.float32]:
    """`[K, S, L, W, F]`, one prompt at a time: it is the largest array."""
    targets, *rest = counts[0].hits.shape
    found = np.empty((targets, len(counts), *rest), dtype=np.float32)
    for seed, one in enumerate(counts):
        np.divide(one.hits.numpy(), n, out=found[:, seed], casting="same_kind", dtype=np.float32)
    return found


def _null_mean(counts: Sequence[Counted], n: int) -> NDArray[np.float32]:
    """Permuted predictivities, mean over prompts, `[K, R, L, F]`."""
    total = counts[0].null.int()
    for one in counts[1:]:
        total += one.null
    return (total.float() / (n * len(counts))).numpy()


def _best_by_permutation(fired_ones: Tensor, fired: Tensor, asked: Question, accelerator: Accelerator) -> Tensor:
    """Max over positions of max(acc, 1 - acc) times n, int32 `[R, L, F]`."""
    n, ones = len(asked.judged), asked.ones(asked.targets[0])
    best = []
    for permutation in range(fired_ones.shape[1]):
        counts = fired_ones[:, permutation].int()
        if accelerator.num_processes > 1:
            counts = accelerator.reduce(counts, "sum")
        hits = 2 * counts - fired + (n - ones)
        best.append(torch.maximum(hits, n - hits).amax(1))
    return torch.stack(best).int()
