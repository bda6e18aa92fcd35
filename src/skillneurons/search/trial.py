"""One trial of a search, evaluation by evaluation: the seeds go side by side, and dev decides who goes on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from skillneurons.commands.resumable import NonFiniteLossError
from skillneurons.search.study import TakenOverError
from skillneurons.storage import FileCheckpoint
from skillneurons.tune.loop import Progress
from skillneurons.tune.seed import TuningSetup

States = Mapping[int, Mapping[str, Any]]  # seed -> the state of its checkpoint


@dataclass(frozen=True)
class Rung:
    """A trial after an evaluation of all its seeds: the mean of their best dev accuracies so far.

    Attributes:
        evaluation: its number, from 1.
        value: what Optuna is told.
        states: what the checkpoints of the seeds hold.
    """

    evaluation: int
    value: float
    states: States

    def loss(self) -> float:
        """The mean over seeds of the selected prompts' dev losses."""
        return float(np.mean([best(state)["loss"] for state in self.states.values()]))


class _Pause(Exception):  # noqa: N818 (as StopIteration, no error)
    """Raised by the watcher at an evaluation, when the checkpoint has been written."""


def climb(
    setup: TuningSetup, address: str, evaluations: int, stop: Callable[[Rung], str | None]
) -> tuple[Rung | None, str | None]:
    """Tune all seeds of a plan to one evaluation after the other, from their checkpoints if there are any.

    Checkpoints are kept under the trial's address. `stop` is told each rung and gives a reason to end
    there. Returns the last rung and the reason, if any; a loss that is not finite or a memory that is too
    small is a reason too.
    """
    last, config = None, setup.plan.config
    try:
        for evaluation in range(1, evaluations + 1):
            until = min(evaluation * config.eval_every, config.max_steps)
            states = {seed: _advance(setup, checkpoint(address, seed), seed, until) for seed in config.seeds}
            value = float(np.mean([best(state)["accuracy"] for state in states.values()]))
            last = Rung(evaluation, value, states)
            if reason := stop(last):
                return last, reason
    except NonFiniteLossError as error:
        return last, str(error)
    except torch.OutOfMemoryError:
        return last, "the device's memory is too small for these settings"
    return last, None


def checkpoint_steps(setup: TuningSetup, address: str) -> dict[int, int]:
    """The step each seed would go on from; 0 without a checkpoint."""
    states = {seed: checkpoint(address, seed).load() for seed in setup.plan.config.seeds}
    return {seed: int(state["step"]) if state else 0 for seed, state in states.items()}


def checkpoint(address: str, seed: int) -> FileCheckpoint:
    """Where a seed of a trial is kept."""
    return FileCheckpoint(f"trial-{address}-{seed}")


def best(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The selected evaluation in a checkpoint's state."""
    found: Mapping[str, Any] = state["history"]["best"]
    return found


def _advance(setup: TuningSetup, kept: FileCheckpoint, seed: int, until: int) -> Mapping[str, Any]:
    state = kept.load()
    if state is None or (state["step"] < until and not _gave_up(setup, state)):
        _tune(setup, seed, until, kept)
        state = kept.load()
    if state is None:  # dropped by the worker that has taken the trial up, and ended it
        raise TakenOverError("this trial, and has ended it")
    return state


def _tune(setup: TuningSetup, seed: int, until: int, kept: FileCheckpoint) -> None:
    def watch(progress: Progress) -> None:
        if progress.at_evaluation and progress.step >= until:
            raise _Pause

    try:
        setup.tune(seed, kept, watch)
    except _Pause:
        setup.accelerator.free_memory()


def _gave_up(setup: TuningSetup, state: Mapping[str, Any]) -> bool:
    return bool(0 < setup.plan.config.patience <= state["stale"])
