"""Tasks the project generates itself, so that everything can be tried without a download.

A generator takes a seed and returns the rows of train, dev and test. It draws from `random.Random.random`
only, whose sequence Python promises to keep for a seed, so the rows are the same bytes everywhere.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

Rows = list[dict[str, object]]
Pair = tuple[str, str, str, str]  # polarity, topic, noun, quality
T = TypeVar("T")

TOPICS: Mapping[str, tuple[str, ...]] = {
    "story": ("plot", "ending", "opening", "dialogue", "script", "premise"),
    "people": ("cast", "lead actor", "villain", "narrator", "heroine", "ensemble"),
    "sound": ("music", "score", "title song", "sound design", "voice work", "choir"),
    "picture": ("camera work", "lighting", "editing", "scenery", "costume design", "animation"),
}
QUALITIES: Mapping[str, tuple[str, ...]] = {
    "positive": (
        *("superb", "charming", "gripping", "clever", "delightful", "brilliant"),
        *("graceful", "lively", "memorable", "polished", "inspired", "wonderful"),
    ),
    "negative": (
        *("dull", "clumsy", "tedious", "stale", "dreary", "awkward"),
        *("bland", "shallow", "hollow", "lifeless", "sloppy", "dreadful"),
    ),
}
PLAIN = (
    "the {noun} is {quality}",
    "i found the {noun} {quality}",
    "here the {noun} was {quality}",
    "the {noun} felt {quality} to me",
    "everyone called the {noun} {quality}",
    "what this film has is {article} {quality} {noun}",
)
NEGATED = (
    "the {noun} is not {quality}",
    "the {noun} is never {quality}",
    "i did not find the {noun} {quality}",
    "the {noun} is far from {quality}",
    "nobody could call the {noun} {quality}",
    "this is hardly {article} {quality} {noun}",
)
# Neutral on purpose: they lengthen a note and say nothing about the film.
SETTINGS = (
    "we saw it on a tuesday and {note}",
    "after the long queue outside , {note}",
    "{note} , as i told my sister on the bus",
    "it runs for two hours and {note}",
    "{note} , and the credits list forty names",
    "my neighbour lent me the disc and {note}",
)
SHARES: Mapping[str, float] = {"train": 0.7, "dev": 0.15, "test": 0.15}
NOTES_PER_COMBINATION = 3
NEGATED_SHARE = 0.3
LONG_SHARE = 0.4


def film_notes(seed: str) -> dict[str, Rows]:
    """Short notes on films, whose sentiment is known because it was put there.

    A note praises or blames one aspect of a film; a negation turns the quality word's polarity round, so
    that looking words up is right only for the notes without one. The splits share no pair of aspect and
    quality word: each pair, with all its notes, belongs to one role.

    Args:
        seed: Any text; the same text gives the same rows.

    Returns:
        role -> rows with `text`, `label` (negative or positive) and the hidden factors `polarity` (of the
        quality word), `negation`, `topic` and `length` (short or long).
    """
    rng = random.Random(f"film_notes {seed}")
    pairs: dict[str, list[Pair]] = {role: [] for role in SHARES}
    for polarity in QUALITIES:  # divided within each polarity, so that every role is balanced
        for role, part in _divide(_pairs(polarity), rng).items():
            pairs[role] += part
    return {role: _shuffled([row for p in part for row in _notes(*p, rng)], rng) for role, part in pairs.items()}


def _pairs(polarity: str) -> list[Pair]:
    """Every pair of one polarity."""
    return [
        (polarity, topic, noun, quality)
        for topic, nouns in TOPICS.items()
        for noun in nouns
        for quality in QUALITIES[polarity]
    ]


def _divide(items: Sequence[T], rng: random.Random) -> dict[str, list[T]]:
    """The items in random order, cut into roles by SHARES; the last role takes what rounding leaves."""
    rest, roles = _shuffled(items, rng), {}
    *first, last = SHARES
    for role in first:
        size = round(len(items) * SHARES[role])
        roles[role], rest = rest[:size], rest[size:]
    return {**roles, last: rest}


def _notes(polarity: str, topic: str, noun: str, quality: str, rng: random.Random) -> Rows:
    """Distinct notes on one pair of noun and quality."""
    notes: dict[str, dict[str, object]] = {}
    while len(notes) < NOTES_PER_COMBINATION:
        negated, long = rng.random() < NEGATED_SHARE, rng.random() < LONG_SHARE
        text = _pick(NEGATED if negated else PLAIN, rng).format(
            noun=noun, quality=quality, article="an" if quality[0] in "aeiou" else "a"
        )
        if long:
            text = _pick(SETTINGS, rng).format(note=text)
        notes[text] = {
            "text": f"{text} .",
            "label": _opposite(polarity) if negated else polarity,
            "polarity": polarity,
            "negation": negated,
            "topic": topic,
            "length": "long" if long else "short",
        }
    return list(notes.values())


def _opposite(polarity: str) -> str:
    return "negative" if polarity == "positive" else "positive"


def _pick(items: Sequence[T], rng: random.Random) -> T:
    return items[int(rng.random() * len(items))]


def _shuffled(items: Sequence[T], rng: random.Random) -> list[T]:
    keys = [rng.random() for _ in items]
    return [items[i] for i in sorted(range(len(items)), key=keys.__getitem__)]


GENERATORS: Mapping[str, Callable[[str], dict[str, Rows]]] = {"film_notes": film_notes}
