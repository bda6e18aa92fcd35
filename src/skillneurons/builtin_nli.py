"""Built-in entailment: what is in a house, what is on a street.

Premise and hypothesis speak of things of a kind at a place: that there is one or none, how many there are,
what all, some or none of them are like. Whether the one follows from the other is decided by kind (an apple
is a fruit), quantifier, number, opposite or negation. Every change that keeps the truth stands beside one
with the same words that does not. A number is meant exactly.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from skillneurons.builtin_adversarial import Adversary, adversarial
from skillneurons.builtin_nli_forms import FORMS, Scene
from skillneurons.grammar import (
    LONG_SHARE,
    Case,
    Filling,
    Pools,
    Row,
    Splits,
    factors,
    generate,
    negated,
    pick,
    plural,
)

NO, YES = "not_entailment", "entailment"
CASES: tuple[Case, ...] = (
    *[(YES, "is a kind of")] * 3,
    *[(NO, "maybe another of the kind")] * 2,
    *[(YES, "number within")] * 2,
    *[(NO, "number beyond")] * 2,
    *[(YES, "not the opposite")] * 2,
    (NO, "it is"),
    (NO, "the opposite"),
    (YES, "said again"),
    (NO, "another place"),
    (NO, "another kind"),
    (NO, "there is one"),
    (YES, "none of the kind"),
    (NO, "others of the kind"),
    (YES, "all, so some"),
    (NO, "all, and not the opposite"),
    (YES, "all of the kind"),
    (YES, "some, and of the kind"),
    (NO, "some, not all"),
    (YES, "none such of the kind"),
    (NO, "none, not some"),
    (YES, "such a kind"),
    (NO, "maybe another such"),
)
TWISTS = (
    "nobody can deny that {text}",
    "there is no doubt that {text}",
    "it is not wrong to say that {text}",
    "it is not false that {text}",
)


@dataclass(frozen=True)
class World:
    """One domain's words.

    Attributes:
        kinds: kind -> the nouns that are of it; no noun is of two kinds.
        places: where things can be.
        at: the preposition before a place.
        opposites: pairs of states of which only one can hold.
        settings: put before a premise, they say nothing about what follows.
        distractions: the same, longer and about other things.
        synonyms: common word -> rare word of the same meaning here.
    """

    kinds: Mapping[str, tuple[str, ...]]
    places: tuple[str, ...]
    at: str
    opposites: tuple[tuple[str, str], ...]
    settings: tuple[str, ...]
    distractions: tuple[str, ...]
    synonyms: Mapping[str, str]


def entailment(name: str, domain: World, seed: str) -> Splits:
    """Pairs with `hypothesis`, `premise`, `label` (not_entailment or entailment) and the factors.

    The splits share no pair of noun and place.
    """
    nouns = [noun for members in domain.kinds.values() for noun in members]
    pools = {"things": [(noun, place) for noun in nouns for place in domain.places]}

    def write(pools: Pools, case: Case, rng: random.Random) -> Row:
        return _pair(domain, pools, case, rng)

    return generate(name, seed, ("hypothesis", "premise"), pools, CASES, write)


def adversarial_entailment(name: str, domain: World, seed: str) -> Splits:
    """Test pairs of `entailment`: a clause before the premise, or another way to state the hypothesis."""

    def twist(row: Row, rng: random.Random) -> str:
        return pick(TWISTS, rng).format(text=row["hypothesis"])

    def distract(row: Row, rng: random.Random) -> str:
        return f"{pick(domain.distractions, rng)} {row['premise']}"

    targets = {word for members in domain.kinds.values() for noun in members for word in (noun, plural(noun))}
    fields = {"misspelling": "hypothesis", "rare_synonym": "hypothesis", "negation_twist": "hypothesis"}
    adversary = Adversary(
        texts=("hypothesis", "premise"),
        fields={**fields, "distracting_clause": "premise"},
        targets=frozenset(targets | {word for place in domain.places for word in place.split()}),
        synonyms=domain.synonyms,
        distract=distract,
        twist=twist,
    )
    return adversarial(name, seed, entailment(name, domain, seed)["test"], adversary)


def _pair(domain: World, pools: Pools, case: Case, rng: random.Random) -> Row:
    label, cause = case
    filling = pick(pools["things"], rng)
    scene = _scene(domain, filling, rng)
    premise, hypothesis = FORMS[cause](scene, rng)
    if long := rng.random() < LONG_SHARE:
        premise = (pick(domain.settings, rng) + premise[0], premise[1])
    known = factors(
        cause=cause,
        negation=negated(f"{premise[0]} {hypothesis[0]}"),
        topic=scene.kind,
        long=long,
        template=f"{premise[1]}, {hypothesis[1]}",
        fillings=[filling],
    )
    return {"hypothesis": f"{hypothesis[0]} .", "premise": f"{premise[0]} .", "label": label, **known}


def _scene(domain: World, filling: Filling, rng: random.Random) -> Scene:
    noun, place = filling
    [kind] = [kind for kind, members in domain.kinds.items() if noun in members]
    states = pick(domain.opposites, rng)
    states = states if rng.random() < 0.5 else states[::-1]
    return Scene(
        noun=noun,
        kind=kind,
        other_kind=pick([other for other in domain.kinds if other != kind], rng),
        at=f"{domain.at} the {place}",
        elsewhere=f"{domain.at} the {pick([other for other in domain.places if other != place], rng)}",
        state=states[0],
        opposite=states[1],
    )
