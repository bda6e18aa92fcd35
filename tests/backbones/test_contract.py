"""One suite for every architecture: what holds for one backbone holds for all."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import tiny_models
from skillneurons.backbones import loading
from skillneurons.backbones.base import Backbone, TextBatch
from skillneurons.backbones.loading import AUTO_CLASSES, describe
from skillneurons.errors import InputError

PROMPT_LENGTH = 5
EVERY = [(name, None) for name in tiny_models.ARCHITECTURES]
CASES = [*EVERY, ("gpt2", "prefix"), ("llama", "prefix")]
MASKED = ["roberta", "bert", "albert"]
# one thing of each is unusual: how positions, padding or token ids reach the scores
SIBLINGS = [
    (name, None)
    for name in (
        *("roberta-causal", "mpt", "ctrl", "gemma3", "bert2bert", "fsmt", "longformer-encoder-decoder"),
        *("mobilebert", "roformer", "longformer", "nystromformer"),
    )
]
UNPLACED = [*MASKED, "mobilebert", "roformer", "longformer", "nystromformer"]
FIRST_ROW = {"roberta": 2, "longformer": 2, "nystromformer": 2}
STARTS = {"bart": [2, 0], "bert2bert": [0, 0], "fsmt": [2], "longformer-encoder-decoder": [2, 0]}


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.set_num_threads(1)  # tiny tensors: threads only wait for each other
    root, loaded = tmp_path_factory.mktemp("models"), {}

    def get(architecture: str, placement: str | None = None) -> Backbone:
        folder = root / architecture
        if not folder.exists():
            tiny_models.build(architecture, folder)
        if (architecture, placement) not in loaded:
            loaded[architecture, placement] = loading.load(describe(str(folder), placement=placement))
        return loaded[architecture, placement]

    return get


@pytest.fixture
def backbone(load: Any, request: pytest.FixtureRequest) -> Backbone:
    return load(*request.param)


def cases(chosen: list[tuple[str, str | None]]) -> pytest.MarkDecorator:
    names = [name if placement is None else f"{name}-{placement}" for name, placement in chosen]
    return pytest.mark.parametrize("backbone", chosen, ids=names, indirect=True)


def text_batch(backbone: Backbone) -> TextBatch:
    batch = backbone.info.collate(backbone.info.encode(tiny_models.TEXTS, 24))
    assert len(set(batch.attention_mask.sum(dim=1).tolist())) > 3, "the texts are ragged"
    return batch


def words_of(backbone: Backbone) -> Any:
    return backbone.info.label_words(tiny_models.WORDS)


def prompt_ids(backbone: Backbone) -> list[int]:
    """A prompt of real tokens; a masked LM's begins with the mask, as `place` makes it."""
    ids = [40, 17, 33, 21, 52]
    if backbone.info.family == "masked_lm":
        ids[0] = backbone.info.tokenizer.mask_token_id
    return ids


def random_prompt(backbone: Backbone, *leading: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(*leading, PROMPT_LENGTH, backbone.info.embedding_width, generator=generator)


def plain_model(backbone: Backbone, dtype: torch.dtype = torch.float32) -> Any:
    auto = AUTO_CLASSES[backbone.info.family]
    return auto.from_pretrained(backbone.info.folder, dtype=dtype).eval()


@torch.no_grad()
def plain_scores(backbone: Backbone, model: Any, prompt: list[int], text: list[int]) -> Tensor:
    """Scores of the label words from token ids alone: one row, no padding, the full vocabulary."""
    if backbone.info.family == "encoder_decoder":
        decoder = STARTS.get(backbone.info.name, [1])
        logits = model(input_ids=torch.tensor([prompt + text]), decoder_input_ids=torch.tensor([decoder])).logits[
            0, -1
        ]
    elif backbone.info.family == "masked_lm":
        logits = model(input_ids=torch.tensor([prompt + text])).logits[0, 0]
    else:
        ids = prompt + text if backbone.info.placement == "prefix" else text + prompt
        logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
    return logits[list(words_of(backbone).ids)]


@cases([*CASES, *SIBLINGS])
def test_scores_equal_the_plain_models_on_token_ids(backbone: Backbone) -> None:
    model, ids = plain_model(backbone), prompt_ids(backbone)
    if backbone.info.family == "masked_lm" and backbone.info.name != "roformer":
        # no position embedding at the prompt: its rows of the table, which no other token reads, are 0
        table = model.base_model.embeddings.position_embeddings
        first = FIRST_ROW.get(backbone.info.name, 0)
        with torch.no_grad():
            table.weight[first : first + PROMPT_LENGTH] = 0
    texts = backbone.info.encode(tiny_models.TEXTS, 24)
    expected = torch.stack([plain_scores(backbone, model, ids, text) for text in texts])
    got = backbone.label_scores(backbone.embed(torch.tensor(ids)), text_batch(backbone), words_of(backbone))
    assert got.dtype == torch.float32
    assert got.shape == (len(texts), 2)
    assert expected.std() > 0.05, "the rows differ"
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@cases([case for case in [*CASES, *SIBLINGS] if case[0] not in UNPLACED])
def test_no_prompt_is_the_text_alone(backbone: Backbone) -> None:
    texts, model = backbone.info.encode(tiny_models.TEXTS, 24), plain_model(backbone)
    expected = torch.stack([plain_scores(backbone, model, [], text) for text in texts])
    nothing = torch.zeros(0, backbone.info.embedding_width)
    got = backbone.label_scores(nothing, text_batch(backbone), words_of(backbone))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@cases(EVERY)
def test_the_head_sees_one_position_and_the_label_words_alone(backbone: Backbone) -> None:
    shapes = []
    head = backbone.model.get_output_embeddings()
    with head.register_forward_hook(lambda _, args, out: shapes.append((args[0].shape[1], out.shape[-1]))):
        backbone.label_scores(random_prompt(backbone), text_batch(backbone), words_of(backbone))
    assert [words for _, words in shapes] == [2]
    assert head.weight.shape[0] == backbone.info.config.vocab_size, "the head is whole again"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_published_roberta_placement(load: Any, dtype: torch.dtype) -> None:
    """As thunlp/Prompt-Transferability's modified RobertaEmbeddings computes it, written out."""
    info = load("roberta").info
    backbone, words = loading.load(info, dtype=dtype), info.label_words(tiny_models.WORDS)
    prompt = random_prompt(backbone).to(dtype)
    embeddings, model = backbone.model.roberta.embeddings, backbone.model
    for text in info.encode(tiny_models.TEXTS, 24):
        with torch.no_grad():
            inside = torch.cat([prompt, embeddings.word_embeddings.weight[text]])
            inside[0] = embeddings.word_embeddings.weight[info.tokenizer.mask_token_id]
            positions = embeddings.position_embeddings.weight[2 : 2 + len(inside)].clone()
            positions[:PROMPT_LENGTH] = 0
            inside = inside + positions + embeddings.token_type_embeddings.weight[0]
            hidden = model.roberta.encoder(embeddings.LayerNorm(inside)[None])[0]
            expected = model.lm_head(hidden)[:, 0, list(words.ids)].float()
        got = backbone.label_scores(prompt, info.collate([text]), words)
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-6)


@cases([(name, None) for name in MASKED])
def test_row_0_of_a_masked_prompt_is_the_mask(backbone: Backbone) -> None:
    prompt, batch, words = random_prompt(backbone), text_batch(backbone), words_of(backbone)
    other = torch.cat([-3 * prompt[:1], prompt[1:]])
    torch.testing.assert_close(
        backbone.label_scores(prompt, batch, words), backbone.label_scores(other, batch, words), atol=0, rtol=0
    )
    moved = torch.cat([prompt[:1], -prompt[1:]])
    assert (
        backbone.label_scores(moved, batch, words) - backbone.label_scores(prompt, batch, words)
    ).abs().max() > 1e-3
    with pytest.raises(InputError, match="at least one row"):
        backbone.label_scores(prompt[:0], batch, words)


@cases([*CASES, *SIBLINGS])
def test_padding_moves_no_score(backbone: Backbone) -> None:
    prompt, words = random_prompt(backbone), words_of(backbone)
    rows = backbone.info.encode(tiny_models.TEXTS, 24)
    alone = torch.cat([backbone.label_scores(prompt, backbone.info.collate([row]), words) for row in rows])
    # MobileBERT normalises nothing, so that rounding grows with its layers
    rtol = 1e-4 if backbone.info.name == "mobilebert" else 0
    torch.testing.assert_close(
        backbone.label_scores(prompt, text_batch(backbone), words), alone, atol=1e-5, rtol=rtol
    )


@cases([*CASES, *SIBLINGS])
def test_what_is_placed_can_be_read_again(backbone: Backbone) -> None:
    """Some models scale the embeddings they are given in place; sets of neurons read one batch many times."""
    inputs, words = backbone.place(random_prompt(backbone), text_batch(backbone)), words_of(backbone)
    assert torch.equal(backbone.scores(inputs, words), backbone.scores(inputs, words))


@cases([*EVERY, *SIBLINGS])
def test_positions_reach_as_far_as_is_said(backbone: Backbone) -> None:
    limit = {"longformer-encoder-decoder": 96, "t5": None, "t5_gated": None}.get(backbone.info.name, 64)
    assert backbone.info.num_positions == limit
    length = (limit or 99) - PROMPT_LENGTH
    backbone.info.check_length(PROMPT_LENGTH, length)
    row = (backbone.info.encode(tiny_models.TEXTS[3:4], 24)[0] * 9)[:length]
    scores = backbone.label_scores(random_prompt(backbone), backbone.info.collate([row]), words_of(backbone))
    assert scores.isfinite().all()
    if limit is not None:
        with pytest.raises(InputError, match=f"at most {limit}"):
            backbone.info.check_length(PROMPT_LENGTH, length + 1)


@cases(CASES)
def test_batch_order_moves_no_score(backbone: Backbone) -> None:
    prompt, rows, words = random_prompt(backbone), backbone.info.encode(tiny_models.TEXTS, 24), words_of(backbone)
    order = [3, 0, 7, 5, 1, 2, 6, 4]
    shuffled = backbone.label_scores(prompt, backbone.info.collate([rows[i] for i in order]), words)
    straight = backbone.label_scores(prompt, backbone.info.collate(rows), words)
    torch.testing.assert_close(shuffled, straight[order], atol=1e-5, rtol=0)


@cases(CASES)
def test_prompt_positions_hold_the_prompt(backbone: Backbone) -> None:
    prompt, batch = random_prompt(backbone), text_batch(backbone)
    inputs = backbone.place(prompt, batch)
    free = slice(1, None) if backbone.info.family == "masked_lm" else slice(None)
    rows = torch.arange(len(batch.input_ids))[:, None]
    held = inputs.embeds[rows, inputs.prompt_positions]
    assert torch.equal(held[:, free], prompt[free].expand(len(held), -1, -1))
    assert inputs.attention_mask.sum(dim=1).tolist() == (batch.attention_mask.sum(dim=1) + PROMPT_LENGTH).tolist()


@cases(CASES)
def test_a_prompt_for_each_row(backbone: Backbone) -> None:
    rows, words = backbone.info.encode(tiny_models.TEXTS[:3], 24), words_of(backbone)
    prompts = random_prompt(backbone, 3)
    together = backbone.label_scores(prompts, backbone.info.collate(rows), words)
    for row, prompt, got in zip(rows, prompts, together, strict=True):
        expected = backbone.label_scores(prompt, backbone.info.collate([row]), words)[0]
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@cases([*CASES, *SIBLINGS])
def test_gradients_reach_the_prompt_and_nothing_else(backbone: Backbone) -> None:
    prompt = random_prompt(backbone).requires_grad_()
    backbone.label_scores(prompt, text_batch(backbone), words_of(backbone)).logsumexp(dim=1).sum().backward()
    reached = prompt.grad.abs().sum(dim=1) > 0
    assert reached.tolist() == [backbone.info.family != "masked_lm"] + [True] * (PROMPT_LENGTH - 1)
    weights = list(backbone.model.parameters())
    assert weights
    assert all(weight.grad is None and not weight.requires_grad for weight in weights)


@cases(CASES)
def test_autocast_and_inference_mode(backbone: Backbone) -> None:
    prompt, batch, words = random_prompt(backbone), text_batch(backbone), words_of(backbone)
    exact = backbone.label_scores(prompt, batch, words)
    with torch.inference_mode():
        torch.testing.assert_close(backbone.label_scores(prompt, batch, words), exact, atol=1e-6, rtol=0)
    prompt.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        rough = backbone.label_scores(prompt, batch, words)
        rough.sum().backward()
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.25
    assert prompt.grad.isfinite().all()


@cases(EVERY)
def test_dropout_is_on_inside_its_context_only(backbone: Backbone) -> None:
    prompt, batch, words = random_prompt(backbone), text_batch(backbone), words_of(backbone)
    still = backbone.label_scores(prompt, batch, words)
    with backbone.dropout(True):
        assert not torch.allclose(backbone.label_scores(prompt, batch, words), still, atol=1e-4)
        with backbone.dropout(False):
            assert torch.equal(backbone.label_scores(prompt, batch, words), still)
        assert backbone.model.training
    assert not backbone.model.training
    assert torch.equal(backbone.label_scores(prompt, batch, words), still)


@cases(EVERY)
def test_vocabulary_embeddings(backbone: Backbone) -> None:
    table = backbone.vocabulary_embeddings()
    assert table.shape == (backbone.info.config.vocab_size, backbone.info.embedding_width)
    ids = torch.tensor([[5, 9], [40, 7]])
    assert torch.equal(table[ids], backbone.embed(ids))
    scale = 32**0.5 if backbone.info.name in ("bart", "gemma2") else 1
    weight = backbone.model.get_input_embeddings().weight
    torch.testing.assert_close(table, weight * scale)


def test_a_prompt_of_another_width_is_refused(load: Any) -> None:
    albert = load("albert")
    with pytest.raises(InputError, match="is 16 wide; got 32"):
        albert.place(torch.zeros(3, 32), text_batch(albert))


@pytest.mark.parametrize("family", ["modernbert", "deberta", "distilbert"])
def test_masked_lms_with_other_positions(family: str, tmp_path: Path) -> None:
    """Rotary and relative positions simply follow, and the head is still the model's own."""
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 99}
    more = {"intermediate_size": 48, "pad_token_id": 1}
    if family == "modernbert":
        special = {"bos_token_id": 0, "cls_token_id": 0, "eos_token_id": 2, "sep_token_id": 2}
        config: Any = transformers.ModernBertConfig(**sizes, **more, **special)
    elif family == "deberta":
        relative = {"relative_attention": True, "position_biased_input": False, "pos_att_type": ["p2c", "c2p"]}
        config = transformers.DebertaV2Config(**sizes, **more, **relative)
    else:
        config = transformers.DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=48, vocab_size=99)
    tiny_models.build("bert", tmp_path)
    torch.manual_seed(0)
    transformers.AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    backbone = loading.load(describe(str(tmp_path)))
    prompt, batch = random_prompt(backbone), text_batch(backbone)
    got = backbone.label_scores(prompt, batch, words_of(backbone))
    inputs = backbone.place(prompt, batch)
    if family != "distilbert":
        given = {"inputs_embeds": inputs.embeds, "attention_mask": inputs.attention_mask}
        expected = backbone.model(**given).logits[:, 0, list(words_of(backbone).ids)]
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    assert len(backbone.taps) == 2
    assert got.isfinite().all()
