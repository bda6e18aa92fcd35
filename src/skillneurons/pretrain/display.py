"""What a person sees of a pretraining while it goes on."""

import time

from skillneurons.commands.display import LiveRows, clock
from skillneurons.pretrain.loop import PretrainProgress

PLAIN_SECONDS = 20


class PretrainDisplay(LiveRows):
    """One row a model: step, training losses, held-out loss, speed, time left; plain lines without a terminal."""

    columns = ("model", "step", "text loss", "row loss", "held out: text, rows, accuracy", "tokens/s", "time left")
    _said = 0.0

    def update(self, progress: PretrainProgress) -> None:
        """Show the progress of one model; without a terminal at most every 20 seconds."""
        step, text, cloze, held, speed, left = cells = _cells(progress)
        line = f"{progress.name}  step {step}  text {text}  rows {cloze}  {held}  {speed} tokens/s  left {left}"
        due = progress.at_measurement or time.monotonic() - self._said > PLAIN_SECONDS
        self.show(progress.name, cells, line if due else None)
        if due:
            self._said = time.monotonic()


def _cells(progress: PretrainProgress) -> tuple[str, ...]:
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
