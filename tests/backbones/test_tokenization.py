"""Texts to ids and label words to ids, on tokenizers of every kind."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

import tiny_models
from skillneurons.backbones import loading, tokenization
from skillneurons.backbones.base import BackboneInfo
from skillneurons.backbones.loading import describe
from skillneurons.data.tasks import Segment
from skillneurons.errors import InputError

FRAMES = {
    "roberta": ([0], [2], [2]),
    "bert": ([0], [2], [2]),
    "t5": ([], [2], [2]),
    "bart": ([0], [2, 2], [2]),
    "gpt2": ([], None, []),
    "opt": ([2], None, []),
    "llama": ([0], [], []),
    "gemma2": ([0], [], []),
}
PIECES = {
    "roberta": "negative",
    "bert": "negative",
    "t5": "▁negative",
    "bart": "negative",
    "gpt2": "Ġnegative",
    "opt": "Ġnegative",
    "llama": "▁negative",
    "gemma2": "▁negative",
}


@pytest.fixture(scope="module")
def infos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BackboneInfo]:
    root = tmp_path_factory.mktemp("models")
    return {name: describe(str(tiny_models.build(name, root / name))) for name in FRAMES}


def plain(info: BackboneInfo, text: str) -> list[int]:
    return info.tokenizer.encode(text, add_special_tokens=False)


@pytest.mark.parametrize("name", FRAMES)
def test_special_tokens_stand_around_one_text_and_between_two(infos: dict[str, BackboneInfo], name: str) -> None:
    info = infos[name]
    begin, middle, end = FRAMES[name]
    middle = plain(info, "\n") if middle is None else middle
    a, b = tiny_models.SENTENCES[:2]
    single, pair = info.encode([(a,), (a, b)], 64)
    assert single == [*begin, *plain(info, a), *end]
    assert pair == [*begin, *plain(info, a), *middle, *plain(info, b), *end]


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("limit", range(6, 40))
def test_the_longest_segment_is_cut_first(infos: dict[str, BackboneInfo], name: str, limit: int) -> None:
    info = infos[name]
    for texts in tiny_models.PAIRS:
        whole = info.encode([texts], 1000)[0]
        (cut,) = info.encode([texts], limit)
        assert len(cut) == min(len(whole), limit)
        a, b = (plain(info, text) for text in texts)
        special = len(whole) - len(a) - len(b)
        keep = [len(a), len(b)]
        while sum(keep) + special > limit:
            keep[keep.index(max(keep)) if keep[0] != keep[1] else 1] -= 1
        frame = info.frame
        assert cut == [*frame.begin, *a[: keep[0]], *frame.middle, *b[: keep[1]], *frame.end]


@pytest.mark.parametrize("name", FRAMES)
def test_every_row_has_a_position_to_read(infos: dict[str, BackboneInfo], name: str) -> None:
    rows = infos[name].encode([("",), ("dull",)], 16)
    assert min(map(len, rows)) >= 1


def test_a_limit_without_room_is_refused(infos: dict[str, BackboneInfo]) -> None:
    with pytest.raises(InputError, match="Raise max_length"):
        infos["roberta"].encode([("dull",)], 4)
    assert infos["roberta"].encode([], 4) == []


def test_collate_pads_on_the_right(infos: dict[str, BackboneInfo]) -> None:
    batch = infos["roberta"].collate([[5, 6, 7], [8]])
    assert batch.input_ids.tolist() == [[5, 6, 7], [8, 1, 1]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.input_ids.dtype == batch.attention_mask.dtype == torch.int64


@pytest.mark.parametrize("name", PIECES)
def test_label_words_take_the_form_natural_to_the_family(infos: dict[str, BackboneInfo], name: str) -> None:
    info = infos[name]
    words = info.label_words(["negative", "positive"])
    assert words.words == ("negative", "positive")
    assert words.pieces[0] == PIECES[name]
    assert tuple(info.tokenizer.convert_ids_to_tokens(list(words.ids))) == words.pieces


def test_all_words_of_a_task_have_the_same_form(infos: dict[str, BackboneInfo]) -> None:
    """`gorgeous` was only ever seen after a space, so the whole task takes that form."""
    info = infos["roberta"]
    assert len(plain(info, "gorgeous")) > 1
    words = info.label_words(["negative", "gorgeous"])
    assert words.pieces == ("Ġnegative", "Ġgorgeous")


@pytest.mark.parametrize("name", ["roberta", "t5", "gpt2"])
def test_a_word_of_several_tokens_is_named_with_its_pieces(infos: dict[str, BackboneInfo], name: str) -> None:
    with pytest.raises(InputError) as error:
        infos[name].label_words(["acceptable", "zzacceptable"])
    message = str(error.value)
    assert "'zzacceptable' = " in message
    assert " + " in message
    assert "piece: first" in message


def test_the_first_piece_is_taken_where_it_is_asked_for(infos: dict[str, BackboneInfo]) -> None:
    info = infos["roberta"]
    words = info.label_words(["acceptable", {"word": "unacceptable", "piece": "first"}])
    assert words.words == ("acceptable", "unacceptable")
    assert words.ids[1] == plain(info, "unacceptable")[0]
    assert words.pieces[1] != "unacceptable"


def test_unknown_words_clashes_and_bad_entries_are_refused(infos: dict[str, BackboneInfo]) -> None:
    with pytest.raises(InputError, match="'zebra'"):
        infos["bert"].label_words(["negative", "zebra"])
    with pytest.raises(InputError, match="'zebra'"):
        infos["bert"].label_words(["negative", {"word": "zebra", "piece": "first"}])
    with pytest.raises(InputError, match="'no' and 'no'"):
        infos["bert"].label_words(["no", "no"])
    with pytest.raises(InputError, match="'yes' and 'yesx'"):
        infos["t5"].label_words(["yes", {"word": "yesx", "piece": "first"}])
    with pytest.raises(InputError, match="piece: first"):
        infos["bert"].label_words(["no", {"word": "yes", "piece": "last"}])


def test_positions_limit_prompt_and_text(infos: dict[str, BackboneInfo], tmp_path: Path) -> None:
    for name in ("roberta", "bert", "bart", "gpt2", "opt"):
        info = infos[name]
        assert info.num_positions == tiny_models.POSITIONS
        info.check_length(4, 60)
        with pytest.raises(InputError, match=r"at most 64.*got 5 \+ 60"):
            info.check_length(5, 60)
    assert infos["t5"].num_positions is None
    infos["t5"].check_length(1000, 10_000)
    full = loading.load(infos["roberta"])
    batch = full.info.collate([[0] + [9] * 58 + [2]])
    words = full.info.label_words(["yes", "no"])
    assert full.label_scores(torch.zeros(4, 32), batch, words).isfinite().all()
    with pytest.raises((IndexError, RuntimeError)):
        full.label_scores(torch.zeros(5, 32), batch, words)


SENTENCE = "one of the best films of the year , and a joy from start to end"


def respoilt(info: BackboneInfo, folder: Path, name: str = "tokenizer.json", **changes: Any) -> BackboneInfo:
    """The same model with other settings in its tokenizer's files."""
    shutil.copytree(info.folder, folder)
    content = json.loads((folder / name).read_text())
    for key, value in changes.items():
        where = content["model"] if key in content.get("model", {}) else content
        where[key] = value
    (folder / name).write_text(json.dumps(content))
    return describe(str(folder))


@pytest.mark.parametrize("name", ["roberta", "t5"])
def test_a_tokenizer_that_drops_merges_is_read_as_a_function(
    infos: dict[str, BackboneInfo], name: str, tmp_path: Path
) -> None:
    info = respoilt(infos[name], tmp_path / name, dropout=0.5)
    want = infos[name].encode([(SENTENCE,)], 64)
    assert all(info.encode([(SENTENCE,)], 64) == want for _ in range(20))
    assert {info.label_words(tiny_models.WORDS).ids for _ in range(20)} == {
        infos[name].label_words(tiny_models.WORDS).ids
    }


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("tokenizer_config.json", {"truncation_side": "left", "padding_side": "left"}),
        ("tokenizer_config.json", {"model_max_length": 5}),
        ("tokenizer_config.json", {"split_special_tokens": True}),
        (
            "tokenizer.json",
            {"truncation": {"direction": "Left", "max_length": 4, "strategy": "OnlyFirst", "stride": 0}},
        ),
        (
            "tokenizer.json",
            {
                "padding": {
                    "strategy": {"Fixed": 40},
                    "direction": "Left",
                    "pad_to_multiple_of": None,
                    "pad_id": 1,
                    "pad_type_id": 0,
                    "pad_token": "<pad>",
                }
            },
        ),
    ],
)
def test_stored_settings_of_a_tokenizer_change_no_ids(
    infos: dict[str, BackboneInfo], name: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    whole = infos["t5"]
    info = respoilt(whole, tmp_path / "t5", name, **changes)
    rows = [(SENTENCE,), ("dull",), *tiny_models.PAIRS, (Segment.of("{a} <mask> {b}", {"a": "dull", "b": "thin"}),)]
    assert info.frame == whole.frame
    assert info.label_words(tiny_models.WORDS) == whole.label_words(tiny_models.WORDS)
    for limit in (8, 64):
        assert info.encode(rows, limit) == whole.encode(rows, limit)
    (cut,) = info.encode([(SENTENCE,)], 8)
    assert cut == [*plain(whole, SENTENCE)[:7], *whole.frame.end]
    assert info.collate([[5, 6], [7]]).attention_mask.tolist() == [[1, 1], [1, 0]]


def test_a_tokenizer_that_samples_in_its_own_library_is_refused() -> None:
    tokenizer = transformers.ByT5Tokenizer()
    tokenizer.sp_model_kwargs = {"enable_sampling": True, "nbest_size": -1, "alpha": 0.1}
    with pytest.raises(InputError, match="in one way; got enable_sampling"):
        tokenization.steady(tokenizer)


def test_a_first_piece_that_is_a_bare_space_is_no_label_word(infos: dict[str, BackboneInfo]) -> None:
    info = infos["t5"]
    assert info.tokenizer.convert_ids_to_tokens(plain(info, "qyes"))[0] == "▁"
    with pytest.raises(InputError, match="more than a space for t5; got 'qyes'"):
        info.label_words(["yes", {"word": "qyes", "piece": "first"}])


def unparsed(info: BackboneInfo, text: str) -> list[int]:
    """Ids by a pipeline that was never told of special tokens."""
    pipeline = json.loads(info.tokenizer.backend_tokenizer.to_str())
    return Tokenizer.from_str(json.dumps({**pipeline, "added_tokens": []})).encode(text, add_special_tokens=False).ids


WRITTEN = ("<mask>", "a </s> film", "<s>dull<pad>", "the plot <unk> thin", "</s></s>", "  <mask>  ", "x<mask")


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("text", WRITTEN)
def test_special_tokens_in_a_text_are_text(infos: dict[str, BackboneInfo], name: str, text: str) -> None:
    info = infos[name]
    (row,) = info.encode([(text,)], 64)
    begin, end = info.frame.begin, info.frame.end
    assert row == [*begin, *unparsed(info, text), *end]
    special = set(info.tokenizer.all_special_ids) - {info.tokenizer.unk_token_id}
    assert not special & set(row[len(begin) : len(row) - len(end)])
    assert info.encode([("dull", text)], 64)[0][-len(unparsed(info, text)) - len(end) :] == [
        *unparsed(info, text),
        *end,
    ]


@pytest.mark.parametrize("name", FRAMES)
def test_a_template_writes_special_tokens_and_a_row_does_not(infos: dict[str, BackboneInfo], name: str) -> None:
    info = infos[name]
    template, joined = "{a} <mask> {b}</s>", "the plot <mask> is thin</s>"
    meant = info.encode([(Segment.of(template, {"a": "the plot", "b": "is thin"}),)], 64)[0]
    inner = meant[len(info.frame.begin) : len(meant) - len(info.frame.end)]
    assert inner == plain(info, joined)
    mask, end = info.tokenizer.mask_token_id, info.tokenizer.convert_tokens_to_ids("</s>")
    assert (inner.count(mask), inner.count(end)) == (1, 1)
    both = Segment.of(template, {"a": "the <mask>", "b": "is </s> thin"})
    (mixed,) = info.encode([(both,)], 64)
    inner = mixed[len(info.frame.begin) : len(mixed) - len(info.frame.end)]
    assert (inner.count(mask), inner.count(end)) == (1, 1)
    # a mask eats no space here, so what stands around it is written as it would be alone
    at = inner.index(mask)
    assert inner[:at] == unparsed(info, "the <mask> ")
    assert inner[-1] == end


def test_a_special_token_of_template_and_text_together_is_text(infos: dict[str, BackboneInfo]) -> None:
    info = infos["roberta"]
    (row,) = info.encode([(Segment.of("<ma{a}", {"a": "sk>"}),)], 64)
    assert row == [*info.frame.begin, *unparsed(info, "<mask>"), *info.frame.end]


def test_a_unigram_vocabulary_that_holds_its_special_tokens(tmp_path: Path) -> None:
    """As T5's does: with score 0, so that a model which reads the characters prefers them."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("<extra_id_0>", 0.0), ("\u2581", -2.0)]
    pieces += [(character, -3.0) for character in "abcdefghijklmnopqrstuvwxyz</>_0"]
    pipeline = Tokenizer(models.Unigram(pieces, 2))
    pipeline.pre_tokenizer = pre_tokenizers.Metaspace()
    pipeline.add_special_tokens(["<pad>", "</s>", "<unk>", "<extra_id_0>"])
    named = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=pipeline, **named)
    frame = tokenization.Frame((), (1,), (1,))
    segment = Segment.of("{a} <extra_id_0> {b}", {"a": "a <extra_id_0>", "b": "b</s>"})
    (ids,) = tokenization.encode(tokenizer, frame, [(segment,)], 64)
    assert (ids.count(3), ids.count(1)) == (1, 1)
    assert ids.index(3) == len("_a_<extra_id_0>_")
    written = "".join(tokenizer.convert_ids_to_tokens(ids)).replace("\u2581", " ")
    assert written.split() == ["a", "<extra_id_0>", "<extra_id_0>", "b</s></s>"]


def test_a_tokenizer_without_a_pipeline_of_its_own() -> None:
    tokenizer = transformers.ByT5Tokenizer()
    frame = tokenization.Frame((), (1,), (1,))
    segment = Segment.of("{a}<extra_id_0>{b}", {"a": "x</s>", "b": ""})
    rows = tokenization.encode(tokenizer, frame, [(segment,), ("<pad>",), ("x y",)], 64)
    letters = [[ord(letter) + 3 for letter in text] for text in ("x</s>", "<pad>", "x y")]
    sentinel = tokenizer.convert_tokens_to_ids("<extra_id_0>")
    assert rows == [[*letters[0], sentinel, 1], [*letters[1], 1], [*letters[2], 1]]


def test_a_text_may_use_the_marks_that_tell_templates_from_texts(infos: dict[str, BackboneInfo]) -> None:
    info, text = infos["roberta"], "\ue000<mask> \ue000\ue000</s>"
    (row,) = info.encode([(text,)], 64)
    assert row == [*info.frame.begin, *unparsed(info, text), *info.frame.end]


@pytest.mark.parametrize("name", FRAMES)
def test_texts_of_nothing_have_a_position_to_read(infos: dict[str, BackboneInfo], name: str) -> None:
    info = infos[name]
    rows = info.encode([("",), (" ",), ("\n\t ",), ("<pad>",), ("</s>",), ("", ""), (" ", "<mask>")], 16)
    assert min(map(len, rows)) >= 1
    assert info.collate(rows).attention_mask.sum() == sum(map(len, rows))
