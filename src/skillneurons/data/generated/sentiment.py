"""Built-in sentiment: short notes that praise or blame one aspect of a film or of a meal.

A negation turns the quality word's polarity round in a few notes and leaves it as it is in others: looking words
up is nearly enough, and the adversarial version asks for more. The quality words of meals belong to topics;
those of films go with every aspect and are common in film reviews.
"""

import random
from collections.abc import Mapping
from functools import cached_property

from skillneurons.data.generated.adversarial import METHODS, Attackable
from skillneurons.data.generated.grammar import LONG_SHARE, Case, Pools, Row, factors, pick, with_article

POLARITIES = ("negative", "positive")
Qualities = Mapping[str, str]  # a quality word and its rare synonym


class Notes(Attackable):
    """Notes with `text`, `label` (negative or positive), the factors and `polarity`, the quality word's own.

    Attributes:
        templates: what a negation does -> sentence frames.
        twists: the same, for twists, which say the same with a negation that no template has.
        distractions: label -> clauses around a note.
        nouns: topic -> the aspects a note can be about.
        qualities: polarity -> quality words for every aspect, each with a rare synonym.
        topical: topic -> polarity -> quality words for that topic alone.
        settings: neutral on purpose: they lengthen a note and say nothing about its subject.
    """

    family = "sentiment"
    fields = ("text",)
    attacked = dict.fromkeys(METHODS, "text")

    templates: Mapping[str, tuple[str, ...]]
    twists: Mapping[str, tuple[str, ...]]
    distractions: Mapping[str, tuple[str, ...]]
    nouns: Mapping[str, tuple[str, ...]]
    qualities: Mapping[str, Qualities]
    topical: Mapping[str, Mapping[str, Qualities]]
    settings: tuple[str, ...]

    def words(self, topic: str, polarity: str) -> dict[str, str]:
        """The quality words that fit a topic, with their rare synonyms."""
        return {**self.qualities[polarity], **self.topical.get(topic, {}).get(polarity, {})}

    @cached_property
    def rare(self) -> Mapping[str, str]:
        """Every quality word with its rare synonym."""
        return {w: rare for topic in self.nouns for p in POLARITIES for w, rare in self.words(topic, p).items()}

    @property
    def targets(self) -> frozenset[str]:
        """Every quality word."""
        return frozenset(self.rare)

    @property
    def pools(self) -> Pools:
        """Polarity -> pairs of noun and quality word."""
        aspects = [(topic, noun) for topic, nouns in self.nouns.items() for noun in nouns]
        return {p: [(noun, word) for topic, noun in aspects for word in self.words(topic, p)] for p in POLARITIES}

    def row(self, pools: Pools, case: Case, rng: random.Random) -> Row:
        """A note."""
        label, kind = case
        polarity = opposite(label) if kind == "turned" else label
        filling = pick(pools[polarity], rng)
        number = int(rng.random() * len(self.templates[kind]))
        text = _filled(self.templates[kind][number], " / ".join(filling))
        if long := rng.random() < LONG_SHARE:
            text = pick(self.settings, rng).format(note=text)
        [topic] = [topic for topic, nouns in self.nouns.items() if filling[0] in nouns]
        known = factors(
            cause=f"{polarity} word {kind}",
            negation=kind != "plain",
            topic=topic,
            long=long,
            template=f"{kind} {number}",
            fillings=[filling],
        )
        return {"text": f"{text} .", "label": label, "polarity": polarity, **known}

    def twist(self, row: Row, rng: random.Random) -> str:
        """The note, its sentence in another frame."""
        kind, number = str(row["template"]).split()
        note = _filled(self.templates[kind][int(number)], str(row["filling"]))
        twisted = pick(self.twists["turned" if kind == "turned" else "kept"], rng)
        return str(row["text"]).replace(note, _filled(twisted, str(row["filling"])))

    def distract(self, row: Row, rng: random.Random) -> str:
        """The note beside a word of the other polarity about something else."""
        return pick(self.distractions[str(row["label"])], rng).format(note=str(row["text"])[:-2]) + " ."


def opposite(polarity: str) -> str:
    """The other polarity."""
    return POLARITIES[1 - POLARITIES.index(polarity)]


def _filled(template: str, filling: str) -> str:
    noun, quality = filling.split(" / ")
    return template.format(noun=noun, quality=quality, a_quality=with_article(quality))
