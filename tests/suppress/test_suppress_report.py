"""What a suppression says in words, table and figure, on correctness that was made up to know the answer."""

from dataclasses import replace

import numpy as np
import pytest

from conftest import rows_of
from skillneurons.findings import Claim
from skillneurons.neurons.intervention import Sets, sets_at
from skillneurons.plots.style import Dose, DosePanel, suppression_curves, write
from skillneurons.stats.intervals import Estimate
from skillneurons.suppress.report import SetPredictions, SuppressionReport

RATES, K = (0, 5, 10), 39


def sets(keep: bool = False) -> list[Sets]:
    values = np.random.default_rng(0).random((2, 100))
    return [sets_at(values, rate, "layer", K, 0, keep) for rate in RATES]


def measured(
    skill: dict[int, float], random: float, intact: float = 0.85, n: int = 400, spread: float = 0.01, own: bool = True
) -> SetPredictions:
    """Rows right at the given rates; random sets lie `spread` apart."""
    rng = np.random.default_rng(1)
    hardness, labels = rng.random((2, n)), rng.integers(0, 2, n)
    rates = [intact, skill.get(0, intact)]
    for rate in RATES[1:]:
        rates += [skill[rate], *rng.normal(random, spread, K)]
    right = hardness[:, None] < np.array(rates)[:, None]
    predictions = np.where(right, labels, 1 - labels)
    name = "film_notes" if own else "other"
    return SetPredictions(name, own, rows_of(labels, ("no", "yes")), ("a", "b"), predictions, sets())


def report(*tasks: SetPredictions, keep: bool = False, margin: float = 0.03) -> SuppressionReport:
    effects = [effect for one in tasks for effect in one.effects(0, keep)]
    return SuppressionReport("film_notes · tiny", "zeroed", "zero", keep, margin, effects)


def needed(made: SuppressionReport) -> Claim:
    return next(claim for claim in made.finding().claims if claim.name == "needed")


def test_a_clear_fall_is_said_so_with_its_rates():
    made = report(measured({5: 0.7, 10: 0.55}, 0.84))
    claim = needed(made)
    assert (claim.verdict, claim.holds) == ("needed", True)
    assert "beyond random sets at 5%, 10%; at 10% of neurons" in claim.plain
    assert "p 0.05 by rank, Holm over rates" in claim.plain
    assert made.finding().headline == "film_notes · tiny: the model needs its skill neurons more than random ones."
    (untouched,) = [one for one in made.finding().claims if one.verdict == "skill"]
    assert "n=400 test rows" in untouched.plain
    assert "majority rate" in untouched.plain


def test_no_difference_is_said_where_the_interval_lies_within_the_margin_alone():
    same = measured({5: 0.835, 10: 0.842}, 0.84)
    assert (needed(report(same, margin=0.05)).verdict, needed(report(same, margin=0.05)).holds) == (
        "no difference",
        False,
    )
    for made in (report(same, margin=0.002), report(measured({5: 0.83, 10: 0.84}, 0.84, n=60), margin=0.05)):
        claim = needed(made)
        assert (claim.verdict, claim.holds) == ("cannot tell", None)
        assert "points are not excluded" in claim.plain
        assert "cannot tell whether the model needs" in made.finding().headline


def test_answers_that_never_change_are_no_proof_of_a_difference_of_zero():
    still = measured({5: 0.85, 10: 0.85}, 0.85, spread=0, n=50)
    assert max(abs(e.against.difference.high) for e in still.effects(0) if e.against) == pytest.approx(0)
    room = 1.959964**2 / (50 + 1.959964**2)
    assert needed(report(still, margin=room - 0.001)).holds is None
    assert needed(report(still, margin=room + 0.001)).holds is False


def test_a_fall_within_the_spread_of_random_sets_is_not_told_apart():
    assert needed(report(measured({5: 0.66, 10: 0.66}, 0.74, spread=0.08))).holds is None


def test_a_model_without_skill_has_nothing_that_could_be_lost():
    claim = needed(report(measured({5: 0.2, 10: 0.2}, 0.5, intact=0.45)))
    assert (claim.verdict, claim.holds) == ("cannot tell", None)
    assert "no skill is shown that could be lost" in claim.plain


def test_accuracy_below_the_majority_rate_may_still_be_skill_to_lose():
    one = measured({5: 0.4, 10: 0.4}, 0.69, intact=0.7)
    labels = np.where(np.random.default_rng(4).random(400) < 0.75, 1, 0)
    right = one.correct
    skewed = replace(one, split=rows_of(labels, ("no", "yes")), predictions=np.where(right, labels, 1 - labels))
    first = report(skewed).effects[0]
    assert first.intact.value < first.majority
    assert first.known.shown
    assert needed(report(skewed)).holds is True


def test_skill_neurons_that_are_needed_less_than_random_ones_are_not_needed():
    claim = needed(report(measured({5: 0.84, 10: 0.84}, 0.6)))
    assert claim.holds is None
    assert "+2" in claim.plain


def test_kept_neurons_are_judged_the_other_way():
    high, low = measured({5: 0.8, 10: 0.8}, 0.6), measured({5: 0.6, 10: 0.6}, 0.8)
    assert needed(report(high, keep=True)).verdict == "carried by them alone"
    assert needed(report(low, keep=True)).holds is None
    assert "the skill neurons alone carry the task" in report(high, keep=True).finding().headline


def test_too_few_random_sets_for_the_test_are_said_so():
    clear = measured({5: 0.6, 10: 0.5}, 0.84)
    few = [Sets(one.rate, one.skill, None if one.controls is None else one.controls[:10], 10) for one in sets()]
    chosen = [0, 1, *(start + i for start in (2, 2 + 1 + K) for i in range(11))]
    less = replace(clear, predictions=clear.predictions[:, chosen], sets=few)
    claim = needed(report(less))
    assert claim.holds is None
    assert "10 random sets are too few for a test at 2 rates (controls=39 are enough)" in claim.plain


def test_other_tasks_stand_beside_it():
    own = measured({5: 0.7, 10: 0.55}, 0.84)
    spared, hit = (measured({5: x, 10: x}, 0.84, n=300, own=False) for x in (0.84, 0.5))
    assert "not shown hit" in [claim.verdict for claim in report(own, spared).finding().claims]
    (also,) = [claim for claim in report(own, hit).finding().claims if claim.verdict == "hit too"]
    assert "other (n=300" in also.plain


def test_every_line_of_the_table_carries_what_judges_it():
    made = report(measured({5: 0.7, 10: 0.55}, 0.84), measured({5: 0.84, 10: 0.84}, 0.84, own=False))
    table = made.table()
    assert len(table) == 6
    for name in ("intact", "skill"):
        assert (table[f"{name}_low"] <= table[f"{name}_accuracy"]).all()
        assert (table[f"{name}_accuracy"] <= table[f"{name}_high"]).all()
    assert table[["n", "majority", "prompts", "neurons"]].notna().all(axis=None)
    tested = table[table["rate"] > 0]
    assert tested.notna().all(axis=None)
    assert table[table["rate"] == 0][["difference", "holm_p", "random_accuracy"]].isna().all(axis=None)
    assert {f"test/skill/5/accuracy{end}" for end in ("", "_low", "_high")} <= made.metrics.keys()
    assert made.metrics["other/other/n"] == 400
    assert made.metrics["test/difference/10"] == pytest.approx(tested["difference"].iloc[1])


def test_rows_name_what_was_suppressed():
    rows = measured({5: 0.7, 10: 0.55}, 0.84, n=26).rows()
    assert len(rows) == 2 * (2 + 2 * (1 + K)) * 26
    counts = rows.groupby(["prompt", "suppressed"]).size()
    assert counts["a", "none"] == 26
    assert counts["a", "skill"] == 3 * 26
    assert counts["b", f"random {K - 1}"] == 2 * 26
    assert rows[rows["suppressed"] == "none"]["rate"].isna().all()


def test_curves_show_skill_random_and_majority(tmp_path):
    panels = report(measured({5: 0.7, 10: 0.55}, 0.84), measured({5: 0.8, 10: 0.8}, 0.84, own=False)).panels()
    figure = suppression_curves(panels, "rate")
    for axes, panel in zip(figure.axes, panels, strict=True):
        skill, random = (
            next(line for line in axes.lines if word in line.get_label()) for word in ("skill", "random")
        )
        assert skill.get_xdata().tolist() == [0, 5, 10]
        assert skill.get_ydata().tolist() == [dose.skill.value for dose in panel.doses]
        assert random.get_xdata().tolist() == [0, 5, 10]
        expected = [panel.doses[0].skill.value, *(dose.random.value for dose in panel.doses[1:])]
        assert random.get_ydata().tolist() == expected
        assert axes.get_title(loc="left") == panel.title
        band = axes.collections[0].get_paths()[0].vertices[:, 1]
        assert band.min() == min(dose.skill.low for dose in panel.doses)
        assert any(line.get_ydata()[0] == line.get_ydata()[-1] == panel.majority for line in axes.lines)
    write(figure, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 5000
    with pytest.raises(ValueError, match="at least one task"):
        suppression_curves([], "rate")


def test_a_curve_without_random_sets_is_drawn():
    figure = suppression_curves([DosePanel("x", [Dose(0, Estimate(0.8, 0.7, 0.9), None)], 0.5)], "rate")
    assert not any("random" in str(line.get_label()) for line in figure.axes[0].lines)
