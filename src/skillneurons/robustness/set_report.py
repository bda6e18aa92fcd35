"""One adversarial set as measured: its groups of rows, its pairs, and the finding in words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isnan, nan

import numpy as np
from numpy.typing import NDArray

from skillneurons.findings import Claim, Unit, number, p_text, several
from skillneurons.neurons.scores import Neurons, RankingBy
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

    def claims(self) -> list[Claim]:
        """What was found on this set, the weightiest first."""
        first = [*self._cost(), *self.causal, self._consistency(), self._agreement()]
        return [*first, self._accuracy(), *self._success(), *self._shift(), *self._needs(), *self._by_kind()]

    @cached_property
    def costs(self) -> bool | None:
        """Whether the attack costs accuracy; None where it cannot be told."""
        pair = self.whole.pair
        if pair is None or self.measured.attacked.pairs.flips:
            return None
        return (passes(pair.p_value) and pair.difference.value > 0) or None

    @cached_property
    def causal(self) -> list[Claim]:
        """What the skill neurons are to the attack; nothing where none was asked."""
        if self.main.restored and self.whole.pair is not None:
            found = verdict(self.main.restored, self.main.rivals, self.whole.pair, self.margin)
            return [replace(one, text=f"{self.name}: {one.text}") for one in found]
        return []

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

    def _accuracy(self) -> Claim:
        rows = self.whole
        return Claim(
            rows.standing,
            f"{self.name}, {several(len(self.correct), 'prompt')}: accuracy",
            replace(rows.accuracy, chance=rows.majority),
            chance="majority rate",
            n=f"{rows.n:,} rows",
            test=f"by balanced accuracy, {p_text(rows.known.p_value)}",
            holds=rows.known.shown or None,
        )

    def _cost(self) -> Iterator[Claim]:
        """What the change costs, on the rows with an original."""
        pair = self.whole.pair
        if pair is None:
            if self.before is not None:
                text = f"{self.name}: no row is paired with its original; originals are right on"
                yield Claim("cost not known", text, self.unpaired())
            else:
                yield Claim("cost not known", f"{self.name}: no row has its original; nothing is said of causes")
            return
        test = f"{'exact McNemar' if pair.exact else 'sign flips of whole originals'}, {p_text(pair.p_value)}"
        n = f"{pair.n:,} pairs of {several(pair.originals, 'original')}"
        text = f"{self.name}: clean {pair.clean.value:.1%}, changed {pair.changed.value:.1%}, lost"
        word = "costs accuracy" if self.costs else "no cost shown"
        if self.measured.attacked.pairs.flips:
            text = text.replace(": ", ": the change turns labels, so nothing is restored; ", 1)
            word = "contrast"
        yield Claim(
            word,
            text,
            replace(pair.difference, chance=None),
            Unit.POINTS,
            n=n,
            test=test,
            holds=self.costs,
            name="cost",
        )
        if self.measured.same_text:
            text = f"{self.name}: {self.measured.same_text} pairs read the same: unchanged, or cut to one text"
            yield Claim("warning", text)

    def _success(self) -> Iterator[Claim]:
        pair = self.whole.pair
        if pair is None:
            return
        if self.measured.attacked.pairs.flips:
            yield Claim(
                "both right", f"{self.name}: both versions", pair.both, chance="a coin", n=f"{pair.n:,} pairs"
            )
            return
        worse = sum(passes(p) and one.difference.value > 0 for one, p in self.by_prompt)
        text = f"{self.name}: rows right before and wrong after"
        test = f"worse for {worse} of {several(len(self.by_prompt), 'prompt')}, Holm"
        yield Claim("attack success", text, pair.success, chance="a coin", n=f"{pair.right:,.0f} rows", test=test)

    def _consistency(self) -> Claim:
        held, rate = self.main.consistency, self.primary
        ours, gap = held.skill[rate], held.difference[rate]
        still, better = passes(ours.holm_p), passes(gap.holm_p)
        beside = "more than random neurons" if better else "not shown to do so more than random neurons"
        band = f"by chance {ours.null_low:.1%} to {ours.null_high:.1%}, Holm {p_text(ours.holm_p)}; {beside}"
        text = f"{self.name}: the clean top {rate:g}% (site {self.main.site}) on adversarial text, predictivity"
        word = "neurons still tell the label" if still else "neurons not shown to tell the label"
        return Claim(
            word, text, replace(ours.estimate, chance=None), n=f"{ours.n:,} rows", test=band, holds=still or None
        )

    def _agreement(self) -> Claim:
        """Of clean and adversarial rankings, beside what as many clean rows would give."""
        whole = self.main.consistency.agreement
        words = {None: "cannot tell whether inconsistent", True: "inconsistent", False: "no inconsistency shown"}
        ceiling = whole.ceiling
        text = f"{self.name}: clean and adversarial rankings of neurons, Spearman"
        if isnan(ceiling.value):
            test = "too few clean test rows for a ceiling"
        else:
            # of a normal tail: no digits beyond
            test = f"as many clean rows give {number(ceiling.value, '.2f')}, {p_text(ceiling.p_value)}"
        figure = replace(whole.estimate, chance=None)
        return Claim(words[whole.lost], text, figure, Unit.NUMBER, n=f"{whole.n:,} rows", test=test, holds=whole.lost)

    def _by_kind(self) -> Iterator[Claim]:
        """On which kinds of attack the rankings agree less than few rows explain."""
        lines = [line for line in self.main.consistency.kinds if line.measure == SPEARMAN]
        for word, lost in (("inconsistent", True), ("no inconsistency shown", False), ("no ceiling", None)):
            if kinds := [f"{line.group} (n={line.n})" for line in lines if line.lost is lost]:
                text = f"{self.name}, by kind of attack: {', '.join(kinds)}"
                yield Claim(word, text, test="Holm over kinds" if lost is not None else "", holds=lost)

    def _shift(self) -> Iterator[Claim]:
        layers = self.main.shift.get(self.primary, [])
        if not layers:
            return
        more = ", ".join(str(layer) for layer, _, p in layers if passes(p))
        text = f"{self.name}: activations of the top {self.primary:g}% under attack beside random neurons"
        word = f"move more in layer {more}" if more else "not shown to move more"
        yield Claim(word, text, test="by rank, Holm over layers", holds=bool(more) or None)

    def _needs(self) -> Iterator[Claim]:
        for one in self.suppressions:
            found = needed(False, one.effects, self.margin)
            yield replace(found, text=f"{self.name}: {one.what[0].lower()}{one.what[1:]}: {found.text}")

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
