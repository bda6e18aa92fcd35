"""A pretraining recipe: what decides a pair of backbones, beside the corpus' files; a YAML file, checked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from skillneurons.declarations import read

Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Values(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelRecipe(_Values):
    """One backbone of the pair: what may differ between the two."""

    family: Literal["masked_lm", "encoder_decoder"]
    activation: Literal["relu", "gelu"]
    learning_rate: Rate
    embedding_std: Rate
    init_std: Rate = 0.02
    embedding_rate: Rate = 1.0
    decoder_layers: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _decoder(self) -> "ModelRecipe":
        if (self.family == "encoder_decoder") != (self.decoder_layers > 0):
            raise ValueError("decoder_layers is given for an encoder_decoder, and for no other")
        return self


class SizeRecipe(_Values):
    """What the two have in common: hidden size, encoder layers, heads, FFN width, positions of text."""

    hidden: int = Field(ge=8)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    ffn: int = Field(ge=8)
    positions: int = Field(ge=32)

    @model_validator(mode="after")
    def _divides(self) -> "SizeRecipe":
        if self.hidden % self.heads:
            raise ValueError("hidden is a multiple of heads")
        return self


class FormRecipe(_Values):
    """One phrasing of a labelled row.

    Attributes:
        text: words, `{a}` and `{b}` (the row's texts), `{sep}` (`</s>`) and one `{gap}`. With
            `{gap} … | …` the gap and what follows it stand where a prompt stands, before the text.
        t5: the same for the encoder-decoder, where it differs.
        words: the word that fills the gap, by label of the file; null where the form is not used.
    """

    text: str
    t5: str | None = None
    words: tuple[str | None, ...]
    weight: Rate = 1.0

    @model_validator(mode="after")
    def _one_gap(self) -> "FormRecipe":
        for text in (self.text, self.t5 or self.text):
            if text.count("{gap}") != 1 or "{a}" not in text:
                raise ValueError(f"a form has {{a}} and one {{gap}}: {text!r} has not")
            if text.count("|") > 1 or ("|" in text) != self.leads:
                raise ValueError(f"a form with | is of the shape '{{gap}} … | …': {text!r} is not")
        if "|" in self.text and not self.text.startswith("{gap}"):
            raise ValueError(f"a form with | starts with {{gap}}: {self.text!r} does not")
        return self

    @property
    def leads(self) -> bool:
        """Whether the gap stands before the text, in the place of a prompt."""
        return "|" in self.text


class TaskRecipe(_Values):
    """How the rows of one data set are put into words; the first form is the one that is measured.

    Attributes:
        share: the task's part of the supervised tokens, against the others' (0 in a probe).
        window: tokens, least and most: pieces of longer texts are drawn that start with a sentence.
    """

    share: float = Field(0, ge=0)
    window: tuple[int, int] | None = None
    forms: tuple[FormRecipe, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _first_leads(self) -> "TaskRecipe":
        if not self.forms[0].leads:
            raise ValueError(
                "the first form of a task, which is measured, has the gap before the text: '{gap} | {a}'"
            )
        if len({len(form.words) for form in self.forms}) > 1:
            raise ValueError("every form of a task has one word (or null) a label")
        return self


class TextRecipe(_Values):
    """The unlabelled part: pieces of `length` tokens, a `rate` of them hidden, in spans for the T5."""

    length: int = Field(128, ge=16)
    rate: float = Field(0.15, gt=0, lt=0.5)
    mean_span: float = Field(3.0, ge=1)


class SupervisedRecipe(_Values):
    """The labelled part: its share of the tokens, the tasks, and random words put before some texts.

    Attributes:
        alone_steps: steps at the start whose labelled rows are of the first task alone. A backbone that has
            to find out at once which task a text is of learns none of them for a long time.
    """

    share: Share = 0.5
    alone_steps: int = Field(0, ge=0)
    weight: Rate = 1.0
    noise_share: Share = 0.3
    noise_words: int = Field(20, ge=1)
    tasks: Mapping[str, TaskRecipe] = Field(default_factory=dict)


class TrainRecipe(_Values):
    """The optimiser (AdamW) and its schedule."""

    steps: int = Field(ge=1)
    tokens_per_step: int = Field(4096, ge=64)
    warmup_steps: int = Field(100, ge=0)
    schedule: Literal["linear", "cosine"] = "cosine"
    weight_decay: float = Field(0.01, ge=0)
    beta2: float = Field(0.98, gt=0, lt=1)
    max_grad_norm: Rate = 1.0
    eval_every: int = Field(250, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)


class Recipe(_Values):
    """The whole of it."""

    recipe: Literal["pretrain"]
    version: Literal[1]
    seed: int = Field(0, ge=0)
    vocabulary_size: int = Field(ge=300, le=65_535)
    words: tuple[str, ...]
    size: SizeRecipe
    models: Mapping[str, ModelRecipe] = Field(min_length=1)
    corpus: tuple[str, ...] = Field(min_length=1)
    text: TextRecipe
    supervised: SupervisedRecipe
    probes: Mapping[str, TaskRecipe] = Field(default_factory=dict)
    train: TrainRecipe

    @model_validator(mode="after")
    def _whole(self) -> "Recipe":
        tasks = {**self.supervised.tasks, **self.probes}
        if lost := sorted(set(tasks) - set(self.corpus)):
            raise ValueError(f"supervised tasks and probes are data sets of corpus: {', '.join(lost)} is not")
        if both := sorted(set(self.supervised.tasks) & set(self.probes)):
            raise ValueError(f"a probe is a task that is not supervised: {', '.join(both)} is both")
        used = {word for task in tasks.values() for form in task.forms for word in form.words if word}
        if used - set(self.words):
            raise ValueError(f"words lists every word that fills a gap: {', '.join(sorted(used - set(self.words)))}")
        if self.supervised.share and not any(task.share for task in self.supervised.tasks.values()):
            raise ValueError("a supervised share above 0 needs a task with a share")
        return self

    def deciding(self, model: str) -> dict[str, Any]:
        """What decides the weights of one of the models."""
        whole = self.model_dump(mode="json")
        whole["models"] = {model: whole["models"][model]}
        return whole


def read_recipe(file: Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        InputError: the file is missing, is no YAML, or breaks a rule; one line, the first of them.
    """
    return read(Recipe, file, "recipe", "experiments/models/pocket.yaml")
