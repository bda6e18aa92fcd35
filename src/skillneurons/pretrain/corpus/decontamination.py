"""Texts that must stay unseen, and whether another text repeats one of them or a long run of its words."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

RUN = 13
_WORD = re.compile(r"\w+|[^\w\s]")
# odd multiplier: every word of a run keeps its full weight modulo 2**64
_MULTIPLIER = np.uint64(6_364_136_223_846_793_005)

Hashes = NDArray[np.uint64]


def normalised(text: str) -> str:
    """Lower-cased words and punctuation marks with one space between them: spacing no longer counts.

    Characters are composed (Unicode NFC) first: a mark that stands by itself would part a word.
    """
    return " ".join(_WORD.findall(unicodedata.normalize("NFC", text).lower()))


class Unseen:
    """Texts no trained-on text may repeat: not as a whole, nor a run of 13 words of one (as for GPT-3)."""

    def __init__(self, texts: Iterable[str], run: int = RUN) -> None:
        self._run = run
        self._ids: dict[str, int] = {}
        whole = {normalised(text) for text in texts}
        self._whole = whole - {""}
        runs = [self._hashes(text) for text in self._whole]
        self._runs: Hashes = np.unique(np.concatenate(runs)) if runs else np.zeros(0, np.uint64)

    def __len__(self) -> int:
        return len(self._whole)

    def why(self, text: str) -> str | None:
        """`same` if the text is one of these, `run` if it shares a run of words with one, else None."""
        plain = normalised(text)
        if plain in self._whole:
            return "same"
        hashes = self._hashes(plain)
        if len(hashes) == 0 or len(self._runs) == 0:
            return None
        found = np.searchsorted(self._runs, hashes)
        hit = self._runs[np.minimum(found, len(self._runs) - 1)] == hashes
        return "run" if bool(hit.any()) else None

    def _hashes(self, plain: str) -> Hashes:
        words = [word for word in plain.split() if word[0].isalnum()]
        return _rolling([self._ids.setdefault(word, len(self._ids)) for word in words], self._run)


def _rolling(ids: Sequence[int], run: int) -> Hashes:
    """A 64-bit hash of every run of `run` ids."""
    count = len(ids) - run + 1
    if count < 1:
        return np.zeros(0, np.uint64)
    # word numbers are scrambled first, else small numbers would collide
    words = _scrambled(np.asarray(ids, dtype=np.uint64))
    total = np.zeros(count, np.uint64)
    for offset in range(run):
        total = total * _MULTIPLIER + words[offset : offset + count]
    return total


def _scrambled(values: Hashes) -> Hashes:
    values = (values + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
