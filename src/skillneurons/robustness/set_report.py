"""One adversarial set as measured: its groups of rows, its pairs, and the finding in words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan, nan

import numpy as np
from numpy.typing import NDArray

from skillneurons.neurons.scores import Neurons, RankingBy
from skillneurons.robustness.ceiling import Ceiling
from skillneurons.robustness.consistency import ALL_ROWS, SPEARMAN
from skillneurons.robustness.figures import Point
from skillneurons.robustness.measure import SetMeasured, SiteMeasured
from skillneurons.robustness.restoration import verdict
from skillneurons.stats.cluster_bootstrap import Clusters
from skillneurons.stats.intervals import Ranged, holm, passes
from skillneurons.stats.paired_accuracy import PairedAccuracy, clustered_share, compare
from skillneurons.stats.skill_test import Skill, skill
from skillneurons.suppress.effects import Effect
from skillneurons.suppress.effects import verdict as needed


@dataclass(frozen=True)
class Rows:
    """Accuracy of one group of adversarial rows, prompts averaged, and of their originals where known."""

    kind: str
    name: str
    n: int
    accuracy: Ranged
    majority: float
    known: Skill
    pair: PairedAccuracy | None

    @property
    def standing(self) -> str:
        """Whether there is skill, by the test of balanced accuracy; whether answers are worse than a coin's."""
        if self.known.shown:
            return "skill beyond chance"
        return "below a coin" if self.accuracy.high < 0.5 else "no skill shown"


@dataclass(frozen=True)
class SetReport:
    """One adversarial set."""

    measured: SetMeasured
    primary: float  # the percentage that the claims rest on
    neurons: tuple[Neurons, ...]
    seed: int
    margin: float  # differences within it count as none
    ranking_by: RankingBy = "predictivity"  # of the neurons that are patched and suppressed

    @property
    def name(self) -> str:
        """Of the adversarial task."""
        return self.measured.attacked.name

    @property
    def labels(self) -> NDArray[np.int64]:
        """Of the adversarial rows."""
        return self.measured.attacked.pairs.adversarial.labels

    @property
    def main(self) -> SiteMeasured:
        """The site that verdicts rest on."""
        return self.measured.sites[-1]

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """`[S, n]`."""
        return np.asarray(self.measured.scores.argmax(-1) == self.labels)

    @cached_property
    def before(self) -> NDArray[np.bool_] | None:
        """Of the originals `[S, m]`; None where there are none."""
        if self.measured.clean is None or self.measured.attacked.pairs.clean is None:
            return None
        return np.asarray(self.measured.clean.argmax(-1) == self.measured.attacked.pairs.clean.labels)

    @cached_property
    def groups(self) -> list[Rows]:
        """All rows first, then every kind."""
        found = [self._rows("all", ALL_ROWS, np.arange(len(self.labels)))]
        return found + [self._rows(*kind, rows) for kind, rows in self.measured.attacked.kinds.items()]

    @property
    def whole(self) -> Rows:
        """All rows."""
        return self.groups[0]

    @cached_property
    def by_prompt(self) -> list[tuple[PairedAccuracy, float]]:
        """Each prompt's pairs, with p corrected over the prompts; empty without pairs."""
        if not self.measured.attacked.pairs.paired or self.before is None:
            return []
        each = [self._pair(self.places, [number]) for number in range(len(self.correct))]
        corrected = holm([pair.p_value for pair in each])
        return [(pair, float(p)) for pair, p in zip(each, corrected, strict=True)]

    def finding(self) -> str:
        """What was found on this set, in words: a headline, then one claim a line."""
        claims = [
            *self._causal(),
            *self._pairs(),
            self._consistency(),
            self._agreement(),
            *self._shift(),
            *self._needs(),
        ]
        return "\n- ".join([self._accuracy(), *claims])

    def point(self, backbone: str) -> Point:
        """For the comparison: the clean version of the same rows where there is one."""
        clean = self.whole.pair.clean if self.whole.pair else self.unpaired()
        held = self.main.consistency.skill[self.primary].estimate
        return Point(backbone, self.name, clean, self.whole.accuracy, held, self.whole.majority)

    @property
    def places(self) -> NDArray[np.int64]:
        """The adversarial row of each pair."""
        return self.measured.attacked.places

    def unpaired(self) -> Ranged:
        """Accuracy on originals that have another order, or NaN where there are none."""
        if self.before is None:
            return Ranged(nan, nan, nan)
        return clustered_share(self.before, Clusters.single(self.before.shape[1]))

    def _rows(self, kind: str, name: str, chosen: NDArray[np.int64]) -> Rows:
        labels, attacked = self.labels[chosen], self.measured.attacked
        clusters = attacked.clusters.take(chosen)
        accuracy = clustered_share(self.correct[:, chosen], clusters)
        known = skill(self.measured.scores.argmax(-1)[:, chosen], labels, clusters, self.seed)
        majority = float(np.bincount(labels).max() / len(labels))
        held = np.isin(self.places, chosen) if attacked.pairs.paired else np.zeros(0, dtype=np.bool_)
        everyone = range(len(self.correct))
        pair = self._pair(self.places[held], everyone, np.flatnonzero(held)) if held.any() else None
        return Rows(kind, name, len(chosen), accuracy, majority, known, pair)

    def _pair(
        self, rows: NDArray[np.int64], prompts: Sequence[int], originals: NDArray[np.int64] | None = None
    ) -> PairedAccuracy:
        assert self.before is not None
        attacked = self.measured.attacked
        before = self.before if originals is None else self.before[:, originals]
        clusters = attacked.clusters.take(rows)
        chosen = list(prompts)
        return compare(before[chosen], self.correct[chosen][:, rows], clusters, 2, attacked.pairs.flips)

    def _accuracy(self) -> str:
        rows, prompts = self.whole, len(self.correct)
        text = (
            f"**{self.name}**: {prompts} prompt{'s are' if prompts > 1 else ' is'} right on {rows.accuracy.text} "
            f"of {rows.n} rows (majority rate {rows.majority:.1%}): {rows.standing} ({rows.known.said})."
        )
        if rows.pair is None and self.before is not None:
            text += f" On the originals, which are not paired with them: {self.unpaired().text}."
        return text

    def _pairs(self) -> Iterator[str]:
        pair = self.whole.pair
        if pair is None:
            yield "No row is paired with its original, so nothing is said of what the change costs, nor of causes."
            return
        test = "exact McNemar" if pair.exact else "sign flips of whole originals"
        head = (
            f"On the {pair.n} rows with an original ({pair.originals} different ones): clean {pair.clean.text}, "
            f"changed {pair.changed.text}, difference {pair.difference.points} ({test}, p {pair.p_value:.2g})"
        )
        if self.measured.same_text:
            yield f"{self.measured.same_text} pairs are the same after cutting to the text length."
        if self.measured.attacked.pairs.flips:
            yield f"{head}; both right: {pair.both.text} (a coin: {pair.both.chance:.0%}). The change turns labels."
            return
        worse = sum(passes(p) and one.difference.value > 0 for one, p in self.by_prompt)
        yield (
            f"{head}; worse for {worse} of {len(self.by_prompt)} prompts (Holm over prompts). Attack success among "
            f"rows right before: {pair.success.text} (a coin: {pair.success.chance:.0%})."
        )

    def _consistency(self) -> str:
        held, rate = self.main.consistency, self.primary
        ours, gap = held.skill[rate], held.difference[rate]
        still = passes(ours.holm_p)
        told = (
            "still tell the label" if still else f"do not tell the label beyond chance (up to {ours.null_high:.1%})"
        )
        better = passes(gap.holm_p)
        beside = "more than random neurons" if better else "not shown to do so more than random neurons"
        where = f"the clean top {rate:g}% of the site {self.main.site}"
        return (
            f"Skill neurons ({where}) {told}: predictivity {ours.estimate.text} (chance {ours.null_low:.1%} to "
            f"{ours.null_high:.1%}, Holm p {ours.holm_p:.2g}); {beside} ({gap.estimate.points}, Holm p "
            f"{gap.holm_p:.2g})."
        )

    def _agreement(self) -> str:
        """Of clean and adversarial rankings, beside what as many clean rows would give."""
        held = self.main.consistency
        shared, whole = held.overlap[self.primary], held.agreement
        known = "unknown" if isnan(whole.corrected) else f"{whole.corrected:.2f}"
        lost = whole.lost
        if lost is None:
            told = "**Cannot tell** whether rankings are inconsistent: too few clean test rows for a ceiling"
        elif lost:
            told = "**Inconsistent**: clean and adversarial rankings agree less than as many clean rows would give"
        else:
            told = "No inconsistency beyond what so few rows give by themselves"
        return (
            f"{told}: Spearman {whole.estimate.value:.2f}, ceiling {_ceiling(whole.ceiling, '.2f')}, permuted labels "
            f"{whole.null_low:.2f} to {whole.null_high:.2f}, without the rows' noise {known}; overlap "
            f"of the top {self.primary:g}% {shared.estimate.value:.1%}, ceiling {_ceiling(shared.ceiling, '.1%')}, "
            f"by chance {shared.estimate.chance:.1%}.{self._by_kind()}"
        )

    def _by_kind(self) -> str:
        """On which kinds of attack the rankings agree less than few rows explain."""
        lines = [line for line in self.main.consistency.kinds if line.measure == SPEARMAN]
        told = [
            f"{name}: {', '.join(kinds)}"
            for name, lost in (("below the ceiling", True), ("not shown below it", False), ("no ceiling", None))
            if (kinds := [f"{line.group} (n={line.n})" for line in lines if line.lost is lost])
        ]
        return f" By kind of attack (Holm over kinds) {'; '.join(told)}." if told else ""

    def _shift(self) -> Iterator[str]:
        layers = self.main.shift.get(self.primary, [])
        if not layers:
            return
        more = ", ".join(str(layer) for layer, _, p in layers if passes(p))
        said = f"they move more than random ones in layer {more}" if more else "that they move more is not shown"
        yield f"Under attack {said} (rank among random sets, Holm over layers)."

    def _causal(self) -> Iterator[str]:
        if self.main.restored and self.whole.pair is not None:
            first, *others = verdict(self.main.restored, self.main.rivals, self.whole.pair, self.margin)
            by = "" if self.ranking_by == "predictivity" else f", neurons by {self.ranking_by}"
            yield f"Primary claim, site {self.main.site}{by}: {first}"
            yield from others
        elif self.measured.attacked.pairs.flips:
            yield "Nothing is restored: the change turns the label."

    def _needs(self) -> Iterator[str]:
        for one in self.suppressions:
            yield f"Secondary: {one.what}: {needed(False, one.effects, self.margin)}"

    @cached_property
    def suppressions(self) -> tuple["Suppressed", ...]:
        """Both directions: clean neurons on adversarial rows, and the reverse."""
        m = self.measured
        return (
            Suppressed("Clean skill neurons set to 0 on the adversarial rows", m.suppressed.effects(self.seed)),
            Suppressed(
                "Neurons ranked on the adversarial rows set to 0 on the clean test rows", m.reverse.effects(self.seed)
            ),
        )


@dataclass(frozen=True)
class Suppressed:
    """One direction of suppression, every rate."""

    what: str
    effects: Sequence[Effect]


def _ceiling(found: Ceiling, form: str) -> str:
    if isnan(found.value):
        return "unknown"
    p = "below 0.0001" if found.p_value < 1e-4 else f"{found.p_value:.2g}"  # of a normal tail: no digits beyond
    return f"{found.value:{form}} ({found.low:{form}} to {found.high:{form}}, p {p})"
