"""From counted prompts to predictivities of neurons, their tests and their chance levels.

method.md §3 defines predictivity and §5 the tests. Shapes: K targets, S seeds (prompts), L layers,
W positions, F FFN width, R permutations.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skillneurons.discover.counting import Counted, Question, right
from skillneurons.neurons.scores import Neurons
from skillneurons.stats import neuron_tests


def combine(counts: Iterable[Counted], seeds: int, asked: Question, card: Mapping[str, Any]) -> Neurons:
    """Predictivities, p- and q-values and chance levels of S prompts of one task, which are taken one at a time.

    Args:
        counts: of every prompt; where it is a generator, one prompt's counts are held at once.
        seeds: S, how many they are.
        asked: what was asked of them.
        card: facts of the discovery, to which those of chance are added.
    """
    arrays: dict[str, NDArray[Any]] = {}
    null: NDArray[np.int32] | None = None
    effects: list[tuple[Tensor, Tensor]] = []
    effect_null: Tensor | None = None
    for number, one in enumerate(counts):
        for name, (values, axis) in _of_prompt(one, asked).items():
            if name not in arrays:
                arrays[name] = np.empty((*values.shape[:axis], seeds, *values.shape[axis:]), dtype=values.dtype)
            arrays[name][(slice(None),) * axis + (number,)] = values
        null = one.null.numpy().astype(np.int32) if null is None else np.add(null, one.null.numpy(), out=null)
        if one.effect.numel():
            effects.append((one.effect_selected, one.effect))
            effect_null = one.effect_null if effect_null is None else effect_null + one.effect_null
        del one  # before the next prompt is counted
    assert null is not None
    found = _judged(arrays, null, seeds, asked, card)
    if effect_null is None:
        return found
    selected, effect = (torch.stack(part).numpy() for part in zip(*effects, strict=True))
    family_p = neuron_tests.max_t(effect.mean(axis=0, dtype=np.float64), (effect_null / seeds).numpy())
    return replace(found, effect_selected=selected, effect=effect, effect_p=family_p)


def _of_prompt(one: Counted, asked: Question) -> dict[str, tuple[NDArray[Any], int]]:
    """One prompt's share of the arrays that hold all prompts, and at which axis the prompts stand there."""
    return {
        "baseline": (one.baseline.numpy(), 0),
        "hits": (one.hits.numpy(), 1),
        "position": (one.position.numpy().astype(np.int16), 1),
        "sign": (one.sign.numpy().astype(np.int8), 1),
        "selected": ((one.selected.numpy() / len(asked.halves[0])).astype(np.float32), 1),
        "score": (_scores(one, asked), 1),
        "p_value": (_p_values(one, asked), 1),
        "auc": (one.auc.numpy().astype(np.float32), 1),
    }


def _judged(
    arrays: Mapping[str, NDArray[Any]], null: NDArray[np.int32], seeds: int, asked: Question, card: Mapping[str, Any]
) -> Neurons:
    """What all prompts together say, beside the summed counts under permuted labels `[K, R, L, F]`."""
    from scipy.stats import false_discovery_control

    n = len(asked.judged)
    predictivity = arrays["score"].mean(axis=1)
    by_permutation = np.moveaxis(null / np.float32(n * seeds), 1, 0)
    chance = neuron_tests.chance_of(by_permutation)
    size = int(np.prod(predictivity.shape))
    facts = {
        "chance": asdict(chance),
        "smallest_predictivity": min(
            neuron_tests.smallest_predictivity(n, asked.ones(k), size) for k in asked.targets
        ),
        "judged_rows": n,
        "majority": max(max(asked.ones(k), n - asked.ones(k)) for k in asked.targets) / n,
    }
    none = np.zeros((len(predictivity), 0, *predictivity.shape[1:]), dtype=np.float32)
    combined = neuron_tests.cauchy_combination(np.moveaxis(arrays["p_value"], 1, 0))
    return Neurons(
        **{name: arrays[name] for name in ("baseline", "position", "sign", "selected", "p_value", "auc")},
        accuracy=np.divide(arrays["hits"], len(asked.dev), dtype=np.float32),
        seed_predictivity=arrays["score"].astype(np.float32),
        predictivity=predictivity.astype(np.float32),
        q_value=false_discovery_control(combined, axis=None).reshape(combined.shape),
        family_p=neuron_tests.max_t(predictivity, by_permutation),
        random_selected=none,
        random_predictivity=none,
        effect_selected=none[0],
        effect=none[0],
        effect_p=np.ones(predictivity.shape[1:]),
        card={**card, **facts},
    )


def _scores(one: Counted, asked: Question) -> NDArray[np.float64]:
    found = [right(one.ones_fired[k], one.fired[k], one.sign[k], asked, t) for k, t in enumerate(asked.targets)]
    return torch.stack(found).double().numpy() / len(asked.judged)


def _p_values(one: Counted, asked: Question) -> NDArray[np.float64]:
    """Exact tails in the chosen direction; with protocol `paper` the share of permutations that reach it."""
    n = len(asked.judged)
    if asked.protocol == "paper":
        return np.stack([neuron_tests.permutation_p(_scores(one, asked)[0], one.null[0].numpy() / n)])
    found = []
    for k, target in enumerate(asked.targets):
        tails = neuron_tests.hypergeometric_tails(
            one.ones_fired[k].numpy(), one.fired[k].numpy(), asked.ones(target), n
        )
        found.append(np.where(one.sign[k].numpy() > 0, *tails))
    return np.stack(found)
