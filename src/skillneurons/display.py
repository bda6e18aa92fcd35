"""What a person sees while work goes on: a live table on a terminal, plain lines elsewhere."""

from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from skillneurons.tuning import Progress


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


def _cells(progress: Progress) -> tuple[str, ...]:
    dev = progress.history.dev[-1]
    return (
        f"{progress.step}/{progress.max_steps}",
        f"{progress.history.train[-1][1]:.4f}",
        f"{dev.accuracy:.1%} [{dev.low:.1%}, {dev.high:.1%}]",
        f"{progress.examples_per_second:.1f}",
        clock(progress.seconds_left),
    )
