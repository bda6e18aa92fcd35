"""Tasks the project generates itself, so that everything can be tried without a download.

Four families as in the paper, two domains each. A generator takes a seed and returns the rows of train, dev
and test; an adversarial one those of test alone, made from the clean task's test rows of the same seed.
"""

from collections.abc import Callable, Mapping
from functools import cache, lru_cache, partial
from pathlib import Path

from skillneurons.data.generated.adversarial import Attackable, adversarial
from skillneurons.data.generated.ethics import Duties, Fairness
from skillneurons.data.generated.grammar import Domain, Splits, generate
from skillneurons.data.generated.nli import World
from skillneurons.data.generated.paraphrase import Exchange
from skillneurons.data.generated.sentiment import Notes
from skillneurons.declarations import read_mapping

Generator = Callable[[str], Splits]

WORDS = Path(__file__).parent / "words"
KINDS: Mapping[str, type[Domain]] = {
    "film_notes": Notes,
    "meal_notes": Notes,
    "travel_questions": Exchange,
    "office_requests": Exchange,
    "household_facts": World,
    "street_scenes": World,
    "duty_excuses": Duties,
    "fairness_claims": Fairness,
}


@cache
def domain(name: str) -> Domain:
    """A clean task's words and grammar, one of KINDS; its YAML is read when it is first asked for."""
    shared = read_mapping(WORDS / f"{KINDS[name].family}.yaml", "words", "those of another family beside it")
    tasks = shared.pop("tasks")
    return KINDS[name](**shared, **tasks[name])


@lru_cache(16)  # each role is asked for by itself
def _clean(name: str, seed: str) -> Splits:
    return generate(name, seed, domain(name))


@lru_cache(16)
def _attacked(name: str, seed: str) -> Splits:
    found = domain(name)
    assert isinstance(found, Attackable)  # as all are that ADVERSARIAL names
    return adversarial(name, seed, found)


CLEAN: Mapping[str, Generator] = {name: partial(_clean, name) for name in KINDS}
ADVERSARIAL: Mapping[str, Generator] = {
    f"adv_{name}": partial(_attacked, name) for name, kind in KINDS.items() if issubclass(kind, Attackable)
}
GENERATORS: Mapping[str, Generator] = {**CLEAN, **ADVERSARIAL}


def roles_of(name: str) -> tuple[str, ...]:
    """The roles a generator makes."""
    return ("test",) if name in ADVERSARIAL else ("train", "dev", "test")
