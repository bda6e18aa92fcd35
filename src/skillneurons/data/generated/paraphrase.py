"""Built-in paraphrase: pairs of questions on travel, pairs of requests in an office.

A text states an intent about a giver and a receiver (a place to leave and one to reach; a colleague who acts
and one it is done for) and a third thing. Two texts are paraphrases when all four agree. Pairs that are none
swap the two, change one word, or ask something else about the same things; half the wordings name the two in
the other order, so neither shared words nor their order tell the label.
"""

import random
from collections.abc import Mapping

from skillneurons.data.generated.adversarial import METHODS, Attackable
from skillneurons.data.generated.grammar import (
    LONG_SHARE,
    Case,
    Filling,
    Pools,
    Row,
    factors,
    negated,
    pick,
    pick_two,
)

Meaning = tuple[str, str, str, str]  # intent, giver, receiver, thing


class Exchange(Attackable):
    """Pairs with `a`, `b`, `label` (not_paraphrase or paraphrase) and the factors; the second text is attacked.

    The splits share no pair of names, in either order.

    Attributes:
        names: what can be giver {x} or receiver {y}.
        things: what can be {m}.
        wordings: intent -> texts of one meaning.
        openings: put before a text, they change nothing about it.
        negated_openings: the same, by way of a negation.
        distractions: sentences about a name {z} that is not asked about.
        synonyms: common word -> rare word of the same meaning here.
    """

    family = "paraphrase"
    fields = ("a", "b")
    attacked = dict.fromkeys(METHODS, "b")

    names: tuple[str, ...]
    things: tuple[str, ...]
    wordings: Mapping[str, tuple[str, ...]]
    openings: tuple[str, ...]
    negated_openings: tuple[str, ...]
    distractions: tuple[str, ...]
    synonyms: Mapping[str, str]

    @property
    def targets(self) -> frozenset[str]:
        """Every name and thing."""
        return frozenset(self.names + self.things)

    @property
    def rare(self) -> Mapping[str, str]:
        """The synonyms."""
        return self.synonyms

    @property
    def pools(self) -> Pools:
        """Every pair of names."""
        return {"pairs": [(x, y) for i, x in enumerate(self.names) for y in self.names[i + 1 :]]}

    def row(self, pools: Pools, case: Case, rng: random.Random) -> Row:
        """A pair of texts."""
        label, kind, wordings = case
        fillings, first, second = self._meanings(pools, kind, rng)
        one, two = self._wordings(first[0], second[0], wordings == "one", rng)
        a, b = (self._stated(meaning, wording) for meaning, wording in ((first, one), (second, two)))
        # One wording twice is told apart by an opening, which says nothing about the label.
        if long := wordings == "one" or rng.random() < LONG_SHARE / 2:
            a, b = (a, pick(self.openings, rng) + b) if rng.random() < 0.5 else (pick(self.openings, rng) + a, b)
        known = factors(
            cause=kind,
            negation=negated(f"{a} {b}"),
            topic=first[0],
            long=long,
            template=f"{first[0]} {one}, {second[0]} {two}",
            fillings=fillings,
        )
        return {"a": a, "b": b, "label": label, **known}

    def twist(self, row: Row, rng: random.Random) -> str:
        """The second text behind a negated opening instead of its own."""
        negated, text = pick(self.negated_openings, rng), str(row["b"])
        for opening in self.openings:
            text = text.removeprefix(opening)
        return negated + text

    def distract(self, row: Row, rng: random.Random) -> str:
        """The second text behind a sentence about another name."""
        named = str(row["filling"]).replace(" ; ", " / ").split(" / ")
        other = pick([other for other in self.names if other not in named], rng)
        return f"{pick(self.distractions, rng).format(z=other)} {row['b']}"

    def _meanings(self, pools: Pools, kind: str, rng: random.Random) -> tuple[list[Filling], Meaning, Meaning]:
        """The fillings used and what the two texts mean."""
        pair, near = pick_two(pools["pairs"], lambda p, q: len({*p, *q}) == 3, rng)
        intent, other = pick_two(tuple(self.wordings), lambda p, q: p != q, rng)
        thing, another = pick_two(self.things, lambda p, q: p != q, rng)
        x, y = pair if rng.random() < 0.5 else pair[::-1]
        first = (intent, x, y, thing)
        if kind == "name":
            [new] = {*near} - {*pair}
            kept = (x, new) if x in near else (new, y)
            return [pair, near], first, (intent, *kept, thing)
        changed = {"swapped": (intent, y, x, thing), "thing": (intent, x, y, another), "intent": (other, x, y, thing)}
        return [pair], first, changed.get(kind, first)

    def _wordings(self, first: str, second: str, one: bool, rng: random.Random) -> tuple[int, int]:
        """Which wordings the two texts take; two different ones of one intent unless it shall be one."""
        a = int(rng.random() * len(self.wordings[first]))
        if one:
            return a, a
        return a, pick([i for i in range(len(self.wordings[second])) if first != second or i != a], rng)

    def _stated(self, meaning: Meaning, wording: int) -> str:
        intent, x, y, thing = meaning
        return self.wordings[intent][wording].format(x=x, y=y, m=thing)
