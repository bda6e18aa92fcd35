"""Everything about a tune command that can be known, and refused, before a model is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skillneurons import fingerprints
from skillneurons.backbones.base import BackboneInfo, LabelWords
from skillneurons.backbones.batching import Encoded
from skillneurons.backbones.loading import describe
from skillneurons.commands.config import check_name, parse
from skillneurons.commands.evaluated_task import encoded
from skillneurons.data.splits import Split, half_a, load_splits
from skillneurons.data.tasks import Task, load_task, unsourced
from skillneurons.errors import InputError
from skillneurons.prompts.soft_prompt import SoftPrompt
from skillneurons.tune.config import TuneConfig

METHOD_VERSION = 2


@dataclass(frozen=True)
class TunePlan:
    """A checked tune command: configuration, backbone (not loaded), task, data and label words.

    `splits["dev"]` is half A of dev, on which all is chosen; half B is left to `discover`.
    """

    config: TuneConfig
    info: BackboneInfo
    task: Task
    splits: Mapping[str, Split]
    words: LabelWords
    start: SoftPrompt | None = None

    @property
    def address(self) -> str:
        """SHA-256 of what decides the outcome of the command: equal addresses give equal prompts."""
        return fingerprints.of_value({"stage": "tune", "seeds": self.config.seeds, **self._deciding()})

    def seed_address(self, seed: int) -> str:
        """SHA-256 of what decides the prompt of one seed, whatever other seeds the command has."""
        return fingerprints.of_value({"stage": "tune seed", "seed": seed, **self._deciding()})

    def _deciding(self) -> dict[str, object]:
        return {
            "method": METHOD_VERSION,
            "config": self.config.deciding(),
            "task": unsourced(self.task),
            "words": self.words.ids,
            "data": {role: split.fingerprint for role, split in self.splits.items()},
            "backbone": self.info.fingerprint,
            "placement": self.info.placement,
            "start": self.start.fingerprint if self.start else None,
        }

    @property
    def selection(self) -> dict[str, Any] | None:
        """Which rows the prompts are selected on; None if they start from a prompt that saw others."""
        dev = self.splits["dev"]
        known = self.start is None or self.start.chosen_on_half_a(dev.whole)
        return {"half": "A", "dev": dev.whole, "rows": len(dev)} if known else None

    def encode(self, role: str, rows: int | None = None) -> Encoded:
        """The token ids of a split (or of its first rows), tokenised once for all seeds."""
        split = self.splits[role]
        some = split if rows is None else split.take(range(min(rows, len(split))))
        return encoded(some, self.task, self.info, self.config.max_length)

    @property
    def title(self) -> str:
        """`sst2 · roberta-base`."""
        return f"{self.task.name} · {self.info.name}"


def plan(
    given: Mapping[str, str], base: Mapping[str, Any] | None = None, start: SoftPrompt | None = None
) -> TunePlan:
    """Check a tune command whole.

    Args:
        given: parameters as texts.
        base: the configuration of an older run, over which `given` is laid; without it the defaults of
            the model's file.
        start: the prompt of `init_prompt`, fetched.

    Raises:
        InputError: the first thing that is wrong.
    """
    for key in given:
        check_name(TuneConfig, key)
    config = parse(TuneConfig, given, base)
    task = load_task(config.task)
    info = describe(
        config.model,
        revision=config.revision,
        placement=None if config.placement == "auto" else config.placement,
    )
    if base is None:
        config = parse(TuneConfig, given, info.tune_defaults)
    info.check_length(config.prompt_length, config.max_length)
    words = info.label_words(task.words(info.family, published=config.label_words == "published"))
    _check_start(start, info, config)
    splits = load_splits(
        task,
        data_dir=config.data_dir,
        max_train_rows=config.max_train_rows,
        max_dev_rows=config.max_dev_rows,
        max_eval_rows=config.max_eval_rows,
    )
    return TunePlan(config, info, task, {**splits, "dev": half_a(splits["dev"])}, words, start)


def _check_start(start: SoftPrompt | None, info: BackboneInfo, config: TuneConfig) -> None:
    if start is None:
        return
    want, got = (config.prompt_length, info.embedding_width), tuple(start.embeddings.shape)
    if want != got:
        raise InputError(
            f"the prompt of init_prompt is {list(want)}",
            f"{list(got)}",
            "Choose the prompt_length and the model it was tuned with.",
        )
