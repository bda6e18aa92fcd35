"""The embedded pair: whole, small, loaded offline, and scoring as its weights do elsewhere."""

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, RobertaForMaskedLM, T5ForConditionalGeneration

import skillneurons
from skillneurons.backbones import loading
from skillneurons.backbones.loading import describe
from skillneurons.pretrain.model_card import check_model

FOLDER = Path(skillneurons.__file__).parent / "pocket"
PAIR = ("pocket-roberta", "pocket-t5")
MIB = 2**20


@pytest.mark.parametrize("name", PAIR)
def test_every_file_is_the_one_of_the_card(name):
    facts = check_model(FOLDER / name)
    assert facts is not None
    assert facts["name"] == name
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= set(facts["files"])
    assert facts["corpus"]["sources"]
    assert all(len(source["sha256"]) == 64 for source in facts["corpus"]["sources"])
    card = (FOLDER / name / "README.md").read_text()
    for section in ("How it was made", "Data", "Limits"):
        assert f"## {section}" in card


def test_the_pair_is_small_enough_to_ship():
    sizes = [file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()]
    assert sizes
    assert max(sizes) < 16 * MIB
    assert sum(sizes) < 64 * MIB


def test_the_pair_is_matched():
    cards = [check_model(FOLDER / name) for name in PAIR]
    same = ("corpus", "steps", "text_tokens")
    assert all(cards[0][key] == cards[1][key] for key in same)
    recipes = [{k: v for k, v in card["recipe"].items() if k != "models"} for card in cards]
    assert recipes[0] == recipes[1]
    vocabularies = [AutoTokenizer.from_pretrained(FOLDER / name).get_vocab() for name in PAIR]
    assert vocabularies[0] == vocabularies[1]
    taps = [[(t.layer, t.width) for t in loading.load(describe(name)).taps if t.stack == "encoder"] for name in PAIR]
    assert taps[0] == taps[1] == [(layer, 1024) for layer in range(4)]


def test_a_masked_word_scores_as_in_transformers_alone():
    """Prompt of one (the mask itself), no position: the same input built by hand."""
    info = describe("pocket-roberta")
    backbone, words = loading.load(info), info.label_words(["negative", "positive"])
    ids = info.encode([("a gorgeous , witty film .",)], 32)
    got = backbone.label_scores(torch.zeros(1, 256), info.collate(ids), words)[0]
    model = RobertaForMaskedLM.from_pretrained(FOLDER / "pocket-roberta", dtype=torch.float32).eval()
    row = torch.tensor([[info.tokenizer.mask_token_id, *ids[0]]])
    table = model.roberta.embeddings
    with torch.no_grad():
        # position ids from 2 on; position 1 (padding) has a row of its own, which a prompt does not get
        places = torch.arange(3, row.shape[1] + 2)
        embedded = table.word_embeddings(row) + table.token_type_embeddings.weight[0]
        embedded[0, 1:] += table.position_embeddings(places)
        hidden = model.roberta.encoder(table.LayerNorm(embedded))[0]
        want = model.lm_head(hidden)[0, 0, list(words.ids)]
    assert got.numpy() == pytest.approx(want.numpy(), abs=1e-4)
    assert got[1] > got[0], "a gorgeous film is positive"


def test_the_first_step_of_t5_scores_as_in_transformers_alone():
    info = describe("pocket-t5")
    backbone, words = loading.load(info), info.label_words(["negative", "positive"])
    ids = info.encode([("a gorgeous , witty film .",)], 32)
    got = backbone.label_scores(torch.zeros(0, 256), info.collate(ids), words)[0]
    model = T5ForConditionalGeneration.from_pretrained(FOLDER / "pocket-t5", dtype=torch.float32).eval()
    start = torch.tensor([[model.config.decoder_start_token_id]])
    with torch.no_grad():
        want = model(input_ids=torch.tensor(ids), decoder_input_ids=start).logits[0, 0, list(words.ids)]
    assert got.numpy() == pytest.approx(want.numpy(), abs=1e-4)


@pytest.mark.parametrize("name", PAIR)
def test_losses_of_the_card_went_below_those_of_word_frequencies_and_are_finite(name):
    facts = check_model(FOLDER / name)
    assert math.isfinite(facts["final"]["text_loss"])
    assert facts["final"]["text_loss"] < facts["measured"][0]["measured"]["text_loss"]
