"""Is there any skill? Balanced accuracy against permuted labels.

Accuracy beside the majority rate cannot tell: predictions of both labels that know something may be right less
often than always naming the commoner one. Shapes: S prompts, n rows, C classes.
"""

from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skillneurons.stats.cluster_bootstrap import Clusters, mean_interval
from skillneurons.stats.intervals import Estimate, passes

PERMUTATIONS = 9_999
_AT_ONCE = 1_000  # permutations held in memory together


@dataclass(frozen=True)
class Skill(Estimate):
    """Balanced accuracy, the mean recall over the classes of the labels, prompts averaged; its chance is 1 / C.

    Attributes:
        p_value: one-sided, of a balanced accuracy as high under permuted labels; 1 / 10,000 at least.
    """

    p_value: float = nan

    @property
    def shown(self) -> bool:
        """Whether there is skill beyond chance."""
        return passes(self.p_value)

    @property
    def said(self) -> str:
        """`balanced accuracy 59.0% [55.2%, 62.8%], chance 50%, p 0.0004`."""
        return f"balanced accuracy {self.text}, chance {self.chance:.0%}, p {self.p_value:.2g}"

    def columns(self, name: str, stem: str = "") -> dict[str, float]:
        """Those of the estimate, with `<name>_p`."""
        return super().columns(name, stem) | {f"{name}_p": self.p_value}


def skill(predictions: ArrayLike, labels: ArrayLike, clusters: Clusters | None = None, seed: int = 0) -> Skill:
    """The permutation test of balanced accuracy; of one prompt, two classes and single rows Fisher's exact one.

    Args:
        predictions: classes `[S, n]`.
        labels: `[n]`.
        clusters: rows made from one original, which have one label; else each by itself.
        seed: of the permutations.
    """
    given, truth = np.asarray(predictions), np.asarray(labels)
    present = np.unique(truth)
    rows = clusters or Clusters.single(len(truth))
    # a row's weight where its label is c: how many prompts say c
    named = np.stack([(given == c).mean(axis=0) for c in present])
    observed = _balanced(named, truth[None], present)[0]
    reached = 0
    for block in range(-(-PERMUTATIONS // _AT_ONCE)):
        count = min(_AT_ONCE, PERMUTATIONS - block * _AT_ONCE)
        permuted = rows.permuted(truth, count, seed * 1_000 + block)
        reached += int((_balanced(named, permuted, present) >= observed - 1e-9).sum())
    spread = _interval(named, truth, present, rows).within(0, 1)
    return Skill(
        float(observed), spread.low, spread.high, 1 / len(present), len(truth), (1 + reached) / (PERMUTATIONS + 1)
    )


def _interval(
    named: NDArray[np.float64], labels: NDArray[np.integer], present: NDArray[np.integer], rows: Clusters
) -> Estimate:
    """Cluster-robust: a row counts by what it adds to the recall of its class."""
    parts = []
    for weights, c in zip(named, present, strict=True):
        is_c = labels == c
        recall = float(weights[is_c].mean())
        parts.append(recall + np.where(is_c, (weights - recall) * len(labels) / is_c.sum(), 0.0))
    return mean_interval(np.mean(parts, axis=0), rows)


def _balanced(
    named: NDArray[np.float64], labels: NDArray[np.integer], present: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Balanced accuracy of every label vector `[R, n]`."""
    recalls = []
    for weights, c in zip(named, present, strict=True):
        is_c = (labels == c).astype(np.float64)
        recalls.append(is_c @ weights / np.maximum(is_c.sum(axis=1), 1))
    return np.asarray(np.mean(recalls, axis=0))
