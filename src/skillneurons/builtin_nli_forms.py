"""What premises and hypotheses of the built-in entailment tasks say, and in which words.

A form makes a premise and a hypothesis about one scene. Whether the one follows from the other belongs to the
form, not to the scene or the words.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from skillneurons.grammar import plural, with_article

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
EXISTS = (
    "there is {a_noun} {at}",
    "{a_noun} is {at}",
    "somewhere {at} there is {a_noun}",
    "{at} there is {a_noun}",
)
NONE = (
    "there is no {noun} {at}",
    "no {noun} is {at}",
    "there is not any {noun} {at}",
    "{at} there is not a single {noun}",
)
ALL = ("all the {nouns} {at} are {state}", "every {noun} {at} is {state}")
SOME = ("some {nouns} {at} are {state}", "a few {nouns} {at} are {state}")
NO_SUCH = ("none of the {nouns} {at} are {state}", "no {noun} {at} is {state}")
IS = ("the {noun} {at} is {state}", "the {noun} that is {at} is {state}")
IS_NOT = ("the {noun} {at} is not {state}", "it is not true that the {noun} {at} is {state}")
SUCH = ("there is {a_state} {noun} {at}", "somewhere {at} there is {a_state} {noun}")
COUNT = ("there are {number} {nouns} {at}", "altogether there are {number} {nouns} {at}")
TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "exists": EXISTS,
    "none": NONE,
    "all": ALL,
    "some": SOME,
    "no such": NO_SUCH,
    "is": IS,
    "is not": IS_NOT,
    "such": SUCH,
    "count": COUNT,
}


@dataclass(frozen=True)
class Scene:
    """What one row is about: a noun of a kind at a place, and what it could be taken for."""

    noun: str
    kind: str
    other_kind: str
    at: str
    elsewhere: str
    state: str
    opposite: str


Said = tuple[str, str]  # a sentence and the name of its template
Form = Callable[[Scene, random.Random], tuple[Said, Said]]  # premise and hypothesis


def _say(form: str, rng: random.Random, noun: str, at: str, state: str = "", number: str = "") -> Said:
    """A sentence of one of TEMPLATES' forms."""
    i = int(rng.random() * len(TEMPLATES[form]))
    text = TEMPLATES[form][i].format(
        noun=noun,
        nouns=noun if number.endswith("one") else plural(noun),
        a_noun=with_article(noun),
        at=at,
        state=state,
        a_state=with_article(state) if state else "",
        number=number,
    )
    return text.replace("there are more than one", "there is more than one"), f"{form} {i}"


def _both(first: str, nouns: tuple[str, str], second: str, states: str = "same") -> Form:
    """A form from attributes of the scene: what premise and hypothesis say, about which noun, in which state."""

    def form(scene: Scene, rng: random.Random) -> tuple[Said, Said]:
        one, two = (getattr(scene, noun) for noun in nouns)
        state = scene.opposite if states == "opposite" else scene.state
        return _say(first, rng, one, scene.at, scene.state), _say(second, rng, two, scene.at, state)

    return form


def _said_again(scene: Scene, rng: random.Random) -> tuple[Said, Said]:
    premise = hypothesis = _say("exists", rng, scene.noun, scene.at)
    while hypothesis == premise:
        hypothesis = _say("exists", rng, scene.noun, scene.at)
    return premise, hypothesis


def _elsewhere(scene: Scene, rng: random.Random) -> tuple[Said, Said]:
    return _say("exists", rng, scene.noun, scene.at), _say("exists", rng, scene.kind, scene.elsewhere)


def _numbers(holds: bool) -> Form:
    """A number, and a bound that it keeps or breaks."""

    def form(scene: Scene, rng: random.Random) -> tuple[Said, Said]:
        number, above = 3 + int(rng.random() * 5), rng.random() < 0.5
        step = int(rng.random() * 2) + holds
        bound = number - step if above == holds else number + step
        words = f"{'more' if above else 'fewer'} than {NUMBERS[bound - 1]}"
        premise = _say("count", rng, scene.noun, scene.at, number=NUMBERS[number - 1])
        return premise, _say("count", rng, scene.noun, scene.at, number=words)

    return form


SAME, UP, DOWN, OTHER = ("noun", "noun"), ("noun", "kind"), ("kind", "noun"), ("noun", "other_kind")
FORMS: Mapping[str, Form] = {
    "is a kind of": _both("exists", UP, "exists"),
    "said again": _said_again,
    "none of the kind": _both("none", DOWN, "none"),
    "all, so some": _both("all", SAME, "some"),
    "all of the kind": _both("all", DOWN, "all"),
    "number within": _numbers(True),
    "not the opposite": _both("is", SAME, "is not", "opposite"),
    "such a kind": _both("such", UP, "such"),
    "some, and of the kind": _both("some", UP, "some"),
    "none such of the kind": _both("no such", DOWN, "no such"),
    "all, and not the opposite": _both("all", SAME, "some", "opposite"),
    "maybe another of the kind": _both("exists", DOWN, "exists"),
    "another place": _elsewhere,
    "another kind": _both("exists", OTHER, "exists"),
    "others of the kind": _both("none", UP, "none"),
    "there is one": _both("exists", UP, "none"),
    "some, not all": _both("some", SAME, "all"),
    "none, not some": _both("no such", SAME, "some"),
    "number beyond": _numbers(False),
    "the opposite": _both("is", SAME, "is", "opposite"),
    "it is": _both("is", SAME, "is not"),
    "maybe another such": _both("such", DOWN, "such"),
}
