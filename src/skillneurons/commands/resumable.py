"""A training that can be stopped at any moment and taken up again: the loop under tuning and pretraining."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch
from accelerate import Accelerator

P = TypeVar("P")
LOSS_EVERY = 10


class Checkpoint(Protocol):
    """Where a training keeps its state: the last one saved is whole, or there is none."""

    def load(self) -> dict[str, Any] | None:
        """The last state saved."""

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state; on the main process only."""


class NonFiniteLossError(ArithmeticError):
    """The loss became NaN or infinite; the last checkpoint before it is kept."""


def rate_factor(settings: Any, step: int, steps: int) -> float:
    """The factor of the learning rate for update `step` (from 0): linear warm-up, then the schedule."""
    warmup: int = min(settings.warmup_steps, steps - 1)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, steps - warmup)
    return {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}[
        settings.schedule
    ]


class ResumableTraining(ABC, Generic[P]):
    """One training between two steps; P is what a watcher is told.

    Step t must depend on the configuration and t alone. Then, on one device with the same number of threads, an
    interrupted and resumed training ends bit-identical. The settings have `schedule`, `warmup_steps`, `max_grad_norm`
    (0 is none), `dropout` and `eval_every`.
    """

    step = 0

    def __init__(self, settings: Any, steps: int, accelerator: Accelerator) -> None:
        self._settings, self.steps, self.accelerator = settings, steps, accelerator

    def work(self, checkpoint: Checkpoint, watch: Callable[[P], None]) -> None:
        """Train to the end, from the start or from what the checkpoint holds.

        Raises:
            NonFiniteLossError: with the step; the checkpoint keeps the last good state.
        """
        state, self._since, self._seconds, self._started = checkpoint.load(), 0, 0.0, time.monotonic()
        self.optimizer = self.begin(state)
        rates = [group["lr"] * group.get("rate", 1.0) for group in self.optimizer.param_groups]
        if state is not None:
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self._seconds, self._since = state["step"], state["seconds"], state.get("since", 0)
            self.restore(state)
        self._begun = self.step
        if state is None:
            self.evaluate()
        while not self.finished:
            self._train_step(rates)
            if self.at_evaluation:
                self.evaluate()
            if self.at_checkpoint and self.accelerator.is_main_process:
                facts = {"step": self.step, "seconds": self.elapsed(), "since": self._since}
                checkpoint.save({"optimizer": self.optimizer.state_dict(), **facts, **self.state()})
            if self.at_point or self.at_evaluation:
                watch(self.progress())

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self.steps

    @property
    def at_evaluation(self) -> bool:
        """Whether to evaluate after this step."""
        return self.step % self._settings.eval_every == 0 or self.step == self.steps

    @property
    def at_point(self) -> bool:
        """Whether the losses since the last point become one."""
        return self.step % LOSS_EVERY == 0 or self.step == self.steps

    @property
    def at_checkpoint(self) -> bool:
        """Whether to save after this step."""
        return self.at_evaluation

    def elapsed(self) -> float:
        """Seconds of work, those before an interruption included."""
        return self._seconds + time.monotonic() - self._started

    def pace(self) -> tuple[int, float, float]:
        """Steps done here, the seconds they took, and seconds left: of this process's own run."""
        done, here = self.step - self._begun, max(1e-9, time.monotonic() - self._started)
        return done, here, (self.steps - self.step) * here / max(1, done)

    def _train_step(self, rates: Sequence[float]) -> None:
        factor = rate_factor(self._settings, self.step, self.steps)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        if self._settings.dropout:
            # drawn from the step, not from a stream: a resumed training needs no generator state
            torch.manual_seed(self.dropout_seed())
        self.backward()
        if self._settings.max_grad_norm:
            trained = [one for group in self.optimizer.param_groups for one in group["params"]]
            self.accelerator.clip_grad_norm_(trained, self._settings.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step, self._since = self.step + 1, self._since + 1
        if self.at_point:
            self.close_window(self._since)
            self._since = 0

    @abstractmethod
    def begin(self, state: dict[str, Any] | None) -> Any:
        """Set up the parameters, from a state if there is one; returns the prepared optimizer."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave, beside parameters and optimizer."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What a resumed training needs beside the optimizer, the step and the clock."""

    @abstractmethod
    def dropout_seed(self) -> int:
        """The seed of this step's dropout."""

    @abstractmethod
    def backward(self) -> None:
        """The gradient of this step's batch."""

    @abstractmethod
    def close_window(self, steps: int) -> None:
        """Make the losses of the last `steps` steps a point; refuse one that is not finite."""

    @abstractmethod
    def evaluate(self) -> None:
        """Measure, and keep what came out."""

    @abstractmethod
    def progress(self) -> P:
        """What the watcher is told."""
