"""How often the verdicts are wrong, and their intervals hold: simulated with the functions that commands call.

`python benchmarks/calibration.py [repetitions] [page]`, by default 60; prints a table, and puts it into the page.
Error: how often a verdict claims what is not so. Coverage: how often a printed 95% interval holds the truth. Power:
how often what is so is claimed; it is no promise, but what a study of this size can hope for.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, false_discovery_control

from skillneurons.data.splits import Split
from skillneurons.discover.random_baseline import beyond_random
from skillneurons.neurons.intervention import Sets
from skillneurons.neurons.scores import Neurons
from skillneurons.robustness.ceiling import Pool
from skillneurons.robustness.consistency import Reading, consistency
from skillneurons.robustness.restoration import DIRECTIONS, Patched, judged, restoration_effects, verdict
from skillneurons.robustness.votes import Votes
from skillneurons.stats.cluster_bootstrap import Clusters, ratio_interval
from skillneurons.stats.control_sets import least_sets
from skillneurons.stats.mantel import mantel, symmetrised
from skillneurons.stats.neuron_tests import cauchy_combination, hypergeometric_tails, max_t
from skillneurons.stats.paired_accuracy import compare
from skillneurons.stats.skill_test import skill
from skillneurons.suppress.effects import verdict as needed
from skillneurons.suppress.faithfulness import measure as faithfulness
from skillneurons.suppress.report import SetPredictions
from skillneurons.transfer.matrix import RANDOM, PromptSource, TargetPredictions, family_tests, lines

Kind = Literal["error", "coverage", "power"]
Rng = np.random.Generator
Found = dict[str, bool]  # verdict or interval -> whether it was claimed, or held; left out where it was withheld
K = least_sets(3)


@dataclass(frozen=True)
class Cell:
    """One simulated situation; `once` draws it anew and says what was claimed."""

    of: str
    what: str
    kind: Kind
    once: Callable[[Rng], Found]


@dataclass(frozen=True)
class Line:
    """What came of a cell."""

    of: str
    what: str
    kind: Kind
    claim: str
    share: float
    repetitions: int

    @property
    def half(self) -> float:
        """One Monte-Carlo standard error."""
        return float(np.sqrt(max(self.share * (1 - self.share), 1e-4) / self.repetitions))

    @property
    def fails(self) -> bool:
        """Whether so much would come less than once in a thousand times of an error of 5%, or a coverage of 95%."""
        hits = round(self.share * self.repetitions)
        if self.kind == "error":
            return bool(binom.sf(hits - 1, self.repetitions, 0.05) < 1e-3)
        return self.kind == "coverage" and bool(binom.cdf(hits, self.repetitions, 0.95) < 1e-3)


# Suppression


def suppressed(rng: Rng, effect: float, sets: Callable[[Rng, int], NDArray[np.float64]], originals: int = 0) -> Found:
    """400 rows, two prompts, three rates; random sets are right on 80% and what `sets` adds, skill ones on less."""
    n, rates = 400, (1.0, 5.0, 15.0)
    clusters = Clusters.by(rng.integers(0, originals, n)) if originals else Clusters.single(n)
    # rows that are hard under one set are hard under all
    hard = (
        (0.8 * rng.random(clusters.count)[clusters.of] + 0.2 * rng.random((2, n)))
        if originals
        else rng.random((2, n))
    )
    labels = rng.integers(0, 2, clusters.count)[clusters.of]
    levels, masks = [0.85], []
    for rate in rates:
        drawn = 0.8 + sets(rng, K + 1)
        levels += [drawn[0] - effect, *drawn[1:]]
        masks.append(Sets(rate, np.ones((1, 1), dtype=bool), np.ones((K, 1, 1), dtype=bool), K))
    right = hard[:, None] < np.array(levels)[:, None]
    split = Split(
        "made", "test", tuple((str(i),) for i in range(n)), labels, tuple(map(str, range(n))), {}, "x", ("a", "b")
    )
    said = SetPredictions("task", True, split, ("p", "q"), np.where(right, labels, 1 - labels), masks, clusters)
    holds = needed(False, said.effects(int(rng.integers(2**31))), 0.03).holds
    return {"needs these neurons": holds is True, "no difference": holds is False}


def alike(spread: float, breaking: float = 0) -> Callable[[Rng, int], NDArray[np.float64]]:
    """Sets that differ by so much; a share of them loses 15 points."""
    return lambda rng, count: rng.normal(0, spread, count) - 0.15 * (rng.random(count) < breaking)


# Restoration


def restored(rng: Rng, restore: float, corrupt: float, spread: float, breaking: float = 0.0) -> Found:
    """150 pairs of 100 originals, an attack that turns 40%; random sets give back shares that differ by `spread`."""
    n = 150
    clusters = Clusters.by(np.sort(rng.integers(0, 100, n)))
    labels = rng.integers(0, 2, clusters.count)[clusters.of]
    turned, order = rng.random(clusters.count)[clusters.of] < 0.4, rng.random(n)

    def scores(back: float) -> NDArray[np.float32]:
        """A share of the turned rows is right again, and margins move with it."""
        margin = np.where(turned, 2 * back - 1 + 0.4 * (order - 0.5), 1.0) + rng.normal(0, 0.05, n)
        toward_one = np.where(labels == 1, margin, -margin) / 2
        return np.stack([-toward_one, toward_one], axis=-1).astype(np.float32)[None]

    def drawn(count: int) -> NDArray[np.float64]:
        return np.clip(rng.normal(0.1, spread, count) + 0.4 * (rng.random(count) < breaking), 0, 1)

    clean, start, both = scores(1), scores(0), {}
    for way, gain in zip(DIRECTIONS, (restore, corrupt), strict=True):
        shares = drawn(K + 1)
        shares[0] = shares[0] + gain
        versions = [scores(x if way == "restore" else 1 - x) for x in shares]
        patched = Patched(5, 9, versions[0], np.stack(versions[1:]), K)
        first, last = (start, clean) if way == "restore" else (clean, start)
        both[way] = restoration_effects(way, first, last, [patched], labels, clusters, int(rng.integers(2**31)))
    pair = compare(clean.argmax(-1) == labels, start.argmax(-1) == labels, clusters, 2)
    claims = {claim.name: claim.holds is True for claim in verdict(judged(both, 5), (), pair, 0.03)}
    return {name: claims.get(name, False) for name in ("sufficient", "necessary")}


# Skill, shares, differences


def told(rng: Rng, recall: tuple[float, float], n: int, originals: int = 0) -> Found:
    """Predictions with these recalls, majority rate 62%; rows of one original are answered alike."""
    clusters = Clusters.by(rng.integers(0, originals, n)) if originals else Clusters.single(n)
    labels = (rng.random(clusters.count) < 0.62).astype(int)[clusters.of]
    right = rng.random(clusters.count)[clusters.of] < np.where(labels == 1, recall[1], recall[0])
    if len(set(labels)) < 2:
        return {}
    return {
        "skill": skill(np.where(right, labels, 1 - labels)[None], labels, clusters, int(rng.integers(2**31))).shown
    }


def pairs(rng: Rng, originals: int, rates: tuple[float, float]) -> Found:
    """Up to five rows an original, right together, clean and attacked."""
    clusters = Clusters.by(np.repeat(np.arange(originals), rng.integers(1, 6, originals)))
    n, both = len(clusters.of), []
    for rate in rates:
        level = rng.beta(4 * rate, 4 * (1 - rate), originals)
        both.append(rng.random((1, n)) < level[clusters.of])
    found = compare(both[0], both[1], clusters, 2)
    clean, changed = rates
    held = {
        "accuracy": found.clean.low <= clean <= found.clean.high,
        "difference": found.difference.low <= clean - changed <= found.difference.high,
        "attack success": found.success.low <= 1 - changed <= found.success.high,
    }
    return {name: bool(value) for name, value in held.items()}


def returned(rng: Rng, originals: int, loss: float) -> Found:
    """What share of the margin's loss comes back, true 40%; withheld where the loss itself is hardly known."""
    clusters = Clusters.by(np.repeat(np.arange(originals), rng.integers(1, 4, originals)))
    way = (rng.normal(loss, 1, originals)[clusters.of]) + rng.normal(0, 0.5, len(clusters.of))
    moved = 0.4 * way + rng.normal(0, 0.3, originals)[clusters.of]
    found = ratio_interval(moved, way, clusters)
    return {} if np.isnan(found.low) else {"share returned": bool(found.low <= 0.4 <= found.high)}


# Neurons


def neurons_of(rng: Rng, count: int, common: float, seeds: int) -> Found:
    """Labels that mean nothing, 200 rows, R=200; `common`: how much of a neuron's firing all neurons share."""
    n, permutations = 200, 200
    labels = rng.permutation(np.arange(n) % 2)
    orders = np.stack([rng.permutation(labels) for _ in range(permutations)])
    shared, ps, hits = rng.normal(size=(n, 1)), [], 0.0
    for _ in range(seeds):
        fired = np.sqrt(common) * shared + np.sqrt(1 - common) * rng.normal(size=(n, count)) > 0
        ones = fired[labels == 1].sum(0)
        upper, _ = hypergeometric_tails(ones, fired.sum(0), n // 2, n)
        ps.append(upper)
        both = np.vstack([labels[None], orders]).astype(np.float32)
        hits = hits + (2 * (both @ fired.astype(np.float32)) - fired.sum(0) + n / 2) / n / seeds
    q = false_discovery_control(cauchy_combination(np.stack(ps)))
    return {"family-wise": bool((max_t(hits[0], hits[1:]) <= 0.05).any()), "any at q < 0.05": bool((q < 0.05).any())}


def discovery(rng: Rng, tuned: NDArray[np.float64], random: NDArray[np.float64], n: int) -> Neurons:
    """Two tuned and two random prompts; neurons right at these rates `[L, F]` on n rows of either half."""
    shape = (1, 2, *tuned.shape)
    draws = [rng.binomial(n, rate, shape).astype(np.float32) / n for rate in (tuned, tuned, random, random)]
    empty = np.zeros(shape)
    return Neurons(
        baseline=np.zeros((2, *tuned.shape, 1), dtype=np.float32),
        accuracy=empty[..., None, :].astype(np.float32),
        position=empty.astype(np.int16),
        sign=empty.astype(np.int8),
        selected=draws[0],
        seed_predictivity=draws[1],
        predictivity=draws[1].mean(axis=1),
        p_value=empty,
        q_value=empty[:, 0],
        family_p=empty[:, 0],
        auc=empty.astype(np.float32),
        random_selected=draws[2],
        random_predictivity=draws[3],
        effect_selected=draws[0][0, :0],
        effect=draws[0][0, :0],
        effect_p=empty[0, 0],
        card={"judged_rows": n, "majority": 0.5},
    )


def top(rng: Rng, n: int, gain: float) -> Found:
    """The top 5% of 1,000 neurons, chosen on half A: half B's figure beside the truth, and beside random prompts."""
    level = rng.uniform(0.5, 0.8, (2, 500))
    one = discovery(rng, np.minimum(level + gain, 1), level, n)
    found = beyond_random(one, 5)
    assert found is not None
    order = np.argsort(-one.ranking, axis=1, kind="stable")[:, :25]
    truth = float(np.take_along_axis(np.minimum(level + gain, 1), order, axis=1).mean())
    return {
        "top on half B": found.tuned.low <= truth <= found.tuned.high,
        "more than random prompts": found.difference.low > 0,
    }


# Agreement


def agreement(rng: Rng, n: int, keep: float, pool: int, copies: int = 1) -> Found:
    """A clean ranking from 300 rows beside n adversarial ones whose true skills agree with it by `keep`."""
    shape = (2, 60)
    clean, other = rng.uniform(0.55, 0.9, (2, *shape))

    def rows(level: NDArray[np.float64], count: int, copies: int = 1) -> tuple[Votes, NDArray[np.int64]]:
        labels = rng.permutation(np.arange(count // copies) % 2)
        right = rng.random((count // copies, *shape)) < level
        fired = np.repeat(right == (labels == 1)[:, None, None], copies, axis=0)
        return Votes.of([fired], [np.ones(shape, dtype=np.int8)]), np.repeat(labels, copies)

    first, known = rows(clean, 300)
    votes, labels = rows(keep * clean + (1 - keep) * other, n, copies)
    clusters = Clusters.by(np.repeat(np.arange(n // copies), copies))
    reading = Reading(votes, labels, clusters, pool=Pool(*rows(clean, pool)))
    found = consistency(first.predictivity(known), reading, (5,), controls=19, permutations=20)
    return {"inconsistent": bool(found.agreement.lost), "overlap lost": bool(found.overlap[5].lost)}


def families(rng: Rng) -> Found:
    """Eight tasks of two families: overlap and transfer share families alone."""
    groups = ["x"] * 4 + ["y"] * 4
    same = np.equal.outer(groups, groups)
    one = mantel(*(symmetrised(rng.random((8, 8))) + same for _ in range(2)), groups=groups)
    return {"plain test": one.p_value <= 0.05, "within families": one.p_value <= 0.05 and one.group_p <= 0.05}


# Transfer between families, and faithfulness over size


def transferred(rng: Rng, effect: float, spread: float, seeds: int = 3, n: int = 300) -> Found:
    """Prompts of two tasks of a family on two of another, ten random ones beside; prompts differ by `spread`."""
    names = [(task, "a", seed) for task in ("a1", "a2") for seed in range(seeds)] + [
        (RANDOM, "", k) for k in range(10)
    ]
    readers = [PromptSource(*name, str(name)) for name in names]
    # a prompt is good or bad on both targets
    level = rng.normal(0.6, spread, len(names)) + np.array([effect * (name[0] != RANDOM) for name in names])
    measured = []
    for target in ("b1", "b2"):
        labels, hard = rng.integers(0, 2, n), rng.normal(0, 0.15, n)
        right = rng.random((len(names), n)) < np.clip(level[:, None] + hard, 0, 1)
        rows = tuple(map(str, range(n)))
        split = Split("made", "test", tuple((row,) for row in rows), labels, rows, {}, "x", ("a", "b"))
        measured.append(TargetPredictions(target, "b", split, readers, np.where(right, labels, 1 - labels)))
    [pair] = tests = family_tests(measured)
    beyond = any(line.beyond_random for line in lines(measured, tests))
    return {"families transfer": bool(pair.beyond), "a cell transfers": beyond}


def faithful(rng: Rng, knows: float) -> Found:
    """500 neurons that do very different parts; the order knows so much of what they do."""
    does = rng.exponential(1, 500) ** 2
    ranking = (knows * does / does.std() + rng.normal(0, 1, 500))[None]
    labels, each = rng.integers(0, 2, 100), rng.normal(0, 0.3, 100)

    def read(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
        gap = ((~masks[:, 0]) @ does / does.sum())[:, None] + each
        toward_one = np.where(labels == 1, gap, -gap) / 2
        return np.stack([-toward_one, toward_one], axis=-1)[:, None].astype(np.float32)

    found = faithfulness(ranking, "layer", read, labels, seed=int(rng.integers(2**31)))
    both = [area.against for area in (found.cpr, found.lost) if area.against]
    return {"keep or lose more than random orders": any(one.significant for one in both)}


def cells() -> Iterator[Cell]:
    """Every situation."""
    normal, apart, heavy = alike(0.01), alike(0.03), alike(0.01, 1 / 12)
    for what, sets in (("sets alike", normal), ("sets differ by 3 points", apart), ("one set in 12 breaks", heavy)):
        yield Cell(
            "suppress", f"null, {what}", "error", only("needs these neurons", lambda r, s=sets: suppressed(r, 0, s))
        )
        yield Cell(
            "suppress",
            f"5 points, {what}",
            "power",
            only("needs these neurons", lambda r, s=sets: suppressed(r, 0.05, s)),
        )
    yield Cell(
        "suppress",
        "null, rows of 100 originals",
        "error",
        only("needs these neurons", lambda r: suppressed(r, 0, normal, 100)),
    )
    yield Cell("suppress", "6 points", "error", only("no difference", lambda r: suppressed(r, 0.06, normal)))
    yield Cell("suppress", "null", "power", only("no difference", lambda r: suppressed(r, 0, alike(0.003))))
    yield Cell("robustness", "null, sets alike", "error", lambda r: restored(r, 0, 0, 0.02))
    yield Cell("robustness", "null, sets differ", "error", lambda r: restored(r, 0, 0, 0.1))
    yield Cell("robustness", "null, one set in 12 restores much", "error", lambda r: restored(r, 0, 0, 0.02, 1 / 12))
    yield Cell("robustness", "30% of the loss", "power", lambda r: restored(r, 0.3, 0.3, 0.05))
    yield Cell("skill", "none, n=100", "error", lambda r: told(r, (0.4, 0.6), 100))
    yield Cell("skill", "none, 60 originals", "error", lambda r: told(r, (0.4, 0.6), 180, 60))
    yield Cell("skill", "balanced 59%, below the majority, n=400", "power", lambda r: told(r, (0.56, 0.62), 400))
    for originals in (20, 60):
        yield Cell("intervals", f"{originals} originals", "coverage", lambda r, g=originals: pairs(r, g, (0.9, 0.6)))
        yield Cell("intervals", f"{originals} originals", "coverage", lambda r, g=originals: returned(r, g, 1.0))
    for count, common, seeds in ((500, 0.0, 1), (4_000, 0.0, 1), (500, 0.3, 3)):
        what = f"{count} neurons, {common:.0%} in common, {seeds} prompt(s)"
        yield Cell("discover", what, "error", lambda r, c=count, m=common, s=seeds: neurons_of(r, c, m, s))
    for n in (60, 300):
        yield Cell("discover", f"n={n}", "coverage", only("top on half B", lambda r, n=n: top(r, n, 0)))
        yield Cell(
            "discover",
            f"as random prompts, n={n}",
            "error",
            only("more than random prompts", lambda r, n=n: top(r, n, 0)),
        )
    yield Cell(
        "discover",
        "10 points beyond random prompts, n=300",
        "power",
        only("more than random prompts", lambda r: top(r, 300, 0.1)),
    )
    for n, pool in ((60, 150), (150, 450)):
        yield Cell("agreement", f"the same truth, n={n}", "error", lambda r, n=n, p=pool: agreement(r, n, 1, p))
    yield Cell(
        "agreement", "the same truth, 150 rows of 50 originals", "error", lambda r: agreement(r, 150, 1, 300, 3)
    )
    yield Cell("agreement", "true Spearman near 0.6, n=150", "power", lambda r: agreement(r, 150, 0.55, 450))
    yield Cell("transfer", "families shared, nothing else", "error", only("within families", families))
    for spread in (0.01, 0.05):
        what = f"prompts differ by {100 * spread:g} points"
        yield Cell("transfer", f"null, {what}", "error", lambda r, s=spread: transferred(r, 0, s))
        yield Cell("transfer", f"10 points, {what}", "power", lambda r, s=spread: transferred(r, 0.1, s))
    yield Cell("transfer", "null, two seeds, 5 points", "error", lambda r: transferred(r, 0, 0.05, seeds=2))
    yield Cell("faithfulness", "an order that knows nothing", "error", lambda r: faithful(r, 0))
    yield Cell("faithfulness", "Pearson with the parts near 0.3", "power", lambda r: faithful(r, 0.3))


def only(claim: str, once: Callable[[Rng], Found]) -> Callable[[Rng], Found]:
    """One claim of several."""
    return lambda rng: {name: value for name, value in once(rng).items() if name == claim}


def simulate(cell: Cell, repetitions: int, seed: int = 0) -> list[Line]:
    """One line a claim."""
    counts: dict[str, list[bool]] = {}
    for repetition in range(repetitions):
        for claim, value in cell.once(np.random.default_rng([seed, repetition])).items():
            counts.setdefault(claim, []).append(bool(value))
    return [
        Line(cell.of, cell.what, cell.kind, claim, float(np.mean(values)), len(values))
        for claim, values in counts.items()
    ]


def table(lines: Sequence[Line]) -> str:
    """In Markdown."""
    head = "| of | claim or interval | situation | kind | share | repetitions |\n|---|---|---|---|---|---|"
    rows = [
        f"| {one.of} | {one.claim} | {one.what} | {one.kind} | {one.share:.1%} ± {one.half:.1%} | {one.repetitions} |"
        for one in lines
    ]
    return "\n".join([head, *rows])


def main() -> None:
    """Simulate and print, or write a page."""
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    found, started = [], time.perf_counter()
    for cell in cells():
        found += simulate(cell, repetitions)
        print(f"{cell.of}: {cell.what} ({time.perf_counter() - started:.0f} s)", file=sys.stderr)
    text = table(found)
    if len(sys.argv) > 2:
        page = Path(sys.argv[2])
        before, mark, _ = page.read_text(encoding="utf-8").partition("<!-- table -->")
        page.write_text(f"{before}{mark}\n\n{text}\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
