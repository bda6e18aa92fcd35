"""Tasks the project generates itself, so that everything can be tried without a download.

Four families as in the paper, two domains each. A generator takes a seed and returns the rows of train, dev
and test; an adversarial one those of test alone, made from the clean task's test rows of the same seed.
"""

from collections.abc import Callable, Mapping
from functools import partial

from skillneurons.builtin_ethics import duty_excuses, fairness_claims
from skillneurons.builtin_ethics_words import DUTIES, FAIRNESS
from skillneurons.builtin_nli import adversarial_entailment, entailment
from skillneurons.builtin_nli_words import HOUSEHOLD, STREET
from skillneurons.builtin_paraphrase import adversarial_paraphrase, paraphrase
from skillneurons.builtin_paraphrase_words import OFFICE, TRAVEL
from skillneurons.builtin_sentiment import adversarial_sentiment, sentiment
from skillneurons.builtin_sentiment_words import FILMS, MEALS
from skillneurons.grammar import Splits

Generator = Callable[[str], Splits]

CLEAN: Mapping[str, Generator] = {
    "film_notes": partial(sentiment, "film_notes", FILMS),
    "meal_notes": partial(sentiment, "meal_notes", MEALS),
    "travel_questions": partial(paraphrase, "travel_questions", TRAVEL),
    "office_requests": partial(paraphrase, "office_requests", OFFICE),
    "household_facts": partial(entailment, "household_facts", HOUSEHOLD),
    "street_scenes": partial(entailment, "street_scenes", STREET),
    "duty_excuses": partial(duty_excuses, DUTIES),
    "fairness_claims": partial(fairness_claims, FAIRNESS),
}
ADVERSARIAL: Mapping[str, Generator] = {
    "adv_film_notes": partial(adversarial_sentiment, "film_notes", FILMS),
    "adv_meal_notes": partial(adversarial_sentiment, "meal_notes", MEALS),
    "adv_travel_questions": partial(adversarial_paraphrase, "travel_questions", TRAVEL),
    "adv_office_requests": partial(adversarial_paraphrase, "office_requests", OFFICE),
    "adv_household_facts": partial(adversarial_entailment, "household_facts", HOUSEHOLD),
    "adv_street_scenes": partial(adversarial_entailment, "street_scenes", STREET),
}
GENERATORS: Mapping[str, Generator] = {**CLEAN, **ADVERSARIAL}


def roles_of(name: str) -> tuple[str, ...]:
    """The roles a generator makes."""
    return ("test",) if name in ADVERSARIAL else ("train", "dev", "test")
