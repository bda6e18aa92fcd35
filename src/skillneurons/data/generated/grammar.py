"""What the built-in tasks' grammars share: fillings kept apart, cases in fixed shares, distinct rows.

Everything is drawn from `random.Random.random` alone, whose sequence Python promises to keep for a seed, so
the rows of a seed are the same bytes everywhere.
"""

import random
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict

T = TypeVar("T")
Row = dict[str, object]
Rows = list[Row]
Splits = dict[str, Rows]  # by role
Filling = tuple[str, ...]  # the content words that fill a template's places
Pools = Mapping[str, Sequence[Filling]]  # the fillings of one role, under names a grammar chooses
Case = tuple[str, ...]  # what a row shows, in a grammar's own words: its label first

SIZES: Mapping[str, int] = {"train": 4000, "dev": 600, "test": 1000}
SHARES: Mapping[str, float] = {"train": 0.7, "dev": 0.15, "test": 0.15}
LONG_SHARE = 0.4
FACTORS = ("cause", "negation", "topic", "length", "template", "filling")
NEGATIONS = frozenset(("no", "not", "never", "nobody", "nothing", "none", "cannot", "hardly", "without"))


def _repeated(cases: Iterable[Sequence[Any]]) -> list[Sequence[Any]]:
    """Cases as a YAML has them, behind how often each comes, as many times over."""
    return [case for times, *case in cases for _ in range(times)]


class Words(BaseModel):
    """Words and texts read from YAML; a key that is not known is a mistake, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Domain(Words):
    """One task: its words, and how they make rows.

    Attributes:
        family: the file of words it shares with another task.
        fields: the fields whose texts tell rows apart.
        cases: what rows may show; one that is there twice comes twice as often.
    """

    family: ClassVar[str]
    fields: ClassVar[tuple[str, ...]]
    cases: Annotated[tuple[Case, ...], BeforeValidator(_repeated)]

    @property
    @abstractmethod
    def pools(self) -> Pools:
        """All fillings, under names that `row` knows."""

    @abstractmethod
    def row(self, pools: Pools, case: Case, rng: random.Random) -> Row:
        """A row for a case, from the fillings of one role: its fields, `label` and the factors."""


def generate(name: str, seed: str, domain: Domain) -> Splits:
    """The rows of train, dev and test: SIZES distinct texts, the cases in equal numbers.

    The fillings of every pool are divided among the roles first, so no filling is in two of them.

    Args:
        name: The task's, which enters the seed: two tasks of one seed draw apart.
        seed: Any text; the same text gives the same rows.
        domain: The task's words and grammar.
    """
    rng = random.Random(f"{name} {seed}")
    parts: dict[str, dict[str, Sequence[Filling]]] = {role: {} for role in SIZES}
    for key, fillings in domain.pools.items():
        for role, part in divided(fillings, rng).items():
            parts[role][key] = part
    return {role: _rows(domain, parts[role], SIZES[role], rng) for role in SIZES}


def factors(
    *, cause: str, negation: bool, topic: str, long: bool, template: str, fillings: Iterable[Filling]
) -> dict[str, object]:
    """The hidden factors that every built-in row records, under the names of FACTORS.

    Args:
        cause: Why the row has its label.
        negation: Whether a negation stands in what decides the label.
        topic: What the text is about.
        long: Whether a clause that says nothing about the label lengthens it.
        template: The sentence frame, which is no evidence of the label.
        fillings: The content words; two rows of different roles share none of these combinations.
    """
    filling = " ; ".join(" / ".join(words) for words in fillings)
    length = "long" if long else "short"
    return dict(zip(FACTORS, (cause, negation, topic, length, template, filling), strict=True))


def divided(items: Sequence[T], rng: random.Random) -> dict[str, list[T]]:
    """The items in random order, cut into roles by SHARES; the last role takes what rounding leaves."""
    rest, roles = shuffled(items, rng), {}
    *first, last = SHARES
    for role in first:
        size = round(len(items) * SHARES[role])
        roles[role], rest = rest[:size], rest[size:]
    return {**roles, last: rest}


def pick(items: Sequence[T], rng: random.Random) -> T:
    """One of the items, each as likely."""
    return items[int(rng.random() * len(items))]


def pick_two(items: Sequence[T], related: Callable[[T, T], bool], rng: random.Random) -> tuple[T, T]:
    """Two of the items that stand in a relation, which some two of them must."""
    while True:
        first, second = pick(items, rng), pick(items, rng)
        if related(first, second):
            return first, second


def shuffled(items: Sequence[T], rng: random.Random) -> list[T]:
    """The items in random order."""
    keys = [rng.random() for _ in items]
    return [items[i] for i in sorted(range(len(items)), key=keys.__getitem__)]


def with_article(phrase: str) -> str:
    """The phrase behind "a" or "an"."""
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


def plural(noun: str) -> str:
    """The plural of a regular noun."""
    if re.search(r"(s|x|ch|sh|to)$", noun):
        return f"{noun}es"
    return re.sub(r"(?<![aeiou])y$", "ie", noun) + "s"


def negated(text: str) -> bool:
    """Whether a word of the text is one of NEGATIONS."""
    return not NEGATIONS.isdisjoint(text.split())


def _rows(domain: Domain, pools: Pools, size: int, rng: random.Random) -> Rows:
    rows: dict[tuple[object, ...], Row] = {}
    for case in shuffled([domain.cases[i % len(domain.cases)] for i in range(size)], rng):
        key: tuple[object, ...] = ()
        while not key or key in rows:
            row = domain.row(pools, case, rng)
            key = tuple(row[name] for name in domain.fields)
        rows[key] = row
    return list(rows.values())
