"""Figures of robustness: what attacks cost, what becomes of the skill neurons, and what restoring them returns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from skillneurons.contrast import Contrast
from skillneurons.figures import COLOURS, GREY, canvas, draw_majority, dress, legend_below, percent, require_some
from skillneurons.restoration import Restored

CLEAN, CHANGED, CHANCE = COLOURS[0], COLOURS[1], "#E4E4E4"


@dataclass(frozen=True)
class Group:
    """Accuracies of one group of rows; each (value, low, high). `clean` is that of the originals, where known."""

    name: str
    n: int
    changed: tuple[float, float, float]
    clean: tuple[float, float, float] | None
    majority: float


@dataclass(frozen=True)
class Held:
    """Adversarial predictivities of one set at one site.

    Attributes:
        title: set and n.
        skill, everything: of the skill neurons and of all, `[k]` and `[L F]`.
        clean: mean predictivity of the skill neurons on the clean dev rows they were found on.
        null: the central 95% of one neuron under permuted labels.
    """

    title: str
    skill: NDArray[np.floating]
    everything: NDArray[np.floating]
    clean: float
    null: tuple[float, float]


@dataclass(frozen=True)
class Point:
    """One backbone on one adversarial set, for the comparison; each (value, low, high)."""

    backbone: str
    name: str
    clean: tuple[float, float, float]
    changed: tuple[float, float, float]
    held: tuple[float, float, float]
    majority: float


def accuracy_by_group(sets: Sequence[tuple[str, Sequence[Group]]]) -> Figure:
    """Adversarial accuracy beside that of the originals, a panel a set, a line a kind of attack."""
    require_some(sets, "set")
    longest = max(len(groups) for _, groups in sets)
    figure, axes = canvas(max(6.6, 1.6 + 4.6 * len(sets)), 1.6 + 0.36 * longest, panels=len(sets))
    for one, (title, groups) in zip(axes, sets, strict=True):
        for y, group in enumerate(groups):
            _whisker(one, y + 0.14, group.changed, CHANGED, "s", "adversarial" if y == 0 else None)
            if group.clean is not None:
                _whisker(one, y - 0.14, group.clean, CLEAN, "o", "clean originals" if y == 0 else None)
            label = "majority rate" if y == 0 else None
            one.plot(
                [group.majority] * 2, [y - 0.36, y + 0.36], color=GREY, linewidth=1.4, linestyle=":", label=label
            )
        dress(one, title, "", "accuracy, 95% interval")
        one.set_yticks(range(len(groups)), [f"{group.name} (n={group.n})" for group in groups])
        one.set_ylim(longest - 0.5, -0.5)
        one.set_xlim(0, 1)
        one.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
    legend_below(figure, axes[0].get_legend_handles_labels()[0])
    return figure


def predictivity_held(panels: Sequence[Held]) -> Figure:
    """Adversarial predictivities of the clean skill neurons and of all neurons, beside chance."""
    require_some(panels, "panel")
    figure, axes = canvas(max(6.6, 1.4 + 3.4 * len(panels)), 4.2, panels=len(panels))
    for one, held in zip(axes, panels, strict=True):
        one.axhspan(*held.null, color=CHANCE, zorder=0, label="chance, one neuron (95%)")
        parts = one.violinplot([held.everything, held.skill], positions=[0, 1], widths=0.8, showextrema=False)
        for body, colour in zip(parts["bodies"], (GREY, CHANGED)):  # type: ignore[call-overload] # noqa: B905
            body.set(facecolor=colour, alpha=0.45)
        means = [float(held.everything.mean()), float(held.skill.mean())]
        one.plot([0, 1], means, linestyle="none", marker="s", color=CHANGED, label="mean, adversarial rows")
        one.plot([1], [held.clean], linestyle="none", marker="o", color=CLEAN, label="mean, clean dev rows")
        dress(one, held.title, "predictivity")
        one.set_xticks([0, 1], ["all neurons", "skill neurons"])
        percent(one)
    legend_below(figure, axes[0].get_legend_handles_labels()[0])
    return figure


def restoration_curves(panels: Sequence[tuple[str, Sequence[Restored]]]) -> Figure:
    """Accuracy against the share of neurons patched: skill, random sets, and both versions untouched."""
    require_some(panels, "panel")
    figure, axes = canvas(max(8.4, 1.4 + 4.2 * len(panels)), 4.2, panels=len(panels))
    for one, (title, effects) in zip(axes, panels, strict=True):
        x = np.arange(len(effects))
        skill = np.array([(e.patched.value, e.patched.low, e.patched.high) for e in effects])
        one.fill_between(x, skill[:, 1], skill[:, 2], color=CHANGED, alpha=0.15, linewidth=0)
        one.plot(x, skill[:, 0], color=CHANGED, marker="s", label="skill neurons patched, 95% interval")
        random = [(i, e.against) for i, e in enumerate(effects) if e.against]
        places = [i for i, _ in random]
        one.fill_between(
            places,
            [a.lowest for _, a in random],
            [a.highest for _, a in random],
            color=CLEAN,
            alpha=0.18,
            linewidth=0,
        )
        label = "random sets, lowest to highest"
        one.plot(places, [a.control.mean for _, a in random], color=CLEAN, marker="o", label=label)
        start, goal = effects[0].start.value, effects[0].goal.value
        one.axhline(start, color="#000000", linewidth=1.1, linestyle=(0, (1, 1)), label="untouched")
        one.axhline(goal, color=COLOURS[2], linewidth=1.3, label="the version activations come from")
        dress(one, title, "accuracy", "% of each layer's neurons patched")
        one.set_xticks(x, ["all" if e.percent == 100 else f"{e.percent:g}%" for e in effects])
        percent(one)
        draw_majority(one, effects[0].majority)
    legend_below(figure, axes[0].get_legend_handles_labels()[0])
    return figure


def shifts(panels: Sequence[tuple[str, Sequence[tuple[int, Contrast, float]]]]) -> Figure:
    """How far skill neurons move between the two versions of a text, more than random ones, by layer."""
    require_some(panels, "panel")
    figure, axes = canvas(max(6.0, 1.4 + 3.4 * len(panels)), 3.8, panels=len(panels))
    for one, (title, layers) in zip(axes, panels, strict=True):
        for place, (_, against, _) in enumerate(layers):
            skill = against.control.mean + against.difference
            band = (skill, against.control.mean + against.low, against.control.mean + against.high)
            first = place == 0
            _upright(one, place - 0.1, band, CHANGED, "s", "skill neurons, 95% interval" if first else None)
            random = (against.control.mean, against.lowest, against.highest)
            _upright(one, place + 0.1, random, CLEAN, "o", "random sets, lowest to highest" if first else None)
        dress(one, title, "|shift| in standard deviations", "layer")
        one.set_xticks(range(len(layers)), [str(layer) for layer, _, _ in layers])
        one.set_ylim(bottom=0)
    legend_below(figure, axes[0].get_legend_handles_labels()[0])
    return figure


def comparison(points: Sequence[Point], statistic: str) -> Figure:
    """Left: accuracies of each backbone and set. Right: accuracy kept against predictivity kept."""
    require_some(points, "backbone")
    figure, (left, right) = canvas(7.2 + 0.9 * len(points), 4.6, panels=2, sharex=False)
    for place, point in enumerate(points):
        _upright(left, place - 0.12, point.clean, CLEAN, "o", "clean" if not place else None)
        _upright(left, place + 0.12, point.changed, CHANGED, "s", "adversarial" if not place else None)
        left.plot([place - 0.35, place + 0.35], [point.majority] * 2, color=GREY, linestyle=":")
    return _kept(figure, left, right, points, statistic)


def _kept(figure: Figure, left: Axes, right: Axes, points: Sequence[Point], statistic: str) -> Figure:
    dress(left, "Accuracy, 95% interval (dotted: majority)", "accuracy")
    left.set_xticks(range(len(points)), [f"{p.backbone}\n{p.name}" for p in points], rotation=30, ha="right")
    percent(left)
    backbones = list(dict.fromkeys(point.backbone for point in points))
    for point in points:
        index = backbones.index(point.backbone) % 5
        first = next(p for p in points if p.backbone == point.backbone) is point
        y = point.changed[0] / point.clean[0] if point.clean[0] else np.nan
        right.plot(
            point.held[0], y, "^Dvos"[index % 5], color=COLOURS[index + 2], label=point.backbone if first else None
        )
        right.hlines(y, point.held[1], point.held[2], colors=COLOURS[index + 2], linewidth=1, alpha=0.6)
        right.annotate(point.name, (point.held[0], y), xytext=(4, 4), textcoords="offset points", fontsize=8)
    dress(
        right,
        statistic.replace(" (", "\n("),
        "adversarial / clean accuracy",
        "adversarial predictivity of the skill neurons",
    )
    percent(right)
    legend_below(figure, [*left.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]])
    return figure


def _whisker(
    axes: Axes, y: float, value: tuple[float, float, float], colour: str, marker: str, label: str | None
) -> None:
    axes.hlines(y, value[1], value[2], colors=colour, linewidth=1.5, alpha=0.6)
    axes.plot(value[0], y, color=colour, marker=marker, linestyle="none", label=label)


def _upright(
    axes: Axes, x: float, value: tuple[float, float, float], colour: str, marker: str, label: str | None
) -> None:
    axes.vlines(x, value[1], value[2], colors=colour, linewidth=1.5, alpha=0.6)
    axes.plot(x, value[0], color=colour, marker=marker, linestyle="none", label=label)
