"""Do the clean skill neurons stay predictive on adversarial rows (method.md §3)?

Position and sign of every neuron are those chosen on clean dev rows, its baseline the clean one: nothing is
chosen on the adversarial rows, so predictivity there needs no correction for a choice. Shapes: n rows,
S prompts, L layers, F FFN width, R permutations, K random sets, M sets.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from skillneurons.neurons.selection import Mask, expected_overlap, overlap, random_sets, top_neurons
from skillneurons.robustness.ceiling import UNKNOWN, Ceiling, Pool, ceiling_of, clean_draws, corrected, reliability
from skillneurons.robustness.votes import Floats, Votes
from skillneurons.stats.cluster_bootstrap import Clusters, central, mean_interval, sign_flip_p
from skillneurons.stats.control_sets import Contrast, contrast, least_sets
from skillneurons.stats.intervals import Estimate, holm, passes, unknown
from skillneurons.stats.neuron_tests import spearman

ALL_ROWS, SPEARMAN = "all rows", "Spearman"
Key = TypeVar("Key", int, float)


@dataclass(frozen=True)
class ConsistencyLine:
    """One measure of consistency.

    Attributes:
        measure: what is measured.
        percent: k of the top sets; NaN where the measure has none.
        layer: of a measure of one layer.
        neurons: how many it is of.
        n: rows.
        estimate: with its interval over rows and its chance value.
        null_low, null_high: the central 95% under permuted labels (NaN where the test is another).
        p: one-sided by permutation or by rank among random sets, or two-sided of a difference of versions.
        p_floor: what p cannot go below.
        holm_p: p corrected over the percentages.
        ceiling: of an agreement, what clean rows of the same number give.
        lost_holm_p: of the ceiling's p over the percentages.
        corrected: of a correlation, without the noise of both sides.
        group: the kind of attack it is of.
    """

    measure: str
    percent: float
    layer: int | None
    neurons: int
    n: int
    estimate: Estimate
    null_low: float = float("nan")
    null_high: float = float("nan")
    p: float = float("nan")
    p_floor: float = float("nan")
    holm_p: float = float("nan")
    ceiling: Ceiling = UNKNOWN
    lost_holm_p: float = float("nan")
    corrected: float = float("nan")
    group: str = ALL_ROWS

    @property
    def lost(self) -> bool | None:
        """Whether an agreement is below its ceiling; None where there is none to tell by."""
        p = self.ceiling.p_value if np.isnan(self.lost_holm_p) else self.lost_holm_p
        return None if np.isnan(p) else passes(p)

    def row(self) -> dict[str, object]:
        """Its line of the table."""
        return {
            "measure": self.measure,
            "group": self.group,
            "percent": self.percent,
            "layer": float("nan") if self.layer is None else self.layer,
            "neurons": self.neurons,
            "n": self.n,
            **self.estimate.columns("value"),
            "null_low": self.null_low,
            "null_high": self.null_high,
            "value_p": self.p,
            "value_p_floor": self.p_floor,
            "holm_p": self.holm_p,
            "ceiling_value": self.ceiling.value,
            "ceiling_low": self.ceiling.low,
            "ceiling_high": self.ceiling.high,
            "below_ceiling_p": self.ceiling.p_value,
            "below_ceiling_holm_p": self.lost_holm_p,
            "corrected_value": self.corrected,
        }


@dataclass(frozen=True)
class Reading:
    """Adversarial rows, and their clean originals where there are pairs.

    Attributes:
        votes: on the n adversarial rows.
        labels: 0 or 1 `[n]`.
        clusters: rows made from one original.
        clean: votes on the originals `[m]`; None without pairs.
        clean_labels: theirs.
        rows: the adversarial row of each original `[m]`.
        pool: clean rows to draw ceilings from; None, then there is none.
        reliability: of the clean ranking, half A against half B; NaN where it is not known.
        kinds: kind of attack -> its rows; those of few rows are left out.
    """

    votes: Votes
    labels: NDArray[np.int64]
    clusters: Clusters
    clean: Votes | None = None
    clean_labels: NDArray[np.int64] | None = None
    rows: NDArray[np.int64] | None = None
    pool: Pool | None = None
    reliability: float = float("nan")
    kinds: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    def of_kind(self, name: str) -> "Reading":
        """The rows of one kind of attack alone, without their originals."""
        rows = self.kinds[name]
        some = (self.votes.take(rows), self.labels[rows], self.clusters.take(rows))
        return Reading(*some, pool=self.pool, reliability=self.reliability)


@dataclass(frozen=True)
class Consistency:
    """What became of the clean skill neurons.

    Attributes:
        lines: the table.
        predictivity: on the adversarial rows `[L, F]`, prompts averaged.
        null: the central 95% of one neuron under permuted labels.
        skill, difference, overlap, agreement: the lines that the verdict rests on, by percentage (agreement:
            Spearman of the full vectors).
        kinds: the agreements of each kind of attack.
        against: skill neurons beside random sets, by percentage.
    """

    lines: tuple[ConsistencyLine, ...]
    predictivity: NDArray[np.float32]
    null: tuple[float, float]
    skill: dict[float, ConsistencyLine]
    difference: dict[float, ConsistencyLine]
    overlap: dict[float, ConsistencyLine]
    agreement: ConsistencyLine
    against: dict[float, Contrast]
    kinds: tuple[ConsistencyLine, ...] = ()


def consistency(
    ranking: NDArray[np.floating],
    reading: Reading,
    percents: Sequence[float],
    controls: int = 59,
    permutations: int = 200,
    seed: int = 0,
) -> Consistency:
    """The skill neurons of clean rows on adversarial rows, beside all neurons, random sets and permuted labels.

    Args:
        ranking: clean predictivities `[L, F]`.
        reading: the rows.
        percents: k of the top sets, each of which must choose some neurons and leave some.
        controls: K random sets.
        permutations: R.
        seed: of permutations, random sets and resamples.
    """
    votes, labels, clusters = reading.votes, reading.labels, reading.clusters
    predictivity = votes.predictivity(labels)
    permuted = clusters.permuted(labels, permutations, seed)
    null = votes.predictivity(permuted)
    skill, difference, against, lines = {}, {}, {}, []
    for percent in percents:
        top = top_neurons(ranking, percent)
        sets = np.stack([top, *random_sets(top, percent, controls, seed)])
        values = votes.of_sets(labels, sets)
        skill[percent] = _against_null(f"{SKILL}, adversarial rows", percent, values[0], top, null, clusters)
        against[percent] = contrast(values[:1], values[1:, None], seed, clusters=clusters, upward=True)
        difference[percent] = _beside_random(percent, int(top.sum()), len(labels), against[percent])
        lines += list(_clean_lines(reading, percent, top, permutations, seed))
    everything = np.ones(votes.shape, dtype=np.bool_)
    whole = votes.of_sets(labels, everything[None])[0]
    agreements = _agreements(ranking, reading, predictivity, null, percents, seed)
    skill, difference = _corrected(skill), _corrected(difference)
    shared = _corrected({line.percent: line for line in agreements if line.layer is None and line.percent > 0})
    shared = _below_ceiling(shared)
    by_layer = [line for line in agreements if line.layer is not None]
    by_kind = _by_kind(ranking, reading, percents, permutations, seed)
    all_lines = (
        *skill.values(),
        *difference.values(),
        _against_null("all neurons, adversarial rows", float("nan"), whole, everything, null, clusters),
        *lines,
        *shared.values(),
        *by_layer,
        agreements[0],
        *by_kind,
    )
    found = (all_lines, predictivity, central(null), skill, difference, shared, agreements[0], against)
    return Consistency(*found, kinds=by_kind)


SKILL = "predictivity of the skill neurons"


def shift_by_layer(
    shift: NDArray[np.float32], top: Mask, percent: float, clusters: Clusters, seed: int
) -> list[tuple[int, Contrast, float]]:
    """How far neurons move between the versions of a row: of each layer, skill beside random sets.

    Args:
        shift: |changed - clean| in standard deviations over the clean rows, prompts averaged `[n, L, F]`.
        top: skill neurons `[L, F]`.
        percent: which they are.
        clusters: rows made from one original.
        seed: of the random sets and the bootstrap.

    Returns:
        (layer, skill minus random, Holm p over the layers), for layers with skill neurons; the p is of moving more
        than random sets, of which there are as many as a test over the layers needs.
    """
    layers, found = np.flatnonzero(top.any(axis=1)).tolist(), []
    sets = list(random_sets(top, percent, least_sets(len(layers)), seed))
    for layer in layers:
        ours = shift[:, layer, top[layer]].mean(axis=1)
        theirs = np.stack([shift[:, layer, one[layer]].mean(axis=1) for one in sets])
        against = contrast(ours[None], theirs[:, None], seed, clusters=clusters, bounds=(0, np.inf), upward=True)
        found.append((layer, against))
    corrected = holm([against.rank_p for _, against in found])
    return [(layer, against, float(p)) for (layer, against), p in zip(found, corrected, strict=True)]


def _against_null(
    measure: str, percent: float, values: Floats, chosen: Mask, null: NDArray[np.float32], clusters: Clusters
) -> ConsistencyLine:
    by_chance = null[:, chosen].mean(axis=1, dtype=np.float64)
    estimate = replace(mean_interval(values, clusters), chance=float(by_chance.mean()))
    n, size = len(values), int(chosen.sum())
    return ConsistencyLine(measure, percent, None, size, n, estimate, *_tested(estimate.value, by_chance))


def _beside_random(percent: float, neurons: int, n: int, against: Contrast) -> ConsistencyLine:
    what = "skill neurons minus random sets, adversarial rows"
    return ConsistencyLine(
        what, percent, None, neurons, n, against.difference, p=against.rank_p, p_floor=against.rank_floor
    )


def _clean_lines(
    reading: Reading, percent: float, top: Mask, permutations: int, seed: int
) -> Iterator[ConsistencyLine]:
    """The same neurons on the clean originals of the same rows, and the change."""
    if reading.clean is None or reading.clean_labels is None or reading.rows is None:
        return
    clusters = reading.clusters.take(reading.rows)
    before = reading.clean.of_sets(reading.clean_labels, top[None])[0]
    after = reading.votes.of_sets(reading.labels, top[None])[0][reading.rows]
    null = reading.clean.predictivity(clusters.permuted(reading.clean_labels, permutations, seed))
    yield _against_null(f"{SKILL}, clean originals", percent, before, top, null, clusters)
    change = after - before
    estimate, p = replace(mean_interval(change, clusters), chance=0.0), sign_flip_p(change, clusters)
    yield ConsistencyLine(
        f"{SKILL}, adversarial minus clean", percent, None, int(top.sum()), len(change), estimate, p=p
    )


def _by_kind(
    ranking: NDArray[np.floating], reading: Reading, percents: Sequence[float], permutations: int, seed: int
) -> tuple[ConsistencyLine, ...]:
    """Agreements on each kind of attack, each beside the ceiling of as many clean rows; Holm over the kinds."""
    found = []
    for name in reading.kinds:
        part = reading.of_kind(name)
        null = part.votes.predictivity(part.clusters.permuted(part.labels, permutations, seed))
        predictivity = part.votes.predictivity(part.labels)
        lines = _agreements(ranking, part, predictivity, null, percents, seed)
        found.append([replace(line, group=name) for line in lines if line.layer is None])
    by_measure = [dict(enumerate(lines)) for lines in zip(*found, strict=True)]
    return tuple(line for lines in by_measure for line in _below_ceiling(lines).values())


def _agreements(
    ranking: NDArray[np.floating],
    reading: Reading,
    predictivity: NDArray[np.float32],
    null: NDArray[np.float32],
    percents: Sequence[float],
    seed: int,
) -> list[ConsistencyLine]:
    """Spearman of the full vectors first, then overlap@k: mean over layers, and each layer.

    Resampling rows would rank neurons by noisier predictivities than the observed ones, and its interval does not
    hold: there is none. Beside each stands its ceiling.
    """
    clean, share = _clean(reading, seed)
    n, here = len(reading.votes), reliability(reading.votes, reading.labels, reading.clusters, seed)

    def line(
        name: str, percent: float, layer: int | None, neurons: int, value: float, chance: float, *others: Floats
    ) -> ConsistencyLine:
        """`others`: the same under permuted labels, and on clean rows."""
        top = ceiling_of(value, others[1], share) if len(others[1]) else UNKNOWN
        estimate = unknown(value, chance)
        return ConsistencyLine(name, percent, layer, neurons, n, estimate, *_tested(value, others[0]), ceiling=top)

    value = spearman(ranking, predictivity)
    by_chance, on_clean = (np.array([spearman(ranking, one) for one in many]) for many in (null, clean))
    whole = line(SPEARMAN, float("nan"), None, ranking.size, value, 0.0, by_chance, on_clean)
    found = [replace(whole, corrected=corrected(value, here, reading.reliability))]
    for percent in percents:
        top, name = top_neurons(ranking, percent), f"overlap@{percent:g}%"
        theirs = top_neurons(predictivity, percent)
        now, chance = overlap(top, theirs), expected_overlap(top, theirs)
        by_chance, on_clean = (
            np.array([overlap(top, top_neurons(one, percent)) for one in many]).reshape(len(many), len(ranking))
            for many in (null, clean)
        )
        means = [np.nanmean(part, axis=1) if len(part) else part[:, 0] for part in (by_chance, on_clean)]
        value, expected = float(np.nanmean(now)), float(np.nanmean(chance))
        found.append(line(name, percent, None, int(top.sum()), value, expected, *means))
        for layer in np.flatnonzero(top.any(axis=1)).tolist():
            parts = by_chance[:, layer], on_clean[:, layer] if len(on_clean) else np.zeros(0)
            size = int(top[layer].sum())
            found.append(line(name, percent, layer, size, float(now[layer]), float(chance[layer]), *parts))
    return found


def _clean(reading: Reading, seed: int) -> tuple[NDArray[np.float32], float]:
    """Predictivities of draws of clean rows `[D, L, F]`, and the share of the clean rows in each; D is 0 without."""
    drawn = None
    if reading.pool is not None:
        drawn = clean_draws(reading.pool, reading.labels, reading.clusters, seed)
    if reading.pool is None or drawn is None:
        return np.zeros((0, *reading.votes.shape), dtype=np.float32), 0.0
    return reading.pool.votes.resampled(reading.pool.labels, drawn[0]), drawn[1]


def _below_ceiling(lines: dict[Key, ConsistencyLine]) -> dict[Key, ConsistencyLine]:
    """Holm over the percentages, or the kinds."""
    if any(np.isnan(line.ceiling.p_value) for line in lines.values()):
        return lines
    adjusted = holm([line.ceiling.p_value for line in lines.values()])
    return {k: replace(line, lost_holm_p=float(p)) for (k, line), p in zip(lines.items(), adjusted, strict=True)}


def _tested(value: float, null: Floats) -> tuple[float, float, float, float]:
    """The central 95% under permuted labels, the one-sided p, and what it cannot go below."""
    low, high = np.nanquantile(null, (0.025, 0.975))
    draws = len(null) + 1
    return float(low), float(high), float((1 + (null >= value - 1e-9).sum()) / draws), 1 / draws


def _corrected(lines: dict[float, ConsistencyLine]) -> dict[float, ConsistencyLine]:
    """Holm over the percentages."""
    adjusted = holm([line.p for line in lines.values()])
    return {k: replace(line, holm_p=float(p)) for (k, line), p in zip(lines.items(), adjusted, strict=True)}
