"""A discovery beside the same under random prompts: the interval by statsmodels, and both kinds of error."""

from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.proportion import confint_proportions_2indep
from test_similarity import neurons

from skillneurons.discover.random_baseline import beyond_random
from skillneurons.discover.report import finding, signatures

N, L, F = 300, 2, 50


def discovery(skill: np.ndarray, other: np.ndarray, seed: int, prompts: int = 2):
    """Neurons with these chances to be right `[L, F]`, tuned and random, on N rows of either half."""
    rng = np.random.default_rng(seed)
    first, second = (rng.binomial(N, skill, (2, L, F)) / N for _ in range(2))
    made = neurons("task", second, judged_rows=N, majority=0.5)
    halves = [rng.binomial(N, other, (1, prompts, L, F)).astype(np.float32) / N for _ in range(2)]
    selected = first[None].astype(np.float32)
    return replace(made, selected=selected, random_selected=halves[0], random_predictivity=halves[1])


def test_the_top_of_each_is_chosen_on_half_a_and_judged_on_half_b():
    rng = np.random.default_rng(0)
    one = discovery(rng.uniform(0.6, 0.9, (L, F)), rng.uniform(0.5, 0.7, (L, F)), 1)
    found = beyond_random(one, 10)
    tops = [
        np.sort(np.argsort(-ranking.mean((0, 1)), axis=1)[:, :5]) for ranking in (one.selected, one.random_selected)
    ]
    judged = [scores.mean((0, 1)) for scores in (one.seed_predictivity, one.random_predictivity)]
    means = [np.take_along_axis(score, top, axis=1).mean() for score, top in zip(judged, tops, strict=True)]
    assert (found.tuned.value, found.random.value) == pytest.approx(means, abs=1e-6)
    hits = [mean * N for mean in means]
    low, high = confint_proportions_2indep(hits[0], N, hits[1], N, method="newcomb", compare="diff")
    assert (found.difference.low, found.difference.high) == pytest.approx((low, high), abs=1e-6)
    shared = np.mean([len(set(a) & set(b)) / 5 for a, b in zip(*tops, strict=True)])
    assert found.shared == pytest.approx(shared)
    assert found.chance == pytest.approx(0.1)


def test_neurons_that_any_prompt_has_are_not_beyond_it_and_those_of_the_prompt_are():
    level = np.random.default_rng(2).uniform(0.6, 0.9, (L, F))
    alarms = sum(beyond_random(discovery(level, level, seed), 10).beyond > 0 for seed in range(60))
    assert alarms <= 6
    better = np.where(np.arange(F) < 10, 0.2, 0) + 0.6
    found = beyond_random(discovery(np.tile(better, (L, 1)), np.full((L, F), 0.6), 3), 10)
    told = (found.q_value < 0.05)[0]
    assert told[:, :10].mean() > 0.9
    assert told[:, 10:].mean() < 0.05
    assert found.difference.low > 0


def test_without_random_prompts_nothing_is_said_to_belong_to_the_prompt():
    one = discovery(np.full((L, F), 0.8), np.full((L, F), 0.6), 4, prompts=0)
    assert beyond_random(one, 10) is None


def facts(one):
    chance = {"low": 0.4, "high": 0.6, "best_low": 0.5, "best_high": 0.7, "permutations": 100}
    card = {"backbone": {"name": "tiny"}, "site": "prompt", "protocol": "split", "smallest_predictivity": 0.6}
    return replace(one, card={**one.card, **card, "chance": chance, "selection": "half A"})


@pytest.mark.parametrize(
    ("other", "prompts", "said"),
    [
        (0.6, 2, "beyond random prompts: the top 5% predict"),
        (0.85, 1, "not shown beyond random prompts: the top 5% predict"),
        (0.6, 0, "not known: no random prompt was read"),
    ],
)
def test_the_finding_says_what_belongs_to_the_prompts(other, prompts, said):
    one = facts(discovery(np.full((L, F), 0.85), np.full((L, F), other), 5, prompts))
    assert f"- {said}" in finding(one).text


def test_no_neuron_beyond_chance_is_flagged():
    one = facts(discovery(np.full((L, F), 0.5), np.full((L, F), 0.5), 6))
    nothing = replace(one, q_value=np.ones((1, L, F)), family_p=np.ones((1, L, F)))
    assert signatures(nothing) == ["low predictivity"]
    some = np.ones((1, L, F))
    some[0, 1, 3] = 0.01
    assert signatures(replace(nothing, q_value=some)) == signatures(replace(nothing, family_p=some)) == []
