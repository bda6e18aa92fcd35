"""Which ranking's top neurons does the model need more: those that predict the label, or those that act on it?

Shapes: Z rates, S prompts, n rows, C classes, L layers, F FFN width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skillneurons.findings import Claim, Unit, number, p_text
from skillneurons.neurons.effect import EffectBesidePrediction
from skillneurons.neurons.selection import Mask
from skillneurons.stats.cluster_bootstrap import Clusters
from skillneurons.stats.intervals import holm, passes, unknown
from skillneurons.stats.paired_accuracy import PairedAccuracy, compare

BY_PREDICTION, BY_EFFECT = "by prediction", "by effect"


@dataclass(frozen=True)
class NeededMore:
    """Both tops at one rate, on the same rows.

    Attributes:
        rate: percent.
        pair: accuracy with the top by prediction suppressed as `clean`, by effect as `changed`, and their difference.
        majority: share of the commonest label.
        holm_p: corrected over the rates.
    """

    rate: float
    pair: PairedAccuracy
    majority: float
    holm_p: float

    def row(self) -> dict[str, object]:
        """Its line of the table."""
        found: dict[str, object] = {"rate": self.rate, "n": self.pair.n, "majority": self.majority}
        found |= self.pair.clean.ends("prediction_accuracy") | self.pair.changed.ends("effect_accuracy")
        found |= self.pair.difference.columns("difference")
        return found | {"difference_p": self.pair.p_value, "difference_holm_p": self.holm_p}

    def verdict(self, keep: bool, allowed: float) -> str:
        """In words; a difference within `allowed`, a fraction, counts as none."""
        gap = self.pair.difference
        if passes(self.holm_p):
            more = BY_PREDICTION if (gap.value > 0) == keep else BY_EFFECT
            return f"the neurons {more} {'carry' if keep else 'are needed'} more"
        return "no difference" if max(abs(gap.low), abs(gap.high)) <= allowed else "cannot tell"


def needed_more(
    rates: Sequence[float],
    tops: tuple[Mask, Mask],
    read: Callable[[Mask], NDArray[np.float32]],
    labels: NDArray[np.int64],
    classes: int,
) -> list[NeededMore]:
    """Both tops at every rate, Holm over the rates.

    Args:
        rates: percent.
        tops: what is suppressed at each rate, by prediction and by effect, `[Z, L, F]` each.
        read: label scores `[M, S, n, C]` under sets `[M, L, F]`.
        labels: `[n]`.
        classes: C.
    """
    right = read(np.concatenate(tops)).argmax(-1) == labels
    halves = right[: len(rates)], right[len(rates) :]
    single, majority = Clusters.single(len(labels)), float(np.bincount(labels).max() / len(labels))
    pairs = [compare(prediction, effect, single, classes) for prediction, effect in zip(*halves, strict=True)]
    corrected = holm([pair.p_value for pair in pairs])
    return [NeededMore(rate, pair, majority, float(p)) for rate, pair, p in zip(rates, pairs, corrected, strict=True)]


@dataclass(frozen=True)
class Rankings:
    """Both rankings of one discovery: how far they agree at a percentage, and which the model needs more."""

    percent: float
    agreement: EffectBesidePrediction
    rates: Sequence[NeededMore]

    def claims(self, keep: bool, allowed: float) -> list[Claim]:
        """Which ranking's top is needed more, rate by rate, and how far both agree."""
        a, how = self.agreement, "kept alone" if keep else "suppressed"
        noise = "" if np.isnan(a.corrected) else f"without the rows' noise {number(a.corrected, '.2f')}"
        found = [
            Claim(
                one.verdict(keep, allowed),
                f"top {one.rate:g}% {how}: by prediction {one.pair.clean.value:.1%} right, by effect "
                f"{one.pair.changed.value:.1%}:",
                replace(one.pair.difference, chance=None),
                Unit.POINTS,
                n=f"{one.pair.n:,} rows",
                test=f"{p_text(one.holm_p)}, Holm over rates",
                holds=True if passes(one.holm_p) else None,
            )
            for one in self.rates
        ]
        text = f"{a.shared:.0%} of the top {self.percent:g}% shared (chance {a.chance:.0%}); Spearman"
        return [
            *found,
            Claim("rankings by prediction and effect", text, unknown(a.spearman, 0.0), Unit.NUMBER, test=noise),
        ]
