"""Labelled rows as texts with one gap: drawn once, rendered for each family."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from skillneurons.pretrain.corpus.tokenizer import BEGIN, END, FIRST_SENTINEL, FIRST_WORD, MASK
from skillneurons.pretrain.corpus.tokens import TokenCorpus
from skillneurons.pretrain.objectives import Ids
from skillneurons.pretrain.recipe import FormRecipe, TaskRecipe

Encode = Callable[[str], list[int]]
NO_POSITION = 1
FIRST_POSITION = 2
LONGEST = 112
_FIELDS = re.compile(r"(\{gap\}|\{a\}|\{b\}|\{sep\})")


@dataclass(frozen=True)
class Example:
    """A labelled row as both families get it.

    Attributes:
        form: the phrasing, compiled.
        first, second: tokens of the row's texts, windowed.
        noise: random words that stand before the text, in the place of a prompt.
        word: id of the word that fills the gap.
    """

    form: "Form"
    first: Ids
    second: Ids
    noise: Ids
    word: int

    @property
    def tokens(self) -> int:
        """Tokens of text, the same for both families."""
        return len(self.first) + len(self.second)


@dataclass(frozen=True)
class Form:
    """A phrasing with its words as ids; a piece is ids or the name of a field."""

    lead: tuple[int, ...] | None
    body: tuple[str | tuple[int, ...], ...]
    t5_lead: tuple[int, ...] | None
    t5_body: tuple[str | tuple[int, ...], ...]
    words: tuple[int | None, ...]
    weight: float


@dataclass(frozen=True)
class MaskedRow:
    """For the masked LM: ids and position ids `[T]` and where the gap is."""

    ids: list[int]
    positions: list[int]
    gap: int


def compile_form(recipe: FormRecipe, encode: Encode) -> Form:
    """A phrasing as ids."""
    lead, body = _compile(recipe.text, encode)
    t5_lead, t5_body = _compile(recipe.t5 or recipe.text, encode)
    words = tuple(None if word is None else encode(word)[0] for word in recipe.words)
    return Form(lead, body, t5_lead, t5_body, words, recipe.weight)


class Clozes:
    """Draws examples of one task."""

    def __init__(self, corpus: TokenCorpus, dataset: str, recipe: TaskRecipe, encode: Encode, enders: Ids) -> None:
        self._corpus, self._recipe, self._enders = corpus, recipe, enders
        self.forms = [compile_form(form, encode) for form in recipe.forms]
        self.rows = {held: self._usable(corpus.rows_of(dataset, held)) for held in (False, True)}

    @cached_property
    def mean_tokens(self) -> float:
        """About how many tokens a row has."""
        if self._recipe.window:
            return sum(self._recipe.window) / 2
        rng, none = np.random.default_rng(0), np.zeros(0, np.int64)
        rows = self.rows[False][rng.integers(len(self.rows[False]), size=200)]
        texts = [self._example(int(row), self.forms[0], None, none, None).tokens for row in rows]
        return max(1.0, float(np.mean(texts)))

    def draw(self, rng: np.random.Generator, noise_share: float, noise_words: int, vocabulary: int) -> Example:
        """An example of a row trained on: row, form, piece of text and noise drawn."""
        row = int(self.rows[False][rng.integers(len(self.rows[False]))])
        label = int(self._corpus.label[row])
        able = [form for form in self.forms if form.words[label] is not None]
        weights = np.array([form.weight for form in able])
        form = able[int(rng.choice(len(able), p=weights / weights.sum()))]
        noise = np.zeros(0, np.int64)
        if form.lead is not None and rng.random() < noise_share:
            noise = rng.integers(FIRST_WORD, vocabulary, int(rng.integers(1, noise_words + 1)))
        return self._example(row, form, label, noise, rng)

    def measured(self, most: int) -> list[Example]:
        """Held-out rows in the first form, without noise and from the start of a text."""
        form = self.forms[0]
        # files may be sorted by label
        shuffled = np.random.default_rng(0).permutation(self.rows[True])
        rows = [int(row) for row in shuffled if form.words[self._corpus.label[row]] is not None][:most]
        none = np.zeros(0, np.int64)
        return [self._example(row, form, int(self._corpus.label[row]), none, None) for row in rows]

    def _usable(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        labels = range(max(len(form.words) for form in self.forms))
        able = [y for y in labels if any(y < len(f.words) and f.words[y] is not None for f in self.forms)]
        return rows[np.isin(self._corpus.label[rows], able)]

    def _example(
        self, row: int, form: Form, label: int | None, noise: Ids, rng: np.random.Generator | None
    ) -> Example:
        first = self._corpus.text(int(self._corpus.first[row])).astype(np.int64)
        number = int(self._corpus.second[row])
        second = self._corpus.text(number).astype(np.int64) if number >= 0 else np.zeros(0, np.int64)
        if self._recipe.window and rng is not None:
            first = window(first, self._recipe.window, self._enders, rng)
        first, second = fit(first, second, LONGEST)
        word = None if label is None else form.words[label]
        return Example(form, first, second, noise, -1 if word is None else word)


def window(ids: Ids, sizes: tuple[int, int], enders: Ids, rng: np.random.Generator) -> Ids:
    """A piece of a text that starts with a sentence: of drawn size, cut after a sentence where it can be."""
    size = int(rng.integers(sizes[0], sizes[1] + 1))
    if len(ids) <= size:
        return ids
    starts = np.concatenate([[0], np.flatnonzero(np.isin(ids, enders)) + 1])
    starts = starts[starts <= len(ids) - sizes[0]]
    start = int(starts[rng.integers(len(starts))])
    piece = ids[start : start + size]
    ends = np.flatnonzero(np.isin(piece, enders)) + 1
    ends = ends[ends >= sizes[0]]
    return piece[: int(ends[-1])] if len(ends) else piece


def fit(first: Ids, second: Ids, room: int) -> tuple[Ids, Ids]:
    """Two texts cut to `room` tokens together, the longer one first."""
    keep_first = max(room - len(second), min(len(first), room - room // 2))
    keep_second = max(room - len(first), room // 2)
    return first[:keep_first], second[:keep_second]


def for_masked_lm(example: Example, before: int, from_position: int = 0) -> MaskedRow:
    """A row for the masked LM.

    Where the gap leads, mask, lead and noise have no position, as prompt positions have none, and the
    text starts at the position it has after a prompt of `before` vectors (at least those that are there).
    """
    form = example.form
    text = [BEGIN, *_fill(form.body, example, [MASK], [END]), END]
    if form.lead is None:
        start = FIRST_POSITION + from_position
        return MaskedRow(text, list(range(start, start + len(text))), text.index(MASK))
    prompt = [MASK, *form.lead, *example.noise.tolist()]
    start = FIRST_POSITION + max(before, len(prompt))
    positions = [NO_POSITION] * len(prompt) + list(range(start, start + len(text)))
    return MaskedRow([*prompt, *text], positions, 0)


def for_encoder_decoder(example: Example) -> tuple[list[int], list[int]]:
    """Source and target: where the gap leads the target is the word itself, else the word after its sentinel."""
    form = example.form
    text = [*_fill(form.t5_body, example, [FIRST_SENTINEL], [END]), END]
    if form.t5_lead is None:
        return text, [FIRST_SENTINEL, example.word, FIRST_SENTINEL + 1, END]
    return [*form.t5_lead, *example.noise.tolist(), *text], [example.word, END]


def compile_tasks(
    corpus: TokenCorpus, tasks: Mapping[str, TaskRecipe], encode: Encode, enders: Ids
) -> dict[str, Clozes]:
    """The tasks by name."""
    return {name: Clozes(corpus, name, task, encode, enders) for name, task in tasks.items()}


def _compile(text: str, encode: Encode) -> tuple[tuple[int, ...] | None, tuple[str | tuple[int, ...], ...]]:
    lead: tuple[int, ...] | None = None
    if "|" in text:
        before, text = text.split("|")
        lead = tuple(_ids(before.replace("{gap}", ""), encode))
    pieces = [piece.strip() for piece in _FIELDS.split(text) if piece.strip()]
    return lead, tuple(piece if _FIELDS.fullmatch(piece) else tuple(_ids(piece, encode)) for piece in pieces)


def _ids(text: str, encode: Encode) -> list[int]:
    return encode(text.strip()) if text.strip() else []


def _fill(body: Sequence[str | tuple[int, ...]], example: Example, gap: list[int], separator: list[int]) -> list[int]:
    fields = {"{gap}": gap, "{sep}": separator, "{a}": example.first.tolist(), "{b}": example.second.tolist()}
    return [i for piece in body for i in (fields[piece] if isinstance(piece, str) else piece)]
