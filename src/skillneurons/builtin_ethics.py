"""Built-in ethical judgement: excuses for a duty, reasons for a change of fairness.

Whether a reason is a good one depends on what it is given for: that the dog is at the vet excuses nobody from
watering the plants. Most good reasons are bad ones elsewhere, word for word; some are good or bad in themselves,
so that words tell something and not all.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass

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

WRONG, RIGHT = "unreasonable", "reasonable"
DUTY_CASES: tuple[Case, ...] = (
    *[(RIGHT, "done")] * 2,
    *[(RIGHT, "done, the other long ago")] * 3,
    (RIGHT, "helper did it"),
    (RIGHT, "handed over"),
    *[(RIGHT, "obstacle")] * 2,
    (RIGHT, "unable"),
    *[(WRONG, "done something else")] * 2,
    (WRONG, "helper did something else"),
    *[(WRONG, "obstacle to something else")] * 2,
    (WRONG, "done too long ago"),
    *[(WRONG, "long ago, the other done")] * 3,
    (WRONG, "whim"),
)
# Reasons in words of the duty {do}, {did} and of another one {do2}, {did2}.
REASONS: Mapping[str, tuple[str, ...]] = {
    "done": ("i {did} {recent}", "i did not forget it and {did} {recent}"),
    # the next one and "long ago, the other done" have all their words in common
    "done, the other long ago": ("i {did} {recent} and {did2} {stale}", "i {did2} {stale} and {did} {recent}"),
    "helper did it": ("my {helper} {did} {recent}", "my {helper} did not mind and {did} {recent}"),
    "handed over": ("my {helper} took this over {stale}", "i gave this up {stale} and my {helper} took over"),
    "done something else": ("i {did2} {recent}", "i did not forget it and {did2} {recent}"),
    "helper did something else": ("my {helper} {did2} {recent}", "my {helper} did not mind and {did2} {recent}"),
    "done too long ago": ("i {did} {stale}", "i did not forget it and {did} {stale}"),
    "long ago, the other done": ("i {did2} {recent} and {did} {stale}", "i {did} {stale} and {did2} {recent}"),
}
FAIRNESS_CASES: tuple[Case, ...] = (
    *[(RIGHT, "reason")] * 7,
    *[(RIGHT, "always a reason")] * 3,
    *[(WRONG, "reason for something else")] * 7,
    *[(WRONG, "never a reason")] * 3,
)


@dataclass(frozen=True)
class Duty:
    """A recurring duty: what to do, having done it, what stands in its way, and its neighbours' group."""

    group: str
    do: str
    did: str
    obstacles: tuple[str, ...]


@dataclass(frozen=True)
class Duties:
    """The words of duties: reasons of one group mean nothing to a duty of another."""

    duties: tuple[Duty, ...]
    persons: tuple[str, ...]
    helpers: tuple[str, ...]
    recent: tuple[str, ...]
    stale: tuple[str, ...]
    unable: tuple[str, ...]
    whims: tuple[str, ...]
    scenarios: tuple[str, ...]
    excuses: tuple[str, ...]
    openings: tuple[str, ...]


@dataclass(frozen=True)
class Treatment:
    """How someone is treated ("favor") or wants to be ("claim"), and what is a reason for it."""

    kind: str
    group: str
    phrase: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Fairness:
    """The words of fairness; `always` and `never` are reasons good and bad for every treatment of a kind."""

    treatments: tuple[Treatment, ...]
    persons: Mapping[str, str]
    always: Mapping[str, tuple[str, ...]]
    never: Mapping[str, tuple[str, ...]]
    scenarios: Mapping[str, tuple[str, ...]]
    openings: tuple[str, ...]


PRONOUNS = {"he": {"he": "he", "him": "him", "his": "his"}, "she": {"he": "she", "him": "her", "his": "her"}}


def duty_excuses(domain: Duties, seed: str) -> Splits:
    """Rows with `scenario` and `excuse`, `label` (unreasonable or reasonable) and the factors.

    The splits share no pair of duty and person.
    """
    pools = {"duties": [(duty.do, person) for duty in domain.duties for person in domain.persons]}

    def write(pools: Pools, case: Case, rng: random.Random) -> Row:
        return _excuse(domain, pools, case, rng)

    return generate("duty_excuses", seed, ("scenario", "excuse"), pools, DUTY_CASES, write)


def fairness_claims(domain: Fairness, seed: str) -> Splits:
    """Rows with `scenario`, `label` (unreasonable or reasonable) and the factors.

    The splits share no pair of treatment and person.
    """
    pools = {"pairs": [(way.phrase, person) for way in domain.treatments for person in domain.persons]}

    def write(pools: Pools, case: Case, rng: random.Random) -> Row:
        return _claim(domain, pools, case, rng)

    return generate("fairness_claims", seed, ("scenario",), pools, FAIRNESS_CASES, write)


def _excuse(domain: Duties, pools: Pools, case: Case, rng: random.Random) -> Row:
    label, cause = case
    known = {duty.do: duty for duty in domain.duties}
    mine, other = pick_two(pools["duties"], lambda p, q: known[p[0]].group != known[q[0]].group, rng)
    reason = _duty_reason(domain, cause, known[mine[0]], known[other[0]], mine[1], rng)
    i, j = int(rng.random() * len(domain.scenarios)), int(rng.random() * len(domain.excuses))
    long = rng.random() < LONG_SHARE
    opening = pick(domain.openings, rng) if long else ""
    scenario = opening + domain.scenarios[i].format(do=mine[0], person=mine[1])
    excuse = domain.excuses[j].format(reason=reason)
    rest = _factors(cause, reason, known[mine[0]].group, long, f"{i} {j}", mine)
    return {"scenario": scenario, "excuse": excuse, "label": label, **rest}


def _duty_reason(domain: Duties, cause: str, mine: Duty, other: Duty, person: str, rng: random.Random) -> str:
    """A reason of the kind the cause asks for."""
    given = {
        "obstacle": mine.obstacles,
        "obstacle to something else": other.obstacles,
        "unable": domain.unable,
        "whim": domain.whims,
    }
    return pick(given.get(cause) or REASONS[cause], rng).format(
        do=mine.do,
        did=mine.did,
        do2=other.do,
        did2=other.did,
        recent=pick(domain.recent, rng),
        stale=pick(domain.stale, rng),
        helper=pick([helper for helper in domain.helpers if helper != person], rng),
    )


def _claim(domain: Fairness, pools: Pools, case: Case, rng: random.Random) -> Row:
    label, cause = case
    known = {way.phrase: way for way in domain.treatments}

    def unlike(p: Filling, q: Filling) -> bool:
        return known[p[0]].kind == known[q[0]].kind and known[p[0]].group != known[q[0]].group

    mine, other = pick_two(pools["pairs"], unlike, rng)
    way, elsewhere = known[mine[0]], known[other[0]]
    sets = {"reason": way.reasons, "reason for something else": elsewhere.reasons}
    sets |= {"always a reason": domain.always[way.kind], "never a reason": domain.never[way.kind]}
    words = {"person": mine[1], **PRONOUNS[domain.persons[mine[1]]]}
    reason = pick(sets[cause], rng).format(**words)
    i, long = int(rng.random() * len(domain.scenarios[way.kind])), rng.random() < LONG_SHARE
    phrase = way.phrase.format(**words)
    scenario = domain.scenarios[way.kind][i].format(phrase=phrase, reason=reason, **words)
    rest = _factors(cause, reason, way.group, long, f"{way.kind} {i}", (phrase, mine[1]))
    return {"scenario": (pick(domain.openings, rng) if long else "") + scenario, "label": label, **rest}


def _factors(cause: str, reason: str, topic: str, long: bool, template: str, filling: Filling) -> Row:
    """The factors of a judgement: the reason is what decides it."""
    return factors(
        cause=cause, negation=negated(reason), topic=topic, long=long, template=template, fillings=[filling]
    )
