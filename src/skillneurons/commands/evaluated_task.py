"""A task whose accuracy is measured under some prompts: its test rows, as the prompts' backbone reads them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import torch

from skillneurons import fingerprints
from skillneurons.backbones.base import BackboneInfo, LabelWords
from skillneurons.backbones.batching import Encoded
from skillneurons.data.splits import Split, load_splits
from skillneurons.data.tasks import Task, load_task, task_from, unsourced
from skillneurons.errors import InputError, listed
from skillneurons.neurons.scores import Neurons
from skillneurons.prompts.soft_prompt import SoftPrompt

ALIKE = ("backbone", "placement", "max_length", "label_words")  # on which prompts of one task must agree


@dataclass(frozen=True)
class EvaluatedTask:
    """One task whose accuracy is measured: its rows and its prompts; `max_length` T, else as they were tuned."""

    task: Task
    split: Split
    prompts: tuple[SoftPrompt, ...]
    own: bool
    max_length: int | None = None

    @property
    def text_length(self) -> int:
        """T, tokens of text kept."""
        return self.max_length or int(self.prompts[0].card["max_length"])

    @property
    def words(self) -> LabelWords:
        """The label words the prompts were tuned with."""
        return tuned_words(self.prompts[0])

    @property
    def keys(self) -> list[int]:
        """A number a row, from its texts."""
        return [int(name, 16) for name in self.split.hashes]

    def encode(self, info: BackboneInfo) -> Encoded:
        """The token ids of the rows."""
        return encoded(self.split, self.task, info, self.text_length)

    def deciding(self) -> dict[str, object]:
        """What of it decides the outcome."""
        return {
            "task": unsourced(self.task),
            "data": self.split.fingerprint,
            "words": self.words.ids,
            "max_length": self.text_length,
            "prompts": [prompt.fingerprint for prompt in self.prompts],
        }


def evaluated_task(
    prompts: Sequence[SoftPrompt],
    asked: str | None = None,
    *,
    own: bool = True,
    data_dir: str | None = None,
    max_eval_rows: int | None = None,
    max_length: int | None = None,
) -> EvaluatedTask:
    """The test rows of a task under prompts of one task (the asked one, else their own).

    Raises:
        InputError: the prompts differ in what they must share, or the rows have other labels.
    """
    for key in ALIKE:
        check_alike(prompts, "prompts of one task", key, itemgetter(key))
    check_distinct(prompts)
    tuned, task = prompts[0].card["task"], task_of(prompts, asked)
    if list(task.labels) != list(tuned["labels"]):
        must = f"the rows have the labels of the prompts, {listed(tuned['labels'])}"
        raise InputError(must, f"{listed(task.labels)} of {task.name}", "Choose a task with the same labels.")
    if task.name == tuned["name"] and fingerprints.of_value(unsourced(task)) != fingerprints.of_value(tuned):
        must = f"the task {task.name} is the one the prompts were tuned on"
        raise InputError(must, "another definition", "Restore its YAML, or tune again.")
    split = load_splits(task, data_dir=data_dir, roles=("test",), max_eval_rows=max_eval_rows)["test"]
    return EvaluatedTask(task, split, tuple(prompts), own, max_length)


def task_of(prompts: Sequence[SoftPrompt], asked: str | None = None) -> Task:
    """The task that was asked for; else that of the prompts, whose cards hold it with the place of its rows.

    Raises:
        InputError: there is no such task, or none was asked for and the prompts are of several.
    """
    known = {prompt.card["task"]["name"]: prompt.card for prompt in prompts}
    if asked is None and len(known) > 1:
        must, do = "without task=… the prompts are of one task", "Name the task, or prompts of one."
        raise InputError(must, listed(sorted(known)), do)
    name = asked or next(iter(known))
    card = known.get(name, {})
    own = task_from(card["task"], card["rows"]) if card.get("rows") else None
    if own is not None and asked is None:
        return own
    try:
        return load_task(name)
    except InputError:
        if own is None:
            raise
        return own  # tuned by the path of its YAML: the name alone leads nowhere


def tuned_words(prompt: SoftPrompt) -> LabelWords:
    """The label words a prompt was tuned with."""
    card = prompt.card["label_words"]
    return LabelWords(tuple(map(str, card["entries"])), tuple(card["ids"]), tuple(card["pieces"]))


def encoded(split: Split, task: Task, info: BackboneInfo, max_length: int) -> Encoded:
    """The token ids of a split's rows, as a backbone reads them."""
    texts = [task.render(info.family, dict(zip(task.fields, row, strict=True))) for row in split.rows]
    return Encoded(info.encode(texts, max_length), torch.from_numpy(split.labels.copy()))


def by_task(prompts: Sequence[SoftPrompt]) -> Mapping[str, list[SoftPrompt]]:
    """Prompts by the name of the task they were tuned on, in the order given."""
    groups: dict[str, list[SoftPrompt]] = {}
    for prompt in prompts:
        groups.setdefault(prompt.card["task"]["name"], []).append(prompt)
    return groups


def check_distinct(prompts: Sequence[SoftPrompt]) -> None:
    """Refuse a prompt that is named twice."""
    if len({prompt.fingerprint for prompt in prompts}) < len(prompts):
        raise InputError("each prompt is named once", "one of them twice", "A tune run stands for all its seeds.")


def check_one_task(prompts: Sequence[SoftPrompt]) -> None:
    """Refuse prompts of several tasks."""
    check_alike(prompts, "prompts", "task", lambda card: card["task"]["name"])


def check_backbone(prompts: Sequence[SoftPrompt], neurons: Neurons) -> None:
    """Refuse prompts of another backbone than the neurons'."""
    theirs = neurons.card["backbone"]
    for prompt in prompts:
        ours = prompt.card["backbone"]
        if ours["fingerprint"] != theirs["fingerprint"]:
            must = f"prompts and neurons are of one backbone, {theirs['name']} ({theirs['fingerprint'][:12]})"
            got = f"a prompt of {ours['name']} ({ours['fingerprint'][:12]})"
            raise InputError(must, got, "Discover the neurons on the prompts' backbone.")


def check_fit(prompt: SoftPrompt, info: BackboneInfo) -> None:
    """Refuse a prompt of another width, or one too long for the backbone's positions."""
    if prompt.embeddings.shape[1] != info.embedding_width:
        must = f"a prompt for {info.name} is {info.embedding_width} wide"
        raise InputError(must, f"{prompt.embeddings.shape[1]}", "Use a prompt tuned on this backbone.")
    info.check_length(prompt.length, prompt.card["max_length"])


def check_alike(
    prompts: Sequence[SoftPrompt], which: str, key: str, of: Callable[[Mapping[str, Any]], object]
) -> None:
    """Refuse prompts whose cards differ in one thing."""
    found = {fingerprints.of_value(of(prompt.card)): of(prompt.card) for prompt in prompts}
    if len(found) > 1:
        raise InputError(f"{which} agree in {key}", f"{listed(map(_short, found.values()))}", "Name those of one.")


def _short(value: object) -> str:
    return str(value.get("name", value) if isinstance(value, dict) else value)[:80]
