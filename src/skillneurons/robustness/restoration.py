"""The causal test: does an attack work through the skill neurons, and are they needed for it?

The adversarial text is read while some neurons keep the activations they have on the clean original (`restore`: what
returns shows whether they suffice), or the clean text with those of the adversarial one (`corrupt`: what is lost
shows whether they are needed; Heimersheim & Nanda 2024, arXiv 2404.15255). Verdicts rest on the margin, the right
label's score minus the best other one, at one percentage named beforehand; accuracy stands beside it.
Shapes: S prompts, n pairs of rows, K random sets, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, StrEnum, auto
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skillneurons.findings import Claim, Unit, p_text
from skillneurons.stats.cluster_bootstrap import Clusters, mean_interval, ratio_interval
from skillneurons.stats.control_sets import Contrast, contrast, corrected
from skillneurons.stats.intervals import Estimate, Ranged
from skillneurons.stats.mcnemar import tango
from skillneurons.stats.paired_accuracy import PairedAccuracy, clustered_share, margin

Direction = Literal["restore", "corrupt"]
DIRECTIONS: tuple[Direction, Direction] = ("restore", "corrupt")
ALL = 100.0
Scores = NDArray[np.float32]


class Donor(StrEnum):
    """Whose activations are patched in."""

    OWN = "own original"
    SAME = "another clean text, same label"
    OTHER = "another clean text, other label"


@dataclass(frozen=True)
class Patched:
    """What the model answers with some neurons' activations taken from the other version of the text.

    Attributes:
        percent: of the neurons of a layer.
        neurons: how many.
        scores: label scores `[S, n, C]`.
        random: of the random sets `[K, S, n, C]`; None where all neurons are patched.
        planned: random sets that would have been read had the test not been lost before.
    """

    percent: float
    neurons: int
    scores: Scores
    random: Scores | None
    planned: int = 0


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
        returned, margin_returned: distance of accuracy and of the margin from the start, as a share of the way to the
            goal; NaN where the way is not known well enough to divide by.
        margin: the margin patched minus start; chance is 0.
        against, margin_against: accuracy and margin beside random sets; None where all neurons are patched.
        primary: whether the claim rests on this margin.
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
    margin_returned: Estimate
    margin: Estimate
    against: Contrast | None
    margin_against: Contrast | None
    primary: bool = False

    def row(self) -> dict[str, object]:
        """Its line of the table."""
        found: dict[str, object] = {
            "direction": self.direction,
            "percent": self.percent,
            "neurons": self.neurons,
            "primary": self.primary,
            "n": self.n,
            "majority": self.majority,
        }
        for name, value in (("start", self.start), ("goal", self.goal), ("patched", self.patched)):
            found |= value.ends(f"{name}_accuracy", name)
        found |= {**self.returned.columns("returned"), **self.margin_returned.columns("margin_returned")}
        found |= self.margin.columns("margin")
        for name, one in (("accuracy", self.against), ("margin", self.margin_against)):
            if one is not None:
                found |= one.difference.columns(f"{name}_difference") | one.control.columns(f"random_{name}")
                found |= {f"{name}_rank_p": one.rank_p, f"{name}_rank_p_floor": one.rank_floor}
                found |= {f"{name}_holm_p": one.holm_p, "random_sets": one.sets}
                found |= {f"random_{name}_chance": self.majority if name == "accuracy" else 0.0}
        return found


@dataclass(frozen=True)
class Rival:
    """Another explanation: other neurons, or another donor, in place of the skill neurons and the row's original.

    Attributes:
        what: which neurons, in words.
        neurons: how many.
        donor: whose activations they take.
        n: pairs it is of: of neurons that were chosen on half of the originals, the other half.
        returned, margin_returned: as of `Restored`, of the direction `restore`.
        less: the skill neurons' share of the margin with their own originals minus this one, on the same pairs.
    """

    what: str
    neurons: int
    donor: Donor
    n: int
    returned: Estimate
    margin_returned: Estimate
    less: Estimate

    def row(self) -> dict[str, object]:
        """Its line of the table."""
        found: dict[str, object] = {"what": self.what, "neurons": self.neurons, "donor": str(self.donor), "n": self.n}
        found |= {**self.returned.columns("returned"), **self.margin_returned.columns("margin_returned")}
        return found | self.less.columns("skill_minus_this")


def restoration_effects(
    direction: Direction,
    start: Scores,
    goal: Scores,
    patched: Sequence[Patched],
    labels: NDArray[np.int64],
    clusters: Clusters,
    seed: int = 0,
) -> list[Restored]:
    """Every percentage of one direction.

    Args:
        direction: `restore`: the start is the adversarial text, the goal the clean one; `corrupt`: the reverse.
        start: label scores of the untouched version that is patched `[S, n, C]`.
        goal: of the one that the activations come from.
        patched: in rising percentages.
        labels: of the pairs, the same in both versions `[n]`.
        clusters: pairs made from one original.
        seed: of the bootstrap.
    """
    return [_restored(direction, start, goal, one, labels, clusters, seed) for one in patched]


def judged(both: Mapping[Direction, Sequence[Restored]], primary: float) -> dict[Direction, list[Restored]]:
    """Both directions with p-values corrected: the primary margins by themselves, the rest together."""
    found = [replace(one, primary=one.percent == primary) for effects in both.values() for one in effects]
    first = iter(list(corrected([one.margin_against for one in found if one.primary])))
    others = [one.margin_against for one in found if not one.primary]
    rest = iter(list(corrected([*others, *(one.against for one in found)])))
    found = [replace(one, margin_against=next(first if one.primary else rest)) for one in found]
    found = [replace(one, against=next(rest)) for one in found]
    return {direction: [one for one in found if one.direction == direction] for direction in both}


def rival(
    what: str,
    neurons: int,
    donor: Donor,
    scores: Mapping[str, Scores],
    labels: NDArray[np.int64],
    clusters: Clusters,
) -> Rival:
    """One rival on some pairs.

    Args:
        what: which neurons, in words.
        neurons: how many.
        donor: whose activations they take.
        scores: `start`, `goal`, `skill` (the skill neurons with their own originals) and `now`, `[S, n, C]` each.
        labels: of the pairs `[n]`.
        clusters: pairs made from one original.
    """
    right = {name: (one.argmax(-1) == labels).mean(axis=0, dtype=np.float64) for name, one in scores.items()}
    margins = {name: margin(one, labels).mean(axis=0) for name, one in scores.items()}
    way = margins["goal"] - margins["start"]
    return Rival(
        what,
        neurons,
        donor,
        len(labels),
        _share(right["now"] - right["start"], right["goal"] - right["start"], clusters),
        _share(margins["now"] - margins["start"], way, clusters),
        _share(margins["skill"] - margins["now"], way, clusters),
    )


class Judgement(Enum):
    """Of one direction: an effect that counts, none that counts, or neither can be told."""

    SHOWN = auto()
    ABSENT = auto()
    OPEN = auto()


def verdict(
    both: Mapping[Direction, Sequence[Restored]], rivals: Sequence[Rival], pair: PairedAccuracy, margin: float
) -> list[Claim]:
    """What the skill neurons are to the attack: sufficient, then necessary, then which readings are not excluded.

    Args:
        both: judged, both directions.
        rivals: what else was patched; none, then no rival reading is excluded.
        pair: what the attack costs on the same rows.
        margin: a difference of accuracy within it counts as none.
    """
    loss = pair.difference
    if not loss.low > 0:
        text = "these rows show no harm that could be undone; clean minus adversarial accuracy"
        return [
            Claim(
                "nothing to restore",
                text,
                loss,
                Unit.POINTS,
                n=f"{pair.n:,} pairs",
                holds=False,
                name=_NAMES["restore"],
            )
        ]
    lines = {direction: next(one for one in both[direction] if one.primary) for direction in DIRECTIONS}
    found = {direction: _judgement(one, pair, margin) for direction, one in lines.items()}
    if Judgement.SHOWN not in found.values() and Judgement.OPEN in found.values():
        found = dict.fromkeys(found, Judgement.OPEN)
    claims = [_claim(way, found[way], lines[way], pair, margin) for way in DIRECTIONS]
    return [*claims, *(_readings(rivals) if found["restore"] is Judgement.SHOWN else [])]


def _claim(way: Direction, judgement: Judgement, one: Restored, pair: PairedAccuracy, margin: float) -> Claim:
    m, moved = one.margin_against, one.margin.value
    assert m is not None
    name = _NAMES[way]
    words = {
        Judgement.SHOWN: (name, True),
        Judgement.ABSENT: (f"not {name}", False),
        Judgement.OPEN: (f"cannot tell whether {name}", None),
    }
    word, holds = words[judgement]
    # what random sets move, as the same share
    random = m.control.value * one.margin_returned.value / moved if moved else np.nan
    why = f"; up to {100 * _room(one, pair):.1f} points of accuracy not excluded, {100 * margin:g} count as none"
    told = f"{_WAYS[way]} the top {one.percent:g}% move accuracy {one.start.value:.1%} to {one.patched.value:.1%}"
    share = "the margin by an unknown share" if np.isnan(one.margin_returned.value) else "the margin by"
    return Claim(
        word,
        f"{told}, {share}",
        replace(one.margin_returned, chance=float(random)),
        chance="random neurons",
        n=f"{one.n:,} pairs",
        test=f"{p_text(m.holm_p)} by rank of {m.sets}, Holm{why if judgement is Judgement.OPEN else ''}",
        holds=holds,
        name=name,
    )


_WAYS: dict[Direction, str] = {
    "restore": "clean activations in the adversarial text:",
    "corrupt": "adversarial activations in the clean text:",
}


_NAMES: dict[Direction, str] = {"restore": "sufficient", "corrupt": "necessary"}


def _room(one: Restored, pair: PairedAccuracy) -> float:
    """How large a difference of accuracy from random sets may be, by its interval and by the originals there are."""
    assert one.against is not None
    gap = one.against.difference
    return max(abs(gap.low), abs(gap.high), tango(0, 0, pair.originals).high)


def _judgement(one: Restored, pair: PairedAccuracy, margin: float) -> Judgement:
    """Shown by the margin's rank among random sets, unless the accuracy says that it is too little to count.

    A share that is not known, because the way to go is hardly known itself, shows nothing.
    """
    assert one.against is not None
    assert one.margin_against is not None
    if _room(one, pair) <= margin:
        return Judgement.ABSENT
    gap = one.against.difference
    little = max(abs(gap.low), abs(gap.high)) <= margin
    shown = one.margin_against.significant and one.margin_returned.low > 0 and not little
    return Judgement.SHOWN if shown else Judgement.OPEN


def _readings(rivals: Sequence[Rival]) -> list[Claim]:
    """Of what they are sufficient, and which other readings are not excluded."""
    donors = {one.donor: one for one in rivals if one.what == SKILL}
    found = []
    if {Donor.SAME, Donor.OTHER} <= donors.keys():
        same, other = donors[Donor.SAME], donors[Donor.OTHER]
        own = same.less.low > 0
        word = "this text's own state" if own else "a label written in, as far as can be told"
        text = f"another text of the other label returns {_of_way(other.margin_returned)} of the margin, of the same"
        found.append(Claim(word, text, replace(same.margin_returned, chance=None), holds=own or None))
    others = [one for one in rivals if one.what != SKILL and one.donor is Donor.OWN]
    for word, holds in (("not told apart from rivals", None), ("more than rivals", True)):
        chosen = [one for one in others if bool(one.less.low > 0) is bool(holds)]
        if chosen:
            text = "; ".join(f"{one.what} {_of_way(one.margin_returned)}" for one in chosen)
            found.append(Claim(word, f"share of the margin: {text}", holds=holds))
    return found


SKILL = "skill neurons"


def _of_way(share: Estimate) -> str:
    if np.isnan(share.value):
        return "an unknown share"
    if np.isnan(share.low):
        return f"{share.value:.0%}"
    return f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}]"


def _restored(
    direction: Direction,
    start: Scores,
    goal: Scores,
    one: Patched,
    labels: NDArray[np.int64],
    clusters: Clusters,
    seed: int,
) -> Restored:
    versions = {"start": start, "goal": goal, "now": one.scores}
    right = {name: scores.argmax(-1) == labels for name, scores in versions.items()}
    was, aim, now = (right[name].mean(axis=0, dtype=np.float64) for name in ("start", "goal", "now"))
    before = margin(start, labels)
    moved, way = margin(one.scores, labels) - before, margin(goal, labels) - before
    against = margin_against = None
    if one.random is not None:
        up, planned = direction == "restore", one.planned
        theirs = one.random.argmax(-1) == labels
        against = contrast(right["now"], theirs, seed, clusters=clusters, upward=up, planned=planned)
        theirs, limits = margin(one.random, labels) - before, (-np.inf, np.inf)
        margin_against = contrast(moved, theirs, seed, clusters=clusters, bounds=limits, upward=up, planned=planned)
    return Restored(
        direction=direction,
        percent=one.percent,
        neurons=one.neurons,
        n=len(labels),
        majority=float(np.bincount(labels).max() / len(labels)),
        start=clustered_share(right["start"], clusters),
        goal=clustered_share(right["goal"], clusters),
        patched=clustered_share(right["now"], clusters),
        returned=_share(now - was, aim - was, clusters),
        margin_returned=_share(moved.mean(axis=0), way.mean(axis=0), clusters),
        margin=replace(mean_interval(moved.mean(axis=0), clusters), chance=0.0),
        against=against,
        margin_against=margin_against,
    )


def _share(moved: NDArray[np.float64], way: NDArray[np.float64], clusters: Clusters) -> Estimate:
    return replace(ratio_interval(moved, way, clusters), chance=0.0)
