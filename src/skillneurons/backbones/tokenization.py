"""What a backbone asks of its tokenizer: texts to ids, batches, label words to ids."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from skillneurons.backbones.special_tokens import segment_ids, text_ids
from skillneurons.errors import InputError

Family = Literal["masked_lm", "encoder_decoder", "decoder_only"]

# The form natural where the label is read comes first: a decoder-only model continues a text.
FORMS = {
    "masked_lm": ("{}", " {}"),
    "encoder_decoder": ("{}", " {}"),
    "decoder_only": (" {}", "{}"),
}


@dataclass(frozen=True)
class LabelWords:
    """The label words of a task as one tokenizer has them; index = label.

    Attributes:
        words: the words as the task names them.
        ids: one vocabulary id a word, all different.
        pieces: the token used for each word as the tokenizer writes it, e.g. `Ġnegative`.
    """

    words: tuple[str, ...]
    ids: tuple[int, ...]
    pieces: tuple[str, ...]


@dataclass(frozen=True)
class TextBatch:
    """Texts without a prompt, padded on the right.

    Attributes:
        input_ids: int64 `[B, T]`, special tokens included.
        attention_mask: int64 `[B, T]`, ones and then zeros in every row.
    """

    input_ids: Tensor
    attention_mask: Tensor

    def to(self, device: str | torch.device) -> "TextBatch":
        """The same batch on another device."""
        return TextBatch(self.input_ids.to(device), self.attention_mask.to(device))


@dataclass(frozen=True)
class Frame:
    """The ids a tokenizer puts before a text, between two texts and after them."""

    begin: tuple[int, ...]
    middle: tuple[int, ...]
    end: tuple[int, ...]


def frame_of(tokenizer: Any, family: Family) -> Frame:
    """The special tokens of one family, read off the tokenizer's own encodings.

    A masked LM separates two texts by one separator even where its tokenizer writes two (RoBERTa:
    `<s> a </s> b </s>`, as the published prompts were tuned). A decoder-only text never ends in EOS,
    and a line break stands between two texts.
    """
    begin, _, end = _split_by_specials(tokenizer, "a")
    if family == "decoder_only":
        line_break = _plain(tokenizer, "\n")
        return Frame(begin, () if tokenizer.unk_token_id in line_break else tuple(line_break), ())
    _, middle, _ = _split_by_specials(tokenizer, "a", "a")
    if family == "masked_lm" and len(middle) == 2 and middle[0] == middle[1]:
        middle = middle[:1]
    return Frame(begin, middle, end)


def encode(tokenizer: Any, frame: Frame, texts: Sequence[tuple[str, ...]], max_length: int) -> list[list[int]]:
    """Token ids of rows of one or two segments, special tokens included, the longest segment cut first.

    A special token that a task's template writes has its meaning. The same characters in a row's text,
    and in a plain `str`, are text.

    Raises:
        InputError: `max_length` leaves no room for text.
    """
    flat = [segment for row in texts for segment in row]
    if not flat:
        return []
    room = max_length - len(frame.begin) - len(frame.middle) - len(frame.end)
    if room < 2:
        must = f"max_length leaves room for text beside {max_length - room} special tokens"
        raise InputError(must, f"max_length={max_length}", "Raise max_length.")
    ids = iter(segment_ids(tokenizer, flat))
    rows = [_framed(frame, [next(ids) for _ in row], max_length) for row in texts]
    # a decoder without BOS gives an empty text no position at all to read from
    filler = next((i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None), 0)
    return [row or [filler] for row in rows]


def collate(tokenizer: Any, rows: Sequence[Sequence[int]]) -> TextBatch:
    """Rows of token ids as one right-padded batch `[B, T]`."""
    candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    pad = next(i for i in candidates if i is not None)
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    width = int(lengths.max()) if len(rows) else 0
    padded = [[*row, *[pad] * (width - len(row))] for row in rows]
    ids = torch.tensor(padded, dtype=torch.int64).reshape(len(rows), width)
    return TextBatch(ids, (torch.arange(width) < lengths[:, None]).long())


def label_words(tokenizer: Any, family: Family, entries: Sequence[str | Mapping[str, Any]], model: str) -> LabelWords:
    """Resolve label words to one vocabulary id each, the same form (leading space or not) for all.

    An entry `{word: entailment, piece: first}` names a word of several tokens and takes its first, as
    the published prompts do.

    Raises:
        InputError: a word is not exactly one known token, two words share an id, or a first piece is a bare space.
    """
    named = [_entry(entry) for entry in entries]
    forms = FORMS[family]
    form = next((form for form in forms if _all_single(tokenizer, form, named)), None)
    if form is None:
        raise _not_one_token(tokenizer, forms, named, model)
    found = [(word, _plain(tokenizer, form.format(word))) for word, _ in named]
    known = [(word, ids[0]) for word, ids in found if ids and ids[0] != tokenizer.unk_token_id]
    _check_distinct([word for word, _ in named], known, model)
    _check_visible(tokenizer, known, model)
    ids = tuple(i for _, i in known)
    return LabelWords(tuple(word for word, _ in known), ids, tuple(tokenizer.convert_ids_to_tokens(list(ids))))


def steady(tokenizer: Any) -> Any:
    """The tokenizer as a function: merges are never dropped at random.

    Raises:
        InputError: it samples in a library of its own.
    """
    if not tokenizer.is_fast and (getattr(tokenizer, "sp_model_kwargs", None) or {}).get("enable_sampling"):
        must, do = "a tokenizer writes a text in one way", "Take it out of tokenizer_config.json."
        raise InputError(must, "enable_sampling in its sp_model_kwargs", do)
    model: Any = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    if getattr(model, "dropout", None) is not None:
        model.dropout = None
    return tokenizer


def _plain(tokenizer: Any, text: str) -> list[int]:
    return text_ids(tokenizer, [text], split_special_tokens=False)[0]


def _split_by_specials(tokenizer: Any, *segments: str) -> tuple[tuple[int, ...], ...]:
    encoded = tokenizer(*segments, return_special_tokens_mask=True)
    ids, special = encoded["input_ids"], encoded["special_tokens_mask"]
    text = [i for i, flag in enumerate(special) if not flag]
    if not text:
        return tuple(ids), (), ()
    inner = tuple(ids[i] for i in range(text[0], text[-1]) if special[i])
    return tuple(ids[: text[0]]), inner, tuple(ids[text[-1] + 1 :])


def _framed(frame: Frame, segments: list[list[int]], max_length: int) -> list[int]:
    middle = frame.middle if len(segments) == 2 else ()
    room = max_length - len(frame.begin) - len(middle) - len(frame.end)
    if len(segments) == 1:
        return [*frame.begin, *segments[0][:room], *frame.end]
    a, b = segments
    # the longer one gives way until both fit
    keep_a = max(room - len(b), min(len(a), room - room // 2))
    keep_b = max(room - len(a), room // 2)
    return [*frame.begin, *a[:keep_a], *middle, *b[:keep_b], *frame.end]


def _entry(entry: str | Mapping[str, Any]) -> tuple[str, bool]:
    """A label word and whether its first piece alone is meant."""
    if isinstance(entry, str):
        return entry, False
    if set(entry) != {"word", "piece"} or entry["piece"] != "first":
        must = "a label word is a string or {word: ..., piece: first}"
        raise InputError(must, str(dict(entry)), "Mend the task's label_words.")
    return str(entry["word"]), True


def _all_single(tokenizer: Any, form: str, named: Iterable[tuple[str, bool]]) -> bool:
    words = [_plain(tokenizer, form.format(word)) for word, first in named if not first]
    return all(len(ids) == 1 and ids[0] != tokenizer.unk_token_id for ids in words)


def _not_one_token(tokenizer: Any, forms: Sequence[str], named: list[tuple[str, bool]], model: str) -> InputError:
    word = next(w for w, first in named if not first and not _all_single(tokenizer, forms[0], [(w, False)]))
    pieces = [tokenizer.convert_ids_to_tokens(_plain(tokenizer, form.format(word))) for form in forms]
    return InputError(
        f"each label word is exactly one token of {model}, all with or all without a leading space",
        f"{word!r} = " + " or ".join(" + ".join(map(str, p)) or "nothing" for p in pieces),
        f"Choose another word in the task's label_words, or take its first piece: {{word: {word}, piece: first}}.",
    )


def _check_distinct(words: list[str], known: list[tuple[str, int]], model: str) -> None:
    lost = [word for word in words if word not in {w for w, _ in known}]
    if lost:
        must = f"each label word is known to the tokenizer of {model}"
        raise InputError(must, repr(lost[0]), "Choose another word in the task's label_words.")
    ids = [i for _, i in known]
    if len(set(ids)) < len(ids):
        clash = [word for word, i in known if ids.count(i) > 1]
        must = f"the label words are different tokens of {model}"
        raise InputError(must, " and ".join(map(repr, clash)), "Choose words that differ in their token.")


def _check_visible(tokenizer: Any, known: list[tuple[str, int]], model: str) -> None:
    for word, token in known:
        if not tokenizer.decode([token]).strip():
            must, got = (
                f"the first piece of a label word is more than a space for {model}",
                f"{word!r} begins with one",
            )
            raise InputError(must, got, "Choose another word in the task's label_words.")
