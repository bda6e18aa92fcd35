"""Attributions beside brute force: derivatives by differences, single neurons suppressed, and completeness."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from test_intervention import P, prompt_of, texts_of

import tiny_models
from skillneurons.backbones.base import Backbone
from skillneurons.neurons.attribution import Attribution
from skillneurons.neurons.intervention import Intervention, suppressed_scores
from skillneurons.neurons.sites import at, site_of

FAMILIES = ("roberta", "albert", "t5", "t5_gated", "bart", "gpt2", "llama")  # post-LN, shared, gated among them
SITES = [(name, "prompt-body" if name not in ("albert",) else "prompt") for name in FAMILIES] + [("t5", "decoder")]


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Backbone]:
    root: Path = tmp_path_factory.mktemp("models")
    return {name: tiny_models.loaded(name, root / name) for name in FAMILIES}


def made(backbone: Backbone, name: str, steps: int = 1, batch_size: int = 3) -> Attribution:
    site = site_of(backbone.info, name, P)
    taps = site.taps(backbone)
    generator = torch.Generator().manual_seed(4)
    # one value for all positions, as the mean of suppression has it
    baseline = 0.3 * torch.randn(len(taps), 1, taps[0].width, generator=generator).expand(-1, site.width, -1)
    words = backbone.info.label_words(tiny_models.WORDS)
    return Attribution(backbone, site, prompt_of(backbone), words, baseline, steps, batch_size)


def of_all(one: Attribution) -> np.ndarray:
    """`[n, L, F]`, in the order of the rows."""
    encoded, found = texts_of(one.backbone), {}
    for numbers, values in one.of_rows(encoded, range(len(encoded))):
        found |= dict(zip(numbers.tolist(), values.numpy(), strict=True))
    return np.stack([found[i] for i in range(len(encoded))])


def suppressed(one: Attribution, masks: np.ndarray) -> np.ndarray:
    """Score 1 minus score 0 with sets of neurons at the baseline `[M, n]`."""
    encoded = texts_of(one.backbone)
    how = Intervention("mean", "prompt", one.baseline[:, 0])
    keys = range(len(encoded))
    scores = suppressed_scores(one.backbone, one.site, one.prompt, encoded, one.words, masks, how, keys, 64)
    return (scores[..., 1] - scores[..., 0]).numpy()


@pytest.mark.parametrize(("name", "site"), SITES)
def test_the_first_order_part_is_the_derivative(backbones, name, site):
    """A neuron moved a little toward its baseline and away from it, in double precision."""
    one = made(backbones[name], site)
    backbone, encoded, step = one.backbone, texts_of(one.backbone), 1e-2
    found = of_all(one)
    backbone.model.double()
    try:
        ids = torch.tensor(one.words.ids)
        for row, layer, unit in ((0, 0, 3), (2, found.shape[1] - 1, 11), (5, 0, 20)):
            inputs = backbone.place(one.prompt.double(), backbone.info.collate([encoded.rows[row]]))
            positions = one.site.positions(inputs)

            def moved(share, layer=layer, unit=unit, positions=positions, inputs=inputs):
                def change(tap, activation):
                    if (tap.stack, tap.layer) != (one.site.stack, layer):
                        return None
                    new = activation.clone()
                    here = at(new, positions)
                    here[..., unit] -= share * (here[..., unit] - one.baseline[layer, :, unit].double())
                    return new

                with torch.no_grad(), backbone.tapped(change):
                    scores = backbone._scores(inputs, ids, backbone._head_name)[0]
                return float(scores[1] - scores[0])

            slope = (moved(-step) - moved(step)) / (2 * step)
            assert found[row, layer, unit] == pytest.approx(slope, abs=1e-4 * max(1.0, float(np.abs(found).max())))
    finally:
        backbone.model.float()


@pytest.mark.parametrize(("name", "site"), SITES)
def test_neurons_rank_as_suppressed_one_by_one(backbones, name, site):
    one = made(backbones[name], site)
    found = of_all(one)
    layers, width = found.shape[1:]
    untouched = suppressed(one, np.zeros((1, layers, width), dtype=bool))[0]
    masks = np.eye(layers * width, dtype=bool).reshape(-1, layers, width)
    brute = (untouched - suppressed(one, masks)).mean(1)
    ranks = stats.spearmanr(found.mean(0).ravel(), brute).statistic
    print(f"{name}, {site}: Spearman {ranks:.3f} of {len(brute)} neurons")
    assert ranks > 0.85


@pytest.mark.parametrize(("name", "site"), [("roberta", "prompt"), ("t5_gated", "prompt"), ("llama", "prompt-body")])
def test_integrated_gradients_add_up_to_what_the_whole_layer_does(backbones, name, site):
    one = made(backbones[name], site, steps=50)
    found = of_all(one).sum(2)
    layers, width = one.baseline.shape[0], one.baseline.shape[2]
    whole = np.repeat(np.eye(layers, dtype=bool)[:, :, None], width, axis=2)
    untouched = suppressed(one, np.zeros((1, layers, width), dtype=bool))[0]
    lost = untouched - suppressed(one, whole)
    assert pytest.approx(lost, abs=2e-3 * max(1.0, float(np.abs(lost).max()))) == found.T
    plain = of_all(made(backbones[name], site)).sum(2)
    assert np.abs(plain.T - lost).mean() > np.abs(found.T - lost).mean()


def test_means_are_over_rows_whatever_the_batches_and_in_the_labels_direction(backbones):
    one, encoded = made(backbones["roberta"], "prompt"), texts_of(backbones["roberta"])
    each, rows = of_all(one), [0, 2, 3, 6]
    labels = torch.stack([encoded.labels, 1 - encoded.labels])
    signs = (2 * encoded.labels.numpy() - 1)[rows]
    mean = (signs[:, None, None] * each[rows]).mean(0)
    for size in (1, 4):
        got = made(backbones["roberta"], "prompt", batch_size=size).mean(encoded, rows, labels)
        assert got[0].numpy() == pytest.approx(mean, abs=1e-6)
        assert got[1].numpy() == pytest.approx(-mean, abs=1e-6)
