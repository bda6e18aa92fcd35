"""What a person sees while work goes on: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Sequence

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


class TuneDisplay:
    """One row a seed: step, loss, dev accuracy, speed, time left.

    Without a terminal each evaluation on dev becomes one plain line. A silent display (another process
    than the main one) shows nothing.
    """

    def __init__(self, seeds: Sequence[int], console: Console, silent: bool = False) -> None:
        self._rows: dict[int, tuple[str, ...]] = dict.fromkeys(seeds, ("waiting", "", "", "", ""))
        self._console, self._silent = console, silent
        self._live: Live | None = None

    def __enter__(self) -> "TuneDisplay":
        if self._console.is_terminal and not self._silent:
            self._live = Live(self._table(), console=self._console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, progress: Progress) -> None:
        """Show the progress of one seed."""
        if self._silent:
            return
        self._rows[progress.seed] = _cells(progress)
        if self._live is not None:
            self._live.update(self._table())
        elif progress.at_evaluation:
            step, loss, dev, speed, left = _cells(progress)
            self.say(f"seed {progress.seed}  step {step}  loss {loss}  dev {dev}  {speed} rows/s  left {left}")

    def note(self, seed: int, text: str) -> None:
        """Replace a seed's row by a word (`reused`, `done`)."""
        self._rows[seed] = (text, "", "", "", "")
        if self._live is not None:
            self._live.update(self._table())
        else:
            self.say(f"seed {seed}  {text}")

    def say(self, line: str) -> None:
        """A line above the table."""
        if not self._silent:
            self._console.print(line, highlight=False, soft_wrap=True)

    def _table(self) -> Table:
        table = Table("seed", "step", "loss", "dev accuracy", "rows/s", "time left")
        for seed, cells in self._rows.items():
            table.add_row(str(seed), *cells)
        return table


class PretrainDisplay:
    """One row a model: step, training losses, held-out loss, speed, time left; plain lines without a terminal."""

    def __init__(self, names: Sequence[str], console: Console) -> None:
        self._rows: dict[str, tuple[str, ...]] = dict.fromkeys(names, ("waiting", "", "", "", "", ""))
        self._console, self._said = console, 0.0
        self._live: Live | None = None

    def __enter__(self) -> "PretrainDisplay":
        if self._console.is_terminal:
            self._live = Live(self._table(), console=self._console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, progress: PretrainProgress) -> None:
        """Show the progress of one model; without a terminal at most every 20 seconds."""
        self._rows[progress.name] = _pretrain_cells(progress)
        if self._live is not None:
            self._live.update(self._table())
        elif progress.at_measurement or time.monotonic() - self._said > PLAIN_SECONDS:
            self._said = time.monotonic()
            step, text, cloze, held, speed, left = self._rows[progress.name]
            self.say(
                f"{progress.name}  step {step}  text {text}  rows {cloze}  {held}  {speed} tokens/s  left {left}"
            )

    def note(self, name: str, text: str) -> None:
        """Replace a model's row by a word."""
        self._rows[name] = (text, "", "", "", "", "")
        if self._live is not None:
            self._live.update(self._table())
        else:
            self.say(f"{name}  {text}")

    def say(self, line: str) -> None:
        """A line above the table."""
        self._console.print(line, highlight=False, soft_wrap=True)

    def _table(self) -> Table:
        table = Table(
            "model", "step", "text loss", "row loss", "held out: text, rows, accuracy", "tokens/s", "time left"
        )
        for name, cells in self._rows.items():
            table.add_row(name, *cells)
        return table


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
