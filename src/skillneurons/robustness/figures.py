"""Figures of robustness: what attacks cost, what becomes of the skill neurons, and what restoring them returns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from skillneurons.plots.style import (
    COLOURS,
    GREY,
    PALE,
    band,
    canvas,
    draw_majority,
    dress,
    in_percent,
    legend_below,
    marks,
    percent,
    require_some,
)
from skillneurons.robustness.consistency import ConsistencyLine
from skillneurons.robustness.restoration import Restored
from skillneurons.stats.control_sets import Contrast
from skillneurons.stats.intervals import Estimate

CLEAN, CHANGED = COLOURS[:2]


@dataclass(frozen=True)
class Group:
    """Accuracies of one group of rows. `clean` is that of the originals, where known."""

    name: str
    n: int
    changed: Estimate
    clean: Estimate | None
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
    """One backbone on one adversarial set, for the comparison."""

    backbone: str
    name: str
    clean: Estimate
    changed: Estimate
    held: Estimate
    majority: float


def accuracy_by_group(sets: Sequence[tuple[str, Sequence[Group]]]) -> Figure:
    """Adversarial accuracy beside that of the originals, a panel a set, a line a kind of attack."""
    require_some(sets, "set")
    longest = max(len(groups) for _, groups in sets)
    figure, axes = canvas(max(6.6, 1.6 + 4.6 * len(sets)), 1.6 + 0.36 * longest, panels=len(sets))
    for one, (title, groups) in zip(axes, sets, strict=True):
        for y, group in enumerate(groups):
            label = "majority rate" if y == 0 else None
            one.plot(
                [group.majority] * 2, [y - 0.36, y + 0.36], color=GREY, linewidth=1.4, linestyle=":", label=label
            )
        changed = [(y + 0.14, group.changed) for y, group in enumerate(groups)]
        clean = [(y - 0.14, group.clean) for y, group in enumerate(groups) if group.clean]
        marks(one, changed, CHANGED, "s", "adversarial", upright=False)
        if clean:
            marks(one, clean, CLEAN, "o", "clean originals", upright=False)
        dress(one, title, "", "accuracy, 95% interval")
        one.set_yticks(range(len(groups)), [f"{group.name} (n={group.n})" for group in groups])
        one.set_ylim(longest - 0.5, -0.5)
        one.set_xlim(0, 1)
        in_percent(one.xaxis)
    legend_below(figure, axes[0].get_legend_handles_labels()[0])
    return figure


def predictivity_held(panels: Sequence[Held]) -> Figure:
    """Adversarial predictivities of the clean skill neurons and of all neurons, beside chance."""
    require_some(panels, "panel")
    figure, axes = canvas(max(6.6, 1.4 + 3.4 * len(panels)), 4.2, panels=len(panels))
    for one, held in zip(axes, panels, strict=True):
        one.axhspan(*held.null, color=PALE, zorder=0, label="chance, one neuron (95%)")
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


def agreements(panels: Sequence[tuple[str, Sequence[tuple[str, ConsistencyLine]]]]) -> Figure:
    """Shared top neurons by layer and kind of attack, beside what as many clean rows would share, and chance."""
    require_some(panels, "panel")
    longest = max(len(lines) for _, lines in panels)
    figure, axes = canvas(max(7.0, 1.6 + 5.4 * len(panels)), 1.8 + 0.32 * longest, panels=len(panels))
    for one, (title, lines) in zip(axes, panels, strict=True):
        for y, (_, line) in enumerate(lines):
            label = "permuted labels, 95%" if y == 0 else None
            one.barh(y, line.null_high - line.null_low, 0.7, line.null_low, color=PALE, zorder=0, label=label)
        tops = [(y - 0.14, line.ceiling.estimate) for y, (_, line) in enumerate(lines)]
        marks(one, tops, CLEAN, "o", "ceiling: as many clean rows, 95%", upright=False)
        found = [(y + 0.14, line.estimate) for y, (_, line) in enumerate(lines)]
        marks(one, found, CHANGED, "s", "adversarial rows", upright=False)
        dress(one, title, "", "overlap")
        one.set_yticks(range(len(lines)), [name for name, _ in lines])
        one.set_ylim(longest - 0.5, -0.5)
        one.set_xlim(left=0)
        in_percent(one.xaxis)
    legend_below(figure, axes[0].get_legend_handles_labels()[0])
    return figure


def restoration_curves(panels: Sequence[tuple[str, Sequence[Restored]]]) -> Figure:
    """Accuracy against the share of neurons patched: skill, random sets, and both versions untouched."""
    require_some(panels, "panel")
    figure, axes = canvas(max(8.4, 1.4 + 4.2 * len(panels)), 4.2, panels=len(panels))
    for one, (title, effects) in zip(axes, panels, strict=True):
        skill = [(i, e.patched) for i, e in enumerate(effects)]
        band(one, skill, CHANGED, "s", "skill neurons patched, 95% interval")
        random = [(i, e.against.control.range) for i, e in enumerate(effects) if e.against]
        band(one, random, CLEAN, "o", "random sets, lowest to highest")
        start, goal = effects[0].start.value, effects[0].goal.value
        one.axhline(start, color="#000000", linewidth=1.1, linestyle=(0, (1, 1)), label="untouched")
        one.axhline(goal, color=COLOURS[2], linewidth=1.3, label="the version activations come from")
        dress(one, title, "accuracy", "% of each layer's neurons patched")
        one.set_xticks(range(len(effects)), ["all" if e.percent == 100 else f"{e.percent:g}%" for e in effects])
        percent(one)
        draw_majority(one, effects[0].majority)
    legend_below(figure, axes[0].get_legend_handles_labels()[0])
    return figure


def shifts(panels: Sequence[tuple[str, Sequence[tuple[int, Contrast, float]]]]) -> Figure:
    """How far skill neurons move between the two versions of a text, more than random ones, by layer."""
    require_some(panels, "panel")
    figure, axes = canvas(max(6.0, 1.4 + 3.4 * len(panels)), 3.8, panels=len(panels))
    for one, (title, layers) in zip(axes, panels, strict=True):
        skill = [(place - 0.1, against.value) for place, (_, against, _) in enumerate(layers)]
        random = [(place + 0.1, against.control.range) for place, (_, against, _) in enumerate(layers)]
        marks(one, skill, CHANGED, "s", "skill neurons, 95% interval")
        marks(one, random, CLEAN, "o", "random sets, lowest to highest")
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
        left.plot([place - 0.35, place + 0.35], [point.majority] * 2, color=GREY, linestyle=":")
    marks(left, [(place - 0.12, point.clean) for place, point in enumerate(points)], CLEAN, "o", "clean")
    marks(left, [(place + 0.12, point.changed) for place, point in enumerate(points)], CHANGED, "s", "adversarial")
    return _kept(figure, left, right, points, statistic)


def _kept(figure: Figure, left: Axes, right: Axes, points: Sequence[Point], statistic: str) -> Figure:
    dress(left, "Accuracy, 95% interval (dotted: majority)", "accuracy")
    left.set_xticks(range(len(points)), [f"{p.backbone}\n{p.name}" for p in points], rotation=30, ha="right")
    percent(left)
    backbones = list(dict.fromkeys(point.backbone for point in points))
    for point in points:
        index = backbones.index(point.backbone) % 5
        first = next(p for p in points if p.backbone == point.backbone) is point
        y = point.changed.value / point.clean.value if point.clean.value else np.nan
        label = point.backbone if first else None
        marks(right, [(y, point.held)], COLOURS[index + 2], "^Dvos"[index], label, whisker=1, upright=False)
        right.annotate(point.name, (point.held.value, y), xytext=(4, 4), textcoords="offset points", fontsize=8)
    dress(
        right,
        statistic.replace(" (", "\n("),
        "adversarial / clean accuracy",
        "adversarial predictivity of the skill neurons",
    )
    percent(right)
    legend_below(figure, [*left.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]])
    return figure
