"""What a person sees while work goes on: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Sequence
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from skillneurons.findings import LONGEST, Finding, several

LEAST_COLUMNS = 3
WIDE = Console(width=1_000, quiet=True)  # to measure by


def clock(seconds: float) -> str:
    """`1:02:03`, `2:03` or `0:03`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def show_finding(found: Finding, console: Console, whole: bool = False) -> None:
    """The headline, then a claim a line; without `whole` as many as fit into a screen."""
    headline, lines, left = found.shortened(10_000 if whole else LONGEST)
    console.print(Text(headline, style="bold"), highlight=False)
    for line in lines:
        verdict, _, rest = line.partition(":")
        grid = Table.grid(padding=(0, 1))
        grid.add_row("•", Text.assemble((f"{verdict}:", "bold"), rest))
        console.print(grid, highlight=False)
    if left:
        console.print(
            f"{several(left, 'more claim')}: verbose=true, or the run's description", style="dim", highlight=False
        )


def show_place(what: str, where: str, console: Console) -> None:
    """A line that is to be copied: it is never wrapped."""
    console.print(f"{what}: {where}", highlight=False, markup=False, soft_wrap=True)


def fitted(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int, title: str | None = None) -> Table:
    """A table in a width: columns from the second to the last but one are dropped, the rightmost first, before a cell
    is cut.
    """
    kept = list(range(len(columns)))
    while True:
        table = Table(*(columns[i] for i in kept), title=title)
        for row in rows:
            table.add_row(*(row[i] for i in kept))
        if len(kept) <= LEAST_COLUMNS or Measurement.get(WIDE, WIDE.options, table).maximum <= width:
            return table
        kept.pop(-2)


class LiveRows:
    """Named rows of cells: a live table on a terminal, plain lines elsewhere, nothing if silent."""

    columns: tuple[str, ...]
    prefix = ""  # of a row's name in a plain line

    def __init__(self, names: Sequence[object], console: Console, silent: bool = False) -> None:
        self._rows = {str(name): self._word("waiting") for name in names}
        self._console, self._silent = console, silent
        self._live: Live | None = None
        self._started, self._working = time.monotonic(), Spinner("dots")

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._silent:
            self._live = Live(console=self._console, refresh_per_second=4, get_renderable=self._shown)
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
            self._console.print(line, highlight=False, markup=False)

    def show(self, name: object, cells: tuple[str, ...], line: str | None) -> None:
        """Replace a row; the table shows every change, plain lines only those that are worth one."""
        self._rows[str(name)] = cells
        if self._live is None and line is not None:
            self.say(line)

    def _word(self, text: str) -> tuple[str, ...]:
        return (text, *[""] * (len(self.columns) - 2))

    def _shown(self) -> RenderableType:
        self._working.update(text=f"{clock(time.monotonic() - self._started)} so far")
        return Group(self._table(), self._working)

    def _table(self) -> Table:
        rows = [(name, *cells, *[""] * (len(self.columns) - 1 - len(cells))) for name, cells in self._rows.items()]
        return fitted(self.columns, rows, self._console.width)
