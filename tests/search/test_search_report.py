"""What a finished search prints, also where its first trial won."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from skillneurons.search.figures import Tried
from skillneurons.search.report import FinalSeed, Verdict
from skillneurons.stats.intervals import Estimate, accuracy
from skillneurons.stats.mcnemar import mcnemar_exact

LABELS = [0, 1] * 20


def measured(right: int):
    return accuracy(LABELS, LABELS[:right] + [1 - label for label in LABELS[right:]], 2)


@pytest.fixture
def verdict():
    tried = Tried(0, {"learning_rate": 0.01}, Estimate(0.8, 0.7, 0.9), True)
    return Verdict("sst2", 3, 0, tried, tried, [4, 9], [measured(30), measured(32)], 40, 0.5, [], [])


def printed(verdict: Verdict) -> list[str]:
    console = Console(file=io.StringIO(), width=140)
    console.print(verdict.rich_table())
    return console.file.getvalue().splitlines()


def test_where_the_first_trial_won_its_rows_are_shown(verdict):
    lines = printed(verdict)
    for seed, right in ((4, 30), (9, 32)):
        (line,) = [line for line in lines if line.split("│")[1:2] and line.split("│")[1].strip() == str(seed)]
        assert f"{right / 40:.1%} [" in line
        assert "the same settings" in line


def test_where_another_won_a_row_a_seed_compares_both(verdict):
    test = mcnemar_exact([True] * 30 + [False] * 10, [True] * 20 + [False] * 20)
    pairs = [FinalSeed(seed, "a", "b", measured(30), measured(20), test) for seed in (4, 9)]
    lines = printed(replace(verdict, pairs=pairs, adjusted=[0.01, 0.02]))
    assert sum("75.0% [" in line and "50.0% [" in line and "+25.0%" in line for line in lines) == 2
    assert not any("the same settings" in line for line in lines)
