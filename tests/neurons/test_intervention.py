"""Interventions beside the same done by hand: hooks on named modules, and weights set to zero."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import tiny_models
from skillneurons.backbones import loading
from skillneurons.backbones.base import Backbone
from skillneurons.backbones.batching import Encoded
from skillneurons.backbones.loading import describe
from skillneurons.neurons.intervention import Intervention, other_rows, sets_at, suppressed_scores
from skillneurons.neurons.selection import top_neurons
from skillneurons.neurons.sites import Site, site_of
from skillneurons.seeds import mix

P = 5
# the output projection of each layer, by its name in the architecture
PROJECTIONS = {
    "roberta": ("roberta.encoder.layer.{}.output.dense", 3),
    "albert": ("albert.encoder.albert_layer_groups.0.albert_layers.0.ffn_output", 3),
    "t5": ("encoder.block.{}.layer.1.DenseReluDense.wo", 3),
    "bart": ("model.encoder.layers.{}.fc2", 3),
    "gpt2": ("transformer.h.{}.mlp.c_proj", 3),
    "opt": ("model.decoder.layers.{}.fc2", 3),
    "llama": ("model.layers.{}.mlp.down_proj", 3),
}
DECODERS = {"t5": ("decoder.block.{}.layer.2.DenseReluDense.wo", 2), "bart": ("model.decoder.layers.{}.fc2", 2)}
FAMILIES = ("roberta", "t5", "gpt2")
KEYS = [11, 5, 42, 7, 1, 2**60, 9, 3]


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Backbone]:
    root = tmp_path_factory.mktemp("models")
    return {name: loading.load(describe(str(tiny_models.build(name, root / name)))) for name in PROJECTIONS}


def prompt_of(backbone: Backbone) -> Tensor:
    return torch.randn(P, backbone.info.embedding_width, generator=torch.Generator().manual_seed(1))


def texts_of(backbone: Backbone) -> Encoded:
    rows = backbone.info.encode(tiny_models.TEXTS, 24)
    return Encoded(rows, torch.arange(len(rows)) % 2)


def random_masks(site: Site, backbone: Backbone, count: int, share: float = 0.3, seed: int = 0) -> np.ndarray:
    taps = site.taps(backbone)
    return np.random.default_rng(seed).random((count, len(taps), taps[0].width)) < share


def measured(backbone: Backbone, site: Site, masks: np.ndarray, how: Intervention, batch_size: int = 64) -> Tensor:
    words = backbone.info.label_words(tiny_models.WORDS)
    return suppressed_scores(
        backbone, site, prompt_of(backbone), texts_of(backbone), words, masks, how, KEYS, batch_size
    )


def plain(backbone: Backbone) -> Tensor:
    """Scores of the untouched model, text by text."""
    words = backbone.info.label_words(tiny_models.WORDS)
    with torch.no_grad():
        return torch.cat(
            [
                backbone.label_scores(prompt_of(backbone), backbone.info.collate([row]), words)
                for row in texts_of(backbone).rows
            ]
        )


def by_hand(backbone: Backbone, names: list[str], change) -> Tensor:
    """Scores text by text, `change(row, layer, input [1, N, F])` being what each named projection reads."""
    words, out = backbone.info.label_words(tiny_models.WORDS), []
    for number, row in enumerate(texts_of(backbone).rows):
        calls = iter(range(len(names)))

        def hook(module, args, number=number, calls=calls):
            given = args[0]
            return (change(number, next(calls), given.reshape(1, -1, given.shape[-1]).clone()).reshape(given.shape),)

        modules = {name: backbone.model.get_submodule(name) for name in names}
        handles = [module.register_forward_pre_hook(hook) for module in modules.values()]
        try:
            with torch.no_grad():
                scored = backbone.label_scores(prompt_of(backbone), backbone.info.collate([row]), words)
        finally:
            for handle in handles:
                handle.remove()
        out.append(scored)
    return torch.cat(out)


def named(table: dict[str, tuple[str, int]], architecture: str) -> list[str]:
    pattern, layers = table[architecture]
    return [pattern.format(layer) for layer in range(layers)]


def where_prompt_stands(architecture: str, length: int, text: int) -> range:
    """P positions of the site `prompt`, written out."""
    return range(P) if architecture not in ("gpt2", "opt", "llama") else range(text, text + P)


def record(backbone: Backbone, names: list[str]) -> dict[tuple[int, int], Tensor]:
    """(row, layer) -> what a projection reads `[N, F]` in the untouched model."""
    seen: dict[tuple[int, int], Tensor] = {}

    def keep(row: int, layer: int, value: Tensor) -> Tensor:
        seen[row, layer] = value[0].clone()
        return value

    by_hand(backbone, names, keep)
    return seen


@pytest.mark.parametrize("architecture", PROJECTIONS)
def test_zero_at_all_positions_is_a_projection_without_those_columns(backbones, architecture):
    backbone = backbones[architecture]
    site = site_of(backbone.info, "prompt", P)
    mask = random_masks(site, backbone, 1)
    if architecture == "albert":  # one weight for all layers: only equal sets can be written into it
        mask[:, :] = mask[:, :1]
    found = measured(backbone, site, mask, Intervention("zero"))[0]
    saved = {}
    for layer, name in enumerate(named(PROJECTIONS, architecture)):
        weight = backbone.model.get_submodule(name).weight
        saved.setdefault(name, weight.detach().clone())
        axis = 0 if architecture == "gpt2" else 1  # GPT-2's Conv1D holds its weight transposed
        with torch.no_grad():
            weight.index_fill_(axis, torch.from_numpy(np.flatnonzero(mask[0, layer])), 0.0)
    try:
        expected = plain(backbone)
    finally:
        with torch.no_grad():
            for name, weight in saved.items():
                backbone.model.get_submodule(name).weight.copy_(weight)
    assert not torch.allclose(expected, plain(backbone), atol=1e-3), "the set matters"
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", DECODERS)
def test_decoder_neurons_are_suppressed_in_the_decoder(backbones, architecture):
    backbone = backbones[architecture]
    site = site_of(backbone.info, "decoder", P)
    mask = random_masks(site, backbone, 1)

    def zero(row: int, layer: int, value: Tensor) -> Tensor:
        value[:, :, torch.from_numpy(mask[0, layer])] = 0
        return value

    expected = by_hand(backbone, named(DECODERS, architecture), zero)
    torch.testing.assert_close(
        measured(backbone, site, mask, Intervention("zero"))[0], expected, atol=2e-5, rtol=1e-5
    )

    def zero_first_step(row: int, layer: int, value: Tensor) -> Tensor:
        value[:, -1, torch.from_numpy(mask[0, layer])] = 0
        return value

    expected = by_hand(backbone, named(DECODERS, architecture), zero_first_step)
    found = measured(backbone, site, mask, Intervention("zero", "prompt"))[0]
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("positions", ["all", "prompt"])
@pytest.mark.parametrize("kind", ["zero", "mean", "noise", "resample"])
@pytest.mark.parametrize("architecture", FAMILIES)
def test_each_change_by_hand(backbones, architecture, kind, positions):
    if (kind, positions) == ("resample", "all"):
        with pytest.raises(ValueError, match="positions=prompt"):
            Intervention(kind, positions)
        return
    backbone = backbones[architecture]
    site = site_of(backbone.info, "prompt", P)
    mask, names = random_masks(site, backbone, 1), named(PROJECTIONS, architecture)
    rows = texts_of(backbone).rows
    values = torch.randn(mask.shape[1:], generator=torch.Generator().manual_seed(4))
    how = Intervention(kind, positions, values if kind == "mean" else None, sigma=0.7, seed=3)
    clean, others = record(backbone, names), other_rows(KEYS, 3)

    def change(row: int, layer: int, value: Tensor) -> Tensor:
        length, text = value.shape[1], len(rows[row])
        prompt = where_prompt_stands(architecture, length, text)
        noise = torch.randn(
            length, value.shape[2], generator=torch.Generator().manual_seed(mix(3, KEYS[row], 2, layer))
        )
        for place in range(length) if positions == "all" else prompt:
            for neuron in np.flatnonzero(mask[0, layer]):
                if kind == "zero":
                    value[0, place, neuron] = 0
                elif kind == "mean":
                    value[0, place, neuron] = values[layer, neuron]
                elif kind == "noise":
                    value[0, place, neuron] += 0.7 * noise[place, neuron]
                else:
                    theirs = where_prompt_stands(architecture, 0, len(rows[others[row]]))
                    value[0, place, neuron] = clean[others[row], layer][theirs[place - prompt[0]], neuron]
        return value

    expected = by_hand(backbone, names, change)
    found = measured(backbone, site, mask, how)[0]
    assert not torch.allclose(expected, plain(backbone), atol=1e-3), "the change matters"
    torch.testing.assert_close(found, expected, atol=3e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_prompt_body_leaves_the_label_position_alone(backbones, architecture):
    backbone = backbones[architecture]
    whole, body = (site_of(backbone.info, name, P) for name in ("prompt", "prompt-body"))
    mask, rows = random_masks(whole, backbone, 1), texts_of(backbone).rows
    left_out = {"roberta": lambda prompt: prompt[1:], "t5": lambda prompt: prompt, "gpt2": lambda prompt: prompt[:-1]}

    def zero(row: int, layer: int, value: Tensor) -> Tensor:
        for place in left_out[architecture](where_prompt_stands(architecture, 0, len(rows[row]))):
            value[0, place, torch.from_numpy(mask[0, layer])] = 0
        return value

    expected = by_hand(backbone, named(PROJECTIONS, architecture), zero)
    found = measured(backbone, body, mask, Intervention("zero", "prompt"))[0]
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["zero", "noise", "resample"])
@pytest.mark.parametrize("architecture", FAMILIES)
def test_neither_batch_size_nor_company_matters(backbones, architecture, kind):
    backbone = backbones[architecture]
    site = site_of(backbone.info, "prompt", P)
    masks = random_masks(site, backbone, 4)
    masks[1] = False
    how = Intervention(kind, "prompt", seed=8)
    together = measured(backbone, site, masks, how, batch_size=64)
    for batch_size in (1, 3, 9):
        torch.testing.assert_close(measured(backbone, site, masks, how, batch_size), together, atol=2e-5, rtol=1e-5)
    for index in range(len(masks)):
        alone = measured(backbone, site, masks[index : index + 1], how, batch_size=5)
        torch.testing.assert_close(alone[0], together[index], atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(together[1], plain(backbone), atol=2e-5, rtol=1e-5)


def test_noise_has_the_sigma_asked_for_and_follows_the_seed(backbones):
    backbone = backbones["roberta"]
    site = site_of(backbone.info, "prompt", P)
    mask = random_masks(site, backbone, 1)
    one, same, other = (measured(backbone, site, mask, Intervention("noise", seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)
    small = measured(backbone, site, mask, Intervention("noise", sigma=1e-7))[0]
    torch.testing.assert_close(small, plain(backbone), atol=2e-5, rtol=1e-5)


def test_another_row_is_never_the_row_itself_and_any_other_may_be_drawn():
    drawn = [other_rows(range(start, start + 5), seed) for start in range(0, 500, 5) for seed in (0, 1)]
    assert all(other != row for rows in drawn for row, other in enumerate(rows))
    assert {(row, other) for rows in drawn for row, other in enumerate(rows)} == {
        (i, j) for i in range(5) for j in range(5) if i != j
    }
    with pytest.raises(ValueError, match="one row"):
        other_rows([3], 0)


@pytest.mark.parametrize("ranking", ["layer", "global"])
def test_sets_match_in_every_layer_and_depend_on_their_seed_alone(ranking):
    values = np.random.default_rng(0).random((4, 50))
    sets = sets_at(values, 10, ranking, 6, seed=5)
    assert np.array_equal(sets.skill, top_neurons(values, 10, ranking))
    assert sets.controls.shape == (6, 4, 50)
    assert np.array_equal(sets.controls.sum(2), np.tile(sets.skill.sum(1), (6, 1)))
    assert len({control.tobytes() for control in sets.controls}) == 6
    fewer = sets_at(values, 10, ranking, 3, seed=5)
    assert np.array_equal(fewer.controls, sets.controls[:3])
    assert not np.array_equal(sets_at(values, 10, ranking, 6, seed=6).controls, sets.controls)
    kept = sets_at(values, 10, ranking, 6, seed=5, keep=True)
    assert np.array_equal(kept.skill, ~sets.skill)
    assert np.array_equal(kept.controls, ~sets.controls)
    assert kept.size == 200 - sets.size


@pytest.mark.parametrize(("rate", "keep", "size"), [(0, False, 0), (1, False, 0), (100, False, 200), (0, True, 200)])
def test_where_all_or_none_are_chosen_there_is_nothing_to_draw(rate, keep, size):
    sets = sets_at(np.random.default_rng(0).random((4, 50)), rate, "layer", 6, 0, keep)
    assert sets.controls is None
    assert sets.size == size
    assert isinstance(sets.rate, int | float)


def test_values_belong_to_the_mean():
    with pytest.raises(ValueError, match="kind=mean"):
        Intervention("mean")
    with pytest.raises(ValueError, match="kind=mean"):
        Intervention("zero", values=torch.zeros(1, 1))


def planted(folder: Path) -> tuple[Backbone, Tensor, Encoded, tuple[int, int]]:
    """A masked LM whose answer hangs on one neuron, which fires at the mask for texts of label 1."""
    backbone = loading.load(describe(str(tiny_models.build("roberta", folder))))
    rows = backbone.info.encode(tiny_models.TEXTS, 24)
    seen: list[Tensor] = []
    layer, neuron = 1, 17
    ffn = backbone.model.roberta.encoder.layer[layer]
    handle = ffn.intermediate.register_forward_pre_hook(lambda _, args: seen.append(args[0][:, 0].clone()))
    prompt = prompt_of(backbone)
    words = backbone.info.label_words(tiny_models.WORDS)
    with torch.no_grad():
        backbone.label_scores(prompt, backbone.info.collate(rows), words)
    handle.remove()
    # whatever direction in which the texts differ there: half of them are label 1 by it
    direction = torch.linalg.svd(seen[0] - seen[0].mean(0)).Vh[0]
    along = seen[0] @ direction
    middle = along.sort().values[len(along) // 2 - 1 : len(along) // 2 + 1].mean()
    labels = (along > middle).long()
    with torch.no_grad():
        ffn.intermediate.dense.weight[neuron] = direction * 400
        ffn.intermediate.dense.bias[neuron] = -middle * 400
        model, out = backbone.model, backbone.model.roberta.encoder.layer[layer].output
        push = torch.nn.functional.normalize(torch.randn(tiny_models.HIDDEN), dim=0)
        out.dense.weight[:, neuron] = push * 5
        # behind the planted layer nothing mixes: what it writes reaches the head, and the words read it
        last = model.roberta.encoder.layer[2]
        for module in (last.attention.output.dense, last.output.dense):
            module.weight.zero_()
        for norm in (out.LayerNorm, last.attention.output.LayerNorm, last.output.LayerNorm, model.lm_head.layer_norm):
            norm.weight.fill_(1)
            norm.bias.zero_()
        model.lm_head.dense.weight.copy_(torch.eye(tiny_models.HIDDEN))
        model.lm_head.dense.bias.zero_()
        for word, sign in zip(words.ids, (-1, 1), strict=True):
            model.lm_head.decoder.weight[word] = sign * (push - push.mean())
            model.lm_head.decoder.bias[word] = 0
    encoded = Encoded(rows, labels)
    scores = plain(backbone)
    gap = scores[:, 1] - scores[:, 0]
    cut = (gap[labels == 1].min() + gap[labels == 0].max()) / 2
    assert gap[labels == 1].min() > gap[labels == 0].max(), "the planted neuron decides"
    with torch.no_grad():
        backbone.model.lm_head.decoder.bias[words.ids[1]] -= cut
    return backbone, prompt, encoded, (layer, neuron)


def test_without_the_planted_neuron_accuracy_falls_to_chance_and_without_random_ones_it_does_not(tmp_path):
    backbone, prompt, encoded, (layer, neuron) = planted(tmp_path / "planted")
    site, words = site_of(backbone.info, "prompt", P), backbone.info.label_words(tiny_models.WORDS)
    skill = np.zeros((3, tiny_models.FFN), dtype=bool)
    skill[layer, neuron] = True
    predictivity = np.where(skill, 1.0, 0.5)
    sets = sets_at(predictivity, 100 / predictivity.size, "global", 12, seed=2)
    assert np.array_equal(sets.skill, skill)
    masks = np.stack([np.zeros_like(skill), skill, *sets.controls])
    scores = suppressed_scores(backbone, site, prompt, encoded, words, masks, Intervention(), KEYS)
    right = (scores.argmax(2) == encoded.labels).float().mean(1)
    assert right[0] == 1
    assert right[1] == 0.5, "without it one answer is given to everything, and half the texts are of each label"
    hit = [bool(control[layer, neuron]) for control in sets.controls]
    assert not any(hit), "the seed draws none that is the planted one"
    assert right[2:].min() >= 0.875
