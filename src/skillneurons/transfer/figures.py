"""Figures of transfer: accuracy of every task under every task's prompts, and what it has to do with neurons."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from skillneurons.plots.style import (
    COLOURS,
    GREY,
    INK,
    canvas,
    dress,
    heat,
    in_percent,
    legend_below,
    percent,
    require_some,
)

_DARK = 0.55  # of the colour scale, above which numbers are white
_CELL = 0.62  # inches
_PALE, _LINES = "#F2F2F2", "#C8C8C8"


@dataclass(frozen=True)
class Heat:
    """A matrix as a picture.

    Attributes:
        title: what its numbers are.
        rows, columns: names with their groups, which lines part.
        values: fractions `[rows, columns]`; NaN where there is none.
        at_chance: bool, the same shape: cells that are hatched.
        ylabel, xlabel: what rows and columns are.
    """

    title: str
    rows: Sequence[tuple[str, str]]
    columns: Sequence[tuple[str, str]]
    values: NDArray[np.float64]
    at_chance: NDArray[np.bool_]
    ylabel: str = "prompts of"
    xlabel: str = "test rows of"


@dataclass(frozen=True)
class TaskPair:
    """Two tasks: how far their neurons agree and how far their prompts transfer, both ways on average."""

    names: tuple[str, str]
    overlap: float
    transfer: float
    same_family: bool
    at_chance: bool


def transfer_matrix(panels: Sequence[Heat]) -> Figure:
    """Heat maps side by side, each cell with its number in percent; grey and hatched where that is chance.

    Raises:
        ValueError: no panel.
    """
    require_some(panels, "matrix")
    wide, high = len(panels[0].columns), len(panels[0].rows)
    figure, axes = canvas(len(panels) * (2.6 + _CELL * wide), 2.2 + _CELL * high, panels=len(panels))
    for one, panel in zip(axes, panels, strict=True):
        _draw_heat(figure, one, panel)
    legend_below(
        figure,
        [_chance_patch("no skill shown, of this or of the own prompts (balanced accuracy, permuted labels)")],
    )
    return figure


def transfer_and_overlap(heat: Heat, pairs: Sequence[TaskPair], chance: float, title: str) -> Figure:
    """How far neurons of tasks agree, and whether prompts transfer further between tasks whose neurons do.

    Args:
        heat: overlap of the top neurons, tasks by tasks.
        pairs: one point each.
        chance: overlap of unrelated neurons.
        title: the correlation with its p.

    Raises:
        ValueError: no pair.
    """
    require_some(pairs, "pair")
    side = 2.6 + _CELL * len(heat.rows)
    figure = Figure(figsize=(side + 5.6, max(4.6, side - 0.4)), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, width_ratios=(side, 5.6))
    _draw_heat(figure, left, heat)
    _draw_pairs(right, pairs, chance)
    dress(right, title, "relative accuracy, mean of both ways", "overlap of the top neurons")
    percent(right)
    in_percent(right.xaxis)
    legend_below(figure, right.get_legend_handles_labels()[0])
    return figure


def _draw_heat(figure: Figure, axes: Axes, panel: Heat) -> None:
    # a share of an accuracy at chance is near 100% and would be the darkest
    finite = panel.values[np.isfinite(panel.values) & ~panel.at_chance]
    low = np.floor(10 * finite.min()) / 10 if len(finite) else 0.0
    scale = Normalize(low, max(float(finite.max()) if len(finite) else 1.0, low + 0.1))
    names = ([name for name, _ in which] for which in (panel.rows, panel.columns))
    image = heat(axes, panel.values, *names, cmap="Blues", norm=scale)
    for (i, j), value in np.ndenumerate(panel.values):
        _draw_cell(axes, j, i, float(value), bool(panel.at_chance[i, j]), float(scale(value)) > _DARK)
    for edge in _edges(panel.rows):
        axes.axhline(edge, color="white", linewidth=4)
    for edge in _edges(panel.columns):
        axes.axvline(edge, color="white", linewidth=4)
    dress(axes, panel.title, panel.ylabel, panel.xlabel)
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, format=lambda value, _: f"{100 * value:g}%")
    bar.outline.set_visible(False)


def _draw_cell(axes: Axes, x: int, y: int, value: float, at_chance: bool, dark: bool) -> None:
    if np.isnan(value):
        axes.text(x, y, "–", ha="center", va="center", color=GREY)
        return
    if at_chance:
        axes.add_patch(
            Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=_PALE, edgecolor=_LINES, hatch="////", linewidth=0)
        )
    plain = "white" if dark else INK
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.2, "alpha": 0.85} if at_chance else None
    axes.text(
        x,
        y,
        f"{100 * value:.0f}",
        ha="center",
        va="center",
        fontsize=9.5,
        color=GREY if at_chance else plain,
        weight="normal" if at_chance else "bold",
        bbox=box,
    )


def _edges(names: Sequence[tuple[str, str]]) -> list[float]:
    """Where one group ends and the next begins."""
    return [i - 0.5 for i in range(1, len(names)) if names[i][1] != names[i - 1][1]]


def _chance_patch(label: str) -> Patch:
    return Patch(facecolor=_PALE, edgecolor=_LINES, hatch="////", linewidth=0, label=label)


def _draw_pairs(axes: Axes, pairs: Sequence[TaskPair], chance: float) -> None:
    """Points by family; hollow where one of the tasks has an own prompt at chance."""
    axes.axvline(chance, color=GREY, linestyle=(0, (5, 3)), linewidth=1.2, label="overlap by chance")
    kinds = (("same family", True, 1, "s"), ("different families", False, 0, "o"))
    for label, same, colour, marker in kinds:
        for at_chance in (False, True):
            chosen = [pair for pair in pairs if pair.same_family == same and pair.at_chance == at_chance]
            if not chosen:
                continue
            axes.plot(
                [pair.overlap for pair in chosen],
                [pair.transfer for pair in chosen],
                linestyle="none",
                marker=marker,
                markersize=7,
                markeredgecolor=COLOURS[colour],
                markerfacecolor="none" if at_chance else COLOURS[colour],
                label=f"{label}, own prompt at chance" if at_chance else label,
            )
