"""Figures of discovery: predictivity against chance, where skill neurons stand, how specific they are."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from skillneurons.neurons.scores import SIGNS, Neurons
from skillneurons.neurons.selection import top_neurons
from skillneurons.plots.style import COLOURS, GREY, INK, PALE, canvas, dress, heat, legend_below, percent
from skillneurons.stats.intervals import SIGNIFICANT
from skillneurons.stats.neuron_tests import spearman


def predictivity_by_layer(neurons: Neurons, title: str, skill_percent: float) -> Figure:
    """Every layer's predictivities (all neurons, the mean of the top, the best) beside the bands of chance.

    Top and best are those of half A, judged on half B. Grey: the central 95% of single neurons under permuted
    labels. Hatched: the same of the best of all.
    """
    figure, (axes,) = canvas(8.4, 4.2, panels=1)
    chance, scores = neurons.card["chance"], np.asarray(neurons.predictivity.max(axis=0), dtype=np.float64)
    layers, ranking = np.arange(len(scores)), neurons.selected.mean(axis=1).max(axis=0)
    axes.axhspan(chance["low"], chance["high"], color=PALE, zorder=0, label="chance, one neuron (95%)")
    axes.axhspan(
        chance["best_low"],
        chance["best_high"],
        facecolor="none",
        edgecolor=GREY,
        hatch="///",
        linewidth=0,
        alpha=0.5,
        zorder=0,
        label="chance, best of all (95%)",
    )
    parts = axes.violinplot(list(scores), positions=layers, widths=0.8, showextrema=False)
    for body in parts["bodies"]:  # type: ignore[attr-defined]
        body.set(facecolor=COLOURS[0], alpha=0.35)
    chosen = top_neurons(neurons.ranking, skill_percent)
    tops = [float(row[mask].mean()) if mask.any() else np.nan for row, mask in zip(scores, chosen, strict=True)]
    axes.plot(layers, tops, color=COLOURS[1], marker="s", label=f"mean of the top {skill_percent:g}%")
    best = np.take_along_axis(scores, ranking.argmax(axis=1)[:, None], axis=1)[:, 0]
    axes.plot(layers, best, color=COLOURS[0], marker="o", linestyle="none", label="best of the layer")
    dress(axes, title, "predictivity", "layer")
    axes.set_xticks(layers)
    percent(axes)
    legend_below(figure, axes.get_legend_handles_labels()[0])
    return figure


def significant_by_layer(neurons: Neurons, title: str) -> Figure:
    """Share of each layer's neurons with q < 0.05 for any target, by their direction for the surest one."""
    figure, (axes,) = canvas(8.4, 3.6, panels=1)
    found: NDArray[np.bool_] = np.asarray((neurons.q_value < SIGNIFICANT).any(axis=0))
    surest = neurons.q_value.argmin(axis=0)[None]
    direction = np.take_along_axis(neurons.direction, surest, axis=0)[0]
    layers, below = np.arange(len(found)), np.zeros(len(found))
    for colour, (way, name) in zip((*COLOURS[:2], GREY), SIGNS.items(), strict=True):
        share = (found & (direction == way)).mean(axis=1)
        if way or share.any():
            axes.bar(layers, share, color=colour, bottom=below, label=name)
        below += share
    dress(axes, title, "neurons with q < 0.05", "layer")
    axes.set_xticks(layers)
    axes.set_ylim(0, min(1.0, max(0.02, float(below.max()) * 1.15)))
    percent(axes)
    legend_below(figure, axes.get_legend_handles_labels()[0])
    return figure


def specificity_by_layer(found: Sequence[Neurons]) -> NDArray[np.float64]:
    """Spearman of two tasks' predictivities in each layer, `[L, T, T]` (method.md §3)."""
    layers = range(found[0].shape[0])
    values = [np.asarray(one.predictivity.max(axis=0)) for one in found]
    return np.array([[[spearman(a[layer], b[layer]) for b in values] for a in values] for layer in layers])


def specificity_matrix(found: Sequence[Neurons]) -> Figure:
    """The matrix as a picture, each cell with its number; unrelated neurons give 0."""
    matrix, names = specificity_by_layer(found).mean(axis=0), [one.card["task"] for one in found]
    side = 1.9 + 0.75 * len(found)
    figure, (axes,) = canvas(side + 1.2, side, panels=1)
    image = heat(axes, matrix, names, names, cmap="RdBu_r", vmin=-1, vmax=1)
    for (i, j), value in np.ndenumerate(matrix):
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if abs(value) > 0.6 else INK)
    axes.set_title("Spearman of predictivities, mean over layers", loc="left", fontsize=11)
    figure.colorbar(image, ax=axes, shrink=0.8)
    return figure
