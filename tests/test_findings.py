"""Findings: one structure, written the same everywhere, and short where a person reads."""

import json
from io import StringIO

import pytest
from rich.console import Console

from skillneurons.commands.display import fitted, show_finding
from skillneurons.findings import LONGEST, Claim, Finding, Unit, joined, number, p_text, written
from skillneurons.stats.intervals import Estimate

CLAIM = Claim(
    "better",
    "than no prompt:",
    Estimate(0.031, 0.01, 0.052, 0.0),
    Unit.POINTS,
    n="300 rows",
    test="p 0.01",
    holds=True,
)
SHARE = Claim("above chance", "accuracy", Estimate(0.712, 0.66, 0.759, 0.5), chance="majority rate", n="300 rows")
BARE = Claim("warning", "every prediction is one class")


def test_a_claim_is_written_with_interval_chance_n_and_test():
    assert SHARE.plain == "accuracy 71.2% [66.0%, 75.9%] (majority rate 50.0%, n=300 rows)"
    assert CLAIM.plain == "than no prompt: +3.1 points [+1.0, +5.2] (n=300 rows, p 0.01)", "no chance of a difference"
    assert BARE.plain == "every prediction is one class"


@pytest.mark.parametrize(
    ("value", "form", "expected"),
    [
        (-0.0001, ".1%", "0.0%"),
        (-0.0, ".2f", "0.00"),
        (-0.004, "+.1f", "+0.0"),
        (-0.06, "+.1f", "-0.1"),
        (0.5, ".1%", "50.0%"),
    ],
)
def test_no_number_is_minus_zero(value, form, expected):
    assert number(value, form) == expected


def test_unknown_ends_are_left_out():
    nan = float("nan")
    assert written(Estimate(0.5, nan, nan)) == "50.0%"
    assert written(Estimate(-0.0004, -0.0002, 0.1), Unit.POINTS) == "+0.0 points [+0.0, +10.0]"
    assert written(Estimate(0.613, 0.5, 0.7), Unit.NUMBER) == "0.61 [0.50, 0.70]"
    assert (p_text(3e-7), p_text(0.0123)) == ("p < 0.0001", "p 0.012")


def test_json_gives_the_same_finding_back():
    nan = float("nan")
    unknown = Claim("cannot tell", "why", Estimate(0.1, nan, nan, None), name="needed")
    found = Finding("A headline.", [CLAIM, SHARE, BARE, unknown])
    again = Finding.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.text == found.text
    assert again.markdown == found.markdown
    assert [claim.holds for claim in again.claims] == [True, None, None, None]
    assert again.claims[-1].name == "needed"
    assert "NaN" not in json.dumps(found.to_dict())


def test_the_terminal_has_few_words_and_says_how_many_claims_are_left():
    found = Finding("A headline of six words here.", [SHARE] * 30)
    headline, lines, left = found.shortened()
    assert len(" ".join([headline, *lines]).split()) <= LONGEST
    assert len(lines) + left == 30
    assert len(found.markdown.split()) > LONGEST
    shown = StringIO()
    show_finding(found, Console(file=shown, width=80))
    assert f"{left} more claims" in shown.getvalue()
    assert f"{left} more" not in printed(found, 80, whole=True)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_lines_wrap_at_words(width):
    found = Finding("A headline of several words, long enough to be wrapped at forty columns.", [SHARE, CLAIM, BARE])
    text = printed(found, width)
    assert max(len(line) for line in text.splitlines()) <= width
    words = {word for claim in found.claims for word in claim.plain.split()} | set(found.headline.split())
    assert words <= set(text.split()), "no word is broken"


@pytest.mark.parametrize("width", [30, 60, 80, 120])
def test_a_table_drops_columns_before_it_cuts_words(width):
    columns = ("seed", "step", "loss", "dev accuracy", "rows/s", "time left")
    rows = [("0", "100/200", "0.3312", "93.8% [90.5%, 96.1%]", "118.7", "0:20")]
    shown = StringIO()
    Console(file=shown, width=width).print(fitted(columns, rows, width))
    text = shown.getvalue()
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    assert "0:20" in text, "the time left is kept"
    assert ("93.8% [90.5%, 96.1%]" in text) == (width >= 80)
    assert ("118.7" in text) == (width >= 80)


def test_claims_of_several_subjects_stand_side_by_side():
    assert joined([[SHARE, CLAIM], [BARE]]) == [SHARE, BARE, CLAIM]


def printed(found: Finding, width: int, whole: bool = False) -> str:
    shown = StringIO()
    show_finding(found, Console(file=shown, width=width), whole=whole)
    return shown.getvalue()
