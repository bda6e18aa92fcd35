from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from skillneurons.figures import write
from skillneurons.search_figures import Tried, history, importance, parallel, rates, slices


def tried(count: int = 12, **fixed: object) -> list[Tried]:
    rng, found = np.random.default_rng(0), []
    for number in range(count):
        params = {"learning_rate": float(10 ** rng.uniform(-4, 0)), "init": str(rng.choice(["normal", "vocabulary"]))}
        params["prompt_length"] = int(rng.choice([10, 50]))
        value = float(rng.uniform(0.5, 0.9))
        found.append(Tried(number, {**params, **fixed}, value, value - 0.05, value + 0.04, number % 3 == 0))
    return found


def marks(axes, label: str) -> list[tuple[float, float]]:
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return [(float(x), float(y)) for x, y in line.get_xydata()]


def test_rates_show_every_trial_where_it_is_with_its_interval():
    trials = tried()
    (axes,) = rates(trials, 0.5, "title").axes
    assert axes.get_xscale() == "log"
    for label, complete in (("complete", True), ("pruned", False)):
        chosen = [one for one in trials if one.complete is complete]
        assert marks(axes, label) == [(one.params["learning_rate"], one.value) for one in chosen]
    whiskers = [np.asarray(s) for c in axes.collections if isinstance(c, LineCollection) for s in c.get_segments()]
    assert sorted((s[0, 1], s[1, 1]) for s in whiskers) == sorted((one.low, one.high) for one in trials)
    words = [text.get_text() for text in axes.texts]
    assert any("first trial" in word for word in words)
    best = max((one for one in trials if one.complete), key=lambda one: one.value)
    assert any(word.startswith("best") and f"{best.params['learning_rate']:.2g}" in word for word in words)


def test_history_keeps_the_best_complete_one_so_far():
    trials = tried()
    (axes,) = history(trials, 0.5).axes
    best = [y for _, y in marks(axes, "best complete so far")]
    complete = [one.value for one in trials if one.complete]
    assert best == list(np.maximum.accumulate(complete))


def test_slices_have_a_panel_a_parameter_with_levels_named():
    trials = tried()
    figure = slices(trials, 0.5)
    rate, init, length = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["learning_rate", "init", "prompt_length"]
    assert [text.get_text() for text in init.get_xticklabels()] == ["normal", "vocabulary"]
    assert [text.get_text() for text in length.get_xticklabels()] == ["10", "50"]
    assert sum(len(marks(rate, label)) for label in ("complete", "pruned")) == len(trials)


def test_parallel_coordinates_have_a_line_a_trial_and_end_at_its_accuracy():
    trials = tried()
    (axes,) = parallel(trials).axes
    lines = [line for line in axes.lines if len(line.get_xdata()) == 4]
    values = sorted(one.value for one in trials)
    ends = [float(line.get_ydata()[-1]) for line in lines]
    np.testing.assert_allclose(ends, [(v - values[0]) / (values[-1] - values[0]) for v in values])


def test_importance_names_its_shares():
    (axes,) = importance({"learning_rate": 0.7, "init": 0.3}, 9).axes
    assert [bar.get_width() for bar in axes.patches] == [0.3, 0.7]
    assert "9 complete" in axes.get_title(loc="left")


@pytest.mark.parametrize(
    "trials",
    [tried(1), [one for one in tried() if not one.complete], tried(3, learning_rate=0.1, init="normal")],
    ids=["one", "only pruned", "all alike"],
)
def test_few_trials_can_be_drawn_too(trials, tmp_path: Path):
    figures = [rates(trials, 0.5, "t"), history(trials, 0.5), slices(trials, 0.5), parallel(trials)]
    for index, figure in enumerate(figures):
        write(figure, tmp_path / f"{index}.png")
        assert (tmp_path / f"{index}.png").stat().st_size > 5000


def test_nothing_is_not_drawn():
    for draw in (
        lambda: rates([], 0.5, "t"),
        lambda: history([], 0.5),
        lambda: slices([], 0.5),
        lambda: parallel([]),
    ):
        with pytest.raises(ValueError, match="at least one trial"):
            draw()
