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
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation, Transform
from numpy.typing import NDArray

from skillneurons.stats.intervals import Estimate, Ranged, exact

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P")
INK, GREY, PALE = "#222222", "#767676", "#E4E4E4"
_PANEL_POINTS = 240  # width of a panel of the learning curves, in points of paper
_MANY_POINTS = 100  # a shorter loss curve is shown as it is


@dataclass(frozen=True)
class Curve:
    """What one seed's tuning left behind.

    Attributes:
        train: (step, loss) in step order.
        dev: (step, accuracy) in step order.
        best_step: the selected step, one of dev's.
    """

    train: Sequence[tuple[int, float]]
    dev: Sequence[tuple[int, Estimate]]
    best_step: int

    def __post_init__(self) -> None:
        if self.best_step not in (steps := [point[0] for point in self.dev]):
            raise ValueError(
                f"the best step must be one of the evaluated steps; got {self.best_step}, evaluated {steps}. "
                "Pass the step whose dev accuracy was selected."
            )


@dataclass(frozen=True)
class Bar:
    """One accuracy of one seed under one condition."""

    seed: int
    condition: str
    value: Estimate


@dataclass(frozen=True)
class Dose:
    """Accuracies of one task at one rate.

    Attributes:
        rate: percent.
        skill: with the top neurons suppressed (or kept).
        random: with random ones, mean of the sets; None where there is none to draw.
    """

    rate: float
    skill: Estimate
    random: Ranged | None


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
    ring = Line2D([], [], linestyle="none", marker="o", markersize=10, label="selected step", **_ring(INK))
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
        points = [(seeds.index(row.seed) + offset, row.value) for row in chosen]
        marks(axes, points, COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)], condition, markersize=7.5)
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
        doses = sorted(panel.doses, key=lambda dose: dose.rate)
        band(one, [(d.rate, d.skill) for d in doses], COLOURS[1], "s", "skill neurons, 95% interval")
        if any(dose.random for dose in doses):
            # where none or all are suppressed, skill and random sets are one and the same
            random = [(d.rate, d.random.range if d.random else exact(d.skill.value)) for d in doses]
            band(one, random, COLOURS[0], "o", "random sets, lowest to highest")
        dress(one, panel.title, "accuracy", xlabel)
        percent(one)
        draw_majority(one, panel.majority)
    legend_below(figure, axes[0].get_legend_handles_labels()[0])
    return figure


def write(figure: Figure, path: str | PathLike[str]) -> None:
    """Writes a PNG at 150 dpi; the same figure gives the same bytes, with no date or version in them."""
    figure.set_dpi(150)
    # savefig would draw once more, to lay the figure out, which drawing does too
    FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})


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
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    style: dict[str, Any] = {"linestyle": "-", "linewidth": 1.4, "markersize": min(4.5, 2 + room), "transform": aside}
    marks(axes, curve.dev, colour, marker, label, whisker=min(1.3, 0.5 + room / 4), **style)
    best = next((step, value.value) for step, value in curve.dev if step == curve.best_step)
    axes.plot(*best, marker="o", markersize=10, transform=aside, zorder=4, **_ring(colour))


def marks(
    axes: Axes,
    points: Sequence[tuple[float, Estimate]],
    colour: str,
    marker: str,
    label: str | None = None,
    *,
    whisker: float = 1.5,
    upright: bool = True,
    transform: Transform | None = None,
    **style: Any,
) -> None:
    """Marks at (place, value) and whiskers that end exactly at the ends of the intervals.

    Args:
        axes: to draw on.
        points: where, and what.
        colour: of both.
        marker: matplotlib's letter.
        label: for the legend.
        whisker: width of the whiskers.
        upright: whether values go up; else to the right.
        transform: of shifted marks; else that of the data.
        style: of the marks.
    """
    place = [at for at, _ in points]
    value, low, high = (
        np.array([(one.value, one.low, one.high) for _, one in points], dtype=np.float64).reshape(-1, 3).T
    )
    moved = transform or axes.transData
    lines = axes.vlines if upright else axes.hlines
    lines(place, low, high, colors=colour, linewidth=whisker, alpha=0.55, transform=moved, zorder=2)
    ends = np.stack([np.tile(place, 2), np.concatenate([low, high])], axis=1)
    # matplotlib leaves shifted artists out of the axis limits
    axes.update_datalim(ends if upright else ends[:, ::-1])
    drawn = {"linestyle": "none", "color": colour, "marker": marker, "label": label, "zorder": 3} | style
    axes.plot(*((place, value) if upright else (value, place)), transform=moved, **drawn)


def band(axes: Axes, points: Sequence[tuple[float, Estimate]], colour: str, marker: str, label: str) -> None:
    """A line through (x, value) in the order given, the intervals as a band behind it."""
    x = [at for at, _ in points]
    axes.fill_between(
        x,
        [one.low for _, one in points],
        [one.high for _, one in points],
        color=colour,
        alpha=0.18,
        linewidth=0,
        zorder=2,
    )
    values = [one.value for _, one in points]
    axes.plot(x, values, color=colour, marker=marker, markersize=5, linewidth=1.6, label=label, zorder=3)


def heat(
    axes: Axes, values: NDArray[np.float64], rows: Sequence[str], columns: Sequence[str], **style: Any
) -> AxesImage:
    """A matrix as a picture, its rows and columns named; the cells are for the caller to write."""
    image = axes.imshow(values, **style)
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    return image


def in_percent(axis: Axis) -> None:
    """Tick labels of fractions in percent."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))


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
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.set_xlabel(xlabel, fontsize=10, color=INK)
    axes.set_ylabel(ylabel, fontsize=10, color=INK)
    axes.tick_params(labelsize=9.5, color=GREY, labelcolor=INK)
    axes.grid(axis="y", color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)


def percent(axes: Axes) -> None:
    """The y axis in percent."""
    in_percent(axes.yaxis)
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
