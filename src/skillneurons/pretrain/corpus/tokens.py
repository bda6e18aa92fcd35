"""A corpus as 16-bit token ids: tokenised once, kept on disk, cut into pieces of text and labelled rows."""

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from skillneurons.pretrain.corpus.texts import Corpus
from skillneurons.pretrain.corpus.tokenizer import END
from skillneurons.storage import write_atomically

Ids = NDArray[np.uint16]
ARRAYS = ("ids", "starts", "dataset", "first", "second", "label", "held_out")


@dataclass(frozen=True)
class TokenCorpus:
    """Distinct texts and the rows that name them.

    Attributes:
        ids: the tokens of all texts, end to end.
        starts: `[texts + 1]`, where each text starts in `ids`.
        dataset, first, second, label, held_out: `[rows]`; `first` and `second` number texts, -1 is none.
        datasets: names of the data sets.
    """

    ids: Ids
    starts: NDArray[np.int64]
    dataset: NDArray[np.int16]
    first: NDArray[np.int32]
    second: NDArray[np.int32]
    label: NDArray[np.int16]
    held_out: NDArray[np.bool_]
    datasets: tuple[str, ...]

    def text(self, number: int) -> Ids:
        """The tokens of one text."""
        return self.ids[self.starts[number] : self.starts[number + 1]]

    def rows_of(self, dataset: str, held_out: bool) -> NDArray[np.int64]:
        """Row numbers of a data set, those trained on or those held out."""
        index = self.datasets.index(dataset)
        return np.flatnonzero((self.dataset == index) & (self.held_out == held_out))

    @cached_property
    def training_stream(self) -> Ids:
        """Every distinct text of the rows trained on, once, each ended by `</s>`."""
        return self._stream(~self._held_texts)

    @cached_property
    def held_out_stream(self) -> Ids:
        """Every distinct text of the held-out rows, likewise."""
        return self._stream(self._held_texts)

    @property
    def _held_texts(self) -> NDArray[np.bool_]:
        held = np.zeros(len(self.starts) - 1, dtype=np.bool_)
        held[self.first[self.held_out]] = True
        seconds = self.second[self.held_out]
        held[seconds[seconds >= 0]] = True
        return held

    def _stream(self, chosen: NDArray[np.bool_]) -> Ids:
        end = np.array([END], np.uint16)
        pieces = [piece for number in np.flatnonzero(chosen) for piece in (self.text(int(number)), end)]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.uint16)


def tokenise(corpus: Corpus, tokenizer: Tokenizer) -> TokenCorpus:
    """The token ids of a corpus; a text that several rows hold is kept once."""
    numbers: dict[str, int] = {}
    for row in corpus.rows:
        for text in (row.first, row.second):
            if text is not None:
                numbers.setdefault(text, len(numbers))
    encoded = _texts_alone(tokenizer, list(numbers))
    lengths = np.array([len(ids) for ids in encoded], dtype=np.int64)
    return TokenCorpus(
        np.concatenate([np.asarray(ids, dtype=np.uint16) for ids in encoded]),
        np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        np.array([row.dataset for row in corpus.rows], np.int16),
        np.array([numbers[row.first] for row in corpus.rows], np.int32),
        np.array([-1 if row.second is None else numbers[row.second] for row in corpus.rows], np.int32),
        np.array([row.label for row in corpus.rows], np.int16),
        np.array([row.held_out for row in corpus.rows], np.bool_),
        corpus.datasets,
    )


def _texts_alone(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """The ids of texts in which a special token's characters are characters."""
    was, tokenizer.encode_special_tokens = tokenizer.encode_special_tokens, True
    try:
        return [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    finally:
        tokenizer.encode_special_tokens = was


def save(corpus: TokenCorpus, file: Path) -> None:
    """Write a corpus whole or not at all."""
    buffer = io.BytesIO()
    arrays = {name: getattr(corpus, name) for name in ARRAYS}
    np.savez(buffer, allow_pickle=False, datasets=np.array(corpus.datasets), **arrays)
    write_atomically(file, buffer.getvalue())


def load(file: Path) -> TokenCorpus:
    """Read what `save` wrote."""
    with np.load(file, allow_pickle=False) as arrays:
        names = tuple(str(name) for name in arrays["datasets"])
        return TokenCorpus(**{name: arrays[name] for name in ARRAYS}, datasets=names)
