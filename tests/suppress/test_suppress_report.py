"""What a suppression says in words, table and figure, on correctness that was made up to know the answer."""

from dataclasses import replace

import numpy as np
import pytest

from conftest import rows_of
from skillneurons.neurons.intervention import Sets, sets_at
from skillneurons.plots.style import Dose, DosePanel, suppression_curves, write
from skillneurons.stats.intervals import Estimate
from skillneurons.suppress.effects import verdict
from skillneurons.suppress.report import SetPredictions, SuppressionReport

RATES, K = (0, 5, 10), 8


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
    return SetPredictions(name, own, rows_of(labels, ("no", "yes")), ("a", "b"), predictions)


def report(*tasks: SetPredictions, keep: bool = False) -> SuppressionReport:
    effects = [effect for one in tasks for effect in one.effects(sets(keep), 0)]
    return SuppressionReport("film_notes · tiny", "zeroed", "zero", keep, effects)


def test_a_clear_fall_is_said_so_with_its_rates():
    said = report(measured({5: 0.7, 10: 0.55}, 0.84)).finding()
    assert "**The model needs these neurons**: at 5%, 10% (2 of 2 rates)" in said
    assert "Strongest at 10%" in said
    assert "n=400" in said
    assert "majority rate" in said
    assert "floor 0.11" in said


def test_no_difference_is_no_evidence():
    said = report(measured({5: 0.835, 10: 0.842}, 0.84)).finding()
    assert "**No evidence**" in said
    assert "needs these neurons**" not in said


def test_a_fall_within_the_spread_of_random_sets_is_no_evidence():
    said = report(measured({5: 0.66, 10: 0.66}, 0.74, spread=0.08)).finding()
    assert "**No evidence**" in said
    assert "random sets lie as far apart" in said


def test_few_rows_are_called_few():
    made = report(measured({5: 0.6, 10: 0.6}, 0.6, intact=0.75, n=12))
    first = made.effects[0]
    assert first.majority < first.intact.value
    said = made.finding()
    assert "**Too few rows**" in said
    value, gap = first.intact.value, first.intact.value - first.majority
    assert f"about {max(13, round(1.96**2 * value * (1 - value) / gap**2)):,} rows" in said


def wider(against):
    return replace(against, difference=replace(against.difference, low=-0.4, high=0.4))


def test_intervals_wider_than_all_there_is_to_lose():
    effects = report(measured({5: 0.835, 10: 0.842}, 0.84)).effects
    wide = [replace(e, against=wider(e.against)) if e.against else e for e in effects]
    assert "**Too few rows**: even a fall to the majority rate" in verdict(False, wide)


def test_a_model_at_chance_has_nothing_to_lose():
    said = report(measured({5: 0.2, 10: 0.2}, 0.5, intact=0.45)).finding()
    assert "**Nothing to lose**" in said
    assert "needs these neurons**" not in said


def test_skill_neurons_that_are_needed_less_than_random_ones():
    assert "**The other way round**" in report(measured({5: 0.84, 10: 0.84}, 0.6)).finding()


def test_kept_neurons_are_judged_the_other_way():
    high, low = measured({5: 0.8, 10: 0.8}, 0.6), measured({5: 0.6, 10: 0.6}, 0.8)
    assert "**These neurons alone carry the task better than random ones**" in report(high, keep=True).finding()
    assert "**The other way round**" in report(low, keep=True).finding()


def test_one_random_set_gives_no_verdict():
    effects = report(measured({5: 0.7, 10: 0.55}, 0.84)).effects
    alone = [
        replace(e, against=replace(e.against, sets=1, holm_another_p=float("nan"))) if e.against else e
        for e in effects
    ]
    assert "**No verdict**" in verdict(False, alone)


def test_other_tasks_stand_beside_it():
    own = measured({5: 0.7, 10: 0.55}, 0.84)
    spared, hit = (measured({5: x, 10: x}, 0.84, n=300, own=False) for x in (0.84, 0.5))
    assert "not beyond chance" in report(own, spared).finding()
    said = report(own, hit).finding()
    assert "On other (n=300" in said
    assert "beyond chance too" in said


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
    rows = measured({5: 0.7, 10: 0.55}, 0.84, n=26).rows(sets())
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
