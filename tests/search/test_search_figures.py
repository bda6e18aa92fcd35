from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from skillneurons.plots.style import write
from skillneurons.search.figures import STANDARD, WITH_MAJORITY, Tried, rates, standard
from skillneurons.stats.intervals import Estimate


def tried(count: int = 12, **fixed: object) -> list[Tried]:
    rng, found = np.random.default_rng(0), []
    for number in range(count):
        params = {"learning_rate": float(10 ** rng.uniform(-4, 0)), "init": str(rng.choice(["normal", "vocabulary"]))}
        params["prompt_length"] = int(rng.choice([10, 50]))
        value = float(rng.uniform(0.5, 0.9))
        found.append(Tried(number, {**params, **fixed}, Estimate(value, value - 0.05, value + 0.04), number % 3 == 0))
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
    assert sorted((s[0, 1], s[1, 1]) for s in whiskers) == sorted((one.dev.low, one.dev.high) for one in trials)
    words = [text.get_text() for text in axes.texts]
    assert any("first trial" in word for word in words)
    best = max((one for one in trials if one.complete), key=lambda one: one.value)
    assert any(word.startswith("best") and f"{best.params['learning_rate']:.2g}" in word for word in words)


def counted(count: int = 12) -> list[FrozenTrial]:
    spaces = {"learning_rate": FloatDistribution(1e-4, 1.0, log=True), "init": CategoricalDistribution(["a", "b"])}
    made = []
    for one in tried(count, init="a"):
        params = {name: one.params[name] for name in spaces}
        state = TrialState.COMPLETE if one.complete else TrialState.PRUNED
        steps = {1: 0.4, 2: one.value}
        value = one.value if one.complete else None
        made.append(
            create_trial(params=params, distributions=spaces, value=value, state=state, intermediate_values=steps)
        )
    return made


def test_optunas_pictures_come_as_picture_and_page_with_the_majority_rate(tmp_path: Path):
    trials = counted(18)
    complete = [trial.value for trial in trials if trial.state == TrialState.COMPLETE]
    made = {name: (figure, page) for name, figure, page in standard(trials, 0.5)}
    assert list(made) == [*STANDARD, "importance"]
    history = made["history"][0].axes[0]
    shown = [sorted(c.get_offsets()[:, 1].tolist()) for c in history.collections]
    assert sorted(complete) in [pytest.approx(one) for one in shown]
    assert sorted(made["history"][1].data[0].y) == pytest.approx(sorted(complete))
    for name in WITH_MAJORITY:
        figure, page = made[name]
        for axes in figure.axes[: len(trials[0].params)]:
            assert any(np.allclose(line.get_ydata(), 0.5) for line in axes.lines), name
        assert "majority 50.0%" in page.to_json()
    assert len(made["pruning"][1].data) == len(trials)
    for name, (figure, _) in made.items():
        write(figure, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 5000


def test_importance_needs_enough_complete_trials():
    names = [name for name, *_ in standard(counted(8), 0.5)]
    assert names == list(STANDARD), "three complete trials"


def test_optunas_style_stays_out_of_other_figures():
    before = dict(matplotlib.rcParams)
    assert list(standard(counted(12), 0.5))
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    "trials",
    [tried(1), [one for one in tried() if not one.complete], tried(3, learning_rate=0.1, init="normal")],
    ids=["one", "only pruned", "all alike"],
)
def test_few_trials_can_be_drawn_too(trials, tmp_path: Path):
    write(rates(trials, 0.5, "t"), tmp_path / "rates.png")
    assert (tmp_path / "rates.png").stat().st_size > 5000


@pytest.mark.parametrize("trials", [counted(1), counted(12)[1:3]], ids=["one", "only pruned"])
def test_few_trials_of_a_study_can_be_drawn_too(trials, tmp_path: Path):
    for name, figure, _ in standard(trials, 0.5):
        write(figure, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 3000


def test_nothing_is_not_drawn():
    with pytest.raises(ValueError, match="at least one trial"):
        rates([], 0.5, "t")
