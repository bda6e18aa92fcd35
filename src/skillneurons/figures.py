"""Figures of the tuning stage, and how all figures look; without pyplot, which keeps global state.

Data stay fractions on the axes; only the tick labels read in percent. Colours are those of Okabe and
Ito, told apart by colour-blind readers; every series has its own marker too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation, Transform
from numpy.typing import NDArray

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_INK, GREY = "#222222", "#767676"
_PANEL_POINTS = 240  # width of a panel of the learning curves, in points of paper
_MANY_POINTS = 100  # a shorter loss curve is shown as it is


@dataclass(frozen=True)
class Curve:
    """What one seed's tuning left behind.

    Attributes:
        train: (step, loss) in step order.
        dev: (step, accuracy, low, high) in step order, fractions.
        best_step: the selected step, one of dev's.
    """

    train: Sequence[tuple[int, float]]
    dev: Sequence[tuple[int, float, float, float]]
    best_step: int

    def __post_init__(self) -> None:
        if self.best_step not in (steps := [point[0] for point in self.dev]):
            raise ValueError(
                f"the best step must be one of the evaluated steps; got {self.best_step}, evaluated {steps}. "
                "Pass the step whose dev accuracy was selected."
            )


@dataclass(frozen=True)
class Bar:
    """One accuracy of one seed under one condition, with its interval; fractions."""

    seed: int
    condition: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Dose:
    """Accuracies of one task at one rate, fractions; each with the ends of its band.

    Attributes:
        rate: percent.
        skill: with the top neurons suppressed (or kept): value, low, high.
        random: with random ones: mean of the sets, lowest, highest; None where there is none to draw.
    """

    rate: float
    skill: tuple[float, float, float]
    random: tuple[float, float, float] | None


@dataclass(frozen=True)
class DosePanel:
    """One task's curve; `title` says which and with how many rows."""

    title: str
    doses: Sequence[Dose]
    majority: float


def learning_curves(histories: Mapping[int, Curve], majority: float) -> Figure:
    """Training loss and dev accuracy against the step, one colour a seed.

    The loss of a long run is drawn as a centred moving average over 5% of its points, the raw values
    faintly behind it. Dev accuracies carry their intervals, seeds side by side by a few points of
    paper (the data are not moved); the selected step wears a ring.

    Args:
        histories: seed -> what its tuning left behind, at least one.
        majority: majority rate of the dev split, a fraction.

    Raises:
        ValueError: no seed.
    """
    require_some(histories, "seed")
    figure, (left, right) = canvas(8.4, 3.7, panels=2)
    room, middle = _room(histories), (len(histories) - 1) / 2
    for index, (seed, curve) in enumerate(sorted(histories.items())):
        aside = ScaledTranslation((index - middle) * room / 72, 0, figure.dpi_scale_trans)
        _draw_loss(left, curve, index, f"seed {seed}")
        _draw_dev(right, curve, index, f"seed {seed}", right.transData + aside, room)
    dress(left, "Training loss", "loss", "step")
    dress(right, "Dev accuracy, 95% interval", "accuracy", "step")
    left.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    percent(right)
    draw_majority(right, majority)
    ring = Line2D([], [], linestyle="none", marker="o", markersize=10, label="selected step", **_ring(_INK))
    legend_below(figure, [*right.get_legend_handles_labels()[0], ring])
    return figure


def accuracy_by_seed(rows: Sequence[Bar], majority: float, title: str) -> Figure:
    """Accuracy of every condition side by side, grouped by seed, with interval whiskers.

    Args:
        rows: one a seed and condition; seeds are drawn in rising order, conditions in the order given.
        majority: majority rate of the evaluated rows, a fraction.
        title: what was measured, with the split and its n.

    Raises:
        ValueError: no row.
    """
    require_some(rows, "row")
    seeds, conditions = sorted({row.seed for row in rows}), list(dict.fromkeys(row.condition for row in rows))
    figure, (axes,) = canvas(8.0, 4.0, panels=1)
    for index, condition in enumerate(conditions):
        offset = 0.64 * ((index + 0.5) / len(conditions) - 0.5)
        chosen = [row for row in rows if row.condition == condition]
        points = [(seeds.index(row.seed) + offset, row.value, row.low, row.high) for row in chosen]
        _draw_points(axes, points, index, condition, axes.transData, 1.5, linestyle="none", markersize=7.5)
    dress(axes, title, "accuracy, 95% interval")
    axes.set_xlim(-0.5, len(seeds) - 0.5)
    axes.set_xticks(range(len(seeds)), [f"seed {seed}" for seed in seeds])
    axes.tick_params(axis="x", length=0)
    percent(axes)
    draw_majority(axes, majority)
    legend_below(figure, axes.get_legend_handles_labels()[0])
    return figure


def suppression_curves(panels: Sequence[DosePanel], xlabel: str) -> Figure:
    """Accuracy against the rate, one panel a task: skill neurons with their interval, random sets with their range.

    Args:
        panels: the prompts' own task first.
        xlabel: what the rate is of.

    Raises:
        ValueError: no panel.
    """
    require_some(panels, "task")
    figure, axes = canvas(1.6 + 3.9 * len(panels), 4.0, panels=len(panels))
    for one, panel in zip(axes, panels, strict=True):
        _draw_band(one, [(d.rate, *d.skill) for d in panel.doses], 1, "skill neurons, 95% interval")
        if any(dose.random for dose in panel.doses):
            # where none or all are suppressed, skill and random sets are one and the same
            random = [(d.rate, *(d.random or (d.skill[0],) * 3)) for d in panel.doses]
            _draw_band(one, random, 0, "random sets, lowest to highest")
        dress(one, panel.title, "accuracy", xlabel)
        percent(one)
        draw_majority(one, panel.majority)
    legend_below(figure, axes[0].get_legend_handles_labels()[0])
    return figure


def write(figure: Figure, path: str | PathLike[str]) -> None:
    """Writes a PNG at 150 dpi; the same figure gives the same bytes, with no date or version in them."""
    FigureCanvasAgg(figure).print_figure(path, format="png", dpi=150, metadata={"Software": None})


def canvas(width: float, height: float, panels: int, sharex: bool = True) -> tuple[Figure, Sequence[Axes]]:
    """A figure of so many inches with panels side by side."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    return figure, figure.subplots(1, panels, sharex=sharex, squeeze=False)[0]


def _draw_loss(axes: Axes, curve: Curve, index: int, label: str) -> None:
    colour = COLOURS[index % len(COLOURS)]
    steps, losses = np.array(curve.train, dtype=np.float64).reshape(-1, 2).T
    if len(steps) <= _MANY_POINTS:
        axes.plot(steps, losses, color=colour, linewidth=1.6, label=label)
        return
    axes.plot(steps, losses, color=colour, linewidth=0.6, alpha=0.15, zorder=1)
    axes.plot(steps, _smooth(losses, len(losses) // 20), color=colour, linewidth=1.6, label=label)


def _smooth(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Centred moving average; at the ends over the values that exist."""
    window = np.ones(width | 1)
    counts = np.convolve(np.ones_like(values), window, "same")
    return np.asarray(np.convolve(values, window, "same") / counts)


def _room(histories: Mapping[int, Curve]) -> float:
    """Points of paper between two seeds' marks, so that all seeds fit between two evaluations."""
    evaluations = max(len(curve.dev) for curve in histories.values())
    return min(4.0, 0.6 * _PANEL_POINTS / evaluations / len(histories))


def _draw_dev(axes: Axes, curve: Curve, index: int, label: str, aside: Transform, room: float) -> None:
    size = min(4.5, 2 + room)
    _draw_points(axes, curve.dev, index, label, aside, min(1.3, 0.5 + room / 4), linestyle="-", markersize=size)
    best = next(point[:2] for point in curve.dev if point[0] == curve.best_step)
    colour = COLOURS[index % len(COLOURS)]
    axes.plot(*best, marker="o", markersize=10, transform=aside, zorder=4, **_ring(colour))


def _draw_points(
    axes: Axes,
    points: Sequence[tuple[float, float, float, float]],
    index: int,
    label: str,
    transform: Transform,
    whisker: float,
    **style: Any,
) -> None:
    """Marks (x, value, low, high) and whiskers that end exactly at low and high."""
    x, value, low, high = np.array(points, dtype=np.float64).T
    colour, marker = COLOURS[index % len(COLOURS)], _MARKERS[index % len(_MARKERS)]
    axes.vlines(x, low, high, colors=colour, linewidth=whisker, alpha=0.55, transform=transform, zorder=2)
    # matplotlib leaves shifted artists out of the axis limits
    axes.update_datalim(np.stack([np.tile(x, 2), np.concatenate([low, high])], axis=1))
    axes.plot(
        x,
        value,
        color=colour,
        marker=marker,
        linewidth=1.4,
        label=label,
        transform=transform,
        zorder=3,
        **style,
    )


def _draw_band(axes: Axes, points: Sequence[tuple[float, ...]], index: int, label: str) -> None:
    """A line of (x, value, low, high) in the order of x, its band behind it."""
    x, value, low, high = np.array(sorted(points), dtype=np.float64).T
    colour = COLOURS[index % len(COLOURS)]
    axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0, zorder=2)
    axes.plot(x, value, color=colour, marker=_MARKERS[index], markersize=5, linewidth=1.6, label=label, zorder=3)


def _ring(colour: str) -> dict[str, Any]:
    return {"markerfacecolor": "none", "markeredgecolor": colour, "markeredgewidth": 1.5}


def draw_majority(axes: Axes, majority: float) -> None:
    """A dashed line, named outside the axes where no data can lie under the words."""
    axes.axhline(majority, color=GREY, linestyle=(0, (5, 3)), linewidth=1.2, zorder=1)
    axes.annotate(
        f"majority\n{majority:.1%}",
        (1, majority),
        xycoords=axes.get_yaxis_transform(),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        color=GREY,
    )


def dress(axes: Axes, title: str, ylabel: str, xlabel: str = "") -> None:
    """Title, axis labels, grid and spines as all our figures have them."""
    axes.set_title(title, loc="left", fontsize=11, color=_INK)
    axes.set_xlabel(xlabel, fontsize=10, color=_INK)
    axes.set_ylabel(ylabel, fontsize=10, color=_INK)
    axes.tick_params(labelsize=9.5, color=GREY, labelcolor=_INK)
    axes.grid(axis="y", color="#E4E4E4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)


def percent(axes: Axes) -> None:
    """The y axis in percent."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def legend_below(figure: Figure, handles: Sequence[Any]) -> None:
    """The legend under the panels, six to a row."""
    rows = -(-len(handles) // 6)
    columns = -(-len(handles) // rows)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=9.5)


def require_some(given: Sequence[Any] | Mapping[Any, Any], what: str) -> None:
    """Refuse to draw nothing."""
    if not given:
        raise ValueError(f"a figure needs at least one {what}; got none. Draw it after the first result.")
