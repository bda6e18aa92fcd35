"""Does a neuron that predicts the label also act on it? Both rankings of one discovery side by side.

Shapes: S seeds, L layers, F FFN width.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skillneurons.neurons.scores import Neurons
from skillneurons.neurons.selection import Mask, expected_overlap, overlap, top_neurons
from skillneurons.stats.intervals import Estimate, mean_interval, passes
from skillneurons.stats.neuron_tests import spearman


@dataclass(frozen=True)
class EffectBesidePrediction:
    """What ranks neurons by prediction and what ranks them by effect.

    Attributes:
        spearman: of both rankings, chosen on half A.
        corrected: without the noise of both, half A against half B (Spearman 1904).
        shared: share of the top by prediction that is in the top by effect; with its chance value.
        predictive, effective: summed effect of each top on half B, in units of the scores, with Student's interval
            over seeds; chance is that of an average set as large.
        significant: share of neurons with a family-wise p of 0.05 or less.
    """

    spearman: float
    corrected: float
    shared: float
    chance: float
    predictive: Estimate
    effective: Estimate
    significant: float


def effect_beside_prediction(neurons: Neurons, percent: float) -> EffectBesidePrediction | None:
    """None where effects were not estimated."""
    if not len(neurons.effect):
        return None
    effect = neurons.effect_selected.mean(axis=0)
    tops = [top_neurons(ranking, percent) for ranking in (neurons.ranking, effect)]
    value = spearman(neurons.ranking, effect)
    trust = spearman(neurons.ranking, neurons.predictivity[0]) * spearman(effect, neurons.effect.mean(axis=0))
    predictive, effective = (_carried(neurons.effect, top) for top in tops)
    return EffectBesidePrediction(
        spearman=value,
        corrected=float(np.clip(value / np.sqrt(trust), -1, 1)) if trust > 0 else float("nan"),
        shared=float(np.nanmean(overlap(*tops))),
        chance=float(np.nanmean(expected_overlap(*tops))),
        predictive=predictive,
        effective=effective,
        significant=float(np.mean([passes(p) for p in neurons.effect_p.ravel().tolist()])),
    )


def _carried(effect: NDArray[np.float32], top: Mask) -> Estimate:
    each = effect[:, top].sum(axis=1, dtype=np.float64)
    average = float((effect.mean(axis=(0, 2), dtype=np.float64) * top.sum(axis=1)).sum())
    return replace(mean_interval(each), chance=average)
