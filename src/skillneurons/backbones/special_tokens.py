"""Special tokens in texts: what a template writes is meant, what a row writes is text."""

import json
import re
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer

from skillneurons.data.tasks import Segment


def segment_ids(tokenizer: Any, segments: Sequence[str]) -> list[list[int]]:
    """The ids of segments without a frame, uncut: framing cuts them, on one side for every tokenizer.

    A special token that the template of a segment writes has its meaning. The same characters in a row's
    text, and in a plain `str`, are text.
    """
    special = _any_of(_special_tokens(tokenizer))
    found = text_ids(tokenizer, segments, split_special_tokens=False)
    written = [len(_written(special, segment)) for segment in segments]
    if mixed := [i for i, text in enumerate(segments) if len(special.findall(text)) != written[i]]:
        read = _respelled if tokenizer.is_fast else _in_stretches
        for i, ids in zip(mixed, read(tokenizer, special, [segments[i] for i in mixed]), strict=True):
            found[i] = ids
    return found


def text_ids(tokenizer: Any, texts: Sequence[str], *, split_special_tokens: bool) -> list[list[int]]:
    """The ids of texts without a frame, uncut and unpadded, whatever the tokenizer's files say."""
    given = {"add_special_tokens": False, "truncation": False, "padding": False, "verbose": False}
    found: list[list[int]] = tokenizer(list(texts), split_special_tokens=split_special_tokens, **given)["input_ids"]
    return found


def _special_tokens(tokenizer: Any) -> set[str]:
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return (added | set(tokenizer.all_special_tokens)) - {""}


def _any_of(texts: set[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or "(?!)")


def _written(special: re.Pattern[str], segment: str) -> list[str]:
    """The special tokens that the template of a segment writes."""
    return [token for literal, _ in _parts(segment) for token in special.findall(literal)]


def _parts(segment: str) -> tuple[tuple[str, str], ...]:
    return segment.parts if isinstance(segment, Segment) else (("", segment),)


def _respelled(tokenizer: Any, special: re.Pattern[str], segments: Sequence[str]) -> list[list[int]]:
    """Ids by a copy of the tokenizer whose special tokens are spelled as no text is.

    Only the templates use that spelling. To leave special tokens unparsed would not do: a unigram model
    has them in its vocabulary and finds them in the text by itself.
    """
    mark = "\ue000"
    while any(mark in segment for segment in segments):
        mark += "\ue000"
    pipeline = json.loads(tokenizer.backend_tokenizer.to_str())
    _respell(pipeline, _special_tokens(tokenizer), mark)
    copy = Tokenizer.from_str(json.dumps(pipeline))
    texts = [
        "".join(special.sub(lambda token: f"{mark}{token[0]}", literal) + text for literal, text in _parts(segment))
        for segment in segments
    ]
    return [encoding.ids for encoding in copy.encode_batch(texts, add_special_tokens=False)]


def _respell(pipeline: dict[str, Any], special: set[str], mark: str) -> None:
    """Put a mark before each special token, wherever a tokenizer's JSON names it."""
    named = {text: f"{mark}{text}" for text in special}
    model = pipeline["model"]
    for token in pipeline["added_tokens"]:
        if token["content"] in named:
            token.update(content=named[token["content"]], normalized=False)
    if isinstance(model["vocab"], dict):
        model["vocab"] = {named.get(text, text): i for text, i in model["vocab"].items()}
    else:
        model["vocab"] = [[named.get(text, text), score] for text, score in model["vocab"]]
    if "merges" in model:
        model["merges"] = [pair for pair in model["merges"] if not {*pair, "".join(pair)} & special]
    if model.get("unk_token") is not None:
        model["unk_token"] = named.get(model["unk_token"], model["unk_token"])
    pipeline.update(post_processor=None, truncation=None, padding=None)


def _in_stretches(tokenizer: Any, special: re.Pattern[str], segments: Sequence[str]) -> list[list[int]]:
    """Ids by a tokenizer written in Python, which reads the stretches between special tokens one by one."""
    return [_stretches(tokenizer, special, segment) for segment in segments]


def _stretches(tokenizer: Any, special: re.Pattern[str], segment: str) -> list[int]:
    tokens, texts = _written(special, segment), [""]
    for literal, text in _parts(segment):
        first, *rest = special.split(literal)
        texts[-1] += first
        texts += rest
        texts[-1] += text
    encoded = text_ids(tokenizer, texts, split_special_tokens=True)
    between = [[], *([i] for i in tokenizer.convert_tokens_to_ids(tokens))]
    return [i for token, ids in zip(between, encoded, strict=True) for i in (*token, *ids)]
