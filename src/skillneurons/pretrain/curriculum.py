"""What a pair is taught at each step, and what it is measured on: pure functions of recipe, corpus and step."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from skillneurons.pretrain.cloze import Clozes, Example, compile_tasks
from skillneurons.pretrain.corpus.tokenizer import FIRST_WORD
from skillneurons.pretrain.corpus.tokens import TokenCorpus
from skillneurons.pretrain.models import Learner, Part
from skillneurons.pretrain.objectives import Ids
from skillneurons.pretrain.recipe import Recipe
from skillneurons.seeds import mix
from skillneurons.stats.intervals import wilson

CLOZE_PARTS = 3
MEASURED_PIECES = 64
ENDERS = (".", "!", "?", "...")


@dataclass(frozen=True)
class CorpusBatch:
    """The texts and examples of one step, the same for both families."""

    texts: tuple[Ids, ...]
    examples: tuple[Example, ...]

    @property
    def tokens(self) -> int:
        """Tokens of text."""
        return sum(map(len, self.texts)) + sum(example.tokens for example in self.examples)


@dataclass(frozen=True)
class ClozeAccuracy:
    """Accuracy of the gap's word among a task's words on held-out rows, 95% Wilson interval."""

    task: str
    supervised: bool
    n: int
    accuracy: float
    low: float
    high: float
    majority: float


@dataclass(frozen=True)
class HeldOut:
    """Losses in nats on held-out text (a hidden token) and on held-out examples (a row), and accuracies."""

    text_loss: float
    cloze_loss: float
    accuracies: tuple[ClozeAccuracy, ...]


@dataclass
class Curriculum:
    """A corpus cut into batches by a recipe."""

    recipe: Recipe
    corpus: TokenCorpus
    tokenizer: Tokenizer
    measured_rows: int = 128
    tasks: dict[str, Clozes] = field(init=False)

    def __post_init__(self) -> None:
        tasks = {**self.recipe.supervised.tasks, **self.recipe.probes}
        enders = [i for text in ENDERS for i in self._encode(text) if len(self._encode(text)) == 1]
        plain = [self.tokenizer.token_to_id(text) for text in ENDERS]
        known = np.array([i for i in (*enders, *plain) if i is not None], dtype=np.int64)
        self.tasks = compile_tasks(self.corpus, tasks, self._encode, known)
        shares = {name: task.share for name, task in self.recipe.supervised.tasks.items() if task.share}
        self._names = list(shares)
        self._shares = np.array(list(shares.values())) / max(sum(shares.values()), 1e-12)

    def batch(self, step: int) -> CorpusBatch:
        """What step number `step` (from 0) teaches; depends on the recipe, the corpus and the step alone."""
        recipe = self.recipe
        labelled = round(recipe.train.tokens_per_step * recipe.supervised.share)
        pieces = round((recipe.train.tokens_per_step - labelled) / recipe.text.length)
        texts = tuple(self._piece(step * pieces + index) for index in range(pieces))
        return CorpusBatch(texts, tuple(self._examples(step, labelled)))

    def parts(self, learner: Learner, step: int) -> tuple[list[Part], int]:
        """A batch as one family takes it, and its tokens; what to hide is drawn from the seed and the step."""
        batch, rng = self.batch(step), np.random.default_rng(mix(self.recipe.seed, 3, step))
        parts = [learner.text_part(batch.texts, 1.0, rng)] if batch.texts else []
        groups = _grouped(batch.examples)
        parts += [learner.cloze_part(group, len(group) / len(batch.examples), rng) for group in groups]
        return parts, batch.tokens

    def measure(self, learner: Learner, device: torch.device, whole: bool = False) -> HeldOut:
        """Losses and accuracies on held-out text and rows, the same ones each time; `whole`: on all rows."""
        learner.model.eval()
        with torch.no_grad():
            text = self._text_loss(learner, device)
            found = [self._accuracy(learner, name, device, whole) for name in self.tasks]
        learner.model.train()
        losses = [loss for accuracy, loss in found if accuracy.supervised]
        return HeldOut(text, float(np.mean(losses)) if losses else float("nan"), tuple(a for a, _ in found))

    @cached_property
    def frequencies(self) -> NDArray[np.float32]:
        """Of every token in the training text, `[V]`, each counted once more than it occurs."""
        counts = np.bincount(self.corpus.training_stream, minlength=self.recipe.vocabulary_size) + 1.0
        return np.asarray(counts / counts.sum(), dtype=np.float32)

    @property
    def unigram_entropy(self) -> float:
        """What a model that knows only how frequent words are would lose on text, in nats."""
        words = self.frequencies[FIRST_WORD:].astype(np.float64)
        share = words / words.sum()
        return float(-(share * np.log(share)).sum())

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def _piece(self, number: int) -> Ids:
        """Piece `number` of the endless, shuffled text; where pieces are cut changes with the epoch."""
        stream, length = self.corpus.training_stream, self.recipe.text.length
        count = len(stream) // length - 1
        epoch, place = divmod(number, count)
        order, shift = _order(count, length, self.recipe.seed, epoch)
        start = int(order[place]) * length + shift
        return stream[start : start + length].astype(np.int64)

    def _examples(self, step: int, tokens: int) -> list[Example]:
        rng, supervised = np.random.default_rng(mix(self.recipe.seed, 1, step)), self.recipe.supervised
        drawn: list[Example] = []
        while tokens > 0 and self._names:
            alone = step < supervised.alone_steps
            task = self.tasks[self._names[0] if alone else self._next_task(rng)]
            drawn.append(task.draw(rng, supervised.noise_share, supervised.noise_words, self.recipe.vocabulary_size))
            tokens -= drawn[-1].tokens
        return drawn

    def _next_task(self, rng: np.random.Generator) -> str:
        return self._names[int(rng.choice(len(self._names), p=self._row_shares))]

    @property
    def _row_shares(self) -> NDArray[np.float64]:
        # shares are of tokens: a task of short texts is drawn more often
        lengths = np.array([self.tasks[name].mean_tokens for name in self._names])
        weights = self._shares / lengths
        return np.asarray(weights / weights.sum(), dtype=np.float64)

    def _text_loss(self, learner: Learner, device: torch.device) -> float:
        stream, length = self.corpus.held_out_stream, self.recipe.text.length
        pieces = [stream[i : i + length].astype(np.int64) for i in range(0, len(stream) - length + 1, length)]
        step = max(1, len(pieces) // MEASURED_PIECES)
        rng = np.random.default_rng(mix(self.recipe.seed, 4))
        chosen = pieces[::step][:MEASURED_PIECES]
        groups = [chosen[i : i + 16] for i in range(0, len(chosen), 16)]
        losses = [float(learner.hidden_loss(learner.text_part(g, 1.0, rng).to(device))) * len(g) for g in groups]
        return sum(losses) / max(1, len(chosen))

    def _accuracy(
        self, learner: Learner, name: str, device: torch.device, whole: bool
    ) -> tuple[ClozeAccuracy, float]:
        examples = self.tasks[name].measured(10**9 if whole else self.measured_rows)
        ids = sorted({example.word for example in examples})
        right, loss = 0, 0.0
        for group in _grouped(examples, -(-len(examples) // 32)):
            part = learner.cloze_part(group, 1.0, None).to(device)
            scores = learner.word_scores(part, ids)
            goals = torch.tensor([ids.index(example.word) for example in group], device=device)
            right += int((scores.argmax(1) == goals).sum())
            loss += float(learner.loss(part)) * len(group)
        interval, n = wilson(right, len(examples)), len(examples)
        majority = max(sum(e.word == i for e in examples) for i in ids) / n
        supervised = name in self.recipe.supervised.tasks
        return ClozeAccuracy(name, supervised, n, right / n, interval.low, interval.high, majority), loss / n


def as_points(measured: HeldOut) -> dict[str, Any]:
    """A measurement as metrics."""
    named = {"held_out/text_loss": measured.text_loss, "held_out/cloze_loss": measured.cloze_loss}
    for found in measured.accuracies:
        for suffix, value in (("", found.accuracy), ("_low", found.low), ("_high", found.high)):
            named[f"held_out/{found.task}/accuracy{suffix}"] = value
        named[f"held_out/{found.task}/majority"] = found.majority
    return named


def _grouped(examples: Sequence[Example], parts: int = CLOZE_PARTS) -> list[list[Example]]:
    """Rows of like length together, so that little is padding."""
    ordered = sorted(examples, key=lambda example: example.tokens)
    size = max(1, -(-len(ordered) // max(1, parts)))
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]


@lru_cache(maxsize=4)
def _order(count: int, length: int, seed: int, epoch: int) -> tuple[NDArray[np.int64], int]:
    rng = np.random.default_rng(mix(seed, 2, epoch))
    return rng.permutation(count), int(rng.integers(length))
