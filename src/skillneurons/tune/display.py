"""What a person sees of a tuning while it goes on."""

from skillneurons.commands.display import LiveRows, clock
from skillneurons.tune.loop import Progress


class TuneDisplay(LiveRows):
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
        self.show(progress.seed, cells, line if progress.at_evaluation else None)


def _cells(progress: Progress) -> tuple[str, ...]:
    dev = progress.history.dev[-1]
    return (
        f"{progress.step}/{progress.max_steps}",
        f"{progress.history.train[-1][1]:.4f}",
        f"{dev.accuracy:.1%} [{dev.low:.1%}, {dev.high:.1%}]",
        f"{progress.examples_per_second:.1f}",
        clock(progress.seconds_left),
    )
