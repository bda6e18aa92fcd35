"""What a person sees while work goes on: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Sequence
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from skillneurons.pretraining import PretrainProgress
from skillneurons.tuning import Progress

PLAIN_SECONDS = 20


def clock(seconds: float) -> str:
    """`1:02:03`, `2:03` or `0:03`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


class _Rows:
    """Named rows of cells: a live table on a terminal, plain lines elsewhere, nothing if silent."""

    columns: tuple[str, ...]
    prefix = ""  # of a row's name in a plain line

    def __init__(self, names: Sequence[object], console: Console, silent: bool = False) -> None:
        self._rows = {str(name): self._word("waiting") for name in names}
        self._console, self._silent = console, silent
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._silent:
            self._live = Live(self._table(), console=self._console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.stop()

    def note(self, name: object, text: str) -> None:
        """Replace a row by a word."""
        self._show(name, self._word(text), f"{self.prefix}{name}  {text}")

    def say(self, line: str) -> None:
        """A line above the table."""
        if not self._silent:
            self._console.print(line, highlight=False, soft_wrap=True)

    def _show(self, name: object, cells: tuple[str, ...], line: str | None) -> None:
        # the table shows every change, plain lines only those that are worth one
        self._rows[str(name)] = cells
        if self._live is not None:
            self._live.update(self._table())
        elif line is not None:
            self.say(line)

    def _word(self, text: str) -> tuple[str, ...]:
        return (text, *[""] * (len(self.columns) - 2))

    def _table(self) -> Table:
        table = Table(*self.columns)
        for name, cells in self._rows.items():
            table.add_row(name, *cells)
        return table


class TuneDisplay(_Rows):
    """One row a seed: step, loss, dev accuracy, speed, time left.

    Without a terminal each evaluation on dev becomes one plain line. A silent display (another process
    than the main one) shows nothing.
    """

    columns = ("seed", "step", "loss", "dev accuracy", "rows/s", "time left")
    prefix = "seed "

    def update(self, progress: Progress) -> None:
        """Show the progress of one seed."""
        step, loss, dev, speed, left = cells = _cells(progress)
        line = f"{self.prefix}{progress.seed}  step {step}  loss {loss}  dev {dev}  {speed} rows/s  left {left}"
        self._show(progress.seed, cells, line if progress.at_evaluation else None)


class PretrainDisplay(_Rows):
    """One row a model: step, training losses, held-out loss, speed, time left; plain lines without a terminal."""

    columns = ("model", "step", "text loss", "row loss", "held out: text, rows, accuracy", "tokens/s", "time left")
    _said = 0.0

    def update(self, progress: PretrainProgress) -> None:
        """Show the progress of one model; without a terminal at most every 20 seconds."""
        step, text, cloze, held, speed, left = cells = _pretrain_cells(progress)
        line = f"{progress.name}  step {step}  text {text}  rows {cloze}  {held}  {speed} tokens/s  left {left}"
        due = progress.at_measurement or time.monotonic() - self._said > PLAIN_SECONDS
        self._show(progress.name, cells, line if due else None)
        if due:
            self._said = time.monotonic()


def _pretrain_cells(progress: PretrainProgress) -> tuple[str, ...]:
    loss, measured = progress.curves.losses[-1], progress.curves.measured[-1].measured
    accuracies = " ".join(f"{found.task} {found.accuracy:.0%}" for found in measured.accuracies)
    return (
        f"{progress.step}/{progress.steps}",
        f"{loss.text:.3f}",
        f"{loss.cloze:.3f}",
        f"{measured.text_loss:.3f} {measured.cloze_loss:.3f} {accuracies}",
        f"{progress.tokens_per_second:,.0f}",
        clock(progress.seconds_left),
    )


def _cells(progress: Progress) -> tuple[str, ...]:
    dev = progress.history.dev[-1]
    return (
        f"{progress.step}/{progress.max_steps}",
        f"{progress.history.train[-1][1]:.4f}",
        f"{dev.accuracy:.1%} [{dev.low:.1%}, {dev.high:.1%}]",
        f"{progress.examples_per_second:.1f}",
        clock(progress.seconds_left),
    )
