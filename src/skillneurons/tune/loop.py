"""Prompt tuning: the prompt is the only trained parameter of a frozen backbone."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from accelerate import Accelerator
from pydantic import BaseModel, ConfigDict, Field

from skillneurons.backbones.base import Backbone, LabelWords, TextBatch
from skillneurons.backbones.batching import Encoded, endless_batches
from skillneurons.commands.resumable import Checkpoint, NonFiniteLossError, ResumableTraining
from skillneurons.prompts.scoring import cross_entropy, score
from skillneurons.seeds import mix
from skillneurons.stats.intervals import wilson


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
    order = seed if order_seed is None else order_seed
    tuning = _Tuning(backbone, words, train, dev, start, settings, seed, order, accelerator, eval_batch_size)
    tuning.work(checkpoint, watch)
    # frees what Accelerate holds, so that the next seed starts clean
    accelerator.free_memory()
    return Tuned(tuning.best, tuning.history, tuning.step, tuning.elapsed())


class _Tuning(ResumableTraining[Progress]):
    def __init__(
        self,
        backbone: Backbone,
        words: LabelWords,
        train: Encoded,
        dev: Encoded,
        start: torch.Tensor,
        settings: TuneSettings,
        seed: int,
        order: int,
        accelerator: Accelerator,
        eval_batch_size: int,
    ) -> None:
        super().__init__(settings, settings.max_steps, accelerator)
        self.backbone, self.words, self.train, self.dev, self.start = backbone, words, train, dev, start
        self.settings, self.seed, self.order, self.eval_batch_size = settings, seed, order, eval_batch_size
        self.history, self.stale = History(), 0

    def begin(self, state: dict[str, Any] | None) -> Any:
        module = Prompted(self.backbone, self.start if state is None else state["prompt"], self.words)
        self.best = module.prompt.detach().cpu().clone()
        settings = self.settings
        optimizer = torch.optim.AdamW(
            module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.module, prepared = self.accelerator.prepare(module, optimizer)
        self._parameter = self.accelerator.unwrap_model(self.module).prompt
        self._loss = torch.zeros((), device=self.backbone.device)
        first = 0 if state is None else state["step"]
        self._batches = endless_batches(self.train.lengths, settings.batch_size, self.order, first)
        return prepared

    def restore(self, state: dict[str, Any]) -> None:
        self.best, self.stale, self.history = state["best"], state["stale"], history_from(state["history"])

    def state(self) -> dict[str, Any]:
        prompt, history = self._parameter.detach().cpu().clone(), _plain(self.history)
        return {"prompt": prompt, "best": self.best, "stale": self.stale, "history": history}

    @property
    def finished(self) -> bool:
        """All steps done, or no better evaluation for `patience` of them."""
        return super().finished or 0 < self.settings.patience <= self.stale

    @property
    def at_point(self) -> bool:
        return super().at_point or self.at_evaluation

    def dropout_seed(self) -> int:
        return mix(self.seed, self.step, self.accelerator.process_index)

    def backward(self) -> None:
        """The step's rows, shared over processes and passes."""
        rows = next(self._batches)
        passes = list(self._passes(rows))
        with self.backbone.dropout(self.settings.dropout):
            for mine, weights in passes[:-1]:
                with self.accelerator.no_sync(self.module):
                    self._backward(mine, weights, len(rows))
            self._backward(*passes[-1], len(rows))

    def evaluate(self) -> None:
        """Score dev, add the point to the history and keep the prompt if it is the best so far."""
        prompt = self._parameter.detach()
        scores = score(self.backbone, prompt, self.dev, self.words, self.accelerator, self.eval_batch_size)
        correct, n = int((scores.argmax(1) == self.dev.labels).sum()), len(self.dev)
        interval, loss = wilson(correct, n), cross_entropy(scores, self.dev.labels)
        point = DevPoint(self.step, correct / n, interval.low, interval.high, loss)
        better = point.better_than(self.history.best)
        if better:
            self.best = prompt.cpu().clone()
        self.stale = 0 if better else self.stale + 1
        best = point if better else self.history.best
        self.history = replace(self.history, dev=(*self.history.dev, point), best=best)

    def progress(self) -> Progress:
        done, here, left = self.pace()
        return Progress(self.seed, self.step, self.steps, self.history, done * self.settings.batch_size / here, left)

    def close_window(self, steps: int) -> None:
        loss = float(self.accelerator.reduce(self._loss.clone(), "sum")) / steps
        self._loss.zero_()
        if not math.isfinite(loss) or not bool(torch.isfinite(self._parameter).all()):
            raise NonFiniteLossError(
                f"the loss of seed {self.seed} is not finite near step {self.step} ({loss}); "
                "lower learning_rate, or set max_grad_norm=1"
            )
        self.history = replace(self.history, train=(*self.history.train, (self.step, loss)))

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


def _plain(history: History) -> dict[str, Any]:
    return {
        "train": [list(point) for point in history.train],
        "dev": [asdict(point) for point in history.dev],
        "best": asdict(history.best) if history.best else None,
    }


def history_from(plain: Mapping[str, Any]) -> History:
    """What a checkpoint's state holds under `history`."""
    return History(
        tuple((int(step), float(loss)) for step, loss in plain["train"]),
        tuple(DevPoint(**point) for point in plain["dev"]),
        DevPoint(**plain["best"]) if plain["best"] else None,
    )
