"""What neurons tell under prompts that nobody tuned: what is beyond it belongs to the prompt.

A pretrained model's neurons know much of a label under any prompt. Shapes: K targets, S seeds, L layers, F FFN width.
"""

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from skillneurons.neurons.scores import Neurons
from skillneurons.neurons.selection import expected_overlap, overlap, top_neurons
from skillneurons.stats.intervals import SIGNIFICANT, Estimate, wilson


@dataclass(frozen=True)
class BeyondRandom:
    """A discovery beside the same under random prompts.

    Attributes:
        prompts: how many random ones.
        percent: of the top.
        tuned, random: predictivity of each one's own top neurons, chosen on half A and judged on half B. The interval
            is Wilson's at the judged rows: rather too wide, since a mean over neurons varies less than one of them.
        difference: tuned minus random, as of independent rows: rather too wide, since they are the same.
        shared: share of the tuned top that is in the random top; with its chance value.
        q_value: `[K, L, F]`, of a neuron's predictivity being no higher than under random prompts.
    """

    prompts: int
    percent: float
    tuned: Estimate
    random: Estimate
    difference: Estimate
    shared: float
    chance: float
    q_value: NDArray[np.float64]

    @property
    def beyond(self) -> float:
        """Share of neurons that tell more than under random prompts."""
        return float((self.q_value < SIGNIFICANT).mean())


def beyond_random(neurons: Neurons, percent: float) -> BeyondRandom | None:
    """None where no random prompt was counted.

    A neuron's two predictivities are compared as of independent rows (a one-sided z test, both at their own mean over
    prompts); the rows being the same ones, the test is cautious. Benjamini-Hochberg over all neurons.
    """
    from scipy.special import ndtr
    from scipy.stats import false_discovery_control

    if not neurons.random_predictivity.shape[1]:
        return None
    n, chance = neurons.card["judged_rows"], float(neurons.card["majority"])
    tuned = neurons.predictivity.astype(np.float64)
    random = neurons.random_predictivity.mean(axis=1, dtype=np.float64)
    spread, gap = np.sqrt((tuned * (1 - tuned) + random * (1 - random)) / n), tuned - random
    # where neither varies over rows, a difference is none of chance
    p = np.where(spread > 0, ndtr(-gap / np.where(spread > 0, spread, 1)), np.where(gap > 0, 0.0, 1.0))
    tops = [top_neurons(ranking, percent) for ranking in (neurons.ranking, neurons.random_ranking)]
    means = [float(scores.max(axis=0)[top].mean()) for scores, top in zip((tuned, random), tops, strict=True)]
    parts = [replace(wilson(mean * n, n), value=mean, chance=chance) for mean in means]
    # Newcombe's interval of a difference of independent shares (1998)
    a, b = parts
    low = means[0] - means[1] - sqrt((a.value - a.low) ** 2 + (b.high - b.value) ** 2)
    high = means[0] - means[1] + sqrt((a.high - a.value) ** 2 + (b.value - b.low) ** 2)
    return BeyondRandom(
        neurons.random_predictivity.shape[1],
        percent,
        a,
        b,
        Estimate(means[0] - means[1], low, high, 0.0, n),
        float(np.nanmean(overlap(*tops))),
        float(np.nanmean(expected_overlap(*tops))),
        false_discovery_control(p, axis=None).reshape(p.shape),
    )
