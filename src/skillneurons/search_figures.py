"""Figures of a search: learning rate against accuracy, history, slices, parallel coordinates, importance.

Complete trials are filled marks; pruned ones are hollow and stand at the accuracy they were pruned at, which
is that of a shorter tuning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from skillneurons.figures import COLOURS, GREY, canvas, draw_majority, dress, legend_below, percent, require_some
from skillneurons.search_space import RATE, Value

FEW_LEVELS = 5
_MARKERS = {True: "o", False: "v"}
_NAMES = {True: "complete", False: "pruned"}


@dataclass(frozen=True)
class Tried:
    """One configuration: its settings, its dev accuracy with the interval, and whether it was tuned to the end."""

    number: int
    params: Mapping[str, Value]
    value: float
    low: float
    high: float
    complete: bool


def rates(tried: Sequence[Tried], majority: float, title: str) -> Figure:
    """Dev accuracy with intervals against the learning rate (log scale), the first trial and the best named.

    Raises:
        ValueError: no trial.
    """
    require_some(tried, "trial")
    figure, (axes,) = canvas(8.0, 4.4, panels=1)
    for complete in (True, False):
        _draw(axes, [one for one in tried if one.complete is complete], [RATE], complete)
    axes.set_xscale("log")
    axes.margins(y=0.14)  # room for the names
    top = _best(tried)
    _name(axes, top, "best" if top.number else "first trial, best")
    for first in (one for one in tried if one.number == 0 and one is not top):
        _name(axes, first, "first trial")
    dress(axes, title, "dev accuracy, 95% interval", "learning rate (log scale)")
    percent(axes)
    draw_majority(axes, majority)
    legend_below(figure, axes.get_legend_handles_labels()[0])
    return figure


def history(tried: Sequence[Tried], majority: float) -> Figure:
    """Dev accuracy of the trials in order, and the best complete one so far.

    Raises:
        ValueError: no trial.
    """
    require_some(tried, "trial")
    figure, (axes,) = canvas(8.0, 4.0, panels=1)
    for complete in (True, False):
        chosen = [one for one in tried if one.complete is complete]
        _points(axes, [one.number for one in chosen], chosen, complete)
    complete_ones = [one for one in tried if one.complete]
    if complete_ones:
        best = np.maximum.accumulate([one.value for one in complete_ones])
        numbers = [one.number for one in complete_ones]
        axes.step(numbers, best, where="post", color=COLOURS[1], linewidth=1.4, label="best complete so far")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    dress(axes, "The trials in order", "dev accuracy, 95% interval", "trial")
    percent(axes)
    draw_majority(axes, majority)
    legend_below(figure, axes.get_legend_handles_labels()[0])
    return figure


def slices(tried: Sequence[Tried], majority: float) -> Figure:
    """Dev accuracy against each parameter, one panel each.

    Raises:
        ValueError: no trial.
    """
    require_some(tried, "trial")
    names = list(tried[0].params)
    figure = Figure(figsize=(2.9 * len(names) + 0.8, 3.6), layout="constrained", facecolor="white")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for name, axes in zip(names, panels, strict=True):
        for complete in (True, False):
            _draw(axes, [one for one in tried if one.complete is complete], [name], complete, tried)
        _scale(axes, name, tried)
        dress(axes, name, "dev accuracy" if axes is panels[0] else "")
        percent(axes)
        axes.axhline(majority, color=GREY, linestyle=(0, (5, 3)), linewidth=1.2, zorder=1)
    dashes = Line2D([], [], color=GREY, linestyle=(0, (5, 3)), label=f"majority {majority:.1%}")
    legend_below(figure, [*panels[0].get_legend_handles_labels()[0], dashes])
    return figure


def parallel(tried: Sequence[Tried]) -> Figure:
    """Parallel coordinates: a line a trial through its settings to its dev accuracy, the best in colour.

    Raises:
        ValueError: no trial.
    """
    require_some(tried, "trial")
    names = list(tried[0].params)
    figure, (axes,) = canvas(1.9 * (len(names) + 1) + 1, 4.2, panels=1)
    values = [one.value for one in tried]
    low, high = min(values), max(values)
    places = {name: _places(name, tried) for name in names}
    for one in sorted(tried, key=lambda one: one.value):
        heights = [places[name][one.number] for name in names] + [_share(one.value, low, high)]
        top = one is _best(tried)
        colour = COLOURS[1] if top else COLOURS[0] if one.complete else GREY
        style = "-" if one.complete else (0, (2, 2))
        width, alpha = (2.2, 1.0) if top else (0.9, 0.55)
        axes.plot(range(len(heights)), heights, color=colour, linestyle=style, linewidth=width, alpha=alpha)
    for index, name in enumerate(names):
        _ticks(axes, index, _marks(name, tried, places[name]))
    _ticks(axes, len(names), {f"{low:.1%}": 0.0, f"{high:.1%}": _share(high, low, high)})
    axes.set_xticks(range(len(names) + 1), [*names, "dev accuracy"], fontsize=9)
    axes.set_xlim(-0.3, len(names) + 0.7)
    axes.set_yticks([])
    dress(axes, "All settings of all trials", "")
    axes.spines[["left", "bottom"]].set_visible(False)
    handles = [
        Line2D([], [], color=COLOURS[1], linewidth=2.2, label="best"),
        Line2D([], [], color=COLOURS[0], label="complete"),
        Line2D([], [], color=GREY, linestyle=(0, (2, 2)), label="pruned"),
    ]
    legend_below(figure, handles)
    return figure


def importance(shares: Mapping[str, float], complete: int) -> Figure:
    """How much of the spread of dev accuracy each parameter accounts for, as bars.

    Raises:
        ValueError: no parameter.
    """
    require_some(shares, "parameter")
    figure, (axes,) = canvas(7.0, 0.5 * len(shares) + 1.6, panels=1)
    names = sorted(shares, key=lambda name: shares[name])
    axes.barh(names, [shares[name] for name in names], color=COLOURS[0], height=0.6)
    for index, name in enumerate(names):
        axes.annotate(f"{shares[name]:.0%}", (shares[name], index), (4, 0), textcoords="offset points", va="center")
    dress(axes, f"Importance (PED-ANOVA) from {complete} complete trials", "", "share")
    axes.grid(visible=False)
    axes.set_xlim(0, 1.08 * max(max(shares.values()), 0.01))
    return figure


def _best(tried: Sequence[Tried]) -> Tried:
    return max(tried, key=lambda one: (one.complete, one.value, -one.number))


def _draw(
    axes: Axes, chosen: Sequence[Tried], names: Sequence[str], complete: bool, everyone: Sequence[Tried] = ()
) -> None:
    (name,) = names
    words = _words(name, everyone)
    x = [words.index(str(one.params[name])) if words else float(one.params[name]) for one in chosen]
    _points(axes, x, chosen, complete)


def _points(axes: Axes, x: Sequence[float], chosen: Sequence[Tried], complete: bool) -> None:
    colour = COLOURS[0] if complete else GREY
    axes.vlines(x, [one.low for one in chosen], [one.high for one in chosen], colors=colour, linewidth=1.2, alpha=0.5)
    face = colour if complete else "none"
    style: dict[str, Any] = {"markerfacecolor": face, "markeredgecolor": colour, "label": _NAMES[complete]}
    axes.plot(x, [one.value for one in chosen], linestyle="none", marker=_MARKERS[complete], markersize=6, **style)


def _name(axes: Axes, one: Tried, text: str) -> None:
    at = (float(one.params[RATE]), one.high)
    axes.annotate(f"{text}\n{at[0]:.2g}", at, (0, 4), textcoords="offset points", ha="center", fontsize=9)


def _words(name: str, tried: Sequence[Tried]) -> list[str]:
    """The levels of a parameter that is no number."""
    values = [one.params[name] for one in tried]
    return sorted({str(value) for value in values}) if any(isinstance(v, str) for v in values) else []


def _scale(axes: Axes, name: str, tried: Sequence[Tried]) -> None:
    if words := _words(name, tried):
        axes.set_xticks(range(len(words)), words)
        axes.set_xlim(-0.5, len(words) - 0.5)
        return
    if _spreads(name, tried):
        axes.set_xscale("log")
    levels = sorted({one.params[name] for one in tried if not isinstance(one.params[name], str)})
    if len(levels) <= FEW_LEVELS and all(isinstance(level, int) for level in levels):
        axes.set_xticks([float(level) for level in levels], [str(level) for level in levels])
        axes.minorticks_off()


def _spreads(name: str, tried: Sequence[Tried]) -> bool:
    values = [float(one.params[name]) for one in tried]
    return min(values) > 0 and max(values) / min(values) > 30


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5


def _places(name: str, tried: Sequence[Tried]) -> dict[int, float]:
    if words := _words(name, tried):
        return {one.number: _share(words.index(str(one.params[name])), 0, len(words) - 1) for one in tried}
    move = np.log if _spreads(name, tried) else float
    values = {one.number: float(move(float(one.params[name]))) for one in tried}
    low, high = min(values.values()), max(values.values())
    return {number: _share(value, low, high) for number, value in values.items()}


def _marks(name: str, tried: Sequence[Tried], places: Mapping[int, float]) -> dict[str, float]:
    """Labels and heights: every level of a few, else the lowest and the highest."""
    labels = {_label(one.params[name]): places[one.number] for one in tried}
    if len(labels) <= FEW_LEVELS:
        return labels
    ends = sorted(labels.items(), key=lambda item: item[1])
    return dict([ends[0], ends[-1]])


def _label(value: Value) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def _ticks(axes: Axes, index: int, marks: Mapping[str, float]) -> None:
    axes.axvline(index, color=GREY, linewidth=0.8, zorder=0)
    for text, height in marks.items():
        axes.annotate(text, (index, height), (5, 0), textcoords="offset points", fontsize=8.5, va="center")
