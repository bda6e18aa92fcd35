"""Pretraining of one backbone: a loop over lessons that can be stopped at any moment and taken up again."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from accelerate import Accelerator

from skillneurons.encoding import mix
from skillneurons.lessons import Accuracy, Lessons, Measured
from skillneurons.pair import Learner, parameter_groups
from skillneurons.recipes import Recipe, TrainRecipe
from skillneurons.tuning import Checkpoint, NonFiniteLossError

LOSS_EVERY = 10


@dataclass(frozen=True)
class LossPoint:
    """Mean training losses in nats since the last point."""

    step: int
    text: float
    cloze: float


@dataclass(frozen=True)
class MeasuredPoint:
    """A measurement on held-out text and rows after so many steps and tokens of text."""

    step: int
    tokens: int
    measured: Measured


@dataclass
class Curves:
    """What a pretraining leaves behind beside its weights."""

    losses: list[LossPoint] = field(default_factory=list)
    measured: list[MeasuredPoint] = field(default_factory=list)


@dataclass(frozen=True)
class PretrainProgress:
    """What a watcher is told: speed and time left are of this process's own run."""

    name: str
    step: int
    steps: int
    curves: Curves
    tokens_per_second: float
    seconds_left: float

    @property
    def at_measurement(self) -> bool:
        """Whether the model was just measured."""
        return bool(self.curves.measured) and self.curves.measured[-1].step == self.step


@dataclass(frozen=True)
class Trained:
    """A finished pretraining; the weights are in the learner's model."""

    curves: Curves
    final: Measured
    tokens: int
    seconds: float


def pretrain(
    learner: Learner,
    lessons: Lessons,
    recipe: Recipe,
    name: str,
    accelerator: Accelerator,
    checkpoint: Checkpoint,
    *,
    save_every: int = 100,
    watch: Callable[[PretrainProgress], None] = lambda progress: None,
) -> Trained:
    """Train one backbone of a recipe, from its start or from what the checkpoint holds.

    Step t depends on the recipe, the corpus and t alone: on one device with the same number of threads an
    interrupted and resumed training ends bit-identical.

    Raises:
        NonFiniteLossError: with the step; the checkpoint keeps the last good state.
    """
    session = _Session(learner, lessons, recipe, name, accelerator)
    session.begin(checkpoint.load())
    if not session.curves.measured:
        session.measure()
    while session.step < recipe.train.steps:
        session.train_step()
        if session.at_measurement:
            session.measure()
        if session.step % save_every == 0 or session.step == recipe.train.steps:
            checkpoint.save(session.state())
        if session.at_point or session.at_measurement:
            watch(session.progress())
    final = lessons.measure(learner, accelerator.device, whole=True)
    accelerator.free_memory()
    return Trained(session.curves, final, session.tokens, session.elapsed())


def rate_factor(train: TrainRecipe, step: int) -> float:
    """The schedule's factor for update `step` (from 0): linear warm-up, then down to 0."""
    warmup = min(train.warmup_steps, train.steps - 1)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, train.steps - warmup)
    return 1.0 - done if train.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass
class _Session:
    """The state of one training between two steps."""

    learner: Learner
    lessons: Lessons
    recipe: Recipe
    name: str
    accelerator: Accelerator
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    curves: Curves = field(default_factory=Curves)

    def begin(self, state: dict[str, Any] | None) -> None:
        """Set up model and optimiser, from a state if there is one."""
        train, own = self.recipe.train, self.recipe.models[self.name]
        model = self.learner.model.to(self.accelerator.device).train()
        if state is not None:
            model.load_state_dict(state["model"])
        groups = parameter_groups(model, own, train.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=own.learning_rate, betas=(0.9, train.beta2), eps=1e-8)
        self.optimizer = self.accelerator.prepare_optimizer(optimizer)
        self._sums = {"text": 0.0, "cloze": 0.0}
        self._since, self._started, self._begun = 0, time.monotonic(), (0, 0)
        if state is not None:
            self._restore(state)
        self._begun = (self.step, self.tokens)

    @property
    def at_measurement(self) -> bool:
        return self.step % self.recipe.train.eval_every == 0 or self.step == self.recipe.train.steps

    @property
    def at_point(self) -> bool:
        return self.step % LOSS_EVERY == 0 or self.step == self.recipe.train.steps

    def train_step(self) -> None:
        """One optimiser step on one lesson, part by part."""
        train, own = self.recipe.train, self.recipe.models[self.name]
        for group in self.optimizer.param_groups:
            group["lr"] = own.learning_rate * group["rate"] * rate_factor(train, self.step)
        if train.dropout:
            # drawn from the step, not from a stream: a resumed training needs no generator state
            torch.manual_seed(mix(self.recipe.seed, 5, self.step))
        self._backward()
        self.accelerator.clip_grad_norm_(self.learner.model.parameters(), train.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step, self._since = self.step + 1, self._since + 1
        if self.at_point:
            self._close_window()

    def measure(self) -> None:
        """Measure the model on held-out text and rows and keep the point."""
        measured = self.lessons.measure(self.learner, self.accelerator.device)
        self.curves.measured.append(MeasuredPoint(self.step, self.tokens, measured))

    def state(self) -> dict[str, Any]:
        """Everything that a resumed training needs."""
        return {
            "model": self.learner.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "tokens": self.tokens,
            "seconds": self.elapsed(),
            "sums": dict(self._sums),
            "since": self._since,
            "losses": [asdict(point) for point in self.curves.losses],
            "measured": [asdict(point) for point in self.curves.measured],
        }

    def progress(self) -> PretrainProgress:
        """For the watcher."""
        here = max(1e-9, time.monotonic() - self._started)
        steps, tokens = self.step - self._begun[0], self.tokens - self._begun[1]
        left = (self.recipe.train.steps - self.step) * here / max(1, steps)
        return PretrainProgress(self.name, self.step, self.recipe.train.steps, self.curves, tokens / here, left)

    def elapsed(self) -> float:
        """Seconds of work, those before an interruption included."""
        return self.seconds + time.monotonic() - self._started

    def _backward(self) -> None:
        weights = {"text": 1.0, "cloze": self.recipe.supervised.weight}
        parts, tokens = self.lessons.parts(self.learner, self.step)
        self.tokens += tokens
        for part in parts:
            with self.accelerator.autocast():
                loss = self.learner.loss(part.to(self.accelerator.device)) * part.share
            self.accelerator.backward(loss * weights[part.kind])
            self._sums[part.kind] += float(loss.detach())

    def _close_window(self) -> None:
        point = LossPoint(self.step, self._sums["text"] / self._since, self._sums["cloze"] / self._since)
        if not math.isfinite(point.text + point.cloze):
            raise NonFiniteLossError(
                f"the loss of {self.name} is not finite near step {self.step}; lower its learning_rate"
            )
        self.curves.losses.append(point)
        self._sums, self._since = {"text": 0.0, "cloze": 0.0}, 0

    def _restore(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]
        self._sums, self._since = dict(state["sums"]), state["since"]
        self.curves = Curves([LossPoint(**p) for p in state["losses"]], [_point(p) for p in state["measured"]])


def _point(plain: dict[str, Any]) -> MeasuredPoint:
    found = plain["measured"]
    accuracies = tuple(Accuracy(**accuracy) for accuracy in found["accuracies"])
    measured = Measured(found["text_loss"], found["cloze_loss"], accuracies)
    return MeasuredPoint(plain["step"], plain["tokens"], measured)
