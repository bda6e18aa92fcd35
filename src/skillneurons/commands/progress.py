"""How far a stage is: rows read of those to read, and the time left."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from skillneurons.commands.display import clock

PLAIN_SECONDS = 15.0  # between two lines where there is no terminal


@contextmanager
def rows_read(model: nn.Module, console: Console, what: str, rows: float) -> Iterator[None]:
    """Shows the rows that a model reads inside: a bar on a terminal, a line now and then elsewhere.

    Args:
        model: whose forward passes are counted, those that stop half-way included.
        console: a quiet one shows nothing.
        what: is done, in a few words.
        rows: about how many will be read at most.
    """
    shown = bar(console)
    task = shown.add_task(what, total=max(1.0, rows))
    started = said = time.monotonic()

    def called(_: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        nonlocal said
        given = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
        shown.advance(task, 0 if given is None else len(given))
        if not console.is_terminal and (now := time.monotonic()) - said > PLAIN_SECONDS:
            said, done = now, shown.tasks[0].completed
            left = clock(max(0.0, (rows - done) * (now - started) / max(1.0, done)))
            console.print(f"{what}: {done:,.0f} of about {rows:,.0f} rows, {left} left", highlight=False)

    handle = model.register_forward_pre_hook(called, with_kwargs=True)
    try:
        with shown:
            yield
    finally:
        handle.remove()


def bar(console: Console) -> Progress:
    """A bar with the time spent and left, which is gone when it is done; without a terminal it shows nothing."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=20))
    times = (TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    return Progress(
        *columns, *times, console=console, transient=True, disable=console.quiet or not console.is_terminal
    )
