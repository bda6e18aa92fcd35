"""The guard that other tests walk tables with sees what is missing."""

import pandas as pd
import pytest

from table_walk import lacking

WHOLE = {"n": [9], "accuracy": [0.5], "accuracy_low": [0.2], "accuracy_high": [0.8], "majority": [0.6]}


def test_a_whole_table_lacks_nothing():
    assert lacking(pd.DataFrame(WHOLE)) == []
    assert (
        lacking(pd.DataFrame({"n": [9], "layer": [1], "gap": [0.1], "low": [0], "high": [1], "gap_chance": [0]}))
        == []
    )


@pytest.mark.parametrize(
    ("gone", "says"),
    [
        ("n", "no column n"),
        ("accuracy_low", "accuracy without an interval"),
        ("accuracy_high", "accuracy without an interval"),
        ("majority", "accuracy without its chance level"),
    ],
)
def test_what_is_missing_is_named(gone, says):
    assert lacking(pd.DataFrame({name: value for name, value in WHOLE.items() if name != gone})) == [says]


def test_a_second_number_needs_its_own():
    frame = pd.DataFrame({**WHOLE, "overlap": [0.3]})
    assert lacking(frame) == ["overlap without an interval", "overlap without its chance level"]
