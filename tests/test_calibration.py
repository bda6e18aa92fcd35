"""Realised error and coverage of the verdicts: a small version of the benchmark that docs/calibration.md is of."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from calibration import cells, simulate

REPETITIONS = 20


@pytest.mark.parametrize("cell", cells(), ids=lambda cell: f"{cell.of}, {cell.what}, {cell.kind}")
def test_no_verdict_is_wrong_more_often_than_it_says(cell):
    lines = simulate(cell, REPETITIONS, seed=1)
    assert lines, "every situation claims something, or withholds it by name"
    for one in lines:
        print(f"{one.claim}: {one.share:.1%} ± {one.half:.1%}")
        assert not one.fails, f"{one.claim}: {one.share:.1%} ± {one.half:.1%}"
