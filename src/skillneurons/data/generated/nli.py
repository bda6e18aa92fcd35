"""Built-in entailment: what is in a house, what is on a street.

Premise and hypothesis speak of things of a kind at a place: that there is one or none, how many there are,
what all, some or none of them are like. Whether the one follows from the other is decided by kind (an apple
is a fruit), quantifier, number, opposite or negation. Every change that keeps the truth stands beside one
with the same words that does not. A number is meant exactly.
"""

import random
from collections.abc import Mapping
from typing import ClassVar

from skillneurons.data.generated.adversarial import METHODS, Attackable
from skillneurons.data.generated.grammar import (
    LONG_SHARE,
    Case,
    Filling,
    Pools,
    Row,
    Words,
    factors,
    negated,
    pick,
    plural,
    with_article,
)

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
Scene = Mapping[str, str]  # what one row is about: a noun of a kind at a place, and what it could be taken for


class Statement(Words):
    """What a sentence says: a key of the templates, and which words of the scene it says it with."""

    say: str
    of: str = "noun"
    state: str = "state"
    at: str = "at"


class World(Attackable):
    """Pairs with `hypothesis`, `premise`, `label` (not_entailment or entailment) and the factors.

    The splits share no pair of noun and place. Attacked is the hypothesis, or a clause put before the premise.

    Attributes:
        forms: cause -> premise and hypothesis.
        templates: what is said -> texts that say it.
        twists: other ways to state a hypothesis {text}.
        kinds: kind -> the nouns that are of it; no noun is of two kinds.
        places: where things can be.
        at: the preposition before a place.
        opposites: pairs of states of which only one can hold.
        settings: put before a premise, they say nothing about what follows.
        distractions: the same, longer and about other things.
        synonyms: common word -> rare word of the same meaning here.
    """

    family = "nli"
    fields = ("hypothesis", "premise")
    attacked: ClassVar[Mapping[str, str]] = {**dict.fromkeys(METHODS, "hypothesis"), "distracting_clause": "premise"}

    forms: Mapping[str, tuple[Statement, Statement]]
    templates: Mapping[str, tuple[str, ...]]
    twists: tuple[str, ...]
    kinds: Mapping[str, tuple[str, ...]]
    places: tuple[str, ...]
    at: str
    opposites: tuple[tuple[str, str], ...]
    settings: tuple[str, ...]
    distractions: tuple[str, ...]
    synonyms: Mapping[str, str]

    @property
    def _nouns(self) -> list[str]:
        return [noun for members in self.kinds.values() for noun in members]

    @property
    def targets(self) -> frozenset[str]:
        """Every noun and place."""
        nouns = {word for noun in self._nouns for word in (noun, plural(noun))}
        return frozenset(nouns | {word for place in self.places for word in place.split()})

    @property
    def rare(self) -> Mapping[str, str]:
        """The synonyms."""
        return self.synonyms

    @property
    def pools(self) -> Pools:
        """Every pair of noun and place."""
        return {"things": [(noun, place) for noun in self._nouns for place in self.places]}

    def row(self, pools: Pools, case: Case, rng: random.Random) -> Row:
        """A premise and a hypothesis."""
        label, cause = case
        filling = pick(pools["things"], rng)
        scene = self._scene(filling, rng)
        (premise, first), (hypothesis, second) = self._stated(cause, scene, rng)
        if long := rng.random() < LONG_SHARE:
            premise = pick(self.settings, rng) + premise
        known = factors(
            cause=cause,
            negation=negated(f"{premise} {hypothesis}"),
            topic=scene["kind"],
            long=long,
            template=f"{first}, {second}",
            fillings=[filling],
        )
        return {"hypothesis": f"{hypothesis} .", "premise": f"{premise} .", "label": label, **known}

    def twist(self, row: Row, rng: random.Random) -> str:
        """The hypothesis, stated another way."""
        return pick(self.twists, rng).format(text=row["hypothesis"])

    def distract(self, row: Row, rng: random.Random) -> str:
        """The premise behind a sentence about something else."""
        return f"{pick(self.distractions, rng)} {row['premise']}"

    def _scene(self, filling: Filling, rng: random.Random) -> Scene:
        noun, place = filling
        [kind] = [kind for kind, members in self.kinds.items() if noun in members]
        states = pick(self.opposites, rng)
        state, opposite = states if rng.random() < 0.5 else states[::-1]
        other_kind = pick([other for other in self.kinds if other != kind], rng)
        elsewhere = pick([other for other in self.places if other != place], rng)
        return {
            "noun": noun,
            "kind": kind,
            "other_kind": other_kind,
            "at": f"{self.at} the {place}",
            "elsewhere": f"{self.at} the {elsewhere}",
            "state": state,
            "opposite": opposite,
        }

    def _stated(self, cause: str, scene: Scene, rng: random.Random) -> tuple[tuple[str, str], tuple[str, str]]:
        """Premise and hypothesis, each a sentence and the name of its template."""
        first, second = self.forms[cause]
        number, bound = _numbers(cause == "number within", rng) if cause.startswith("number") else ("", "")
        premise = hypothesis = self._said(first, scene, number, rng)
        while hypothesis == premise:
            hypothesis = self._said(second, scene, bound, rng)
        return premise, hypothesis

    def _said(self, what: Statement, scene: Scene, number: str, rng: random.Random) -> tuple[str, str]:
        i = int(rng.random() * len(self.templates[what.say]))
        noun, state = scene[what.of], scene[what.state]
        text = self.templates[what.say][i].format(
            noun=noun,
            nouns=noun if number.endswith("one") else plural(noun),
            a_noun=with_article(noun),
            at=scene[what.at],
            state=state,
            a_state=with_article(state),
            number=number,
        )
        return text.replace("there are more than one", "there is more than one"), f"{what.say} {i}"


def _numbers(holds: bool, rng: random.Random) -> tuple[str, str]:
    """A number, and a bound that it keeps or breaks."""
    number, above = 3 + int(rng.random() * 5), rng.random() < 0.5
    step = int(rng.random() * 2) + holds
    bound = number - step if above == holds else number + step
    return NUMBERS[number - 1], f"{'more' if above else 'fewer'} than {NUMBERS[bound - 1]}"
