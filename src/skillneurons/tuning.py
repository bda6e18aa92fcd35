"""Prompt tuning: the prompt is the only trained parameter of a frozen backbone."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Protocol

import torch
from accelerate import Accelerator
from pydantic import BaseModel, ConfigDict, Field

from skillneurons.backbone import Backbone, LabelWords, TextBatch
from skillneurons.encoding import Encoded, endless_batches, mix
from skillneurons.evaluation import cross_entropy, score
from skillneurons.statistics import wilson

LOSS_EVERY = 10


class TuneSettings(BaseModel):
    """What decides the result of tuning one prompt, given backbone, data and seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rate: float = Field(5e-3, gt=0, allow_inf_nan=False, description="AdamW learning rate")
    batch_size: int = Field(16, ge=1, description="rows per optimizer step, over all processes together")
    accumulation: int = Field(1, ge=1, description="forward passes a batch is split into, to save memory")
    max_steps: int = Field(1000, ge=1, description="optimizer steps")
    schedule: Literal["constant", "linear", "cosine"] = Field("constant", description="after the warm-up")
    warmup_steps: int = Field(0, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False, description="AdamW weight decay")
    max_grad_norm: float = Field(0.0, ge=0, allow_inf_nan=False, description="gradient clipping; 0 is none")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16 is autocast; the prompt stays fp32")
    dropout: bool = Field(False, description="the backbone's dropout while tuning; never in evaluation")
    eval_every: int = Field(100, ge=1, description="steps between evaluations on dev")
    patience: int = Field(0, ge=0, description="stop after so many evaluations without a better one; 0: never")


@dataclass(frozen=True)
class DevPoint:
    """One evaluation on dev: accuracy with its 95% Wilson interval, loss in nats."""

    step: int
    accuracy: float
    low: float
    high: float
    loss: float

    def better_than(self, other: "DevPoint | None") -> bool:
        """More accurate, or as accurate at a lower loss: small dev sets have many ties."""
        return other is None or (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


@dataclass(frozen=True)
class History:
    """Curves of one tuning: `train` is (step, mean loss since the last point)."""

    train: tuple[tuple[int, float], ...] = ()
    dev: tuple[DevPoint, ...] = ()
    best: DevPoint | None = None


@dataclass(frozen=True)
class Progress:
    """What a watcher is told after each loss point and each evaluation; the history is the whole one."""

    seed: int
    step: int
    max_steps: int
    history: History
    examples_per_second: float
    seconds_left: float

    @property
    def at_evaluation(self) -> bool:
        """Whether dev was just evaluated."""
        return self.history.dev[-1].step == self.step


@dataclass(frozen=True)
class Tuned:
    """The selected prompt `[P, E]` (float32, CPU), its curves, the steps done and the seconds they took."""

    prompt: torch.Tensor
    history: History
    steps: int
    seconds: float


class Checkpoint(Protocol):
    """Where a tuning keeps its state: the last one saved is whole, or there is none."""

    def load(self) -> dict[str, Any] | None:
        """The last state saved."""

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state; on the main process only."""


class NonFiniteLossError(ArithmeticError):
    """The loss became NaN or infinite; the last checkpoint before it is kept."""


class Prompted(torch.nn.Module):
    """The prompt as the only parameter; the backbone is held outside the module tree."""

    def __init__(self, backbone: Backbone, prompt: torch.Tensor, words: LabelWords) -> None:
        super().__init__()
        self.prompt = torch.nn.Parameter(prompt.detach().clone().to(backbone.device, torch.float32))
        # in a tuple, so that nn.Module does not adopt it and DDP and state_dict see the prompt alone
        self._frozen = (backbone, words)

    def forward(self, batch: TextBatch) -> torch.Tensor:
        """Label scores `[B, C]`."""
        backbone, words = self._frozen
        return backbone.label_scores(self.prompt, batch, words)


def tune(
    backbone: Backbone,
    words: LabelWords,
    train: Encoded,
    dev: Encoded,
    start: torch.Tensor,
    settings: TuneSettings,
    seed: int,
    accelerator: Accelerator,
    checkpoint: Checkpoint,
    *,
    order_seed: int | None = None,
    eval_batch_size: int = 64,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> Tuned:
    """Tune one prompt from `start` `[P, E]`, select on dev, resume from `checkpoint` if it holds a state.

    The batch of step t depends on the order seed (the seed itself unless given) and t alone, and the loss
    of a step is the mean over its rows however they are split over processes and passes. On one device
    with the same number of threads an interrupted and resumed tuning ends bit-identical.

    Raises:
        NonFiniteLossError: with the step; the checkpoint keeps the last good state.
    """
    session = _Session(backbone, words, train, dev, settings, seed, accelerator, eval_batch_size)
    session.begin(start, checkpoint.load())
    batches = endless_batches(
        train.lengths, settings.batch_size, seed if order_seed is None else order_seed, session.step
    )
    if session.step == 0:
        session.evaluate()
    while not session.finished:
        session.train_step(next(batches))
        if session.at_evaluation:
            session.evaluate()
            session.save(checkpoint)
        if session.at_point:
            watch(session.progress())
    return session.result()


def learning_rate_factor(settings: TuneSettings, step: int) -> float:
    """The schedule's factor for the update number `step` (from 0): linear warm-up, then the schedule."""
    if step < settings.warmup_steps:
        return (step + 1) / (settings.warmup_steps + 1)
    rest = max(1, settings.max_steps - settings.warmup_steps)
    done = (step - settings.warmup_steps) / rest
    return {
        "constant": 1.0,
        "linear": 1.0 - done,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * done)),
    }[settings.schedule]


@dataclass
class _Session:
    """The state of one tuning between two steps; `begin` fills it from a start or a checkpoint."""

    backbone: Backbone
    words: LabelWords
    train: Encoded
    dev: Encoded
    settings: TuneSettings
    seed: int
    accelerator: Accelerator
    eval_batch_size: int
    step: int = 0
    history: History = field(default_factory=History)
    stale: int = 0
    seconds: float = 0.0

    def begin(self, start: torch.Tensor, state: dict[str, Any] | None) -> None:
        """Set up parameter and optimizer, from the state of a checkpoint if there is one."""
        module = Prompted(self.backbone, start if state is None else state["prompt"], self.words)
        self.best = module.prompt.detach().cpu().clone()
        optimizer = torch.optim.AdamW(
            module.parameters(), lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )
        self.module, self.optimizer = self.accelerator.prepare(module, optimizer)
        self._parameter = self.accelerator.unwrap_model(self.module).prompt
        self._loss = torch.zeros((), device=self.backbone.device)
        self._since, self._started, self._done_before = 0, time.monotonic(), 0
        if state is not None:
            self._restore(state)

    @property
    def finished(self) -> bool:
        """All steps done, or no better evaluation for `patience` of them."""
        gave_up = 0 < self.settings.patience <= self.stale
        return self.step >= self.settings.max_steps or gave_up

    @property
    def at_evaluation(self) -> bool:
        return self.step % self.settings.eval_every == 0 or self.step == self.settings.max_steps

    @property
    def at_point(self) -> bool:
        return self.step % LOSS_EVERY == 0 or self.at_evaluation

    def train_step(self, rows: Sequence[int]) -> None:
        """One optimizer step on the given rows, shared over processes and passes."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * learning_rate_factor(self.settings, self.step)
        if self.settings.dropout:
            # drawn from the step, not from a stream: a resumed tuning needs no generator state
            torch.manual_seed(mix(self.seed, self.step, self.accelerator.process_index))
        passes = list(self._passes(rows))
        with self.backbone.dropout(self.settings.dropout):
            for mine, weights in passes[:-1]:
                with self.accelerator.no_sync(self.module):
                    self._backward(mine, weights, len(rows))
            self._backward(*passes[-1], len(rows))
        if self.settings.max_grad_norm:
            self.accelerator.clip_grad_norm_([self._parameter], self.settings.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step, self._since = self.step + 1, self._since + 1
        if self.at_point:
            self._close_loss_window()

    def evaluate(self) -> None:
        """Score dev, add the point to the history and keep the prompt if it is the best so far."""
        prompt = self._parameter.detach()
        scores = score(self.backbone, prompt, self.dev, self.words, self.accelerator, self.eval_batch_size)
        correct = int((scores.argmax(1) == self.dev.labels).sum())
        interval = wilson(correct, len(self.dev))
        point = DevPoint(
            self.step,
            correct / len(self.dev),
            interval.low,
            interval.high,
            cross_entropy(scores, self.dev.labels),
        )
        better = point.better_than(self.history.best)
        if better:
            self.best = prompt.cpu().clone()
        self.stale = 0 if better else self.stale + 1
        best = point if better else self.history.best
        self.history = replace(self.history, dev=(*self.history.dev, point), best=best)

    def save(self, checkpoint: Checkpoint) -> None:
        """Hand the whole state to the checkpoint, from the main process."""
        if not self.accelerator.is_main_process:
            return
        checkpoint.save(
            {
                "prompt": self._parameter.detach().cpu().clone(),
                "best": self.best,
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "stale": self.stale,
                "history": _plain(self.history),
                "seconds": self._elapsed(),
            }
        )

    def progress(self) -> Progress:
        """For the watcher: speed and time left are of this process's own run, not of one before a crash."""
        here = time.monotonic() - self._started
        steps = self.step - self._done_before
        left = (self.settings.max_steps - self.step) * here / max(1, steps)
        return Progress(
            self.seed,
            self.step,
            self.settings.max_steps,
            self.history,
            steps * self.settings.batch_size / here,
            left,
        )

    def result(self) -> Tuned:
        """The selected prompt; frees what Accelerate holds, so that the next seed starts clean."""
        tuned = Tuned(self.best, self.history, self.step, self._elapsed())
        self.accelerator.free_memory()
        return tuned

    def _passes(self, rows: Sequence[int]) -> Iterator[tuple[list[int], torch.Tensor]]:
        mine = list(rows[self.accelerator.process_index :: self.accelerator.num_processes])
        # A process without a row still takes part, with weight 0: the others wait for its gradient.
        weights = torch.ones(len(mine)) if mine else torch.zeros(1)
        mine = mine or [rows[0]]
        size = -(-len(mine) // self.settings.accumulation)
        for start in range(0, len(mine), size):
            yield mine[start : start + size], weights[start : start + size]

    def _backward(self, rows: Sequence[int], weights: torch.Tensor, batch: int) -> None:
        texts = self.backbone.info.collate([self.train.rows[i] for i in rows]).to(self.backbone.device)
        labels = self.train.labels[list(rows)].to(self.backbone.device)
        scores = self.module(texts).float()
        losses = torch.nn.functional.cross_entropy(scores, labels, reduction="none")
        share = (losses * weights.to(losses.device)).sum() / batch
        # DDP averages gradients over processes; a share is part of one sum.
        self.accelerator.backward(share * self.accelerator.num_processes)
        self._loss += share.detach()

    def _close_loss_window(self) -> None:
        total = self.accelerator.reduce(self._loss.clone(), "sum")
        loss = float(total) / self._since
        self._loss.zero_()
        self._since = 0
        if not math.isfinite(loss) or not bool(torch.isfinite(self._parameter).all()):
            raise NonFiniteLossError(
                f"the loss of seed {self.seed} is not finite near step {self.step} ({loss}); "
                "lower learning_rate, or set max_grad_norm=1"
            )
        self.history = replace(self.history, train=(*self.history.train, (self.step, loss)))

    def _restore(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.best, self.step, self.stale = state["best"], state["step"], state["stale"]
        self.history = _history(state["history"])
        self.seconds, self._done_before = state["seconds"], state["step"]

    def _elapsed(self) -> float:
        return self.seconds + time.monotonic() - self._started


def _plain(history: History) -> dict[str, Any]:
    return {
        "train": [list(point) for point in history.train],
        "dev": [asdict(point) for point in history.dev],
        "best": asdict(history.best) if history.best else None,
    }


def _history(plain: dict[str, Any]) -> History:
    return History(
        tuple((int(step), float(loss)) for step, loss in plain["train"]),
        tuple(DevPoint(**point) for point in plain["dev"]),
        DevPoint(**plain["best"]) if plain["best"] else None,
    )
