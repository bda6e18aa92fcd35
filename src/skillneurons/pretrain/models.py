"""The two architectures of a pair, their inputs and their losses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, RobertaConfig, RobertaForMaskedLM, T5Config, T5ForConditionalGeneration

from skillneurons.pretrain.cloze import FIRST_POSITION, Example, for_encoder_decoder, for_masked_lm
from skillneurons.pretrain.corpus.tokenizer import BEGIN, END, FIRST_SENTINEL, FIRST_WORD, MASK, PAD, SENTINELS
from skillneurons.pretrain.objectives import Ids, corrupt_spans, mask_tokens, noise_spans
from skillneurons.pretrain.recipe import ModelRecipe, Recipe

Kind = Literal["text", "cloze"]
IGNORED = -100
# room for the longest text after a prompt
TEXT_ROOM = 130


@dataclass(frozen=True)
class Part:
    """Some rows of one kind as tensors, and their share of the step's rows of that kind."""

    kind: Kind
    tensors: Mapping[str, Tensor]
    share: float

    def to(self, device: torch.device) -> "Part":
        """The same on another device."""
        return Part(self.kind, {name: value.to(device) for name, value in self.tensors.items()}, self.share)


class Learner(Protocol):
    """A backbone and how it is taught; both families are taught from the same texts and examples."""

    model: PreTrainedModel

    def text_part(self, texts: Sequence[Ids], share: float, rng: np.random.Generator) -> Part:
        """Unlabelled texts, all of one length, with tokens hidden."""

    def cloze_part(self, examples: Sequence[Example], share: float, rng: np.random.Generator | None) -> Part:
        """Labelled examples; without a generator nothing about them is drawn."""

    def loss(self, part: Part) -> Tensor:
        """Mean loss of a part: a hidden token (text), a row (cloze)."""

    def hidden_loss(self, part: Part) -> Tensor:
        """Mean loss of a hidden token of text, sentinels aside: what is reported."""

    def word_scores(self, part: Part, words: Sequence[int]) -> Tensor:
        """Scores of words at the gap, `[B, C]`; the gap stands before the text."""


def build(recipe: Recipe, name: str, vectors: NDArray[np.float32], frequencies: NDArray[np.float32]) -> Learner:
    """A backbone at its start: random but for its embeddings and the masked LM's head.

    Args:
        recipe: sizes and seed.
        name: the model of the recipe.
        vectors: `[V, E]` of root mean square 1, taken at the model's own scale.
        frequencies: `[V]`, of tokens in the text, above 0: the bias of a masked LM's head starts at their logarithm.
    """
    own = recipe.models[name]
    kind: type[MaskedLearner] | type[SpanLearner] = MaskedLearner if own.family == "masked_lm" else SpanLearner
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        learner = kind(recipe, own)
    with torch.no_grad():
        table = learner.model.get_input_embeddings().weight
        table.copy_(torch.from_numpy(vectors) * own.embedding_std)
        if own.family == "masked_lm":
            _begin_masked_lm(learner.model, vectors, frequencies, own.embedding_std)
    return learner


def _begin_masked_lm(
    model: PreTrainedModel, vectors: NDArray[np.float32], frequencies: NDArray[np.float32], std: float
) -> None:
    """Start where word vectors make sense: the head says what is like a vector, attention passes vectors on.

    Layers normalised at their end leave the plateau late or never from random attention; from the identity
    (as in mimetic initialisation, arXiv 2305.09828) the mask sees the mean of the text's vectors at once.
    """
    weights = frequencies[:, None] / frequencies.sum()
    model.get_input_embeddings().weight.copy_(torch.from_numpy(vectors - (vectors * weights).sum(0)) * std)
    model.get_input_embeddings().weight[PAD] = 0
    identity = torch.eye(vectors.shape[1])
    for layer in model.roberta.encoder.layer:
        layer.attention.self.value.weight.add_(identity)
        layer.attention.output.dense.weight.add_(identity)
    model.lm_head.dense.weight.copy_(identity)
    model.lm_head.bias.copy_(torch.from_numpy(np.log(frequencies)))


class MaskedLearner:
    """RoBERTa: masked language modelling, and a mask in the gap."""

    def __init__(self, recipe: Recipe, own: ModelRecipe) -> None:
        self._text, self._vocabulary = recipe.text, recipe.vocabulary_size
        self._room = recipe.size.positions - TEXT_ROOM
        size = recipe.size
        config = RobertaConfig(
            vocab_size=recipe.vocabulary_size,
            hidden_size=size.hidden,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            intermediate_size=size.ffn,
            hidden_act=own.activation,
            initializer_range=own.init_std,
            max_position_embeddings=size.positions + FIRST_POSITION,
            type_vocab_size=1,
            hidden_dropout_prob=recipe.train.dropout,
            attention_probs_dropout_prob=recipe.train.dropout,
            bos_token_id=BEGIN,
            pad_token_id=PAD,
            eos_token_id=END,
        )
        self.model = RobertaForMaskedLM(config)

    def text_part(self, texts: Sequence[Ids], share: float, rng: np.random.Generator) -> Part:
        """See `Learner`. Every text starts at a drawn position, as after prompts of any length."""
        words = (FIRST_WORD, self._vocabulary)
        masked = [mask_tokens(text, self._text.rate, MASK, words, rng) for text in texts]
        ids = _framed([one.ids for one in masked])
        goals = _framed([np.where(one.chosen, text, IGNORED) for one, text in zip(masked, texts, strict=True)])
        goals[:, [0, -1]] = IGNORED
        starts = rng.integers(0, max(1, self._room), (len(texts), 1)) * (rng.random((len(texts), 1)) < 0.75)
        positions = starts + FIRST_POSITION + np.arange(ids.shape[1])
        return Part("text", _tensors(ids=ids, positions=positions, mask=np.ones_like(ids), goals=goals), share)

    def cloze_part(self, examples: Sequence[Example], share: float, rng: np.random.Generator | None) -> Part:
        """See `Learner`. Texts start at drawn positions; without a generator as early as they can."""
        starts = np.zeros(len(examples), np.int64) if rng is None else rng.integers(0, self._room, len(examples))
        rows = [for_masked_lm(e, int(start), int(start)) for e, start in zip(examples, starts, strict=True)]
        ids, goals = _padded([row.ids for row in rows], PAD), np.full(0, IGNORED)
        positions, mask = _padded([row.positions for row in rows], PAD), _padded([[1] * len(r.ids) for r in rows], 0)
        goals = np.full_like(ids, IGNORED)
        goals[np.arange(len(rows)), [row.gap for row in rows]] = [example.word for example in examples]
        return Part("cloze", _tensors(ids=ids, positions=positions, mask=mask, goals=goals), share)

    def loss(self, part: Part) -> Tensor:
        """See `Learner`; only hidden positions go through the vocabulary head."""
        chosen = part.tensors["goals"] != IGNORED
        scores = self.model.lm_head(self._hidden(part)[chosen])
        return cross_entropy(scores.float(), part.tensors["goals"][chosen])

    def hidden_loss(self, part: Part) -> Tensor:
        """See `Learner`: every goal is a hidden word."""
        return self.loss(part)

    def word_scores(self, part: Part, words: Sequence[int]) -> Tensor:
        """See `Learner`."""
        scores: Tensor = self.model.lm_head(self._hidden(part)[:, 0])
        return scores[:, list(words)].float()

    def _hidden(self, part: Part) -> Tensor:
        given = part.tensors
        out = self.model.roberta(given["ids"], attention_mask=given["mask"], position_ids=given["positions"])
        hidden: Tensor = out.last_hidden_state
        return hidden


class SpanLearner:
    """T5: span corruption, and the gap's word as target."""

    def __init__(self, recipe: Recipe, own: ModelRecipe) -> None:
        self._text = recipe.text
        size = recipe.size
        config = T5Config(
            vocab_size=recipe.vocabulary_size,
            d_model=size.hidden,
            d_kv=size.hidden // size.heads,
            d_ff=size.ffn,
            num_layers=size.layers,
            num_decoder_layers=own.decoder_layers,
            num_heads=size.heads,
            feed_forward_proj=own.activation,
            dropout_rate=recipe.train.dropout,
            pad_token_id=PAD,
            eos_token_id=END,
            decoder_start_token_id=PAD,
        )
        self.model = T5ForConditionalGeneration(config)

    def text_part(self, texts: Sequence[Ids], share: float, rng: np.random.Generator) -> Part:
        """See `Learner`."""
        sentinels = range(FIRST_SENTINEL, FIRST_SENTINEL + SENTINELS)
        noise = [noise_spans(len(text), self._text.rate, self._text.mean_span, rng) for text in texts]
        pairs = [corrupt_spans(text, where, sentinels) for text, where in zip(texts, noise, strict=True)]
        sources = [[*pair.source.tolist(), END] for pair in pairs]
        return self._part("text", sources, [[*pair.target.tolist(), END] for pair in pairs], share)

    def cloze_part(self, examples: Sequence[Example], share: float, rng: np.random.Generator | None) -> Part:
        """See `Learner`; relative positions leave nothing to draw."""
        rows = [for_encoder_decoder(example) for example in examples]
        return self._part("cloze", [row[0] for row in rows], [row[1] for row in rows], share)

    def loss(self, part: Part) -> Tensor:
        """See `Learner`."""
        losses, goals = self._losses(part), part.tensors["goals"]
        return losses.sum() / (len(goals) if part.kind == "cloze" else (goals != IGNORED).sum())

    def hidden_loss(self, part: Part) -> Tensor:
        """See `Learner`."""
        words = part.tensors["goals"] >= FIRST_WORD
        return self._losses(part)[words.flatten()].mean()

    def word_scores(self, part: Part, words: Sequence[int]) -> Tensor:
        """See `Learner`."""
        start = torch.full((len(part.tensors["ids"]), 1), PAD, device=part.tensors["ids"].device)
        given = {"input_ids": part.tensors["ids"], "attention_mask": part.tensors["mask"]}
        scores: Tensor = self.model(**given, decoder_input_ids=start).logits
        return scores[:, 0, list(words)].float()

    def _losses(self, part: Part) -> Tensor:
        goals = part.tensors["goals"]
        scores = self.model(input_ids=part.tensors["ids"], attention_mask=part.tensors["mask"], labels=goals).logits
        return cross_entropy(scores.float().flatten(0, 1), goals.flatten(), ignore_index=IGNORED, reduction="none")

    def _part(self, kind: Kind, sources: list[list[int]], targets: list[list[int]], share: float) -> Part:
        mask = _padded([[1] * len(source) for source in sources], 0)
        goals = _padded(targets, IGNORED)
        return Part(kind, _tensors(ids=_padded(sources, PAD), mask=mask, goals=goals), share)


def parameter_groups(model: nn.Module, own: ModelRecipe, weight_decay: float) -> list[dict[str, Any]]:
    """Embeddings (their own rate, no decay), matrices (decay) and the rest; `rate` is what a step's rate is times."""
    table = model.get_input_embeddings().weight  # type: ignore[operator]
    rest = [value for value in model.parameters() if value is not table]
    return [
        {"params": [table], "weight_decay": 0.0, "rate": own.embedding_rate},
        {"params": [v for v in rest if v.ndim > 1], "weight_decay": weight_decay, "rate": 1.0},
        {"params": [v for v in rest if v.ndim == 1], "weight_decay": 0.0, "rate": 1.0},
    ]


def _framed(texts: Sequence[Ids]) -> Ids:
    frame = np.array([[BEGIN]] * len(texts)), np.array([[END]] * len(texts))
    return np.concatenate([frame[0], np.stack(texts), frame[1]], axis=1)


def _padded(rows: Sequence[Sequence[int]], filler: int) -> Ids:
    width = max(len(row) for row in rows)
    return np.array([[*row, *[filler] * (width - len(row))] for row in rows], dtype=np.int64)


def _tensors(**arrays: Ids) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64)) for name, array in arrays.items()}
