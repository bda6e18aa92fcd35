"""The pieces of `pretrain` between text and loss: tokenizer, recipe, gap texts, lessons."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from test_pretrain import NAMES, RECIPE

from conftest import ROOT
from skillneurons.backbones.references import resolve
from skillneurons.backbones.tokenization import label_words
from skillneurons.errors import InputError
from skillneurons.pretrain.cloze import Example, compile_form, fit, for_encoder_decoder, for_masked_lm, window
from skillneurons.pretrain.corpus import tokens as token_corpus
from skillneurons.pretrain.corpus.texts import Corpus, Row
from skillneurons.pretrain.corpus.tokenizer import FIRST_SENTINEL, FIRST_WORD, MASK, for_family, train_tokenizer
from skillneurons.pretrain.corpus.tokens import tokenise
from skillneurons.pretrain.curriculum import Curriculum
from skillneurons.pretrain.models import IGNORED, build
from skillneurons.pretrain.recipe import FormRecipe, Recipe, read_recipe

TEXTS = [f"a film {word} and number {n} ." for n in range(120) for word in ("dull", "lovely", "grey")]
POCKET = ROOT / "experiments/models/pocket.yaml"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(TEXTS, RECIPE["words"], 420)


@pytest.fixture(scope="module")
def lessons(tokenizer: Any) -> Curriculum:
    films = [Row(0, text, None, n % 2, n % 20 == 0) for n, text in enumerate(TEXTS)]
    pairs = [Row(1, text, text[::-1], n % 2, n % 20 == 0) for n, text in enumerate(TEXTS)]
    corpus = Corpus(("films", "pairs"), (*films, *pairs), (), {}, 0)
    return Curriculum(Recipe(**RECIPE), tokenise(corpus, tokenizer), tokenizer)


def test_a_word_is_one_token_wherever_it_stands(tokenizer: Any) -> None:
    for family in ("masked_lm", "encoder_decoder"):
        own = for_family(tokenizer, family)
        ids = {tuple(own.encode(form, add_special_tokens=False)) for form in ("negative", " negative", "NEGATIVE")}
        assert len(ids) == 1
        assert len(ids.pop()) == 1
        assert label_words(own, family, ["negative", "positive"], "m").pieces == ("Ġnegative", "Ġpositive")


def test_special_tokens_in_a_corpus_are_text(tokenizer: Any) -> None:
    texts = ("a <mask> film", "</s><extra_id_0>", "a film")
    tokens = tokenise(Corpus(("films",), tuple(Row(0, text, None, 0, False) for text in texts), (), {}, 0), tokenizer)
    assert tokens.ids.min() >= FIRST_WORD
    assert [tokenizer.decode(tokens.text(number).tolist()).strip() for number in range(3)] == list(texts)
    assert tokenizer.encode("<mask>", add_special_tokens=False).ids == [MASK]


def test_the_frames_of_the_families(tokenizer: Any) -> None:
    masked, spans = for_family(tokenizer, "masked_lm"), for_family(tokenizer, "encoder_decoder")
    assert masked.convert_ids_to_tokens(masked("no", "yes")["input_ids"]) == [
        "<s>",
        "Ġno",
        "</s>",
        "</s>",
        "Ġyes",
        "</s>",
    ]
    assert spans.convert_ids_to_tokens(spans("no <extra_id_0> yes")["input_ids"]) == [
        "Ġno",
        "<extra_id_0>",
        "Ġyes",
        "</s>",
    ]
    assert (masked.mask_token_id, spans.pad_token_id) == (MASK, 1)
    assert spans.convert_tokens_to_ids("<extra_id_0>") == FIRST_SENTINEL


def test_a_word_that_finds_no_room() -> None:
    with pytest.raises(InputError, match="holds each of the recipe's words as one token; got pieces for"):
        train_tokenizer(TEXTS, ["extraordinary", "incomprehensible"], 300)


def example(form: FormRecipe, encode: Any, noise: tuple[int, ...] = ()) -> Example:
    compiled = compile_form(form, encode)
    word = compiled.words[1]
    assert word is not None
    return Example(compiled, np.array([200, 201]), np.array([300]), np.array(noise, np.int64), word)


def test_gap_texts_written_by_hand() -> None:
    names = {"yes": [51], "no": [50], "is it": [60, 61], "so .": [70]}
    encode = names.__getitem__
    words = ("no", "yes")
    lead = example(FormRecipe(text="{gap} is it | {a} {sep} {b}", words=words), encode, (99,))
    row = for_masked_lm(lead, before=10)
    assert row.ids == [4, 60, 61, 99, 0, 200, 201, 2, 300, 2]
    assert row.positions == [1, 1, 1, 1, 12, 13, 14, 15, 16, 17]
    assert row.gap == 0
    # a prompt is never shorter than what stands there
    assert for_masked_lm(lead, before=0).positions[4] == 6
    assert for_encoder_decoder(lead) == ([60, 61, 99, 200, 201, 2, 300, 2], [51, 2])
    inner = example(FormRecipe(text="{a} {gap} so .", words=words), encode)
    row = for_masked_lm(inner, before=0, from_position=5)
    assert (row.ids, row.gap) == ([0, 200, 201, 4, 70, 2], 3)
    assert row.positions == [7, 8, 9, 10, 11, 12]
    assert for_encoder_decoder(inner) == ([200, 201, 5, 70, 2], [5, 51, 6, 2])


def test_pieces_of_a_long_text() -> None:
    ids, rng = np.arange(100, 200), np.random.default_rng(0)
    enders = np.array([109, 129, 159])
    for _ in range(200):
        piece = window(ids, (8, 30), enders, rng)
        assert 8 <= len(piece) <= 30
        assert piece[0] in (100, 110, 130, 160)
        assert np.array_equal(piece, np.arange(piece[0], piece[0] + len(piece)))
    assert window(ids[:5], (8, 30), enders, rng).tolist() == [100, 101, 102, 103, 104]
    first, second = fit(np.arange(90), np.arange(10), 40)
    assert (len(first), len(second)) == (30, 10)
    assert [len(part) for part in fit(np.arange(90), np.arange(90), 41)] == [21, 20]


def test_a_lesson_depends_on_its_step_alone(lessons: Curriculum) -> None:
    once, again, other = lessons.batch(7), lessons.batch(7), lessons.batch(8)
    assert [text.tolist() for text in once.texts] == [text.tolist() for text in again.texts]
    assert [e.first.tolist() for e in once.examples] == [e.first.tolist() for e in again.examples]
    assert [text.tolist() for text in once.texts] != [text.tolist() for text in other.texts]
    assert once.texts
    assert 128 <= sum(e.tokens for e in once.examples) < 128 + 60


def test_an_epoch_reads_every_piece_once(lessons: Curriculum) -> None:
    corpus = dataclasses.replace(lessons.corpus)
    corpus.__dict__["training_stream"] = np.arange(5000, dtype=np.uint16)
    counted = dataclasses.replace(lessons, corpus=corpus)
    count = 5000 // 32 - 1
    epochs = [[counted._piece(n).tolist() for n in range(e * count, (e + 1) * count)] for e in (0, 1)]
    for pieces in epochs:
        starts = sorted(piece[0] for piece in pieces)
        assert np.diff(starts).tolist() == [32] * (count - 1)
        assert all(piece == list(range(piece[0], piece[0] + 32)) for piece in pieces)
    assert epochs[0] != epochs[1]
    assert epochs[0] != sorted(epochs[0])


def test_both_families_lose_on_the_same_words(lessons: Curriculum) -> None:
    vectors = np.random.default_rng(0).standard_normal((420, 16)).astype(np.float32)
    lesson, tokens = lessons.batch(0), set()
    for name in NAMES:
        learner = build(lessons.recipe, name, vectors, lessons.frequencies)
        rng = np.random.default_rng(0)
        text, rows = learner.text_part(lesson.texts, 1.0, rng), learner.cloze_part(lesson.examples, 1.0, rng)
        hidden = (text.tensors["goals"] >= FIRST_WORD).sum(1).tolist()
        tokens.add(tuple(sorted(e.word for e in lesson.examples)))
        assert all(abs(count - 0.15 * 32) < 2 for count in hidden)
        firsts = rows.tensors["goals"]
        assert all(int(w) in firsts[i].tolist() for i, w in enumerate(e.word for e in lesson.examples))
        assert torch.isfinite(learner.loss(text))
        assert ((rows.tensors["goals"] == IGNORED).sum() > 0) or name == NAMES[1]
    assert len(tokens) == 1


def test_a_corpus_comes_back_as_it_was_saved(lessons: Curriculum, tmp_path: Path) -> None:
    token_corpus.save(lessons.corpus, tmp_path / "corpus.npz")
    again = token_corpus.load(tmp_path / "corpus.npz")
    for name in token_corpus.ARRAYS:
        assert np.array_equal(getattr(again, name), getattr(lessons.corpus, name))
    assert again.ids.dtype == np.uint16
    assert again.datasets == ("films", "pairs")


def test_the_recipe_of_the_embedded_pair_leaves_a_task_of_each_family_unseen() -> None:
    recipe = read_recipe(POCKET)
    families = {
        "sentiment": {"sst2", "imdb", "movie_rationales"},
        "paraphrase": {"mrpc", "qqp", "paws_qqp"},
        "nli": {"qnli", "mnli", "rte", "snli"},
        "ethics": {"ethics_deontology", "ethics_justice"},
    }
    supervised = set(recipe.supervised.tasks)
    for members in families.values():
        assert members & supervised
        assert (members & set(recipe.corpus)) - supervised
    assert "sst2" not in supervised
    sizes = {(r.family == "masked_lm") for r in recipe.models.values()}
    assert sizes == {True, False}
    assert recipe.size.positions >= 228


def test_a_recipe_is_no_model() -> None:
    with pytest.raises(InputError, match="a model is one that is there; got pocket, a recipe of pretrain"):
        resolve("pocket", None, [POCKET.parent])
    with pytest.raises(InputError) as error:
        resolve("./nothing", None, [POCKET.parent])
    assert "roberta-base, roberta-large" in str(error.value)
    assert " pocket," not in str(error.value)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"text": "{a} it was", "words": ["no", "yes"]}, "one {gap}"),
        ({"text": "{a} | {gap}", "words": ["no", "yes"]}, "starts with {gap}"),
        ({"text": "{gap} | {a}", "t5": "{a} {gap}", "words": ["no", "yes"]}, "a form with |"),
        ({"text": "{a} {gap}", "words": ["no", "yes"]}, "first form of a task"),
    ],
)
def test_forms_that_are_none(form: dict[str, object], said: str, tmp_path: Path) -> None:
    recipe = copy.deepcopy(RECIPE)
    recipe["supervised"]["tasks"]["films"]["forms"] = [form]  # type: ignore[index]
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(InputError) as error:
        read_recipe(tmp_path / "r.yaml")
    assert said in str(error.value)
