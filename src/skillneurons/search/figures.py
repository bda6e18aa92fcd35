"""Figures of a search: learning rate against accuracy, and Optuna's own of a study.

In ours complete trials are filled marks; pruned ones are hollow and stand at the accuracy they were pruned at,
which is that of a shorter tuning.
"""

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

from skillneurons.plots.style import (
    COLOURS,
    GREY,
    canvas,
    draw_majority,
    dress,
    legend_below,
    marks,
    percent,
    require_some,
)
from skillneurons.search.space import RATE, Value
from skillneurons.stats.intervals import Estimate

FEW = 4  # fewer complete trials say nothing about importance
STANDARD = {
    "history": "optimization_history",
    "pruning": "intermediate_values",
    "slices": "slice",
    "parallel_coordinates": "parallel_coordinate",
}
WITH_MAJORITY = ("history", "pruning", "slices")  # whose second axis is the dev accuracy
_MARKERS = {True: "o", False: "v"}
_NAMES = {True: "complete", False: "pruned"}


@dataclass(frozen=True)
class Tried:
    """One configuration: its settings, its dev accuracy, and whether it was tuned to the end."""

    number: int
    params: Mapping[str, Value]
    dev: Estimate
    complete: bool

    @property
    def value(self) -> float:
        """The dev accuracy by itself."""
        return self.dev.value


def rates(tried: Sequence[Tried], majority: float, title: str) -> Figure:
    """Dev accuracy with intervals against the learning rate (log scale), the first trial and the best named.

    Raises:
        ValueError: no trial.
    """
    require_some(tried, "trial")
    figure, (axes,) = canvas(8.0, 4.4, panels=1)
    for complete in (True, False):
        _points(axes, [one for one in tried if one.complete is complete], complete)
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


def standard(counted: Sequence[FrozenTrial], majority: float) -> list[tuple[str, Figure, Any]]:
    """Optuna's own pictures of a study: each by name, as a picture and as a plotly figure to hover over.

    Args:
        counted: the trials that count, by rising number.
        majority: share of dev's commonest label.
    """
    import matplotlib.pyplot as plt

    study = optuna.create_study(direction="maximize")
    study.add_trials(counted)
    # they set a style for all figures to come, and are experimental
    with plt.style.context("default"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [_drawn(study, name, what, majority) for name, what in STANDARD.items()]
        if _tells(counted):
            with contextlib.suppress(ValueError, RuntimeError):  # of parameters that not all trials have, or share
                evaluator = PedAnovaImportanceEvaluator()
                found.append(_drawn(study, "importance", "param_importances", majority, evaluator=evaluator))
    return found


def _drawn(study: optuna.Study, name: str, what: str, majority: float, **more: Any) -> tuple[str, Figure, Any]:
    """One of them."""
    import matplotlib.pyplot as plt
    from optuna import visualization

    if name != "pruning":
        more["target_name"] = "dev accuracy"
    axes = np.ravel(getattr(visualization.matplotlib, f"plot_{what}")(study, **more))
    page = getattr(visualization, f"plot_{what}")(study, **more)
    if name in WITH_MAJORITY:
        said = f"majority {majority:.1%}"
        page.add_hline(majority, line_dash="dash", annotation_text=said)
        for panel in axes:
            panel.axhline(majority, color=GREY, linestyle="--")
            panel.text(0.01, majority, said, transform=panel.get_yaxis_transform(), fontsize=8, va="bottom")
    figure = axes[0].figure
    figure.set_size_inches(9, 4.8)
    if name == "parallel_coordinates":
        figure.subplots_adjust(bottom=0.2)  # for names on the slant
    plt.close(figure)
    return name, figure, page


def _tells(counted: Sequence[FrozenTrial]) -> bool:
    """Whether there is enough to tell which parameter matters: some complete trials, not all alike."""
    values = [trial.value for trial in counted if trial.state == TrialState.COMPLETE]
    return len(values) >= FEW and len(set(values)) > 1


def _best(tried: Sequence[Tried]) -> Tried:
    return max(tried, key=lambda one: (one.complete, one.value, -one.number))


def _points(axes: Axes, chosen: Sequence[Tried], complete: bool) -> None:
    colour = COLOURS[0] if complete else GREY
    points = [(float(one.params[RATE]), one.dev) for one in chosen]
    face = colour if complete else "none"
    marks(axes, points, colour, _MARKERS[complete], _NAMES[complete], whisker=1.2, markerfacecolor=face)


def _name(axes: Axes, one: Tried, text: str) -> None:
    at = (float(one.params[RATE]), one.dev.high)
    axes.annotate(f"{text}\n{at[0]:.2g}", at, (0, 4), textcoords="offset points", ha="center", fontsize=9)
