"""What a person sees while work goes on: a live table on a terminal, plain lines elsewhere."""

from collections.abc import Sequence
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table


def clock(seconds: float) -> str:
    """`1:02:03`, `2:03` or `0:03`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


class LiveRows:
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
        self.show(name, self._word(text), f"{self.prefix}{name}  {text}")

    def say(self, line: str) -> None:
        """A line above the table."""
        if not self._silent:
            self._console.print(line, highlight=False, soft_wrap=True)

    def show(self, name: object, cells: tuple[str, ...], line: str | None) -> None:
        """Replace a row; the table shows every change, plain lines only those that are worth one."""
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
