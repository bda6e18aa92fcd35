"""Power as computed against studies that are simulated and judged by the tests themselves."""

import numpy as np
import pytest

from skillneurons.stats.control_sets import contrast, least_sets
from skillneurons.stats.intervals import SIGNIFICANT
from skillneurons.stats.power import (
    CHANGED,
    POWER,
    PROMPT_SPREADS,
    SPREADS,
    rank_power,
    smallest_by_rank,
    smallest_by_welch,
    told,
)
from skillneurons.transfer.cell import Block, beyond_random


@pytest.mark.parametrize(("sets", "tests"), [(19, 1), (59, 3), (59, 1), (20, 1)])
def test_power_of_the_rank_test_is_that_of_simulated_studies(sets, tests):
    effect, deviation, rng, times = 0.05, 0.02, np.random.default_rng(0), 2000
    values = rng.normal(0, deviation, (times, sets + 1))
    ranks = [
        contrast(np.array([[row[0] - effect]]), row[1:, None, None], resamples=1, bounds=(-1, 1)).rank_p
        for row in values
    ]
    share = np.mean(np.array(ranks) * tests <= SIGNIFICANT + 1e-12)
    assert rank_power(effect, deviation, sets, tests) == pytest.approx(share, abs=4 * np.sqrt(0.25 / times))


def test_too_few_sets_see_nothing():
    assert rank_power(1.0, 0.01, least_sets(3) - 1, 3) == 0
    assert np.isinf(smallest_by_rank(400, 18, 1, 0.01))
    assert "no difference could be shown" in told(lambda s: smallest_by_rank(400, 18, 1, s), SPREADS, "sets", "K=18")


def test_the_smallest_effect_has_that_power_and_less_has_less():
    found = smallest_by_rank(400, 59, 3, 0.03)
    deviation = np.sqrt(0.03**2 + CHANGED / 400)
    assert rank_power(found, deviation, 59, 3) == pytest.approx(POWER, abs=1e-3)
    assert rank_power(0.9 * found, deviation, 59, 3) < POWER - 0.05
    assert smallest_by_rank(1600, 59, 3, 0.01) < smallest_by_rank(400, 59, 3, 0.01) < found
    text = told(lambda spread: smallest_by_rank(400, 59, 3, spread), SPREADS, "random sets", "n=400")
    assert f"to {100 * found:.1f} points (of 3); n=400" in text


@pytest.mark.parametrize("seeds", [2, 5])
def test_the_smallest_transfer_is_seen_in_four_of_five_simulated_studies(seeds):
    rows, draws, spread = 400, 10, PROMPT_SPREADS[1]
    effect = smallest_by_welch(rows, 2, seeds, draws, 1, spread)
    rng, seen, times = np.random.default_rng(seeds), 0, 400
    for _ in range(times):
        random = rng.normal(0.5, spread, draws)[:, None] * np.ones(rows)
        by_row = rng.normal(0, np.sqrt(CHANGED), rows)  # the same rows for all prompts
        blocks = [
            Block(source, "t", rng.normal(0.5 + effect, spread, seeds)[:, None] + by_row, random) for source in "ab"
        ]
        seen += beyond_random(blocks).p_value <= SIGNIFICANT
    assert seen / times == pytest.approx(POWER, abs=0.07)


def test_one_prompt_a_task_sees_nothing():
    assert np.isinf(smallest_by_welch(1000, 2, 1, 10, 4, 0.02))
