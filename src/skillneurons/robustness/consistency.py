"""Do the clean skill neurons stay predictive on adversarial rows (method.md §3)?

Position and sign of every neuron are those chosen on clean dev rows, its baseline the clean one: nothing is
chosen on the adversarial rows, so predictivity there needs no correction for a choice. Shapes: n rows,
S prompts, L layers, F FFN width, R permutations, K random sets, M sets.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skillneurons.neurons.selection import Mask, expected_overlap, overlap, random_sets, top_neurons
from skillneurons.stats.cluster_bootstrap import Clusters, basic, central, mean_interval, sign_flip_p
from skillneurons.stats.control_sets import Contrast, contrast
from skillneurons.stats.intervals import Estimate, holm
from skillneurons.stats.neuron_tests import spearman

Floats = NDArray[np.float64]
AGREEMENT_RESAMPLES = 300  # of overlap and Spearman, which rank all neurons anew in each


@dataclass(frozen=True)
class Votes:
    """How many prompts hold a neuron for label 1 at a row: it fires if excitatory, is silent if inhibitory.

    Attributes:
        counts: uint8 `[n, L, F]`.
        prompts: S.
    """

    counts: NDArray[np.uint8]
    prompts: int

    @classmethod
    def of(cls, fired: Sequence[NDArray[np.bool_]], signs: Sequence[NDArray[np.int8]]) -> "Votes":
        """From firing `[n, L, F]` and sign `[L, F]` of each prompt."""
        counts = np.zeros(fired[0].shape, dtype=np.uint8)
        for bits, sign in zip(fired, signs, strict=True):
            counts += bits ^ (sign < 0)
        return cls(counts, len(fired))

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def shape(self) -> tuple[int, int]:
        """(L, F)."""
        return self.counts.shape[1], self.counts.shape[2]

    def predictivity(self, labels: ArrayLike) -> NDArray[np.float32]:
        """Share of rows right, mean over prompts, `[L, F]`; of several label vectors `[R, n]`: `[R, L, F]`."""
        y = np.asarray(labels, dtype=np.float32)
        return self._weighted(np.full(y.shape, 1 / len(self), dtype=np.float32), y)

    def resampled(self, labels: ArrayLike, weights: Floats) -> NDArray[np.float32]:
        """Of resamples with row weights `[b, n]`: `[b, L, F]`."""
        return self._weighted(weights.astype(np.float32), np.asarray(labels, dtype=np.float32))

    def of_sets(self, labels: ArrayLike, sets: Mask) -> Floats:
        """Share of a set's neurons (and prompts) that are right at a row, `[M, n]` for sets `[M, L, F]`."""
        flat, y = self._flat, np.asarray(labels).astype(bool)
        masks = sets.reshape(len(sets), -1).astype(np.float32)
        for_one = (masks @ flat.T) / (self.prompts * masks.sum(axis=1, keepdims=True))
        return np.asarray(np.where(y, for_one, 1 - for_one), dtype=np.float64)

    @property
    def _flat(self) -> NDArray[np.float32]:
        return self.counts.reshape(len(self), -1).astype(np.float32)

    def _weighted(self, weights: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
        # right = y D + (1 - y)(S - D), which is linear in the votes D
        signed = weights * (2 * labels - 1)
        constant = (weights * (1 - labels)).sum(axis=-1)
        right = signed @ self._flat / self.prompts + constant[..., None]
        return np.asarray(right.reshape(*right.shape[:-1], *self.shape), dtype=np.float32)


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
        p: one-sided by permutation, or two-sided of a difference.
        p_floor: what p cannot go below.
        holm_p: p corrected over the percentages.
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

    def row(self) -> dict[str, object]:
        """Its line of the table."""
        return {
            "measure": self.measure,
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
    """

    votes: Votes
    labels: NDArray[np.int64]
    clusters: Clusters
    clean: Votes | None = None
    clean_labels: NDArray[np.int64] | None = None
    rows: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Consistency:
    """What became of the clean skill neurons.

    Attributes:
        lines: the table.
        predictivity: on the adversarial rows `[L, F]`, prompts averaged.
        null: the central 95% of one neuron under permuted labels.
        skill, difference, overlap, agreement: the lines that the verdict rests on, by percentage (agreement:
            Spearman of the full vectors).
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


def consistency(
    ranking: NDArray[np.floating],
    reading: Reading,
    percents: Sequence[float],
    controls: int = 10,
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
        against[percent] = contrast(values[:1], values[1:, None], seed, clusters=clusters)
        difference[percent] = _beside_random(percent, int(top.sum()), len(labels), against[percent])
        lines += list(_clean_lines(reading, percent, top, permutations, seed))
    everything = np.ones(votes.shape, dtype=np.bool_)
    whole = votes.of_sets(labels, everything[None])[0]
    agreements = _agreements(ranking, reading, predictivity, null, percents, seed)
    skill, difference = _corrected(skill), _corrected(difference)
    shared = _corrected({line.percent: line for line in agreements if line.layer is None and line.percent > 0})
    by_layer = [line for line in agreements if line.layer is not None]
    all_lines = (
        *skill.values(),
        *difference.values(),
        _against_null("all neurons, adversarial rows", float("nan"), whole, everything, null, clusters),
        *lines,
        *shared.values(),
        *by_layer,
        agreements[0],
    )
    return Consistency(all_lines, predictivity, central(null), skill, difference, shared, agreements[0], against)


SKILL = "predictivity of the skill neurons"


def shift_by_layer(
    shift: NDArray[np.float32], top: Mask, percent: float, clusters: Clusters, controls: int, seed: int
) -> list[tuple[int, Contrast, float]]:
    """How far neurons move between the versions of a row: of each layer, skill beside random sets.

    Args:
        shift: |changed - clean| in standard deviations over the clean rows, prompts averaged `[n, L, F]`.
        top: skill neurons `[L, F]`.
        percent: which they are.
        clusters: rows made from one original.
        controls: K.
        seed: of the random sets and the bootstrap.

    Returns:
        (layer, skill minus random, Holm p over the layers), for layers with skill neurons; the p is of both tests,
        off the average random set and not just one more of them.
    """
    sets, found = list(random_sets(top, percent, controls, seed)), []
    for layer in np.flatnonzero(top.any(axis=1)).tolist():
        ours = shift[:, layer, top[layer]].mean(axis=1)
        theirs = np.stack([shift[:, layer, one[layer]].mean(axis=1) for one in sets])
        against = contrast(ours[None], theirs[:, None], seed, clusters=clusters, bounds=(0, np.inf), upward=True)
        found.append((layer, against))
    corrected = holm([against.both_p for _, against in found])
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
    return ConsistencyLine(what, percent, None, neurons, n, against.difference, p=against.both_p)


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


def _agreements(
    ranking: NDArray[np.floating],
    reading: Reading,
    predictivity: NDArray[np.float32],
    null: NDArray[np.float32],
    percents: Sequence[float],
    seed: int,
) -> list[ConsistencyLine]:
    """Spearman of the full vectors first, then overlap@k: mean over layers, and each layer."""
    drawn = np.concatenate(
        [
            reading.votes.resampled(reading.labels, weights)
            for weights in reading.clusters.weights(seed, AGREEMENT_RESAMPLES)
        ]
    )
    n, whole = len(reading.votes), float("nan")
    by_chance, again = (np.array([spearman(ranking, one) for one in many]) for many in (null, drawn))
    value = spearman(ranking, predictivity)
    found = [_agreement("Spearman", whole, None, ranking.size, n, value, by_chance, again, 0.0)]
    for percent in percents:
        top = top_neurons(ranking, percent)
        theirs = top_neurons(predictivity, percent)
        by_chance, again = (np.stack([overlap(top, top_neurons(one, percent)) for one in m]) for m in (null, drawn))
        now, chance = overlap(top, theirs), expected_overlap(top, theirs)
        name, places = f"overlap@{percent:g}%", np.flatnonzero(top.any(axis=1))
        means = (np.nanmean(by_chance, axis=1), np.nanmean(again, axis=1))
        value, expected = float(np.nanmean(now)), float(np.nanmean(chance))
        found.append(_agreement(name, percent, None, int(top.sum()), n, value, *means, expected))
        for layer in places.tolist():
            parts = (by_chance[:, layer], again[:, layer])
            size, value, expected = int(top[layer].sum()), float(now[layer]), float(chance[layer])
            found.append(_agreement(name, percent, layer, size, n, value, *parts, expected))
    return found


def _agreement(
    name: str,
    percent: float,
    layer: int | None,
    neurons: int,
    n: int,
    value: float,
    null: Floats,
    drawn: Floats,
    chance: float,
) -> ConsistencyLine:
    estimate = replace(basic(value, drawn, -1.0 if name == "Spearman" else 0.0, 1.0), chance=chance)
    return ConsistencyLine(name, percent, layer, neurons, n, estimate, *_tested(value, null))


def _tested(value: float, null: Floats) -> tuple[float, float, float, float]:
    """The central 95% under permuted labels, the one-sided p, and what it cannot go below."""
    low, high = np.nanquantile(null, (0.025, 0.975))
    draws = len(null) + 1
    return float(low), float(high), float((1 + (null >= value - 1e-9).sum()) / draws), 1 / draws


def _corrected(lines: dict[float, ConsistencyLine]) -> dict[float, ConsistencyLine]:
    """Holm over the percentages."""
    adjusted = holm([line.p for line in lines.values()])
    return {k: replace(line, holm_p=float(p)) for (k, line), p in zip(lines.items(), adjusted, strict=True)}
