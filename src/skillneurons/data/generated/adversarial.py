"""Adversarial versions of built-in tasks: what a test row says stays, how it says it changes.

Four kinds of change, each of which keeps the label by construction. All kinds attack the same clean rows as
far as they can be applied to them, so that kinds can be compared row by row.
"""

import random
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from skillneurons.data.generated.grammar import Domain, Row, Rows, Splits, generate, pick, shuffled, with_article

METHODS = ("misspelling", "rare_synonym", "distracting_clause", "negation_twist")
ROWS_PER_METHOD = 250
LEAST_LETTERS = 4  # shorter words cannot be misspelled and still be told
MOST_MISSPELLED = 2


class Attackable(Domain):
    """A task whose test rows can be attacked.

    Attributes:
        attacked: method -> the field it changes.
    """

    attacked: ClassVar[Mapping[str, str]]

    @property
    @abstractmethod
    def targets(self) -> frozenset[str]:
        """The content words that may be misspelled."""

    @property
    @abstractmethod
    def rare(self) -> Mapping[str, str]:
        """Common word -> rare word of the same meaning in these texts."""

    @abstractmethod
    def distract(self, row: Row, rng: random.Random) -> str:
        """The attacked field's text with a clause that decides nothing."""

    @abstractmethod
    def twist(self, row: Row, rng: random.Random) -> str:
        """The attacked field's text with the same meaning, by way of a negation."""

    def changed(self, method: str, row: Row, rng: random.Random) -> str:
        """The new text of the attacked field; the old one where the method finds nothing to change."""
        text = str(row[self.attacked[method]])
        if method == "misspelling":
            return misspelled(text, self.targets, rng)
        if method == "rare_synonym":
            return with_rare_words(text, self.rare)
        return (self.distract if method == "distracting_clause" else self.twist)(row, rng)


def adversarial(name: str, seed: str, domain: Attackable) -> Splits:
    """Attacked rows, ROWS_PER_METHOD a method, half of each label: the role test alone.

    A row is a clean test row of the same name and seed with one field's text changed, its hidden factors, and

    - `method`: one of METHODS;
    - `original`: field -> clean text, for the changed field.
    """
    rows = generate(name, seed, domain)["test"]
    rng = random.Random(f"adversarial {name} {seed}")
    order = shuffled(rows, rng)
    found: dict[tuple[object, ...], Row] = {}
    for method in METHODS:
        _attack(order, method, domain, rng, found)
    return {"test": shuffled(list(found.values()), rng)}


def misspelled(text: str, targets: frozenset[str], rng: random.Random) -> str:
    """The text with up to MOST_MISSPELLED of its target words misspelled, the first letter kept."""
    words = text.split()
    places = [i for i, word in enumerate(words) if word in targets and len(word) >= LEAST_LETTERS]
    for i in shuffled(places, rng)[:MOST_MISSPELLED]:
        words[i] = _misspelled_word(words[i], targets, rng)
    return " ".join(words)


def with_rare_words(text: str, synonyms: Mapping[str, str]) -> str:
    """The text with every word that has a rare synonym replaced, articles put right."""
    words = text.split()
    for i, word in enumerate(words):
        if word in synonyms:
            words[i] = synonyms[word]
            if i and words[i - 1] in ("a", "an"):
                words[i - 1] = with_article(words[i]).split()[0]
    return " ".join(words)


def _attack(
    order: Rows, method: str, domain: Attackable, rng: random.Random, found: dict[tuple[object, ...], Row]
) -> None:
    """Adds one method's rows to those found, in the order of the clean rows."""
    labels = sorted({str(row["label"]) for row in order})
    room = dict.fromkeys(labels, ROWS_PER_METHOD // len(labels))
    field = domain.attacked[method]
    for clean in order:
        text, label = domain.changed(method, clean, rng), str(clean["label"])
        row = {**clean, field: text, "method": method, "original": {field: clean[field]}}
        key = tuple(row[name] for name in domain.fields)
        if room[label] and text != clean[field] and key not in found:
            room[label] -= 1
            found[key] = row


def _misspelled_word(word: str, known: frozenset[str], rng: random.Random) -> str:
    """A letter left out, doubled or swapped with the next one, and no known word."""
    while True:
        i = 1 + int(rng.random() * (len(word) - 2))
        wrong = pick((word[:i] + word[i + 1 :], word[:i] + word[i] + word[i:], _swapped(word, i)), rng)
        if wrong != word and wrong not in known:
            return wrong


def _swapped(word: str, i: int) -> str:
    return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
