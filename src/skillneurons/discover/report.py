"""What a discovery says: tables, metrics, and the finding in words."""

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skillneurons.commands.signatures import Signature
from skillneurons.discover.figures import specificity_by_layer
from skillneurons.discover.random_baseline import beyond_random
from skillneurons.discover.stability import agreements
from skillneurons.neurons.effect import effect_beside_prediction
from skillneurons.neurons.scores import SIGNS, Neurons
from skillneurons.neurons.selection import top_neurons
from skillneurons.stats.intervals import SIGNIFICANT, Estimate, mean_interval, passes, unknown, wilson

SKILL_PERCENT = 5.0


def stability(neurons: Neurons) -> dict[str, Estimate]:
    """How far seeds agree, of the first target; nothing for a single seed."""
    scores = neurons.seed_predictivity[0]
    return agreements(scores) if len(scores) > 1 else {}


def metrics(neurons: Neurons) -> dict[str, float]:
    """The metrics of a discover run."""
    chance = neurons.card["chance"]
    named = {
        "neurons/top_predictivity": float(neurons.predictivity[neurons.best]),
        "neurons/chance_best_low": chance["best_low"],
        "neurons/chance_best_high": chance["best_high"],
        "neurons/chance_low": chance["low"],
        "neurons/chance_high": chance["high"],
        "neurons/significant_share": float((neurons.q_value < SIGNIFICANT).mean()),
        "neurons/family_significant_share": float((neurons.family_p < SIGNIFICANT).mean()),
        "neurons/smallest_predictivity": neurons.card["smallest_predictivity"],
        "neurons/n": float(neurons.card["judged_rows"]),
        "neurons/majority": neurons.card["majority"],
    }
    if beside := beyond_random(neurons, SKILL_PERCENT):
        named |= {
            **beside.random.ends("neurons/random_top_predictivity"),
            "neurons/beyond_random_share": beside.beyond,
        }
        named |= beside.tuned.ends("neurons/skill_predictivity")
    if acts := effect_beside_prediction(neurons, SKILL_PERCENT):
        named |= {"neurons/effect_significant_share": acts.significant, "neurons/effect_spearman": acts.spearman}
    for what, found in stability(neurons).items():
        name = what.replace("%", "").replace("@", "_at_").lower()
        named |= {f"stability/{name}": found.value, f"stability/{name}_chance": float(found.chance or 0.0)}
    return named


def signatures(neurons: Neurons) -> list[Signature]:
    """Low predictivity: no neuron is beyond chance, one by one or as the best of all."""
    beyond = passes(float(neurons.q_value.min())) or passes(float(neurons.family_p.min()))
    return [] if beyond else [Signature.LOW]


def layers_table(neurons: Neurons) -> pd.DataFrame:
    """A row a target and layer: predictivity of its best, of its top 5% and of all, its shares of significant and
    excitatory neurons, each with interval and chance. Best and top are those of half A.
    """
    chance, n, rows = neurons.card["chance"], neurons.card["judged_rows"], []
    for k, target in enumerate(neurons.targets):
        ranking = neurons.selected[k].mean(axis=0)
        chosen = top_neurons(ranking, SKILL_PERCENT)
        for layer, scores in enumerate(neurons.predictivity[k]):
            each = neurons.seed_predictivity[k, :, layer].astype(np.float64)
            rows.append(
                {
                    "target": target,
                    "layer": layer,
                    "neurons": len(scores),
                    "n": n,
                    "majority": neurons.card["majority"],
                    **_over_seeds("best", each[:, ranking[layer].argmax()], n),
                    "best_chance_low": chance["low"],
                    "best_chance_high": chance["high"],
                    **(_over_seeds("top", each[:, chosen[layer]].mean(axis=1), n) if chosen[layer].any() else {}),
                    **_over_seeds("all", each.mean(axis=1), n),
                    "chance_low": chance["low"],
                    "chance_high": chance["high"],
                    **_of_neurons("significant", (neurons.q_value[k, layer] < SIGNIFICANT).mean(), len(scores), 0.0),
                    **_of_neurons("excitatory", (neurons.sign[k, :, layer] > 0).mean(), len(scores), 0.5),
                }
            )
    return pd.DataFrame(rows)


def random_table(neurons: Neurons) -> pd.DataFrame:
    """The discovery beside the same under random prompts, one row; nothing without random prompts."""
    beside = beyond_random(neurons, SKILL_PERCENT)
    if beside is None:
        return pd.DataFrame()
    row = {
        "percent": beside.percent,
        "n": neurons.card["judged_rows"],
        "majority": neurons.card["majority"],
        "prompts": neurons.sign.shape[1],
        "random_prompts": beside.prompts,
        **beside.tuned.columns("tuned"),
        **beside.random.columns("random"),
        **beside.difference.columns("difference"),
        **_of_neurons(
            "shared", beside.shared, round(neurons.predictivity[0].size * SKILL_PERCENT / 100), beside.chance
        ),
        **_of_neurons("beyond_random", beside.beyond, neurons.q_value.size, 0.0),
    }
    return pd.DataFrame([row])


def effect_table(neurons: Neurons) -> pd.DataFrame:
    """Effect beside prediction, one row; nothing where effects were not estimated."""
    beside = effect_beside_prediction(neurons, SKILL_PERCENT)
    if beside is None:
        return pd.DataFrame()
    top = round(neurons.predictivity[0].size * SKILL_PERCENT / 100)
    facts = {"percent": SKILL_PERCENT, "n": neurons.card["judged_rows"], "neurons": neurons.predictivity[0].size}
    row = {
        **facts,
        **unknown(beside.spearman, 0.0).columns("spearman"),
        **unknown(beside.corrected, 0.0).columns("corrected"),
        **_of_neurons("shared", beside.shared, top, beside.chance),
        **beside.predictive.columns("skill_effect"),
        **beside.effective.columns("top_effect"),
        **_of_neurons("significant", beside.significant, neurons.effect_p.size, 0.0),
    }
    return pd.DataFrame([row])


def stability_table(neurons: Neurons) -> pd.DataFrame:
    """A row a measure of agreement over seeds, with interval and chance value."""
    facts = {
        "seeds": neurons.sign.shape[1],
        "neurons": neurons.predictivity[0].size,
        "n": neurons.card["judged_rows"],
    }
    rows = [{"what": what, **asdict(found), **facts} for what, found in stability(neurons).items()]
    return pd.DataFrame(rows)


def specificity_table(found: Sequence[Neurons]) -> pd.DataFrame:
    """A row a pair of tasks: Spearman of their predictivities, mean over layers with Student's interval over them."""
    by_layer, names = specificity_by_layer(found), [one.card["task"] for one in found]
    layers, neurons = found[0].shape
    return pd.DataFrame(
        [
            {
                "task": a,
                "other": b,
                "spearman": (mean := mean_interval(by_layer[:, i, j], within=(-1, 1))).value,
                "low": mean.low,
                "high": mean.high,
                "chance": 0.0,
                "n": layers * neurons,
            }
            for i, a in enumerate(names)
            for j, b in enumerate(names)
            if i < j
        ]
    )


def _over_seeds(name: str, values: NDArray[np.float64], n: int) -> dict[str, float]:
    """A predictivity meant over seeds `[S]`: Student's interval over them, of one seed Wilson's over its rows."""
    mean = mean_interval(values, within=(0, 1))
    spread = wilson(mean.value * n, n) if len(values) == 1 else mean
    return replace(spread, value=mean.value).ends(name)


def _of_neurons(name: str, share: float, neurons: int, chance: float) -> dict[str, float]:
    return replace(wilson(float(share) * neurons, neurons), value=float(share), chance=chance).columns(name)


def finding(neurons: Neurons) -> str:
    """The result in words, chance first where it is no more than that."""
    card, chance = neurons.card, neurons.card["chance"]
    total, significant = neurons.q_value.size, int((neurons.q_value < SIGNIFICANT).sum())
    k, layer, unit = neurons.best
    best, p = float(neurons.predictivity[k, layer, unit]), float(neurons.family_p[k, layer, unit])
    sign = SIGNS[int(neurons.direction[k, layer, unit])]
    seeds = neurons.sign.shape[1]
    where = f"{card['task']} on {card['backbone']['name']}, site {card['site']}, {seeds} prompt(s)"
    part = "half B of dev" if card["protocol"] == "split" else "dev"
    judged = f"n = {card['judged_rows']} rows of {part}, majority {card['majority']:.1%}"
    chosen = "chosen on half A; by chance" if card["protocol"] == "split" else "by chance the best of all"
    ends = ("low", "high") if card["protocol"] == "split" else ("best_low", "best_high")
    band = f"{chance[ends[0]]:.3f} to {chance[ends[1]]:.3f} ({chance['permutations']} permutations)"
    verdict = (
        f"**{significant:,} of {total:,} neurons ({significant / total:.1%}) predict the label** at q < 0.05"
        if significant
        else f"**No neuron of {total:,} predicts the label at q < 0.05: at chance**"
    )
    text = (
        f"{where}: {verdict}; {judged}. The best is layer {layer}, neuron {unit} ({neurons.targets[k]}, {sign}): "
        f"predictivity {best:.3f}, family-wise p = {p:.2g} ({chosen} {band})."
    )
    if np.isfinite(smallest := card["smallest_predictivity"]):
        text += f" The smallest predictivity that this many rows could show for one neuron: {smallest:.3f}."
    text += _beside_random(neurons) + _effects(neurons) + _agreement(neurons)
    if card["protocol"] == "split" and card.get("selection") != "half A":
        text += (
            " It is not known that these prompts were selected on half A of this dev split alone: if they saw rows "
            "of half B, predictivities here are too high."
        )
    if card["protocol"] == "paper":
        text += (
            " Protocol paper: position, sign and score come from one split, so a predictivity is the best of "
            "many and no estimate for new rows; compare it with its chance band alone."
        )
    return text


def _beside_random(neurons: Neurons) -> str:
    found = beyond_random(neurons, SKILL_PERCENT)
    if found is None:
        return " No random prompt was counted: what of this belongs to the prompts is not known."
    more = (
        "**They tell more than under random prompts**"
        if found.difference.low > 0
        else ("**That they tell more than under random prompts is not shown**")
    )
    return (
        f" Beside {found.prompts} random prompt(s): the top {found.percent:g}% predict "
        f"{found.tuned.text} of the labels, under random prompts their own top {found.random.text}. {more} "
        f"({found.difference.points}); {found.beyond:.1%} of neurons tell more than there (q < 0.05), and "
        f"{found.shared:.0%} of the top are the same (chance {found.chance:.0%})."
    )


def _effects(neurons: Neurons) -> str:
    found = effect_beside_prediction(neurons, SKILL_PERCENT)
    if found is None:
        return ""
    known = "unknown" if np.isnan(found.corrected) else f"{found.corrected:.2f}"
    return (
        f" Effect beside prediction: {found.significant:.1%} of neurons act on the right label's margin beyond "
        f"chance (family-wise p < 0.05). Rankings by effect and by prediction: Spearman {found.spearman:.2f} "
        f"(without the rows' noise {known}), {found.shared:.0%} of the top shared (chance {found.chance:.0%}). On "
        f"half B the top by prediction carries {found.predictive.value:+.3f} of the margin, the top by effect "
        f"{found.effective.value:+.3f}, an average set {found.predictive.chance:+.3f}."
    )


def _agreement(neurons: Neurons) -> str:
    found = stability(neurons)
    if not found:
        return ""
    parts = []
    for what, one in list(found.items())[:2]:
        interval = f" [{one.low:.2f}, {one.high:.2f}]" if np.isfinite(one.low) else ""
        parts.append(f"{what} {one.value:.2f}{interval} (chance {one.chance:.2f})")
    return f" Over seeds: {', '.join(parts)}."
