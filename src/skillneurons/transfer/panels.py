"""What the pictures of a transfer command show."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from skillneurons.transfer.cell import Cell
from skillneurons.transfer.families import learnt
from skillneurons.transfer.figures import Heat, TaskPair
from skillneurons.transfer.matrix import OWN, RANDOM, NamedCell, matrices
from skillneurons.transfer.similarity import Similarity

Cells = Mapping[tuple[str, str], Cell]


def heats(found: Sequence[NamedCell]) -> list[Heat]:
    """Absolute and, where a target has prompts of its own, relative; random prompts and majority rate below."""
    sources = list(dict.fromkeys((line.source, line.source_family) for line in found))
    targets = list(dict.fromkeys((line.target, line.target_family) for line in found))
    cells = {(line.source, line.target): line.cell for line in found}
    grid = [[cells[source, target] for target, _ in targets] for source, _ in sources]
    rows = [*sources, (f"{grid[0][0].draws} {RANDOM}s", ""), ("majority rate", "")]
    chance = np.array([[cell.at_chance for cell in row] for row in grid])
    chance = np.concatenate([chance, np.zeros((2, len(targets)), dtype=np.bool_)])
    absolute = [[cell.accuracy.value for cell in row] for row in grid]
    levels = [[cell.random.value for cell in grid[0]], [cell.majority for cell in grid[0]]]
    made = [Heat("Accuracy, %", rows, targets, np.array([*absolute, *levels]), chance)]
    shares = np.array([[cell.relative.value if cell.relative else np.nan for cell in row] for row in grid])
    if np.isfinite(shares).any():
        values = np.concatenate([shares, _levels(found, targets)])
        # where the own prompts are at chance, so is every share of them
        dull = np.array([target not in set(learnt(found)) for target, _ in targets])
        made.append(Heat("Share of the own prompts' accuracy, %", rows, targets, values, chance | dull))
    return made


def overlaps(found: Sequence[NamedCell], similarities: Mapping[tuple[str, str], Similarity], percent: float) -> Heat:
    """Overlap of the top neurons of every pair of tasks."""
    family = {line.source: line.source_family for line in found}
    names = sorted({task for pair in similarities for task in pair}, key=lambda name: (family[name], name))
    values = np.full((len(names), len(names)), np.nan)  # a task has all its neurons in common with itself
    for (a, b), one in similarities.items():
        i, j = names.index(a), names.index(b)
        values[i, j] = values[j, i] = one.overlap.value
    axes, nothing = [(name, family[name]) for name in names], np.zeros(values.shape, dtype=np.bool_)
    title = f"Overlap of the top {percent:g}% of a layer, %"
    return Heat(title, axes, axes, values, nothing, "neurons of", "neurons of")


def points(found: Sequence[NamedCell], similarities: Mapping[tuple[str, str], Similarity]) -> Iterator[TaskPair]:
    """Every pair of tasks with neurons and with transfer both ways."""
    family, good = {line.source: line.source_family for line in found}, set(learnt(found))
    names, made = matrices(found)
    for (a, b), one in similarities.items():
        i, j = names.index(a), names.index(b)
        both = float(made["relative"][i, j] + made["relative"][j, i]) / 2
        if np.isfinite(both):
            yield TaskPair((a, b), one.overlap.value, both, family[a] == family[b], not {a, b} <= good)


def _levels(found: Sequence[NamedCell], targets: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
    """Random prompts and majority rate as shares of the own prompts' accuracy `[2, targets]`."""
    own = {line.target: line.cell.relative for line in found if line.relation == OWN}
    ratios = [own.get(target) for target, _ in targets]
    return np.array([[getattr(one, what, np.nan) for one in ratios] for what in ("floor", "chance")])
