"""Texts to ids and label words to ids, on tokenizers of every kind."""

from pathlib import Path

import pytest
import torch

import tiny_models
from skillneurons.backbone import BackboneInfo
from skillneurons.errors import InputError
from skillneurons.loading import describe

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
    full = infos["roberta"].load()
    batch = full.info.collate([[0] + [9] * 58 + [2]])
    words = full.info.label_words(["yes", "no"])
    assert full.label_scores(torch.zeros(4, 32), batch, words).isfinite().all()
    with pytest.raises((IndexError, RuntimeError)):
        full.label_scores(torch.zeros(5, 32), batch, words)
