"""The causal test: does an attack work through the skill neurons?

The adversarial text is read while some neurons keep the activations they have on the clean original
(`restore`), or the clean text with those of the adversarial one (`corrupt`). If the attack works through the
skill neurons, restoring them returns more accuracy than restoring random ones (method.md §6, mediation).
Shapes: S prompts, n pairs of rows, K random sets, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skillneurons.stats.cluster_bootstrap import Clusters, mean_interval, ratio_interval
from skillneurons.stats.control_sets import Contrast, contrast, corrected
from skillneurons.stats.intervals import SIGNIFICANT, Estimate, Ranged, holm, unknown
from skillneurons.stats.mcnemar import tango
from skillneurons.stats.paired_accuracy import PairedAccuracy, clustered_share

Direction = Literal["restore", "corrupt"]
ALL = 100.0


@dataclass(frozen=True)
class Patched:
    """What the model answers with some neurons' activations taken from the other version of the text.

    Attributes:
        percent: of the neurons of a layer.
        neurons: how many.
        scores: label scores `[S, n, C]`.
        random: of the random sets `[K, S, n, C]`; None where all neurons are patched.
    """

    percent: float
    neurons: int
    scores: NDArray[np.float32]
    random: NDArray[np.float32] | None


@dataclass(frozen=True)
class Restored:
    """One percentage of one direction.

    Attributes:
        direction: `restore` or `corrupt`.
        percent, neurons: which are patched.
        n: pairs.
        majority: share of their commonest label.
        start, goal: accuracy before patching, and of the version the activations come from.
        patched: accuracy with the skill neurons patched.
        returned: its distance from the start, as a share of the way to the goal; NaN where there is no way.
        margin: score of the right label minus the best other, patched minus start; chance is 0.
        against: accuracy beside random sets, corrected over the percentages; None where all neurons are patched.
        margin_against: margin beside random sets.
        margin_holm_p: of the margin, the larger of both tests, corrected likewise.
    """

    direction: Direction
    percent: float
    neurons: int
    n: int
    majority: float
    start: Ranged
    goal: Ranged
    patched: Ranged
    returned: Estimate
    margin: Estimate
    against: Contrast | None
    margin_against: Contrast | None
    margin_holm_p: float = nan

    def row(self) -> dict[str, object]:
        """Its line of the table."""
        found: dict[str, object] = {
            "direction": self.direction,
            "percent": self.percent,
            "neurons": self.neurons,
            "n": self.n,
            "majority": self.majority,
        }
        for name, value in (("start", self.start), ("goal", self.goal), ("patched", self.patched)):
            found |= value.ends(f"{name}_accuracy", name)
        found |= {**self.returned.columns("returned"), **self.margin.columns("margin")}
        for name, one in (("accuracy", self.against), ("margin", self.margin_against)):
            if one is not None:
                found |= one.difference.columns(f"{name}_difference") | one.control.columns(f"random_{name}")
                found |= {f"{name}_p": one.p_value, f"{name}_another_set_p": one.another_set_p}
                found |= {f"{name}_rank_p": one.rank_p, f"{name}_rank_p_floor": one.rank_floor}
                found |= {f"random_{name}_chance": self.majority if name == "accuracy" else 0.0}
        ps = (self.against.holm_p, self.against.holm_another_p) if self.against else (nan, nan)
        return found | {"holm_p": ps[0], "holm_another_set_p": ps[1], "margin_holm_p": self.margin_holm_p}


def restoration_effects(
    direction: Direction,
    start: NDArray[np.float32],
    goal: NDArray[np.float32],
    patched: Sequence[Patched],
    labels: NDArray[np.int64],
    clusters: Clusters,
    seed: int = 0,
) -> list[Restored]:
    """Every percentage of one direction, with p-values corrected over them.

    Args:
        direction: `restore`: the start is the adversarial text, the goal the clean one; `corrupt`: the reverse.
        start: label scores of the untouched version that is patched `[S, n, C]`.
        goal: of the one that the activations come from.
        patched: in rising percentages.
        labels: of the pairs, the same in both versions `[n]`.
        clusters: pairs made from one original.
        seed: of the bootstrap.
    """
    found = [_restored(direction, start, goal, one, labels, clusters, seed) for one in patched]
    margins = iter(holm([one.margin_against.both_p for one in found if one.margin_against]).tolist())
    both = zip(found, corrected([one.against for one in found]), strict=True)
    return [
        replace(one, against=against, margin_holm_p=next(margins) if one.margin_against else nan)
        for one, against in both
    ]


def verdict(effects: Sequence[Restored], pair: PairedAccuracy) -> str:
    """Cause, no evidence, or too few rows to tell; from the direction `restore` at the prompt's own positions.

    Args:
        effects: of that direction, at least one beside random sets.
        pair: what the attack costs on the same rows.
    """
    tested = [(one, one.against) for one in effects if one.against]
    loss = pair.difference
    if not loss.low > 0:
        return (
            f"**Nothing to restore**: clean minus adversarial accuracy is {loss.points}, so these rows show no harm "
            "that could be undone."
        )
    strongest = _strongest([one for one, _ in tested])
    whole = next((one for one in effects if one.percent == ALL), None)
    said = f" Restoring all neurons there returns {whole.returned.text} of the loss." if whole else ""
    if causes := [one for one, a in tested if a.significant and a.difference.value > 0]:
        best = _strongest(causes)
        part = best.against.difference.value / loss.value if best.against else 0.0
        return (
            f"**Cause**, of {part:.0%} of the loss of {100 * loss.value:.1f} points: {compared(best)}: more than "
            f"random neurons return, beyond chance.{said}"
        )
    # where no answer changes resampling shows no spread, and yet so many originals leave room for some
    room = max(min(a.difference.half for _, a in tested), tango(0, 0, pair.originals).high)
    if room >= loss.value:
        return (
            f"**Too few rows to tell**: even if the skill neurons returned the whole loss "
            f"({100 * loss.value:.1f} points), that would lie within the interval, ±{100 * room:.1f} points at best. "
            f"Strongest {compared(strongest)}.{said}"
        )
    return (
        f"**No evidence** that the attack works through the skill neurons: strongest {compared(strongest)}. A "
        f"difference below {100 * room:.1f} points could not be seen with these rows.{said}{_moved(effects)}"
    )


def compared(one: Restored) -> str:
    """One percentage beside its random sets."""
    a = one.against
    if a is None:
        return f"at {one.percent:g}%: {one.patched.value:.1%}, no random set to draw"
    return (
        f"at {one.percent:g}% ({one.neurons} neurons) accuracy goes from {one.start.value:.1%} to "
        f"{one.patched.text}, with random sets to {a.control.value:.1%} (lowest {a.control.lowest:.1%}, highest "
        f"{a.control.highest:.1%} of {a.sets}): {a.difference.points}, Holm p {a.holm_p:.2g}{a.another}"
    )


def _strongest(effects: Sequence[Restored]) -> Restored:
    return max(effects, key=lambda one: abs(one.against.difference.value) if one.against else 0.0)


def _moved(effects: Sequence[Restored]) -> str:
    """Where the scores move although the answers do not."""
    for one in effects:
        a = one.margin_against
        if a and one.margin_holm_p < SIGNIFICANT and a.difference.value > 0:
            more = f"at {one.percent:g}% the margin rises more than with random sets"
            return f" The scores move, the answers do not: {more} (Holm p {one.margin_holm_p:.2g})."
    return ""


def _restored(
    direction: Direction,
    start: NDArray[np.float32],
    goal: NDArray[np.float32],
    one: Patched,
    labels: NDArray[np.int64],
    clusters: Clusters,
    seed: int,
) -> Restored:
    versions = {"start": start, "goal": goal, "now": one.scores}
    right = {name: scores.argmax(-1) == labels for name, scores in versions.items()}
    moved = (right["now"].astype(float) - right["start"]).mean(axis=0)
    way = (right["goal"].astype(float) - right["start"]).mean(axis=0)
    margins = margin(one.scores, labels) - margin(start, labels)
    against = margin_against = None
    if one.random is not None:
        up = direction == "restore"
        against = contrast(right["now"], one.random.argmax(-1) == labels, seed, clusters=clusters, upward=up)
        theirs = margin(one.random, labels) - margin(start, labels)
        limits = (-np.inf, np.inf)
        margin_against = contrast(margins, theirs, seed, clusters=clusters, bounds=limits, upward=up)
    return Restored(
        direction=direction,
        percent=one.percent,
        neurons=one.neurons,
        n=len(labels),
        majority=float(np.bincount(labels).max() / len(labels)),
        start=clustered_share(right["start"], clusters),
        goal=clustered_share(right["goal"], clusters),
        patched=clustered_share(right["now"], clusters),
        returned=_returned(moved, way, clusters, seed),
        margin=replace(mean_interval(margins.mean(axis=0), clusters, seed), value=float(margins.mean()), chance=0.0),
        against=against,
        margin_against=margin_against,
    )


def margin(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Score of the right label minus the best other one, of scores `[..., n, C]`: `[..., n]`."""
    values = np.asarray(scores, dtype=np.float64)
    rows = np.arange(len(labels))
    own = values[..., rows, labels]
    others = values.copy()
    others[..., rows, labels] = -np.inf
    return np.asarray(own - others.max(axis=-1))


def _returned(moved: NDArray[np.float64], way: NDArray[np.float64], clusters: Clusters, seed: int) -> Estimate:
    if abs(way.sum()) < 1e-9:
        return unknown(chance=0.0)
    return replace(ratio_interval(moved, way, clusters, seed), chance=0.0)
