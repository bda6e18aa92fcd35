"""The contract of a backbone: a frozen language model that reads a soft prompt and a text.

`BackboneInfo` knows a model's configuration and tokenizer and loads no weights; `Backbone` is the loaded
model. What differs between the families is in `masked_lm`, `encoder_decoder` and `decoder_only`.

Shapes: B batch, P prompt length, T text length, N = P + T, E input-embedding width, F FFN width,
C classes, V vocabulary (docs/method).
"""

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from skillneurons import fingerprints
from skillneurons.backbones import taps, tokenization
from skillneurons.backbones.layout import Layout, arrange, first_position, position_tables
from skillneurons.backbones.taps import Stack, Tap, TapFunction
from skillneurons.backbones.tokenization import Family, Frame, LabelWords, TextBatch
from skillneurons.errors import InputError

__all__ = ["Backbone", "BackboneInfo", "Family", "Inputs", "LabelWords", "Tap", "TextBatch"]


@dataclass(frozen=True)
class Inputs:
    """Text and prompt placed, as the model reads them (the encoder's side of an encoder-decoder).

    Attributes:
        embeds: `[B, N, E]`.
        attention_mask: int64 `[B, N]`.
        position_ids: int64 `[B, N]`, where the model takes them.
        prompt_positions: int64 `[B, P]`, indices into N.
        label_positions: int64 `[B]`; None where the label is read at the decoder's first step.
    """

    embeds: Tensor
    attention_mask: Tensor
    position_ids: Tensor | None
    prompt_positions: Tensor
    label_positions: Tensor | None


@dataclass(frozen=True, eq=False)
class BackboneInfo:
    """What is known of a backbone before its weights are loaded.

    Attributes:
        reference: what the user asked for.
        name: slug for registered names, e.g. `roberta-base`.
        folder: where its files are.
        gguf_file: the file in `folder`, for a GGUF model.
        revision: commit hash of a hub model.
        files: the weight, configuration and tokenizer files, which the fingerprint covers.
        weight_bytes: size of the weight files.
        parameter_count_estimate: parameters of the architecture, tied ones once.
        embedding_width: E.
        num_positions: positions the model has for prompt and text together; None: no limit.
        placement: `mask-first`, `encoder-prefix`, `suffix` or `prefix`.
        tune_defaults: tuning parameters of the model's YAML file.
    """

    reference: str
    name: str
    folder: Path
    gguf_file: str | None
    family: Family
    revision: str | None
    files: tuple[Path, ...]
    weight_bytes: int
    parameter_count_estimate: int
    config: Any
    tokenizer: Any
    embedding_width: int
    num_positions: int | None
    placement: str
    tune_defaults: Mapping[str, object]

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over names and contents of the weight, configuration and tokenizer files."""
        return fingerprints.of_files(self.contents)

    @property
    def contents(self) -> dict[str, str]:
        """SHA-256 (hex) of each weight, configuration and tokenizer file, by its name."""
        stats = [(file, file.stat()) for file in self.files]
        return {file.name: _content(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats}

    @cached_property
    def frame(self) -> Frame:
        """The special tokens around a text."""
        return tokenization.frame_of(self.tokenizer, self.family)

    def label_words(self, words: Sequence[str | Mapping[str, Any]]) -> LabelWords:
        """Label words as single tokens; see `tokens.label_words`."""
        return tokenization.label_words(self.tokenizer, self.family, words, self.name)

    def check_length(self, prompt_length: int, max_length: int) -> None:
        """Raise InputError where prompt and text do not fit into the model's positions."""
        if self.num_positions is not None and prompt_length + max_length > self.num_positions:
            raise InputError(
                f"prompt_length + max_length is at most {self.num_positions}, the positions of {self.name}",
                f"{prompt_length} + {max_length}",
                "Lower max_length or prompt_length.",
            )

    def encode(self, texts: Sequence[tuple[str, ...]], max_length: int) -> list[list[int]]:
        """Token ids of rows of one or two segments, special tokens included; the longest is cut first."""
        return tokenization.encode(self.tokenizer, self.frame, texts, max_length)

    def collate(self, rows: Sequence[Sequence[int]]) -> TextBatch:
        """Rows of token ids as one right-padded batch."""
        return tokenization.collate(self.tokenizer, rows)


class Backbone(ABC):
    """A frozen language model, always in eval mode but inside `dropout(True)`.

    Attributes:
        info: what was known before loading.
        model: the Hugging Face model.
    """

    stacks: ClassVar[tuple[Stack, ...]]
    prompt_first: bool = True

    def __init__(self, info: BackboneInfo, model: Any) -> None:
        self.info = info
        self.model = model.requires_grad_(False).eval()
        self._takes_positions = "position_ids" in inspect.signature(model.forward).parameters
        self._tables, self._first_position = position_tables(model), first_position(model)
        self._head_name = self._find_head()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are."""
        return self._embedding.weight.dtype

    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings `[.., E]` of token ids, scaled if the model scales them."""
        with torch.no_grad():
            return self._embedding(ids)  # type: ignore[no-any-return]

    def vocabulary_embeddings(self) -> Tensor:
        """Input embeddings of every token `[V, E]`, as `embed` gives them."""
        return self.embed(torch.arange(self._embedding.num_embeddings, device=self.device))

    def place(self, prompt: Tensor, batch: TextBatch) -> Inputs:
        """Put a prompt `[P, E]`, or one a row `[B, P, E]`, and a batch of texts together.

        Args:
            prompt: the soft prompt; it is cast to the model's dtype.
            batch: the texts.

        Raises:
            InputError: the prompt is of another width.
        """
        self._check_width(prompt)
        layout = arrange(batch.attention_mask, prompt.shape[-2], self.prompt_first)
        text = self.embed(batch.input_ids)
        rows = prompt.to(text).expand(len(text), -1, -1)
        embeds = torch.cat([rows, text], dim=1).take_along_dim(layout.source[..., None], dim=1)
        # a convolution over embeddings looks past the end of a text (MobileBERT)
        embeds = embeds.masked_fill(layout.mask[..., None] == 0, 0)
        positions = self._position_ids(layout) if self._takes_positions else None
        return Inputs(embeds, layout.mask, positions, layout.prompt, self._label_positions(layout))

    def label_scores(self, prompt: Tensor, batch: TextBatch, words: LabelWords) -> Tensor:
        """Raw vocabulary scores of the label words where the label is read, float32 `[B, C]`.

        The head runs at that position and those words alone, and gives the model's own scores.
        """
        return self.scores(self.place(prompt, batch), words)

    def scores(self, inputs: Inputs, words: LabelWords) -> Tensor:
        """`label_scores` of what `place` has placed, float32 `[B, C]`."""
        ids = torch.tensor(words.ids, device=self.device)
        return self._scores(inputs, ids, self._head_name).float()

    def own_scores(self, inputs: Inputs, ids: Tensor) -> Tensor:
        """What the model by itself scores on token ids `[B, N]` at the place of the inputs, `[B, V]`."""
        rows, where = self._read_at(inputs)
        given = {"input_ids": ids, "attention_mask": inputs.attention_mask, **self._besides(len(ids))}
        logits = self.model(**given).logits
        return logits[rows, where].float()  # type: ignore[no-any-return]

    @cached_property
    def taps(self) -> tuple[Tap, ...]:
        """The FFN taps in execution order, found by one probe forward pass."""
        with self.dropout(False):
            return taps.find_taps(self.model, self._probe, self.stacks, self._encoder)

    def tapped(self, fn: TapFunction) -> AbstractContextManager[None]:
        """Inside, `fn(tap, activation [B, N, F])` sees every tap; a tensor it returns takes its place."""
        return taps.tapped(self.model, self.taps, fn)

    def read(self, inputs: Inputs, of: Sequence[Tap], fn: TapFunction) -> None:
        """Run the model as far as the last of some taps and show each to `fn`; nothing behind it is computed."""
        with taps.stopping(self.model, of, fn), self._placed(inputs):
            self.model(**self._arguments(inputs))

    def vocabulary_direction(self, tap: Tap, neuron: int) -> Tensor | None:
        """What a neuron's output weights add to each token's score, `[V]`, up to what the head does before (a norm).

        The neuron's row of the output projection times the output embeddings (Geva et al. 2022, arXiv
        2203.14680). None where its stack does not feed the head, or the two differ in width.
        """
        head, column = self.model.get_output_embeddings(), self._output_weights(tap)[neuron]
        if tap.stack != self.stacks[-1] or not isinstance(head, nn.Linear) or head.in_features != len(column):
            return None
        return (head.weight @ column).float().cpu()

    def output_norms(self, taps: Sequence[Tap]) -> Tensor:
        """Norm of each neuron's output weights `[L, F]`: how far the residual stream moves by one unit of it."""
        return torch.stack([self._output_weights(tap).float().norm(dim=1) for tap in taps]).cpu()

    def _output_weights(self, tap: Tap) -> Tensor:
        """`[F, H]`, a row a neuron."""
        module = self.model.get_submodule(tap.module)
        weight: Tensor = module.weight.detach()
        return weight if isinstance(module, Conv1D) else weight.T

    @contextmanager
    def dropout(self, on: bool) -> Iterator[None]:
        """Inside, dropout is on or off; afterwards as it was."""
        was = self.model.training
        self.model.train(on)
        try:
            yield
        finally:
            self.model.train(was)

    @property
    @abstractmethod
    def _encoder(self) -> nn.Module | None:
        """The module that holds the encoder's layers."""

    @property
    def _embedding(self) -> nn.Embedding:
        return self.model.get_input_embeddings()  # type: ignore[no-any-return]

    def _check_width(self, prompt: Tensor) -> None:
        if prompt.shape[-1] != self.info.embedding_width:
            must = f"a prompt for {self.info.name} is {self.info.embedding_width} wide"
            raise InputError(must, str(prompt.shape[-1]), "Use a prompt tuned on this backbone.")

    def _position_ids(self, layout: Layout) -> Tensor:
        return layout.order + self._first_position

    @abstractmethod
    def _label_positions(self, layout: Layout) -> Tensor | None: ...

    def _arguments(self, inputs: Inputs) -> dict[str, Any]:
        """What the model's forward takes."""
        # some models scale them in place (CTRL)
        given = {"inputs_embeds": inputs.embeds.clone(), "attention_mask": inputs.attention_mask}
        positions = {} if inputs.position_ids is None else {"position_ids": inputs.position_ids}
        return {**given, **positions, **self._besides(len(inputs.embeds))}

    def _besides(self, batch_size: int) -> dict[str, Any]:
        """What the model's forward takes beside the prompt and the text."""
        return {}

    def _placed(self, inputs: Inputs) -> AbstractContextManager[object]:
        """What must hold around a forward pass."""
        return nullcontext()

    def _scores(self, inputs: Inputs, ids: Tensor, head: str | None) -> Tensor:
        """Scores of the vocabulary `ids` where the label is read, `[B, C]`; the `head` is sliced if given."""
        rows, where = self._read_at(inputs)
        with self._placed(inputs):
            if head is None:
                return self.model(**self._arguments(inputs)).logits[rows, where][:, ids]  # type: ignore[no-any-return]
            narrow = functools.partial(_narrow, rows, where)
            with self.model.get_submodule(head).register_forward_pre_hook(narrow):
                # the architecture's own head code with the label words' rows for weights
                logits = torch.func.functional_call(
                    self.model, self._head_rows(head, ids), kwargs=self._arguments(inputs), tie_weights=False
                ).logits
        return logits[:, 0]  # type: ignore[no-any-return]

    def _read_at(self, inputs: Inputs) -> tuple[Tensor, Tensor | int]:
        """Row and position of every label; -1 is the decoder's last."""
        rows = torch.arange(len(inputs.embeds), device=inputs.embeds.device)
        return rows, -1 if inputs.label_positions is None else inputs.label_positions

    def _head_rows(self, head: str, ids: Tensor) -> dict[str, Tensor]:
        module = self.model.get_submodule(head)
        rows = {f"{head}.weight": module.weight[ids]}
        if module.bias is not None:
            rows[f"{head}.bias"] = module.bias[ids]
        if hasattr(self.model, "final_logits_bias"):
            rows["final_logits_bias"] = self.model.final_logits_bias[..., ids]
        return rows

    def _find_head(self) -> str | None:
        """Name of the output embedding if slicing it gives the model's own scores, else None."""
        output = self.model.get_output_embeddings()
        name = next((n for n, module in self.model.named_modules() if module is output), None)
        if not isinstance(output, nn.Linear) or name is None:
            return None
        ids = torch.tensor([output.out_features - 1, 0, output.out_features // 2], device=self.device)
        try:
            with torch.no_grad():
                sliced, full = self._probe(ids, name), self._probe(ids)
        # a head that uses the weights otherwise (MobileBERT) or reads more than one stream (ProphetNet)
        except (RuntimeError, IndexError):
            return None
        tolerance = torch.finfo(full.dtype).eps ** 0.5 * max(1.0, float(full.abs().max()))
        close = sliced.shape == full.shape and torch.allclose(sliced, full, atol=tolerance)
        return name if close else None

    def _probe(self, ids: Tensor | None = None, head: str | None = None) -> Tensor:
        """The scores of a small batch."""
        batch = self.info.collate(self.info.encode([("a",), ("a a a",)], 8)).to(self.device)
        prompt = torch.zeros(1, self.info.embedding_width, device=self.device)
        ids = torch.zeros(1, dtype=torch.int64, device=self.device) if ids is None else ids
        return self._scores(self.place(prompt, batch), ids, head)


def _narrow(rows: Tensor, where: Tensor | int, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Only the hidden state where the label is read, `[B, 1, H]`."""
    return (args[0][rows, where].unsqueeze(1), *args[1:])


@functools.lru_cache(maxsize=512)
def _content(file: Path, size: int, modified: int) -> str:
    return fingerprints.of_file(file)
