"""What a transfer command says, on predictions and neurons that were made up to know the answer."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests
from test_similarity import F, L, neurons

from conftest import rows_of
from skillneurons.transfer.families import ACROSS, ALL, GAP, LEARNT
from skillneurons.transfer.figures import Heat, TaskPair, transfer_and_overlap, transfer_matrix
from skillneurons.transfer.matrix import RANDOM, PromptSource, TargetPredictions, family_tests, lines, matrices
from skillneurons.transfer.panels import heats, overlaps, points
from skillneurons.transfer.report import TransferReport, _correlated
from skillneurons.transfer.similarity import similarity

FAMILIES = {"a1": "a", "a2": "a", "b1": "b", "b2": "b", "c1": "c", "c2": "c"}
N, SEEDS, K = 400, (0, 1, 2), 6


def measured(
    accuracy: Callable[[str, str], float], families: dict[str, str] = FAMILIES, n: int = N, spread: float = 0.01
) -> list[TargetPredictions]:
    """Rows right as often as `accuracy(source, target)` says; random prompts at about one half."""
    readers = [
        PromptSource(name, family, seed, f"{name}{seed}") for name, family in families.items() for seed in SEEDS
    ]
    readers += [PromptSource(RANDOM, "", k, f"random{k}") for k in range(K)]
    made = []
    for number, (target, family) in enumerate(families.items()):
        rng = np.random.default_rng(number)
        labels = (np.arange(n) % 20 < 9).astype(np.int64)  # majority 55%
        rates = [0.5 if r.source == RANDOM else accuracy(r.source, target) for r in readers]
        rates = np.array(rates) + rng.normal(0, spread, len(readers))
        right = rng.random(n) < rates[:, None]
        predictions = np.where(right, labels, 1 - labels)
        made.append(TargetPredictions(target, family, rows_of(labels, ("no", "yes")), readers, predictions))
    return made


def within(source: str, target: str) -> float:
    """Transfer within families alone, the less the later their letter."""
    if source == target:
        return 0.9
    return {"a": 0.88, "b": 0.85, "c": 0.82}[source[0]] if source[0] == target[0] else 0.5


def found_neurons(key: Callable[[str], str]) -> dict:
    """Tasks of one key have the same top neurons."""
    made = {}
    for number, name in enumerate(FAMILIES):
        shared = np.random.default_rng([ord(c) for c in key(name)]).random((1, L, F))
        made[name] = neurons(name, shared + 0.4 * np.random.default_rng(100 + number).random((3, L, F)))
    return made


def report(measured: list[TargetPredictions], neurons: dict | None = None) -> TransferReport:
    pairs = combinations(sorted(neurons or {}), 2)
    alike = {(a, b): similarity(neurons[a], neurons[b], 5) for a, b in pairs}
    tests = family_tests(measured)
    return TransferReport("6 x 6 tasks · tiny", lines(measured, tests), alike, 5, 10_000, 0, tests, 0.03)


def correlations(made: TransferReport, scope: str) -> dict:
    return {what.format(percent=made.percent): one for which, what, one in made.associations if which == scope}


def test_transfer_within_families_is_found():
    made = report(measured(within))
    verdicts = {(line.source, line.target): line.transfers for line in made.lines}
    assert all(verdicts[a, b] == (a[0] == b[0]) for a, b in verdicts)
    said = made.finding().text
    assert "prompts transfer in 3 of 9 pairs of families" in said
    assert "transfers: a → a, above" in said
    assert "6 of 30 single cells transfer" in said
    assert "6 of 6 within family, 0 of 24 across families" in said
    assert "own prompts have skill on 6 of 6 tasks" in said
    assert "n=400 test rows, 3 prompts a task, majority rate 55.0%" in said
    assert f"above {K} random prompts" in said
    assert "over tasks" in said
    family = correlations(made, ALL)["same family"]
    assert family.p_value == pytest.approx(family.p_floor)
    # of 720 orders the 48 that keep families together
    assert family.p_floor == pytest.approx(48 / 720)


def test_means_are_over_cells_and_their_gap_has_an_interval():
    made = report(measured(within))
    found = {one.relation: one for one in made.together if one.scope == ALL and one.source_family == "all"}
    names, values = matrices(made.lines)
    family = np.array([FAMILIES[name] for name in names])
    same = (family[:, None] == family) & ~np.eye(6, dtype=bool)
    relative = values["relative"]
    assert np.array_equal(np.diag(relative), np.ones(6))
    assert found["within family"].relative.value == pytest.approx(relative[same].mean())
    gap = found[GAP].relative
    assert gap.value == pytest.approx(relative[same].mean() - relative[family[:, None] != family].mean())
    assert 0.2 < gap.low < gap.value < gap.high < 0.6
    assert found[GAP].unit == "tasks"
    pairs = [one for one in made.together if one.source_family != "all"]
    assert len(pairs) == 9
    two = next(one for one in pairs if one.source_family == one.target_family == "a")
    assert two.unit == "seeds"
    assert two.relative.low < two.relative.value < two.relative.high


def test_transfer_that_goes_with_overlap_is_found_and_other_transfer_is_not():
    planted = report(measured(within), found_neurons(lambda name: name[0]))
    one = correlations(planted, LEARNT)["overlap of the top 5%"]
    assert one.value > 0.5
    assert one.p_value < 0.05
    # tasks overlap where they share a family, so overlap explains nothing that the family does not
    assert "not told apart from families: overlap of the top 5%: Spearman" in planted.finding().text
    assert one.group_floor > 0.05, "families of two leave eight orders"
    within_too = _correlated("overlap", replace(one, group_p=0.01, group_floor=0.001))
    assert (within_too.verdict, within_too.holds) == ("transfer goes with neurons", True)
    assert "within families p 0.01" in within_too.plain
    # neurons shared across families, by the number of the task
    other = report(measured(within), found_neurons(lambda name: name[1]))
    assert correlations(other, LEARNT)["overlap of the top 5%"].p_value > 0.05
    assert "cannot tell: overlap of the top 5%: Spearman" in other.finding().text
    assert "goes with neurons: overlap" not in other.finding().text


def test_a_model_at_chance_is_said_to_be():
    said = report(measured(lambda source, target: 0.5)).finding().text
    assert "- cannot tell: " in said
    assert "above 6 random prompts" in said
    assert "points are not excluded; 3 would count as none" in said
    assert "own prompts have skill on 0 of 6 tasks; on a1, a2, b1, b2, c1, c2 any prompt has" in said
    assert "prompts transfer" not in said
    assert "0 of 30 single cells transfer" in said


def test_no_transfer_is_said_only_where_a_difference_is_excluded():
    """Many rows, and prompts that hardly differ."""
    made = measured(lambda source, target: 0.5, {"a1": "a", "b1": "b"}, n=5_000, spread=0.001)
    text = report(made).finding().text
    assert "no prompt transfers to another task" in text
    assert "- no transfer: " in text
    assert "3 would count as none" in text
    assert "cannot tell" not in text.lower()


def test_pairs_of_families_are_tested_first_and_their_cells_after():
    made = measured(lambda s, t: 0.9 if s == t else 0.8 if s[0] == t[0] == "a" else 0.5)
    tests, found = family_tests(made), lines(made)
    plain = {(t.source_family, t.target_family): t for t in tests}
    assert len(plain) == 9
    adjusted = multipletests([t.difference.p_value for t in tests], method="holm")[1]
    assert [t.holm_p for t in tests] == pytest.approx(adjusted)
    chosen = {pair for pair, t in plain.items() if t.beyond}
    assert ("a", "a") in chosen
    for pair, test in plain.items():
        cells = [x for x in found if (x.source_family, x.target_family) == pair and x.relation != "own"]
        assert test.cells == len(cells) == (2 if pair[0] == pair[1] else 4)
        assert test.difference.value == pytest.approx(np.mean([x.cell.above_random.value for x in cells]))
        if pair not in chosen:
            assert all(np.isnan(x.holm_p) for x in cells)
            assert all(x.verdict.endswith("as its families are not") for x in cells)
            continue
        within_pair = multipletests([x.cell.above_random.p_value for x in cells], method="holm")[1]
        expected = np.minimum(1, within_pair * 9 / len(chosen))
        assert [x.holm_p for x in cells] == pytest.approx(expected)


def test_one_prompt_a_task_is_not_tested():
    made = measured(within)
    keep = [i for i, r in enumerate(made[0].readers) if r.source == RANDOM or r.seed == 0]
    one = [replace(x, readers=[x.readers[i] for i in keep], predictions=x.predictions[keep]) for x in made]
    found = report(one)
    said = found.finding().text
    assert "- not tested: " in said
    assert "tune two seeds or more" in said
    assert not any(line.transfers or line.beyond_random for line in found.lines)
    assert {line.verdict.split(", ")[1] for line in found.lines} == {"not tested against random prompts: one prompt"}
    assert set(found.test_table()["verdict"]) == {"not tested: one prompt a task"}


def test_skill_below_the_majority_rate_is_seen():
    """Right on 70% of either label, where always naming the commoner one would be right on 80%."""
    labels = (np.arange(500) % 5 > 0).astype(np.int64)
    rng = np.random.default_rng(0)
    rates = [0.7] * 3 + [0.5] * K
    readers = [PromptSource("s", "f", i, f"s{i}") for i in range(3)]
    readers += [PromptSource(RANDOM, "", i, f"r{i}") for i in range(K)]
    predictions = np.stack([np.where(rng.random(500) < rate, labels, 1 - labels) for rate in rates])
    [line] = lines([TargetPredictions("t", "g", rows_of(labels, ("no", "yes")), readers, predictions)])
    assert line.cell.accuracy.high < line.cell.majority
    assert line.transfers
    assert line.verdict == "skill, above random prompts"


def test_tasks_with_fewer_prompts_than_others_are_counted():
    made = measured(within)
    keep = [i for i, reader in enumerate(made[0].readers) if reader.source != "a1" or reader.seed == 0]
    fewer = [replace(one, readers=[one.readers[i] for i in keep], predictions=one.predictions[keep]) for one in made]
    assert "n=400 test rows, 1 to 3 prompts a task" in report(fewer).finding().text
    assert "n=400 test rows, 3 prompts a task" in report(made).finding().text


def test_tasks_that_are_not_learnt_are_left_out():
    """Own prompts of c at chance: everything is near 100% of them, and that is no transfer."""
    made = report(measured(lambda s, t: 0.5 if t[0] == "c" or s[0] == "c" else within(s, t)))
    assert made.learnt == ["a1", "a2", "b1", "b2"]
    said = made.finding().text
    assert "on c1, c2 any prompt has" in said
    assert f"of {LEARNT}" in said
    alone = next(one for one in made.together if one.scope == LEARNT and one.relation == "within family")
    assert {line.target for line in alone.lines} == {"a1", "a2", "b1", "b2"}
    assert correlations(made, LEARNT)["same family"].tasks == 4
    everything = next(one for one in made.together if one.scope == ALL and one.relation == "across families")
    assert everything.relative.value > next(
        one.relative.value for one in made.together if one.scope == LEARNT and one.relation == "across families"
    )


def test_prompts_that_do_worse_than_random_ones_are_counted():
    made = report(measured(lambda s, t: 0.9 if s == t else (0.2 if s[0] == t[0] else 0.5)))
    assert "6 below random prompts" in made.finding().text
    assert sum(line.verdict == "no skill shown, below random prompts" for line in made.lines) == 6


def test_metrics_name_source_and_target():
    made = report(measured(within))
    for end in ("", "_low", "_high"):
        assert f"transfer/a1/b1/accuracy{end}" in made.metrics
        assert f"transfer/random/b1/accuracy{end}" in made.metrics
    assert made.metrics["transfer/a1/b1/majority"] == pytest.approx(0.55)
    assert made.metrics["transfer/a1/a1/relative"] == 1
    assert made.metrics["transfer/within_family/relative"] > made.metrics["transfer/across_families/relative"]


def test_the_picture_shows_every_cell_and_marks_chance(tmp_path):
    from skillneurons.plots.style import write

    made = report(measured(within))
    panels = heats(made.lines)
    figure = transfer_matrix(panels)
    grey = 0
    for axes, panel in zip(figure.axes, panels, strict=False):
        assert [label.get_text() for label in axes.get_xticklabels()] == list(FAMILIES)
        assert [label.get_text() for label in axes.get_yticklabels()] == [
            *FAMILIES,
            f"{K} random prompts",
            "majority rate",
        ]
        texts = {(int(t.get_position()[1]), int(t.get_position()[0])): t for t in axes.texts}
        hatched = {(round(p.get_y() + 0.5), round(p.get_x() + 0.5)) for p in axes.patches if p.get_hatch()}
        for (i, j), value in np.ndenumerate(panel.values):
            assert texts[i, j].get_text() == f"{100 * value:.0f}"
            assert ((i, j) in hatched) == bool(panel.at_chance[i, j])
            grey += (i, j) in hatched
        assert len(axes.lines) == (2 + 1) + 2, "families and the rows below are parted"
    assert grey == 2 * 24
    cells = {(line.source, line.target): line.cell for line in made.lines}
    assert panels[0].values[1, 0] == cells["a2", "a1"].accuracy.value
    assert panels[1].values[1, 0] == cells["a2", "a1"].relative.value
    assert panels[0].values[-2, 3] == cells["a1", "b2"].random.value
    write(figure, tmp_path / "transfer.png")
    assert (tmp_path / "transfer.png").stat().st_size > 20_000
    with pytest.raises(ValueError, match="at least one"):
        transfer_matrix([])


def test_the_picture_of_overlap_has_a_point_a_pair():
    made = report(measured(within), found_neurons(lambda name: name[0]))
    pairs = list(points(made.lines, made.similarities))
    assert len(pairs) == 15
    cells = {(line.source, line.target): line.cell for line in made.lines}
    for pair in pairs:
        a, b = pair.names
        both = (cells[a, b].relative.value + cells[b, a].relative.value) / 2
        assert pair.transfer == pytest.approx(both)
        assert pair.overlap == made.similarities[a, b].overlap.value
        assert pair.same_family == (a[0] == b[0])
        assert not pair.at_chance
    heat = overlaps(made.lines, made.similarities, 5)
    assert np.isnan(np.diag(heat.values)).all()
    assert heat.values[0, 1] == made.similarities["a1", "a2"].overlap.value
    figure = transfer_and_overlap(heat, pairs, 0.05, "x")
    scatter = figure.axes[1]
    assert sum(len(line.get_xdata()) for line in scatter.lines if line.get_linestyle() == "None") == 15
    assert any(line.get_xdata()[0] == 0.05 for line in scatter.lines)
    hollow = TaskPair(("a", "b"), 0.1, 0.9, False, True)
    drawn = transfer_and_overlap(heat, [hollow], 0.05, "x").axes[1].lines[-1]
    assert drawn.get_markerfacecolor() == "none"
    with pytest.raises(ValueError, match="at least one pair"):
        transfer_and_overlap(heat, [], 0.05, "x")


def test_a_cell_that_was_not_measured_is_a_dash():
    heat = Heat("x", [("a", "f")], [("a", "f"), ("b", "f")], np.array([[0.5, np.nan]]), np.zeros((1, 2), dtype=bool))
    assert [text.get_text() for text in transfer_matrix([heat]).axes[0].texts] == ["50", "–"]


def test_no_verdict_rests_on_tasks_that_are_not_learnt():
    """Two tasks learnt: among the others everything is near 100% of an own prompt at chance."""
    made = report(
        measured(lambda s, t: within(s, t) if s[0] == t[0] == "a" else 0.5), found_neurons(lambda name: name[0])
    )
    assert made.learnt == ["a1", "a2"]
    assert correlations(made, ALL)
    assert not correlations(made, LEARNT)
    said = made.finding().text
    assert "2 tasks with skill of the three that a correlation takes" in said
    assert "goes with neurons" not in said
    assert "spearman" not in said.lower()


def test_tasks_that_random_prompts_do_are_named():
    made = report(measured(within))
    assert "random prompts alone" not in made.finding().text
    known = measured(within)
    for one in known[:2]:
        for i, reader in enumerate(one.readers):
            if reader.source == RANDOM:
                one.predictions[i] = one.predictions[0]
    said = report(known).finding().text
    first, second = (f"{name} {report(known).lines[i].cell.random.value:.1%}" for name, i in (("a1", 0), ("a2", 6)))
    assert f"random prompts alone are above the majority rate: {first} (" in said
    assert f", {second} (" in said
    assert "4 of 30 single cells transfer" in said, "those of a are not above random prompts any more"


def test_the_share_over_tasks_is_not_below_0_and_a_gap_may_be():
    made = measured(lambda source, target: 0.9 if source == target or (source, target) == ("a1", "b1") else 0.0)
    found = report(made).together
    across = next(one for one in found if one.relation == ACROSS and one.source_family == "all")
    assert across.unit == "tasks"
    assert 0 < across.relative.value < 0.2
    assert across.relative.low == 0.0
    assert across.relative.high > across.relative.value
    gap = next(one for one in found if one.relation == GAP)
    assert gap.relative.low < 0
