import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from conftest import ROOT
from skillneurons.plots.style import Bar, Curve, accuracy_by_seed, learning_curves, write
from skillneurons.stats.intervals import Estimate

CONDITIONS = ("tuned prompt", "no prompt (raw)", "no prompt (calibrated)", "random prompt")


def curve(seed: int, steps: int = 60, evaluations: int = 4) -> Curve:
    rng = np.random.default_rng(seed)
    train = [(step, 0.7 + float(rng.normal(0, 0.1))) for step in range(1, steps + 1)]
    values = rng.uniform(0.6, 0.9, evaluations)
    ends = [Estimate(v, v - 0.03, v + 0.02) for v in values.tolist()]
    dev = [(steps * (k + 1) // evaluations, one) for k, one in enumerate(ends)]
    return Curve(train, dev, max(dev, key=lambda point: point[1].value)[0])


def bars(seeds: tuple[int, ...]) -> list[Bar]:
    rng = np.random.default_rng(0)
    values = rng.uniform(0.45, 0.9, (len(seeds), len(CONDITIONS)))
    return [
        Bar(seed, condition, Estimate(value, value - 0.04, value + 0.03))
        for seed, row in zip(seeds, values.tolist(), strict=True)
        for condition, value in zip(CONDITIONS, row, strict=True)
    ]


def line(axes: Axes, label: str) -> Any:
    (found,) = [one for one in axes.lines if one.get_label() == label]
    return found


def whiskers(axes: Axes) -> list[list[tuple[float, float, float]]]:
    """Per series: (x, low, high) of each whisker."""
    groups = [group for group in axes.collections if isinstance(group, LineCollection)]
    return [[(s[0, 0], s[0, 1], s[1, 1]) for s in map(np.asarray, group.get_segments())] for group in groups]


def legend_texts(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def solid(axes: Axes) -> list[Any]:
    return [one for one in axes.lines if not one.is_dashed()]


def majority_lines(axes: Axes) -> list[float]:
    return [np.asarray(one.get_xydata())[0, 1] for one in axes.lines if one.is_dashed()]


def box(artist: Any) -> Any:
    """Where the artist and its words lie, in pixels."""
    return artist.get_tightbbox()


def drawn(figure: Figure) -> Figure:
    FigureCanvasAgg(figure).draw()
    return figure


# Learning curves


def test_learning_curves_hold_the_data_of_every_seed() -> None:
    histories = {seed: curve(seed) for seed in (2, 0, 1)}
    left, right = learning_curves(histories, 0.51).axes
    assert len(left.lines) == 3
    for index, seed in enumerate((0, 1, 2)):
        given = histories[seed]
        assert line(left, f"seed {seed}").get_xydata().tolist() == [list(point) for point in given.train]
        assert line(right, f"seed {seed}").get_xydata().tolist() == [[step, one.value] for step, one in given.dev]
        assert whiskers(right)[index] == [(step, one.low, one.high) for step, one in given.dev]


def test_the_selected_step_of_every_seed_wears_a_ring_in_its_colour() -> None:
    histories = {seed: curve(seed) for seed in range(3)}
    right = learning_curves(histories, 0.51).axes[1]
    rings = [one for one in solid(right) if one.get_markerfacecolor() == "none"]
    assert len(rings) == 3
    for seed, ring in enumerate(rings):
        best = next((step, one.value) for step, one in histories[seed].dev if step == histories[seed].best_step)
        assert ring.get_xydata().tolist() == [list(best[:2])]
        assert ring.get_markeredgecolor() == line(right, f"seed {seed}").get_color()


def test_the_majority_line_is_drawn_and_named_with_its_value() -> None:
    right = learning_curves({0: curve(0)}, 0.514).axes[1]
    assert majority_lines(right) == [0.514]
    assert [text.get_text() for text in right.texts] == ["majority\n51.4%"]


def test_a_long_loss_is_averaged_over_the_raw_values() -> None:
    given = curve(0, steps=400)
    left = learning_curves({0: given}, 0.5).axes[0]
    raw, smooth = solid(left)
    losses = np.array([loss for _, loss in given.train])
    assert raw.get_ydata().tolist() == losses.tolist()
    assert raw.get_alpha() < 0.3
    averaged = smooth.get_ydata()
    assert averaged[200] == pytest.approx(losses[190:211].mean())
    assert averaged[0] == pytest.approx(losses[:11].mean())
    assert averaged[-1] == pytest.approx(losses[-11:].mean())


def test_all_points_and_whiskers_lie_within_the_axes_limits() -> None:
    histories = {seed: curve(seed) for seed in range(3)}
    for axes in drawn(learning_curves(histories, 0.51)).axes:
        (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
        points = np.concatenate([one.get_xydata() for one in solid(axes)])
        ends = np.array([(x, y) for group in whiskers(axes) for x, *both in group for y in both]).reshape(-1, 2)
        inside = np.concatenate([points, ends])
        assert ((inside > (x0, y0)) & (inside < (x1, y1))).all()


def test_seeds_stand_side_by_side_on_paper_without_meeting_the_next_evaluation() -> None:
    histories = {seed: curve(seed, evaluations=20) for seed in range(5)}
    right = drawn(learning_curves(histories, 0.51)).axes[1]
    seeds = [line(right, f"seed {seed}") for seed in range(5)]
    pixels = np.array([one.get_transform().transform(one.get_xydata())[:, 0] for one in seeds])
    assert (np.diff(pixels, axis=0) > 1).all()
    assert (pixels[0, 1:] > pixels[-1, :-1]).all()


def test_accuracy_ticks_read_in_percent() -> None:
    right = drawn(learning_curves({0: curve(0)}, 0.51)).axes[1]
    read = {tick.get_text(): float(at) for at, tick in zip(right.get_yticks(), right.get_yticklabels(), strict=True)}
    assert len(read) >= 4
    assert all(float(text.removesuffix("%")) == pytest.approx(100 * at) for text, at in read.items())
    assert all(text.endswith("%") for text in read)


def test_more_seeds_than_colours_still_look_different() -> None:
    right = learning_curves({seed: curve(seed) for seed in range(12)}, 0.5).axes[1]
    looks = {(line(right, f"seed {s}").get_color(), line(right, f"seed {s}").get_marker()) for s in range(12)}
    assert len(looks) == 12


def test_a_diverged_loss_does_not_stop_the_drawing() -> None:
    broken = Curve([(1, 0.7), (2, float("inf")), (3, float("nan"))], [(3, Estimate(0.5, 0.4, 0.6))], 3)
    left = drawn(learning_curves({0: broken}, 0.5)).axes[0]
    assert np.isfinite(left.get_ylim()).all()


def test_a_best_step_that_was_never_evaluated_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got 5, evaluated \[10\]"):
        Curve([(1, 0.7)], [(10, Estimate(0.5, 0.4, 0.6))], best_step=5)


# Accuracy by seed


def test_every_bar_stands_at_its_seed_with_its_whisker() -> None:
    rows = bars((0, 1, 7))
    (axes,) = accuracy_by_seed(rows, 0.51, "Test accuracy on sst2, n = 400").axes
    for group, condition in zip(whiskers(axes), CONDITIONS, strict=True):
        chosen = [row for row in rows if row.condition == condition]
        marks = line(axes, condition)
        assert marks.get_ydata().tolist() == [row.value.value for row in chosen]
        assert np.round(marks.get_xdata()).tolist() == [0, 1, 2]
        assert [ends[1:] for ends in group] == [(row.value.low, row.value.high) for row in chosen]
        assert [ends[0] for ends in group] == marks.get_xdata().tolist()
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["seed 0", "seed 1", "seed 7"]
    assert axes.get_title(loc="left") == "Test accuracy on sst2, n = 400"
    assert majority_lines(axes) == [0.51]
    assert [text.get_text() for text in axes.texts] == ["majority\n51.0%"]


def test_conditions_do_not_stand_on_each_other() -> None:
    (axes,) = accuracy_by_seed(bars((0, 1)), 0.51, "").axes
    places = np.sort(np.concatenate([line(axes, condition).get_xdata() for condition in CONDITIONS]))
    assert len(places) == 8
    assert np.diff(places).min() > 0.1


def test_rows_in_any_order_and_with_gaps_find_their_seed() -> None:
    given = ((3, "b", 0.7), (1, "a", 0.5), (1, "b", 0.8))
    rows = [Bar(seed, name, Estimate(value, value - 0.1, value + 0.1)) for seed, name, value in given]
    (axes,) = accuracy_by_seed(rows, 0.5, "").axes
    assert np.round(line(axes, "b").get_xdata()).tolist() == [1, 0]
    assert line(axes, "b").get_ydata().tolist() == [0.7, 0.8]
    assert np.round(line(axes, "a").get_xdata()).tolist() == [0]


# Both


def both_figures() -> list[Figure]:
    histories = {seed: curve(seed, steps=150) for seed in range(3)}
    return [learning_curves(histories, 0.51), accuracy_by_seed(bars((0, 1, 2)), 0.51, "Test accuracy")]


def test_legends_name_every_series_and_cover_no_axes() -> None:
    curves, by_seed = map(drawn, both_figures())
    assert legend_texts(curves) == ["seed 0", "seed 1", "seed 2", "selected step"]
    assert legend_texts(by_seed) == list(CONDITIONS)
    for figure in (curves, by_seed):
        legend = box(figure.legends[0])
        assert not any(legend.overlaps(box(axes)) for axes in figure.axes)


@pytest.mark.parametrize("index", [0, 1])
def test_all_words_lie_within_the_page(index: int) -> None:
    figure = drawn(both_figures()[index])
    page = figure.bbox
    for part in map(box, [*figure.axes, figure.legends[0]]):
        assert page.x0 <= part.x0 < part.x1 <= page.x1
        assert page.y0 <= part.y0 < part.y1 <= page.y1


@pytest.mark.parametrize("index", [0, 1])
def test_writing_again_and_drawing_anew_give_the_same_bytes(index: int, tmp_path: Path) -> None:
    figure = both_figures()[index]
    for name, drawing in (("once", figure), ("again", figure), ("anew", both_figures()[index])):
        write(drawing, tmp_path / name)
    assert (tmp_path / "once").read_bytes() == (tmp_path / "again").read_bytes() == (tmp_path / "anew").read_bytes()


def test_the_file_is_a_png_at_150_dpi_without_a_date_or_a_version(tmp_path: Path) -> None:
    figure = both_figures()[1]
    write(figure, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        width, height = figure.get_size_inches()
        assert (image.format, image.size) == ("PNG", (round(width * 150), round(height * 150)))
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
        assert getattr(image, "text", None) == {}


def test_drawing_touches_no_global_state() -> None:
    # dict.__getitem__, because asking rcParams for the backend would itself choose one
    script = (
        "import sys, matplotlib\n"
        "read = lambda: {k: dict.__getitem__(matplotlib.rcParams, k) for k in matplotlib.rcParams}\n"
        "before = read()\n"
        "from skillneurons.plots.style import *\n"
        "write(accuracy_by_seed([Bar(0, 'a', Estimate(.5, .4, .6))], .5, 't'), '/dev/null')\n"
        "print('matplotlib.pyplot' in sys.modules, read() == before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert done.stdout.split() == ["False", "True"]


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one seed"):
        learning_curves({}, 0.5)
    with pytest.raises(ValueError, match="at least one row"):
        accuracy_by_seed([], 0.5, "nothing")
