"""Pretraining of one backbone: a loop over batches that can be stopped at any moment and taken up again."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from accelerate import Accelerator

from skillneurons.commands.resumable import Checkpoint, NonFiniteLossError, ResumableTraining
from skillneurons.pretrain.curriculum import ClozeAccuracy, Curriculum, HeldOut
from skillneurons.pretrain.models import Learner, parameter_groups
from skillneurons.pretrain.recipe import Recipe
from skillneurons.seeds import mix


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
    measured: HeldOut


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
    final: HeldOut
    tokens: int
    seconds: float


def pretrain(
    learner: Learner,
    curriculum: Curriculum,
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
    training = _Pretraining(learner, curriculum, recipe, name, accelerator, save_every)
    training.work(checkpoint, watch)
    final = curriculum.measure(learner, accelerator.device, whole=True)
    accelerator.free_memory()
    return Trained(training.curves, final, training.tokens, training.elapsed())


class _Pretraining(ResumableTraining[PretrainProgress]):
    def __init__(
        self,
        learner: Learner,
        curriculum: Curriculum,
        recipe: Recipe,
        name: str,
        accelerator: Accelerator,
        save_every: int,
    ) -> None:
        super().__init__(recipe.train, recipe.train.steps, accelerator)
        self.learner, self.curriculum, self.recipe, self.name = learner, curriculum, recipe, name
        self.save_every, self.curves = save_every, Curves()
        self.tokens = self._tokens_before = 0
        self._sums = {"text": 0.0, "cloze": 0.0}

    def begin(self, state: dict[str, Any] | None) -> Any:
        train, own = self.recipe.train, self.recipe.models[self.name]
        model = self.learner.model.to(self.accelerator.device).train()
        if state is not None:
            model.load_state_dict(state["model"])
        groups = parameter_groups(model, own, train.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=own.learning_rate, betas=(0.9, train.beta2), eps=1e-8)
        return self.accelerator.prepare_optimizer(optimizer)

    def restore(self, state: dict[str, Any]) -> None:
        self.tokens = self._tokens_before = state["tokens"]
        self._sums = dict(state["sums"])
        self.curves = Curves([LossPoint(**p) for p in state["losses"]], [_point(p) for p in state["measured"]])

    def state(self) -> dict[str, Any]:
        return {
            "model": self.learner.model.state_dict(),
            "tokens": self.tokens,
            "sums": dict(self._sums),
            "losses": [asdict(point) for point in self.curves.losses],
            "measured": [asdict(point) for point in self.curves.measured],
        }

    @property
    def at_checkpoint(self) -> bool:
        return self.step % self.save_every == 0 or self.finished

    def dropout_seed(self) -> int:
        return mix(self.recipe.seed, 5, self.step)

    def evaluate(self) -> None:
        """Measure the model on held-out text and rows and keep the point."""
        measured = self.curriculum.measure(self.learner, self.accelerator.device)
        self.curves.measured.append(MeasuredPoint(self.step, self.tokens, measured))

    def progress(self) -> PretrainProgress:
        _, here, left = self.pace()
        speed = (self.tokens - self._tokens_before) / here
        return PretrainProgress(self.name, self.step, self.steps, self.curves, speed, left)

    def backward(self) -> None:
        """One batch, part by part."""
        weights = {"text": 1.0, "cloze": self.recipe.supervised.weight}
        parts, tokens = self.curriculum.parts(self.learner, self.step)
        self.tokens += tokens
        for part in parts:
            with self.accelerator.autocast():
                loss = self.learner.loss(part.to(self.accelerator.device)) * part.share
            self.accelerator.backward(loss * weights[part.kind])
            self._sums[part.kind] += float(loss.detach())

    def close_window(self, steps: int) -> None:
        point = LossPoint(self.step, self._sums["text"] / steps, self._sums["cloze"] / steps)
        if not math.isfinite(point.text + point.cloze):
            raise NonFiniteLossError(
                f"the loss of {self.name} is not finite near step {self.step}; lower its learning_rate"
            )
        self.curves.losses.append(point)
        self._sums = {"text": 0.0, "cloze": 0.0}


def _point(plain: dict[str, Any]) -> MeasuredPoint:
    found = plain["measured"]
    accuracies = tuple(ClozeAccuracy(**accuracy) for accuracy in found["accuracies"])
    measured = HeldOut(found["text_loss"], found["cloze_loss"], accuracies)
    return MeasuredPoint(plain["step"], plain["tokens"], measured)
