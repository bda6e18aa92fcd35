"""Transfer within and across families, and beside the neurons: one line of a table each, tasks as the unit."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf

import numpy as np
from numpy.typing import NDArray

from skillneurons.stats.intervals import Estimate, exact, mean_interval
from skillneurons.stats.mantel import Association, gap_between, mantel, mean_over, symmetrised
from skillneurons.transfer.matrix import ACROSS, OWN, WITHIN, NamedCell, matrices
from skillneurons.transfer.similarity import Similarity

GAP = "within minus across"
ALL, LEARNT = "all tasks", "tasks whose own prompt has skill"
Matrix = NDArray[np.float64]
Pairs = Mapping[tuple[str, str], Similarity]


class Beside(StrEnum):
    """What transfer is correlated with."""

    OVERLAP = "overlap of the top {percent:g}%"
    SPEARMAN = "Spearman of predictivities"
    FAMILY = "same family"


@dataclass(frozen=True)
class Together:
    """The mean relative accuracy of some cells.

    Attributes:
        scope: on which targets.
        relation: of source and target; `within minus across` is a difference of two means.
        source_family, target_family: of the cells; `all` for several.
        lines: the cells.
        relative: their mean with its interval; chance is what always answering the commonest label gives on average.
        unit: over what the interval is: `tasks` left out in turn, or `seeds` where too few tasks are left for that.
        floor: what random prompts give on average.
    """

    scope: str
    relation: str
    source_family: str
    target_family: str
    lines: Sequence[NamedCell]
    relative: Estimate
    unit: str
    floor: float

    @property
    def transferred(self) -> int:
        """Cells that transfer."""
        return sum(line.transfers for line in self.lines)

    def row(self) -> dict[str, object]:
        """Its line of the table; n are the test rows of the targets."""
        return {
            "scope": self.scope,
            "relation": self.relation,
            "source_family": self.source_family,
            "target_family": self.target_family,
            "cells": len(self.lines),
            "n": sum({line.target: line.cell.n for line in self.lines}.values()),
            **self.relative.columns("relative"),
            "relative_floor": self.floor,
            "unit": self.unit,
            "counted": f"{self.transferred} of {len(self.lines)} cells transfer",
        }


def learnt(found: Sequence[NamedCell]) -> list[str]:
    """Tasks whose own prompt has skill beyond chance."""
    return [line.target for line in found if line.relation == OWN and not line.cell.at_chance]


def together(found: Sequence[NamedCell]) -> list[Together]:
    """Within, across and their difference, on all targets and on those learnt; then every pair of families."""
    with_ratio = [line for line in found if line.relation != OWN and line.cell.relative]
    made = list(_relations(ALL, with_ratio))
    good = set(learnt(found))
    made += _relations(LEARNT, [line for line in with_ratio if line.target in good])
    for source, target in sorted({(line.source_family, line.target_family) for line in with_ratio}):
        chosen = [line for line in with_ratio if (line.source_family, line.target_family) == (source, target)]
        made.append(_together(ALL, WITHIN if source == target else ACROSS, source, target, chosen))
    return made


def associations(
    found: Sequence[NamedCell], similarities: Pairs, orders: int, seed: int
) -> list[tuple[str, Beside, Association]]:
    """(scope, what, correlation) of relative accuracy, mean of both ways, with neurons and with the family.

    Over the tasks that are source and target; where fewer than three of them are left, or one side is
    constant, there is nothing to correlate.
    """
    made = []
    for scope, names in ((ALL, {line.target for line in found}), (LEARNT, set(learnt(found)))):
        tasks, transfer = _square(found, names)
        if len(tasks) < 3:
            continue
        family = {line.source: line.source_family for line in found}
        for what, matrix in _beside(tasks, found, similarities):
            # of the family itself nothing is left within families
            groups = None if what is Beside.FAMILY else [family[task] for task in tasks]
            one = mantel(symmetrised(transfer), matrix, orders, seed, groups)
            made += [(scope, what, one)] if np.isfinite(one.value) else []
    return made


def association_row(scope: str, what: str, one: Association) -> dict[str, object]:
    """A correlation's line of the table; n are the pairs of tasks."""
    return {
        "scope": scope,
        "relative accuracy with": what,
        "tasks": one.tasks,
        "n": one.pairs,
        **one.columns("spearman"),
        "spearman_p": one.p_value,
        "spearman_p_floor": one.p_floor,
        "within_families_p": one.group_p,
        "within_families_p_floor": one.group_floor,
        "orders": one.orders,
        "test": "every order of the tasks" if one.exact else "orders drawn",
    }


def similarity_rows(similarities: Pairs, families: Mapping[str, str], percent: float) -> Iterator[dict[str, object]]:
    """A line a pair of tasks; n are the neurons compared."""
    for (a, b), one in similarities.items():
        yield {
            "task": a,
            "other": b,
            "relation": WITHIN if families[a] == families[b] else ACROSS,
            "percent": percent,
            "layers": one.layers,
            "n": one.neurons,
            "seeds": one.seeds,
            **one.overlap.columns("overlap"),
            **one.spearman.columns("spearman"),
        }


def _relations(scope: str, found: Sequence[NamedCell]) -> Iterator[Together]:
    parts = {what: [line for line in found if line.relation == what] for what in (WITHIN, ACROSS)}
    for what, chosen in parts.items():
        if chosen:
            yield _together(scope, what, "all", "all", chosen)
    if all(parts.values()):
        _, made = matrices(found)
        within, across = (_places(found, chosen) for chosen in parts.values())
        gap, unit = _with_seeds(gap_between(made["relative"], within, across), parts[WITHIN], parts[ACROSS])
        yield Together(scope, GAP, "all", "all", found, replace(gap, chance=0.0), unit, float("nan"))


def _together(scope: str, relation: str, source: str, target: str, chosen: Sequence[NamedCell]) -> Together:
    _, made = matrices(chosen)
    relative, unit = _with_seeds(mean_over(made["relative"], _places(chosen, chosen)), chosen)
    ratios = [line.cell.relative for line in chosen if line.cell.relative]
    chance, floor = (float(np.mean([getattr(one, what) for one in ratios])) for what in ("chance", "floor"))
    # a share of another accuracy is not below 0
    relative = replace(relative, chance=chance).within(0.0, inf)
    return Together(scope, relation, source, target, chosen, relative, unit, floor)


def _with_seeds(
    by_tasks: Estimate, chosen: Sequence[NamedCell], minus: Sequence[NamedCell] = ()
) -> tuple[Estimate, str]:
    """The interval over tasks, or where there is none that over seeds, which needs the same seeds everywhere."""
    if np.isfinite(by_tasks.low):
        return by_tasks, "tasks"
    if len({line.paired for line in (*chosen, *minus)}) > 1:
        return by_tasks, "none"
    first, second = ([line.cell.relative.by_seed for line in some if line.cell.relative] for some in (chosen, minus))
    values = np.mean(first, axis=0) - (np.mean(second, axis=0) if second else 0.0)
    unit = "seeds" if len(values) > 1 else "none"
    by_seeds = mean_interval(values)
    return Estimate(by_tasks.value, by_seeds.low, by_seeds.high), unit


def _places(found: Sequence[NamedCell], chosen: Sequence[NamedCell]) -> NDArray[np.bool_]:
    """Where some cells stand in the matrix of all of them."""
    names, made = matrices(found)
    where = np.zeros(made["relative"].shape, dtype=np.bool_)
    for line in chosen:
        where[names.index(line.source), names.index(line.target)] = True
    return where


def _square(found: Sequence[NamedCell], wanted: set[str]) -> tuple[list[str], Matrix]:
    """The tasks among those wanted that are source and target, and their relative accuracies."""
    names, made = matrices(found)
    own = {line.target for line in found if line.relation == OWN} & wanted
    chosen = [i for i, name in enumerate(names) if name in own]
    return [names[i] for i in chosen], made["relative"][np.ix_(chosen, chosen)]


def _beside(tasks: Sequence[str], found: Sequence[NamedCell], similarities: Pairs) -> Iterator[tuple[Beside, Matrix]]:
    """What transfer is correlated with: the neurons where they are known, and whether the family is the same."""
    family = {line.source: line.source_family for line in found}
    if similarities:
        pairs = {frozenset(pair): one for pair, one in similarities.items()}

        def matrix(what: str) -> Matrix:
            cells = [[getattr(pairs.get(frozenset((a, b))), what, exact(1.0)).value for b in tasks] for a in tasks]
            return np.array(cells, dtype=np.float64)

        yield Beside.OVERLAP, matrix("overlap")
        yield Beside.SPEARMAN, matrix("spearman")
    yield Beside.FAMILY, np.array([[float(family[a] == family[b]) for b in tasks] for a in tasks])
