"""Built-in paraphrase: pairs of questions on travel, pairs of requests in an office.

A text states an intent about a giver and a receiver (a place to leave and one to reach; a colleague who acts
and one it is done for) and a third thing. Two texts are paraphrases when all four agree. Pairs that are none
swap the two, change one word, or ask something else about the same things; half the wordings name the two in
the other order, so neither shared words nor their order tell the label.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from skillneurons.builtin_adversarial import Adversary, adversarial
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
    pick_two,
)

FALSE, TRUE = "not_paraphrase", "paraphrase"
# label, what the second text does, whether both have one wording; four in ten have, whatever the label
CASES: tuple[Case, ...] = (
    *[(TRUE, "same", "one")] * 4,
    *[(TRUE, "same", "two")] * 6,
    *[(FALSE, "swapped", "one")] * 1,
    *[(FALSE, "name", "one")] * 2,
    *[(FALSE, "thing", "one")] * 1,
    *[(FALSE, "swapped", "two")] * 1,
    *[(FALSE, "name", "two")] * 1,
    *[(FALSE, "thing", "two")] * 1,
    *[(FALSE, "intent", "two")] * 3,
)
Meaning = tuple[str, str, str, str]  # intent, giver, receiver, thing


@dataclass(frozen=True)
class Exchange:
    """One domain's words.

    Attributes:
        names: what can be giver {x} or receiver {y}.
        things: what can be {m}.
        wordings: intent -> texts of one meaning.
        openings: put before a text, they change nothing about it.
        negated_openings: the same, by way of a negation.
        distractions: sentences about a name that is not asked about.
        synonyms: common word -> rare word of the same meaning here.
    """

    names: tuple[str, ...]
    things: tuple[str, ...]
    wordings: Mapping[str, tuple[str, ...]]
    openings: tuple[str, ...]
    negated_openings: tuple[str, ...]
    distractions: tuple[str, ...]
    synonyms: Mapping[str, str]


def paraphrase(name: str, domain: Exchange, seed: str) -> Splits:
    """Pairs with `a`, `b`, `label` (not_paraphrase or paraphrase) and the factors.

    The splits share no pair of names, in either order.
    """
    pools = {"pairs": [(x, y) for i, x in enumerate(domain.names) for y in domain.names[i + 1 :]]}

    def write(pools: Pools, case: Case, rng: random.Random) -> Row:
        return _pair(domain, pools, case, rng)

    return generate(name, seed, ("a", "b"), pools, CASES, write)


def adversarial_paraphrase(name: str, domain: Exchange, seed: str) -> Splits:
    """Test pairs of `paraphrase`, the second text attacked."""

    def twist(row: Row, rng: random.Random) -> str:
        return pick(domain.negated_openings, rng) + _bare(str(row["b"]), domain)

    def distract(row: Row, rng: random.Random) -> str:
        named = str(row["filling"]).replace(" ; ", " / ").split(" / ")
        other = pick([other for other in domain.names if other not in named], rng)
        return f"{pick(domain.distractions, rng).format(z=other)} {row['b']}"

    adversary = Adversary(
        texts=("a", "b"),
        fields=dict.fromkeys(("misspelling", "rare_synonym", "distracting_clause", "negation_twist"), "b"),
        targets=frozenset(domain.names + domain.things),
        synonyms=domain.synonyms,
        distract=distract,
        twist=twist,
    )
    return adversarial(name, seed, paraphrase(name, domain, seed)["test"], adversary)


def _pair(domain: Exchange, pools: Pools, case: Case, rng: random.Random) -> Row:
    label, kind, wordings = case
    fillings, first, second = _meanings(domain, pools, kind, rng)
    one, two = _wordings(domain, first[0], second[0], wordings == "one", rng)
    a, b = (_stated(domain.wordings[m[0]][i], m) for m, i in ((first, one), (second, two)))
    # One wording twice is told apart by an opening, which says nothing about the label.
    if long := wordings == "one" or rng.random() < LONG_SHARE / 2:
        a, b = (a, pick(domain.openings, rng) + b) if rng.random() < 0.5 else (pick(domain.openings, rng) + a, b)
    known = factors(
        cause=kind,
        negation=negated(f"{a} {b}"),
        topic=first[0],
        long=long,
        template=f"{first[0]} {one}, {second[0]} {two}",
        fillings=fillings,
    )
    return {"a": a, "b": b, "label": label, **known}


def _meanings(
    domain: Exchange, pools: Pools, kind: str, rng: random.Random
) -> tuple[list[Filling], Meaning, Meaning]:
    """The fillings used and what the two texts mean."""
    pair, near = pick_two(pools["pairs"], lambda p, q: len({*p, *q}) == 3, rng)
    intent, other = pick_two(tuple(domain.wordings), lambda p, q: p != q, rng)
    thing, another = pick_two(domain.things, lambda p, q: p != q, rng)
    x, y = pair if rng.random() < 0.5 else pair[::-1]
    first = (intent, x, y, thing)
    if kind == "name":
        [new] = {*near} - {*pair}
        kept = (x, new) if x in near else (new, y)
        return [pair, near], first, (intent, *kept, thing)
    changed = {"swapped": (intent, y, x, thing), "thing": (intent, x, y, another), "intent": (other, x, y, thing)}
    return [pair], first, changed.get(kind, first)


def _wordings(domain: Exchange, first: str, second: str, one: bool, rng: random.Random) -> tuple[int, int]:
    """Which wordings the two texts take; two different ones of one intent unless it shall be one."""
    a = int(rng.random() * len(domain.wordings[first]))
    if one:
        return a, a
    return a, pick([i for i in range(len(domain.wordings[second])) if first != second or i != a], rng)


def _stated(wording: str, meaning: Meaning) -> str:
    _, x, y, thing = meaning
    return wording.format(x=x, y=y, m=thing)


def _bare(text: str, domain: Exchange) -> str:
    """The text without an opening."""
    for opening in domain.openings:
        text = text.removeprefix(opening)
    return text
