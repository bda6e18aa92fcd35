"""Adversarial versions of built-in tasks: what a test row says stays, how it says it changes.

Four kinds of change, each of which keeps the label by construction. All kinds attack the same clean rows as
far as they can be applied to them, so that kinds can be compared row by row.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from skillneurons.grammar import Row, Rows, Splits, pick, shuffled, with_article

METHODS = ("misspelling", "rare_synonym", "distracting_clause", "negation_twist")
ROWS_PER_METHOD = 250
LEAST_LETTERS = 4  # shorter words cannot be misspelled and still be told
MOST_MISSPELLED = 2
Change = Callable[[Row, random.Random], str]


@dataclass(frozen=True, kw_only=True)
class Adversary:
    """How the rows of one task are attacked.

    Attributes:
        texts: the task's fields, whose texts tell rows apart.
        fields: method -> the field it changes.
        targets: the content words that may be misspelled.
        synonyms: common word -> rare word of the same meaning in these texts.
        distract: the changed field's text with a clause that decides nothing.
        twist: the changed field's text with the same meaning, by way of a negation.
    """

    texts: tuple[str, ...]
    fields: Mapping[str, str]
    targets: frozenset[str]
    synonyms: Mapping[str, str]
    distract: Change
    twist: Change

    def changed(self, method: str, row: Row, rng: random.Random) -> str:
        """The new text of the attacked field; the old one where the method finds nothing to change."""
        text = str(row[self.fields[method]])
        if method == "misspelling":
            return misspelled(text, self.targets, rng)
        if method == "rare_synonym":
            return with_rare_words(text, self.synonyms)
        return (self.distract if method == "distracting_clause" else self.twist)(row, rng)


def adversarial(name: str, seed: str, rows: Rows, adversary: Adversary) -> Splits:
    """Attacked rows, ROWS_PER_METHOD a method, half of each label.

    A row is its clean row with one field's text changed, the hidden factors of the clean row, and

    - `method`: one of METHODS;
    - `original`: field -> clean text, for the changed field.

    Args:
        name: The clean task's name.
        seed: That of the clean task.
        rows: The clean test rows.
        adversary: How they are attacked.

    Returns:
        The role test alone.
    """
    rng = random.Random(f"adversarial {name} {seed}")
    order = shuffled(rows, rng)
    found: dict[tuple[object, ...], Row] = {}
    for method in METHODS:
        _attack(order, method, adversary, rng, found)
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
    order: Rows, method: str, adversary: Adversary, rng: random.Random, found: dict[tuple[object, ...], Row]
) -> None:
    """Adds one method's rows to those found, in the order of the clean rows."""
    labels = sorted({str(row["label"]) for row in order})
    room = dict.fromkeys(labels, ROWS_PER_METHOD // len(labels))
    field = adversary.fields[method]
    for clean in order:
        text, label = adversary.changed(method, clean, rng), str(clean["label"])
        row = {**clean, field: text, "method": method, "original": {field: clean[field]}}
        key = tuple(row[name] for name in adversary.texts)
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
