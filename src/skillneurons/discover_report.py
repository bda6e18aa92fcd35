"""What a discovery says: tables, metrics, and the finding in words."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from skillneurons.neuron_figures import specificity
from skillneurons.neurons import Neurons
from skillneurons.selection import top_neurons
from skillneurons.stability import Agreement, agreements

SKILL_PERCENT = 5.0
ALPHA = 0.05


def stability(neurons: Neurons) -> list[Agreement]:
    """How far seeds agree, of the first target; nothing for a single seed."""
    scores = neurons.seed_predictivity[0]
    return agreements(scores) if len(scores) > 1 else []


def metrics(neurons: Neurons) -> dict[str, float]:
    """The metrics of a discover run."""
    chance = neurons.card["chance"]
    named = {
        "neurons/top_predictivity": float(neurons.predictivity.max()),
        "neurons/chance_best_low": chance["best_low"],
        "neurons/chance_best_high": chance["best_high"],
        "neurons/chance_low": chance["low"],
        "neurons/chance_high": chance["high"],
        "neurons/significant_share": float((neurons.q_value < ALPHA).mean()),
        "neurons/family_significant_share": float((neurons.family_p < ALPHA).mean()),
        "neurons/smallest_predictivity": neurons.card["smallest_predictivity"],
        "neurons/n": float(neurons.card["judged_rows"]),
        "neurons/majority": neurons.card["majority"],
    }
    for found in stability(neurons):
        name = found.what.replace("%", "").replace("@", "_at_").lower()
        named[f"stability/{name}"], named[f"stability/{name}_chance"] = found.value, found.chance
    return named


def layers_table(neurons: Neurons) -> pd.DataFrame:
    """A row a target and layer: its best, its top 5%, its significant share, beside chance and n."""
    chance, rows = neurons.card["chance"], []
    for k, target in enumerate(neurons.targets):
        chosen = top_neurons(neurons.predictivity[k], SKILL_PERCENT)
        for layer, scores in enumerate(neurons.predictivity[k]):
            rows.append(
                {
                    "target": target,
                    "layer": layer,
                    "neurons": len(scores),
                    "best": float(scores.max()),
                    f"mean of top {SKILL_PERCENT:g}%": float(scores[chosen[layer]].mean()) if chosen.any() else None,
                    "mean of all": float(scores.mean()),
                    "significant (q < 0.05)": float((neurons.q_value[k, layer] < ALPHA).mean()),
                    "excitatory": float((neurons.sign[k, :, layer] > 0).mean()),
                    "n": neurons.card["judged_rows"],
                    "majority": neurons.card["majority"],
                    "chance, one neuron: low": chance["low"],
                    "chance, one neuron: high": chance["high"],
                    "chance, best of all: low": chance["best_low"],
                    "chance, best of all: high": chance["best_high"],
                }
            )
    return pd.DataFrame(rows)


def stability_table(neurons: Neurons) -> pd.DataFrame:
    """A row a measure of agreement over seeds, with interval and chance value."""
    return pd.DataFrame([asdict(found) for found in stability(neurons)])


def specificity_table(found: Sequence[Neurons]) -> pd.DataFrame:
    """A row a pair of tasks: Spearman of their predictivities, mean over layers; unrelated neurons give 0."""
    matrix, names = specificity(found), [one.card["task"] for one in found]
    layers, neurons = found[0].shape
    return pd.DataFrame(
        [
            {"task": a, "other": b, "spearman": float(matrix[i, j]), "chance": 0.0, "n": layers * neurons}
            for i, a in enumerate(names)
            for j, b in enumerate(names)
            if i < j
        ]
    )


def finding(neurons: Neurons) -> str:
    """The result in words, chance first where it is no more than that."""
    card, chance = neurons.card, neurons.card["chance"]
    total, significant = neurons.q_value.size, int((neurons.q_value < ALPHA).sum())
    k, layer, unit = np.unravel_index(int(neurons.predictivity.argmax()), neurons.predictivity.shape)
    best, p = float(neurons.predictivity[k, layer, unit]), float(neurons.family_p[k, layer, unit])
    sign = "excitatory" if neurons.sign[k, :, layer, unit].mean() >= 0 else "inhibitory"
    seeds = neurons.predictivity.shape[0] and neurons.sign.shape[1]
    where = f"{card['task']} on {card['backbone']['name']}, site {card['site']}, {seeds} prompt(s)"
    judged = f"n = {card['judged_rows']} rows of dev, majority {card['majority']:.1%}"
    band = f"{chance['best_low']:.3f} to {chance['best_high']:.3f} ({chance['permutations']} permutations)"
    verdict = (
        f"**{significant:,} of {total:,} neurons ({significant / total:.1%}) predict the label** at q < 0.05"
        if significant
        else f"**No neuron of {total:,} predicts the label at q < 0.05: at chance**"
    )
    text = (
        f"{where}: {verdict}; {judged}. The best is layer {layer}, neuron {unit} ({neurons.targets[k]}, {sign}): "
        f"predictivity {best:.3f}, family-wise p = {p:.2g}; by chance the best of all reaches {band}."
    )
    if np.isfinite(smallest := card["smallest_predictivity"]):
        text += f" The smallest predictivity that this many rows could show for one neuron: {smallest:.3f}."
    text += _agreement(neurons)
    if card["protocol"] == "paper":
        text += (
            " Protocol paper: position, sign and score come from one split, so a predictivity is the best of "
            "many and no estimate for new rows; compare it with its chance band alone."
        )
    return text


def _agreement(neurons: Neurons) -> str:
    found = stability(neurons)
    if not found:
        return ""
    parts = []
    for one in found[:2]:
        interval = f" [{one.low:.2f}, {one.high:.2f}]" if np.isfinite(one.low) else ""
        parts.append(f"{one.what} {one.value:.2f}{interval} (chance {one.chance:.2f})")
    return f" Over seeds: {', '.join(parts)}."
