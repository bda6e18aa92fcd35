"""Faithfulness over size: what the top neurons keep by themselves, and what is lost without them, from few to half.

An order of the neurons is cut at each size: all but its top are suppressed (kept), or its top is (lost). Measured is
the margin of the right label, as a share of the way from all neurons of the site suppressed to none. The areas are
those of the Mechanistic Interpretability Benchmark (Mueller et al. 2025, arXiv 2504.13151), with neurons for edges.
Shapes: Q orders, Z sizes, M sets, S prompts, n rows, C classes, K random orders, L layers, F FFN width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillneurons.findings import Claim, Unit, number, p_text
from skillneurons.neurons.selection import Mask, Ranking, top_neurons
from skillneurons.neurons.staged_sets import STAGES
from skillneurons.stats.cluster_bootstrap import Clusters, central, ratio_interval
from skillneurons.stats.control_sets import Contrast, contrast, corrected, least_sets, undecided
from skillneurons.stats.intervals import Estimate, Ranged, mean_interval
from skillneurons.stats.paired_accuracy import clustered_share, margin
from skillneurons.stats.skill_test import Skill, skill

SIZES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
NODES = np.array([0.0, *SIZES, 100.0]) / 100
WHOLE = 0.9  # of the margin's way, that a minimal set keeps
SKIPPED = 5.0  # percent that the next best come after
TESTS = 2  # kept and lost
Floats = NDArray[np.float64]
Read = Callable[[Mask], NDArray[np.float32]]  # sets `[M, L, F]` -> label scores `[M, S, n, C]`
WEIGHTS = np.diff(NODES, prepend=NODES[0]) / 2 + np.diff(NODES, append=NODES[-1]) / 2  # of the trapezoid rule


@dataclass(frozen=True)
class Size:
    """The top neurons of one size.

    Attributes:
        percent, neurons: how many.
        n, majority: rows, and the share of their commonest label.
        kept, lost: share of the margin's way, the mean of the random orders as chance.
        kept_accuracy, lost_accuracy: with all others, or these, suppressed; random orders' mean and range beside.
        kept_random, lost_random: accuracy with the random orders.
    """

    percent: float
    neurons: int
    n: int
    majority: float
    kept: Estimate
    lost: Estimate
    kept_accuracy: Ranged
    lost_accuracy: Ranged
    kept_random: Ranged
    lost_random: Ranged

    def row(self) -> dict[str, object]:
        """Its line of the table."""
        found: dict[str, object] = {"percent": self.percent, "neurons": self.neurons, "n": self.n}
        found |= {"majority": self.majority, **self.kept.columns("kept"), **self.lost.columns("lost")}
        for name in ("kept", "lost"):
            found |= getattr(self, f"{name}_accuracy").ends(f"{name}_accuracy")
            found |= getattr(self, f"{name}_random").ends(f"{name}_random_accuracy")
        return found


@dataclass(frozen=True)
class Area:
    """The area under a curve over all sizes from 0 to 100%.

    Attributes:
        value: of the top neurons, the mean of the random orders as chance.
        next_best: of the order that begins behind the top ones.
        lowest, highest: of the random orders.
        against: beside random orders, on the margin; None of CMD, which is no mean over rows.
    """

    value: Estimate
    next_best: Estimate
    lowest: float
    highest: float
    against: Contrast | None = None

    def columns(self, name: str) -> dict[str, float]:
        """Of the table."""
        found = {**self.value.columns(name), f"{name}_random_lowest": self.lowest}
        found |= {f"{name}_random_highest": self.highest, **self.next_best.columns(f"{name}_next_best")}
        if self.against:
            found |= {f"{name}_rank_p": self.against.rank_p, f"{name}_holm_p": self.against.holm_p}
        return found


@dataclass(frozen=True)
class Faithfulness:
    """Both curves and what they come to.

    Attributes:
        n, majority: rows, and the share of their commonest label.
        sizes: the curves.
        cpr: circuit performance ratio, the area under `kept`: 1 is best.
        cmd: circuit-model distance, the area between `kept` and 1: 0 is best.
        lost: the area under `lost`.
        orders: how many random ones were read.
        planned: K.
        minimal: percent that keeps 90%, with its bootstrap interval, and what random orders need; infinite where no
            size up to 50% does.
        complement: whether the model without that minimal set still knows the label; None without one.
        without: its accuracy.
        small: whether the margin's way is too little to take shares of, or leads down.
        way: margin untouched, and with all neurons of the site suppressed.
    """

    n: int
    majority: float
    sizes: Sequence[Size]
    cpr: Area
    cmd: Area
    lost: Area
    orders: int
    planned: int
    minimal: Estimate
    complement: Skill | None
    without: Ranged | None
    small: bool
    way: tuple[float, float]

    def rows(self) -> list[dict[str, object]]:
        """Of the table: a size a line."""
        return [size.row() for size in self.sizes]

    def row(self) -> dict[str, object]:
        """Of the table of areas."""
        found: dict[str, object] = {"n": self.n, "majority": self.majority, "random_sets": self.orders}
        for name, area in (("cpr", self.cpr), ("cmd", self.cmd), ("lost", self.lost)):
            found |= area.columns(name)
        found |= {k: v if np.isfinite(v) else nan for k, v in self.minimal.columns("minimal_percent").items()}
        if self.without and self.complement:
            found |= self.without.ends("complement_accuracy")
            found |= self.complement.columns("complement_balanced_accuracy", "complement_balanced")
        return found

    @property
    def metrics(self) -> dict[str, float]:
        """Under `test/faithfulness`."""
        found: dict[str, float] = {}
        for name, area in (("cpr", self.cpr), ("cmd", self.cmd), ("lost", self.lost)):
            found |= area.value.columns(f"test/faithfulness/{name}")
        known = {"test/faithfulness/minimal_percent": self.minimal.value} if self.without else {}
        return found | known

    def claims(self, allowed: float) -> list[Claim]:
        """What both curves say.

        Args:
            allowed: a difference of areas within it, as a fraction, counts as none.
        """
        if self.small:
            full, empty = self.way
            why = (
                f"the right label's margin is {number(full, '.2f')} untouched and {number(empty, '.2f')} with all "
                "neurons of the site suppressed: no way to take shares of"
            )
            return [Claim("cannot tell", why)]
        kept = _claim("kept alone, share of the margin over sizes (CPR)", self.cpr, self, allowed)
        lost = _claim("lost without them, share of the margin over sizes", self.lost, self, allowed)
        return [kept, lost, self._minimal()]

    def _minimal(self) -> Claim:
        n = f"{self.n:,} rows"
        if self.without is None or self.complement is None:
            return Claim("no small set", f"{WHOLE:.0%} of the margin is not kept by up to {SIZES[-1]:g}%", n=n)
        low, high = f"{self.minimal.low:g}%", "beyond" if np.isinf(self.minimal.high) else f"{self.minimal.high:g}%"
        word = "the rest still tells the label" if self.complement.shown else "no skill shown in the rest"
        text = f"{WHOLE:.0%} of the margin is kept from {self.minimal.value:g}% on [{low}, {high}]; without, right on"
        figure = replace(self.without, chance=self.majority)
        test = f"by balanced accuracy, {p_text(self.complement.p_value)}"
        return Claim(word, text, figure, chance="majority rate", n=n, test=test, holds=self.complement.shown or None)


def orders_of(ranking: NDArray[np.floating], kind: Ranking, controls: int, seed: int) -> NDArray[np.float64]:
    """The neurons' own order, the one that begins behind its top 5%, and K random ones: rankings `[2 + K, L, F]`."""
    own = np.asarray(ranking, dtype=np.float64)
    behind = np.where(top_neurons(own, SKIPPED, kind), own - np.ptp(own) - 1, own)
    rng = np.random.default_rng([seed, 23])
    return np.stack([own, behind, *rng.random((controls, *own.shape))])


def sets_of(order: NDArray[np.floating], kind: Ranking) -> Mask:
    """What is suppressed `[2 Z, L, F]`: all but the top of each size, then the top of each size."""
    tops = np.stack([top_neurons(order, size, kind) for size in SIZES])
    return np.concatenate([~tops, tops])


def measure(
    ranking: NDArray[np.floating],
    kind: Ranking,
    read: Read,
    labels: NDArray[np.int64],
    controls: int | None = None,
    seed: int = 0,
    clusters: Clusters | None = None,
) -> Faithfulness:
    """Read both curves of a ranking `[L, F]` and of as many random orders as the tests need, in stages.

    Args:
        ranking: of the neurons, or `[K, L, F]`, as `top_neurons` takes it.
        kind: the top of each layer, or of all.
        read: label scores under sets.
        labels: of the rows `[n]`.
        controls: K; None: the fewest that two tests need.
        seed: of the random orders and resamples.
        clusters: rows that belong together; else each by itself.
    """
    rows, planned = clusters or Clusters.single(len(labels)), controls or least_sets(TESTS)
    orders, shape = orders_of(ranking, kind, planned, seed), ranking.shape[-2:]
    neurons = [int(top_neurons(ranking, size, kind).sum()) for size in SIZES]
    ends = read(np.stack([np.zeros(shape, dtype=np.bool_), np.ones(shape, dtype=np.bool_)]))
    found = [read(sets_of(order, kind)) for order in orders[:2]]
    way = margin(ends, labels)

    def areas(scores: Sequence[NDArray[np.float32]]) -> Floats:
        """`[Q, 2]`: means of both areas."""
        return np.array([[part.mean() for part in _areas(margin(one, labels), way)] for one in scores])

    # where there is no way to take shares of, more orders tell nothing
    stages = STAGES[:1] if _small((way[0] - way[1]).mean(axis=0), rows) else (*STAGES, planned)
    for stage in stages:
        ours, theirs = areas(found[:1])[0], areas(found[2:]).reshape(-1, 2)
        if not any(undecided(float(ours[i]), theirs[:, i], planned, upward=True) for i in range(2)):
            break
        found += [read(sets_of(order, kind)) for order in orders[len(found) : 2 + stage]]
    return summarised(np.stack(found), ends, labels, rows, planned, seed, neurons)


def summarised(
    scores: NDArray[Any],
    ends: NDArray[Any],
    labels: NDArray[np.int64],
    rows: Clusters,
    planned: int,
    seed: int,
    neurons: Sequence[int],
) -> Faithfulness:
    """From label scores under every set.

    Args:
        scores: `[Q, 2 Z, S, n, C]`: the neurons' own order, the next best, then random ones; kept, then lost.
        ends: untouched, then all suppressed `[2, S, n, C]`.
        labels: `[n]`.
        rows: which belong together.
        planned: K.
        seed: of resamples.
        neurons: at each size.
    """
    way, margins = margin(ends, labels), margin(scores, labels)
    span = (way[0] - way[1]).mean(axis=0)
    shares = [_shares(one, way) for one in margins]  # `[2 Z, S, n]` each, of the margin
    small = _small(span, rows)
    own = [ratio_interval(one.mean(axis=0), span, rows) for one in shares[0]]
    random = np.array([[one.mean() for one in part] for part in shares[2:]]) / (span.mean() or nan)
    right = scores.argmax(-1) == labels
    majority, z = float(np.bincount(labels).max() / len(labels)), len(SIZES)
    chance = np.full(2 * z, nan) if small else random.mean(axis=0)
    lines = [
        Size(
            percent,
            neurons[i],
            len(labels),
            majority,
            replace(own[i], chance=float(chance[i])),
            replace(own[z + i], chance=float(chance[z + i])),
            *(clustered_share(right[0, place], rows) for place in (i, z + i)),
            *(mean_interval(right[2:, place].mean(axis=(1, 2)), within=(0, 1)) for place in (i, z + i)),
        )
        for i, percent in enumerate(SIZES)
    ]
    parts = [_areas(one, way) for one in margins]  # kept and lost `[S, n]`, each order
    against = corrected(
        [
            contrast(
                parts[0][i],
                np.stack([one[i] for one in parts[2:]]),
                seed,
                clusters=rows,
                bounds=(-np.inf, np.inf),
                upward=True,
                planned=planned,
            )
            for i in range(TESTS)
        ]
    )
    kept, lost = (_judged([one[i] for one in parts], span, rows, a) for i, a in enumerate(against))
    kept_shares = [part[:z].mean(axis=1) for part in shares]
    nothing = Estimate(np.inf, np.inf, np.inf, np.inf)
    minimal = nothing if small else _minimal(kept_shares, span, rows, seed)
    without = complement = None
    if np.isfinite(minimal.value):
        place = z + SIZES.index(minimal.value)
        without, complement = (
            clustered_share(right[0, place], rows),
            skill(scores[0, place].argmax(-1), labels, rows, seed),
        )
    return Faithfulness(
        len(labels),
        majority,
        lines,
        kept,
        _distance(kept_shares, span, rows, seed, small),
        lost,
        len(scores) - 2,
        planned,
        minimal,
        complement,
        without,
        small,
        (float(way[0].mean()), float(way[1].mean())),
    )


def _small(span: Floats, rows: Clusters) -> bool:
    """Whether the mean of a margin's way `[n]` is not known to lead up."""
    return bool(np.isnan(ratio_interval(span, span, rows).low) or span.mean() <= 0)


def _shares(margins: Floats, way: Floats) -> Floats:
    """What is kept above all suppressed, then what is lost from untouched, `[2 Z, S, n]` of one order."""
    half = len(SIZES)
    return np.concatenate([margins[:half] - way[1], way[0] - margins[half:]])


def _areas(margins: Floats, way: Floats) -> tuple[Floats, Floats]:
    """The areas under what is kept and what is lost, in units of the margin `[S, n]`; nothing at 0, all at 100%."""
    shares, half = _shares(margins, way), len(SIZES)
    end = WEIGHTS[-1] * (way[0] - way[1])
    kept, lost = (np.tensordot(WEIGHTS[1:-1], part, axes=1) + end for part in (shares[:half], shares[half:]))
    return kept, lost


def _judged(parts: Sequence[Floats], span: Floats, rows: Clusters, against: Contrast | None) -> Area:
    """Of the areas of the own order, of the next best, and of random ones, each `[S, n]`."""
    own, behind, *random = parts
    values = np.array([one.mean() for one in random]) / (span.mean() or nan)
    chance = float(values.mean())
    both = [replace(ratio_interval(one.mean(axis=0), span, rows), chance=chance) for one in (own, behind)]
    return Area(both[0], both[1], float(values.min()), float(values.max()), against)


def _distance(kept: Sequence[Floats], span: Floats, rows: Clusters, seed: int, small: bool) -> Area:
    """CMD of what is kept `[Z, n]` by each order."""

    def area(shares: Floats) -> Floats:
        """Of shares `[..., Z]`; at 0% the distance is 1, at 100% none."""
        return np.asarray(np.abs(1 - shares) @ WEIGHTS[1:-1] + WEIGHTS[0])

    values = area(np.stack([one.mean(axis=1) for one in kept]) / (span.mean() or nan))
    chance, random = float(values[2:].mean()), values[2:]
    both = []
    for value, one in zip(values[:2].tolist(), kept, strict=False):
        drawn = np.zeros(0) if small else area(_resampled(one, span, rows, seed))
        both.append(Estimate(value, *central(drawn), chance))
    return Area(both[0], both[1], float(random.min()), float(random.max()))


def _minimal(kept: Sequence[Floats], span: Floats, rows: Clusters, seed: int) -> Estimate:
    """The smallest size that keeps 90%, infinite where none does, of what each order keeps `[Z, n]`."""
    sizes = np.array([*SIZES, np.inf])

    def smallest(shares: Floats) -> Floats:
        return np.asarray(sizes[np.argmax(np.concatenate([shares >= WHOLE, np.ones_like(shares[:, :1])], 1), axis=1)])

    drawn = np.sort(smallest(_resampled(kept[0], span, rows, seed)))
    own, random = kept[0].mean(axis=1), np.mean([one.mean(axis=1) for one in kept[2:]], axis=0)
    low, high = (float(drawn[int(share * (len(drawn) - 1))]) for share in (0.025, 0.975))
    value, chance = smallest(np.stack([own, random]) / (span.mean() or nan)).tolist()
    return Estimate(value, low, high, chance)


def _resampled(kept: Floats, span: Floats, rows: Clusters, seed: int) -> Floats:
    """Shares `[B, Z]` on rows drawn anew."""
    return np.concatenate([(weights @ kept.T) / (weights @ span)[:, None] for weights in rows.weights(seed)])


def _claim(what: str, area: Area, one: Faithfulness, allowed: float) -> Claim:
    """An area beside random orders."""
    against, span = area.against, one.way[0] - one.way[1]
    assert against is not None
    room = max(abs(against.difference.low), abs(against.difference.high)) / abs(span)
    verdict, holds = "cannot tell whether beyond random orders", None
    if against.significant:
        verdict, holds = "beyond random orders", True
    elif one.planned < least_sets(TESTS):
        verdict = f"cannot tell ({one.planned} random orders of the {least_sets(TESTS)} that it takes)"
    elif room <= allowed:
        verdict, holds = "no more than random orders", False
    test = f"next best neurons {area.next_best.value:.2f}, {p_text(against.holm_p)} by rank of {one.orders}, Holm"
    return Claim(verdict, f"{what}:", area.value, Unit.NUMBER, "random orders", test=test, holds=holds)
