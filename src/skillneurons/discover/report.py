"""What a discovery says: tables, metrics, and the finding in words."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skillneurons.commands.signatures import Signature
from skillneurons.discover.figures import specificity_by_layer
from skillneurons.discover.random_baseline import BeyondRandom, beyond_random
from skillneurons.discover.stability import agreements
from skillneurons.findings import Claim, Finding, Unit, number, p_text, several
from skillneurons.neurons.effect import EffectBesidePrediction, effect_beside_prediction
from skillneurons.neurons.scores import SIGNS, Neurons
from skillneurons.neurons.selection import top_neurons
from skillneurons.stats.intervals import SIGNIFICANT, Estimate, mean_interval, passes, unknown, wilson

SKILL_PERCENT = 5.0
WHERE = {
    "prompt": "at the prompt's positions",
    "prompt-body": "at the prompt's positions without the one where the label is read",
    "decoder": "at the decoder's first step",
    "label": "where the label is read",
}


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
    return replace(_spread(values, n), value=float(values.mean())).ends(name)


def _of_neurons(name: str, share: float, neurons: int, chance: float) -> dict[str, float]:
    return replace(wilson(float(share) * neurons, neurons), value=float(share), chance=chance).columns(name)


def finding(neurons: Neurons) -> Finding:
    """What was found, chance included."""
    beside, acts = beyond_random(neurons, SKILL_PERCENT), effect_beside_prediction(neurons, SKILL_PERCENT)
    claims = [*_warnings(neurons), _telling(neurons), _best(neurons), *_beside_random(beside)]
    return Finding(_headline(neurons, beside), [*claims, *_effects(neurons, acts), *_agreement(neurons)])


def _headline(neurons: Neurons, beside: BeyondRandom | None) -> str:
    card, significant = neurons.card, float((neurons.q_value < SIGNIFICANT).mean())
    where = f"{card['task']} · {card['backbone']['name']}"
    if not significant:
        return f"{where}: no neuron tells the label beyond chance."
    head = f"{where}: {significant:.0%} of the neurons tell the label"
    if beside is None:
        return f"{head}; beside random prompts not measured."
    if beside.difference.low > 0:
        return f"{head}, and the best tell more of it than under random prompts."
    return f"{head}, the best not shown to tell more of it than under random prompts."


def _telling(neurons: Neurons) -> Claim:
    """How many neurons predict the label."""
    card, total, found = neurons.card, neurons.q_value.size, int((neurons.q_value < SIGNIFICANT).sum())
    part = "half B of dev" if card["protocol"] == "split" else "dev"
    text = f"{found:,} of {total:,} neurons predict the label {WHERE[card['site']]} (site {card['site']})"
    test = (
        f"false discovery rate 5%, {several(neurons.sign.shape[1], 'prompt')}, majority rate {card['majority']:.1%}"
    )
    verdict = "shown" if found else "at chance"
    return Claim(
        verdict,
        text,
        n=f"{card['judged_rows']:,} rows of {part}",
        test=test,
        holds=bool(found) or None,
        name="significant",
    )


def _best(neurons: Neurons) -> Claim:
    """The best neuron beside what chance would give."""
    card, chance, (k, layer, unit) = neurons.card, neurons.card["chance"], neurons.best
    split = card["protocol"] == "split"
    ends = ("low", "high") if split else ("best_low", "best_high")
    each = neurons.seed_predictivity[k, :, layer, unit].astype(np.float64)
    value = replace(_spread(each, card["judged_rows"]), value=float(neurons.predictivity[k, layer, unit]))
    p = float(neurons.family_p[k, layer, unit])
    sign = SIGNS[int(neurons.direction[k, layer, unit])]
    chosen = "by chance" if split else "the best by chance"
    band = f"{chosen} {chance[ends[0]]:.1%} to {chance[ends[1]]:.1%}, family-wise {p_text(p)}"
    text = f"layer {layer}, neuron {unit} ({neurons.targets[k]}, {sign}): predictivity"
    return Claim("best neuron", text, value, test=band, holds=passes(p) or None)


def _beside_random(found: BeyondRandom | None) -> Iterator[Claim]:
    if found is None:
        yield Claim("not known", "no random prompt was read: what of this belongs to the prompts")
        return
    more = found.difference.low > 0
    text = (
        f"the top {found.percent:g}% predict {found.tuned.value:.1%} of the labels, under "
        f"{several(found.prompts, 'random prompt')} their own top {found.random.value:.1%}:"
    )
    test = f"{found.shared:.0%} of the top are the same, by chance {found.chance:.0%}"
    verdict = "beyond random prompts" if more else "not shown beyond random prompts"
    yield Claim(verdict, text, found.difference, Unit.POINTS, test=test, holds=more or None, name="beyond random")


def _effects(neurons: Neurons, found: EffectBesidePrediction | None) -> Iterator[Claim]:
    if found is None:
        return
    text = f"{found.significant:.1%} of neurons move the right label's margin; by effect and by prediction: Spearman"
    known = "" if np.isnan(found.corrected) else f"without the rows' noise {number(found.corrected, '.2f')}"
    figure = unknown(found.spearman, 0.0)
    yield Claim("effect", text, figure, Unit.NUMBER, n=several(neurons.predictivity[0].size, "neuron"), test=known)


def _agreement(neurons: Neurons) -> Iterator[Claim]:
    if found := stability(neurons):
        one = found["Spearman"]
        agree = one.beyond if np.isfinite(one.low) else None
        verdict = "seeds agree" if agree else "agreement of seeds"
        seeds = several(neurons.sign.shape[1], "seed")
        yield Claim(verdict, "rankings of the neurons: Spearman", one, Unit.NUMBER, n=seeds, holds=agree)


def _warnings(neurons: Neurons) -> Iterator[Claim]:
    card = neurons.card
    if card["protocol"] == "split" and card.get("selection") != "half A":
        why = "these prompts may have seen rows of half B: predictivities here may be too high"
        yield Claim("warning", why, holds=None)
    if card["protocol"] == "paper":
        why = (
            "protocol paper chooses and scores on one split: a predictivity is the best of many, no estimate for new "
            "rows; compare it with its chance band alone"
        )
        yield Claim("warning", why, holds=None)


def _spread(each: NDArray[np.float64], n: int) -> Estimate:
    """Student's interval over seeds, of one seed Wilson's over its rows."""
    mean = mean_interval(each, within=(0, 1))
    return wilson(mean.value * n, n) if len(each) == 1 else mean
