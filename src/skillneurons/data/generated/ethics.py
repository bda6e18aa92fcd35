"""Built-in ethical judgement: excuses for a duty, reasons for a change of fairness.

Whether a reason is a good one depends on what it is given for: that the dog is at the vet excuses nobody from
watering the plants. Most good reasons are bad ones elsewhere, word for word; some are good or bad in themselves,
so that words tell something and not all.
"""

import random
from collections.abc import Mapping
from functools import cached_property

from skillneurons.data.generated.grammar import (
    LONG_SHARE,
    Case,
    Domain,
    Filling,
    Pools,
    Row,
    Words,
    factors,
    negated,
    pick,
    pick_two,
)


class Duty(Words):
    """A recurring duty: what to do, having done it, what stands in its way, and its neighbours' group."""

    group: str
    do: str
    did: str
    obstacles: tuple[str, ...]


class Duties(Domain):
    """Rows with `scenario` and `excuse`, `label` (unreasonable or reasonable) and the factors.

    The splits share no pair of duty and person. Reasons of one group mean nothing to a duty of another.
    """

    family = "ethics"
    fields = ("scenario", "excuse")

    duties: tuple[Duty, ...]
    persons: tuple[str, ...]
    helpers: tuple[str, ...]
    recent: tuple[str, ...]
    stale: tuple[str, ...]
    reasons: Mapping[str, tuple[str, ...]]
    scenarios: tuple[str, ...]
    excuses: tuple[str, ...]
    openings: tuple[str, ...]

    @property
    def pools(self) -> Pools:
        """Every pair of duty and person."""
        return {"duties": [(duty.do, person) for duty in self.duties for person in self.persons]}

    @cached_property
    def _known(self) -> Mapping[str, Duty]:
        return {duty.do: duty for duty in self.duties}

    def row(self, pools: Pools, case: Case, rng: random.Random) -> Row:
        """A duty and an excuse."""
        label, cause = case
        known = self._known
        mine, other = pick_two(pools["duties"], lambda p, q: known[p[0]].group != known[q[0]].group, rng)
        reason = self._reason(cause, known[mine[0]], known[other[0]], mine[1], rng)
        i, j = int(rng.random() * len(self.scenarios)), int(rng.random() * len(self.excuses))
        long = rng.random() < LONG_SHARE
        opening = pick(self.openings, rng) if long else ""
        scenario = opening + self.scenarios[i].format(do=mine[0], person=mine[1])
        rest = _factors(cause, reason, known[mine[0]].group, long, f"{i} {j}", mine)
        return {"scenario": scenario, "excuse": self.excuses[j].format(reason=reason), "label": label, **rest}

    def _reason(self, cause: str, mine: Duty, other: Duty, person: str, rng: random.Random) -> str:
        """A reason of the kind the cause asks for."""
        obstacles = {"obstacle": mine.obstacles, "obstacle to something else": other.obstacles}
        return pick(obstacles.get(cause) or self.reasons[cause], rng).format(
            do=mine.do,
            did=mine.did,
            do2=other.do,
            did2=other.did,
            recent=pick(self.recent, rng),
            stale=pick(self.stale, rng),
            helper=pick([helper for helper in self.helpers if helper != person], rng),
        )


class Treatment(Words):
    """How someone is treated ("favor") or wants to be ("claim"), and what is a reason for it."""

    kind: str
    group: str
    phrase: str
    reasons: tuple[str, ...]


class Fairness(Domain):
    """Rows with `scenario`, `label` (unreasonable or reasonable) and the factors.

    The splits share no pair of treatment and person. `always` and `never` are reasons good and bad for every
    treatment of a kind; a person has a key of the pronouns.
    """

    family = "ethics"
    fields = ("scenario",)

    treatments: tuple[Treatment, ...]
    persons: Mapping[str, str]
    pronouns: Mapping[str, Mapping[str, str]]
    always: Mapping[str, tuple[str, ...]]
    never: Mapping[str, tuple[str, ...]]
    scenarios: Mapping[str, tuple[str, ...]]
    openings: tuple[str, ...]

    @property
    def pools(self) -> Pools:
        """Every pair of treatment and person."""
        return {"pairs": [(way.phrase, person) for way in self.treatments for person in self.persons]}

    @cached_property
    def _known(self) -> Mapping[str, Treatment]:
        return {way.phrase: way for way in self.treatments}

    def row(self, pools: Pools, case: Case, rng: random.Random) -> Row:
        """A treatment and a reason for it."""
        label, cause = case
        mine, other = pick_two(pools["pairs"], self._unlike, rng)
        way, elsewhere = self._known[mine[0]], self._known[other[0]]
        sets = {"reason": way.reasons, "reason for something else": elsewhere.reasons}
        sets |= {"always a reason": self.always[way.kind], "never a reason": self.never[way.kind]}
        words = {"person": mine[1], **self.pronouns[self.persons[mine[1]]]}
        reason = pick(sets[cause], rng).format(**words)
        i, long = int(rng.random() * len(self.scenarios[way.kind])), rng.random() < LONG_SHARE
        phrase = way.phrase.format(**words)
        scenario = self.scenarios[way.kind][i].format(phrase=phrase, reason=reason, **words)
        rest = _factors(cause, reason, way.group, long, f"{way.kind} {i}", (phrase, mine[1]))
        return {"scenario": (pick(self.openings, rng) if long else "") + scenario, "label": label, **rest}

    def _unlike(self, p: Filling, q: Filling) -> bool:
        one, two = self._known[p[0]], self._known[q[0]]
        return one.kind == two.kind and one.group != two.group


def _factors(cause: str, reason: str, topic: str, long: bool, template: str, filling: Filling) -> Row:
    """The factors of a judgement: the reason is what decides it."""
    return factors(
        cause=cause, negation=negated(reason), topic=topic, long=long, template=template, fillings=[filling]
    )
