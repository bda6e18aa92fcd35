"""Built-in sentiment: short notes that praise or blame one aspect of a film or of a meal.

A negation turns the quality word's polarity round in a few notes and leaves it as it is in others: looking words
up is nearly enough, and the adversarial version asks for more. The quality words of meals belong to topics;
those of films go with every aspect and are common in film reviews.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from skillneurons.builtin_adversarial import Adversary, adversarial
from skillneurons.grammar import LONG_SHARE, Case, Filling, Pools, Row, Splits, factors, generate, pick, with_article

POLARITIES = ("negative", "positive")
Qualities = Mapping[str, str]  # a quality word and its rare synonym
# 84% without a negation, 6% turned by one, 10% with a negation that turns nothing: reading words alone
# cannot be right on more than 94%, and a small backbone that reads words well still clears 90%
CASES: tuple[Case, ...] = tuple(
    (label, kind) for kind, n in (("plain", 42), ("turned", 3), ("kept", 5)) for label in POLARITIES for _ in range(n)
)
TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "plain": (
        "the {noun} is {quality}",
        "i found the {noun} {quality}",
        "here the {noun} was {quality}",
        "the {noun} felt {quality} to me",
        "everyone called the {noun} {quality}",
        "what we got was {a_quality} {noun}",
        "the {noun} was really {quality}",
        "with such {a_quality} {noun} it is easy to decide",
    ),
    "turned": (
        "the {noun} is not {quality}",
        "the {noun} is never {quality}",
        "i did not find the {noun} {quality}",
        "the {noun} is far from {quality}",
        "nobody could call the {noun} {quality}",
        "this is hardly {a_quality} {noun}",
    ),
    "kept": (
        "i have never seen a more {quality} {noun}",
        "nothing else was as {quality} as the {noun}",
        "without any doubt the {noun} is {quality}",
        "not once did the {noun} stop being {quality}",
    ),
}
TWISTS: Mapping[str, tuple[str, ...]] = {  # none of them is among the templates
    "turned": (
        "the {noun} is anything but {quality}",
        "by no means is the {noun} {quality}",
        "there is nothing {quality} about the {noun}",
        "at no moment did the {noun} seem {quality}",
    ),
    "kept": (
        "there is no denying that the {noun} is {quality}",
        "nobody can claim that the {noun} is not {quality}",
        "it would not be wrong to call the {noun} {quality}",
        "i cannot deny that the {noun} is {quality}",
    ),
}
# About things outside the film or the meal, in a word of the other polarity.
DISTRACTIONS: Mapping[str, tuple[str, ...]] = {
    "negative": (
        "my holiday last year was wonderful , but {note}",
        "although the bus driver was charming , {note}",
        "my new shoes are excellent , while {note}",
        "{note} , even if the weather that day was perfect",
    ),
    "positive": (
        "my visit to the dentist was terrible , but {note}",
        "although the bus driver was awful , {note}",
        "my new shoes are dreadful , while {note}",
        "{note} , even if the weather that day was horrible",
    ),
}


@dataclass(frozen=True)
class Notes:
    """One domain's words.

    Attributes:
        nouns: topic -> the aspects a note can be about.
        qualities: polarity -> quality words for every aspect, each with a rare synonym.
        topical: topic -> polarity -> quality words for that topic alone.
        settings: neutral on purpose: they lengthen a note and say nothing about its subject.
    """

    nouns: Mapping[str, tuple[str, ...]]
    qualities: Mapping[str, Qualities]
    topical: Mapping[str, Mapping[str, Qualities]]
    settings: tuple[str, ...]

    def words(self, topic: str, polarity: str) -> dict[str, str]:
        """The quality words that fit a topic, with their rare synonyms."""
        return {**self.qualities[polarity], **self.topical.get(topic, {}).get(polarity, {})}

    @property
    def synonyms(self) -> dict[str, str]:
        """Every quality word with its rare synonym."""
        return {w: rare for topic in self.nouns for p in POLARITIES for w, rare in self.words(topic, p).items()}


def sentiment(name: str, domain: Notes, seed: str) -> Splits:
    """Notes with `text`, `label` (negative or positive), the factors and `polarity`, the quality word's own."""
    pools = {polarity: _fillings(domain, polarity) for polarity in POLARITIES}

    def write(pools: Pools, case: Case, rng: random.Random) -> Row:
        return _note(domain, pools, case, rng)

    return generate(name, seed, ("text",), pools, CASES, write)


def adversarial_sentiment(name: str, domain: Notes, seed: str) -> Splits:
    """Test notes of `sentiment`, attacked; a twist says the same with a negation no template has."""

    def twist(row: Row, rng: random.Random) -> str:
        kind, number = str(row["template"]).split()
        note = _filled(TEMPLATES[kind][int(number)], str(row["filling"]))
        twisted = pick(TWISTS["turned" if kind == "turned" else "kept"], rng)
        return str(row["text"]).replace(note, _filled(twisted, str(row["filling"])))

    def distract(row: Row, rng: random.Random) -> str:
        return pick(DISTRACTIONS[str(row["label"])], rng).format(note=str(row["text"])[:-2]) + " ."

    rare = domain.synonyms
    adversary = Adversary(
        texts=("text",),
        fields=dict.fromkeys(("misspelling", "rare_synonym", "distracting_clause", "negation_twist"), "text"),
        targets=frozenset(rare),
        synonyms=rare,
        distract=distract,
        twist=twist,
    )
    return adversarial(name, seed, sentiment(name, domain, seed)["test"], adversary)


def opposite(polarity: str) -> str:
    """The other polarity."""
    return POLARITIES[1 - POLARITIES.index(polarity)]


def _fillings(domain: Notes, polarity: str) -> list[Filling]:
    topics = domain.nouns.items()
    return [(noun, word) for topic, nouns in topics for noun in nouns for word in domain.words(topic, polarity)]


def _note(domain: Notes, pools: Pools, case: Case, rng: random.Random) -> Row:
    label, kind = case
    polarity = opposite(label) if kind == "turned" else label
    filling = pick(pools[polarity], rng)
    number = int(rng.random() * len(TEMPLATES[kind]))
    text = _filled(TEMPLATES[kind][number], " / ".join(filling))
    if long := rng.random() < LONG_SHARE:
        text = pick(domain.settings, rng).format(note=text)
    [topic] = [topic for topic, nouns in domain.nouns.items() if filling[0] in nouns]
    known = factors(
        cause=f"{polarity} word {kind}",
        negation=kind != "plain",
        topic=topic,
        long=long,
        template=f"{kind} {number}",
        fillings=[filling],
    )
    return {"text": f"{text} .", "label": label, "polarity": polarity, **known}


def _filled(template: str, filling: str) -> str:
    noun, quality = filling.split(" / ")
    return template.format(noun=noun, quality=quality, a_quality=with_article(quality))
