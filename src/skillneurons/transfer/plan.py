"""Everything about a transfer command that can be known, and refused, before a model is loaded."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

from skillneurons import fingerprints
from skillneurons.backbones.base import BackboneInfo, LabelWords
from skillneurons.backbones.batching import Encoded
from skillneurons.commands.evaluated_task import (
    by_task,
    check_alike,
    check_backbone,
    check_distinct,
    check_fit,
    encoded,
    evaluated_task,
    task_of,
)
from skillneurons.data.splits import Split, load_splits
from skillneurons.data.tasks import Task, unsourced
from skillneurons.errors import InputError, listed
from skillneurons.neurons.scores import Neurons
from skillneurons.neurons.selection import top_neurons
from skillneurons.prompts.predictor import find_backbone
from skillneurons.prompts.soft_prompt import SoftPrompt
from skillneurons.transfer.config import TransferConfig

METHOD_VERSION = 3
SHARED = ("site", "stack", "protocol")  # on which neurons of several tasks must agree


@dataclass(frozen=True)
class Source:
    """The prompts of one task, by their seeds in rising order."""

    task: str
    family: str
    prompts: Mapping[int | None, SoftPrompt]

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """Of its prompts; None for a prompt that has none."""
        return tuple(self.prompts)


@dataclass(frozen=True)
class Target:
    """A task whose test rows are read under all prompts, as its own prompts were tuned to read them.

    Attributes:
        task: which.
        split: its test rows.
        words: those of its own prompts; without any the task's default words.
        max_length: of its own prompts; without any the smallest of all prompts.
    """

    task: Task
    split: Split
    words: LabelWords
    max_length: int

    def encode(self, info: BackboneInfo) -> Encoded:
        """The token ids of the rows."""
        return encoded(self.split, self.task, info, self.max_length)

    def deciding(self) -> dict[str, object]:
        """What of it decides the outcome."""
        texts = {"task": unsourced(self.task), "data": self.split.fingerprint}
        return {**texts, "words": self.words.ids, "max_length": self.max_length}


@dataclass(frozen=True)
class TransferPlan:
    """A checked transfer command: backbone (not loaded), sources and targets by family and name, neurons by task."""

    config: TransferConfig
    info: BackboneInfo
    sources: tuple[Source, ...]
    targets: tuple[Target, ...]
    neurons: Mapping[str, Neurons]

    @property
    def address(self) -> str:
        """SHA-256 of what decides the outcome of the command, whatever the order of prompts and tasks."""
        neurons = [[task, one.fingerprint, one.card["site"]] for task, one in sorted(self.neurons.items())]
        targets = [target.deciding() for target in self.targets]
        counted = {"config": self.config.deciding(), "neurons": neurons}
        return fingerprints.of_value({"stage": "transfer", **self._deciding(), "targets": targets, **counted})

    def target_address(self, target: Target) -> str:
        """SHA-256 of what decides the predictions on one target, whatever others the command has."""
        return fingerprints.of_value({"stage": "transfer target", **self._deciding(), "target": target.deciding()})

    @property
    def title(self) -> str:
        """`8 x 8 tasks · roberta-base`."""
        return f"{len(self.sources)} x {len(self.targets)} tasks · {self.info.name}"

    @property
    def prompts(self) -> tuple[SoftPrompt, ...]:
        """All prompts, source by source."""
        return tuple(prompt for source in self.sources for prompt in source.prompts.values())

    def own(self, target: Target) -> Source | None:
        """The prompts that were tuned on a target."""
        return next((source for source in self.sources if source.task == target.task.name), None)

    def _deciding(self) -> dict[str, object]:
        sources = [
            [source.task, source.family, [[seed, prompt.fingerprint] for seed, prompt in source.prompts.items()]]
            for source in self.sources
        ]
        return {
            "method": METHOD_VERSION,
            "random": [self.config.random_prompts, self.config.seed],
            "backbone": self.info.fingerprint,
            "placement": self.info.placement,
            "sources": sources,
        }


def plan(config: TransferConfig, prompts: Sequence[SoftPrompt], neurons: Sequence[Neurons]) -> TransferPlan:
    """Check a transfer command whole.

    Args:
        config: the parsed parameters.
        prompts: fetched, of several tasks.
        neurons: fetched, one for each task of the prompts, or none.

    Raises:
        InputError: the first thing that is wrong.
    """
    _check_one_backbone(prompts)
    check_alike(prompts, "prompts", "placement", itemgetter("placement"))
    _check_lengths(prompts)
    info, groups = find_backbone(prompts[0]), by_task(prompts)
    sources = sorted((_source(task, group) for task, group in groups.items()), key=lambda s: (s.family, s.task))
    targets = sorted(_targets(config, info, groups), key=lambda target: (target.task.family, target.task.name))
    made = TransferPlan(config, info, tuple(sources), tuple(targets), _by_task_of(neurons))
    _check_several(made)
    for target in targets:
        check_fit(prompts[0], info)
        info.check_length(prompts[0].length, target.max_length)
    _check_seeds(made)
    if neurons:
        _check_neurons(made, neurons)
    return made


def _source(task: str, prompts: Sequence[SoftPrompt]) -> Source:
    # of two tasks' prompts that learnt nothing both may be the start, and so the same
    check_distinct(prompts)
    found = {prompt.card.get("seed"): prompt for prompt in prompts}
    if len(found) < len(prompts):
        seeds = listed(prompt.card.get("seed") for prompt in prompts)
        must = f"prompts of {task} have different seeds, by which they are paired with those of other tasks"
        raise InputError(must, seeds, "Name prompts of one tune command.")
    rising = sorted(found, key=lambda seed: (seed is None, seed))
    return Source(task, prompts[0].card["task"]["family"], {seed: found[seed] for seed in rising})


def _targets(config: TransferConfig, info: BackboneInfo, groups: Mapping[str, list[SoftPrompt]]) -> Iterator[Target]:
    prompts = [prompt for group in groups.values() for prompt in group]
    named = [name.strip() for name in config.tasks.split(",")] if config.tasks else list(groups)
    tasks = {name: task_of(prompts, name) if config.tasks else task_of(groups[name]) for name in dict.fromkeys(named)}
    names = [task.name for task in tasks.values()]
    if len(named) > len(set(names)):
        raise InputError("each task is named once", listed(named), "Leave the second one out.")
    data_dir, rows = config.data_dir, config.max_eval_rows
    for name, task in tasks.items():
        if own := groups.get(task.name):
            read = evaluated_task(own, name if config.tasks else None, data_dir=data_dir, max_eval_rows=rows)
            yield Target(task, read.split, read.words, own[0].card["max_length"])
        else:
            words = info.label_words(task.words(info.family))
            shortest = min(prompt.card["max_length"] for group in groups.values() for prompt in group)
            splits = load_splits(task, data_dir=data_dir, roles=("test",), max_eval_rows=rows)
            yield Target(task, splits["test"], words, shortest)


def _by_task_of(neurons: Sequence[Neurons]) -> dict[str, Neurons]:
    found = {str(one.card["task"]): one for one in neurons}
    if len(found) < len(neurons):
        names = listed(one.card["task"] for one in neurons)
        raise InputError("neurons name one discover run a task", names, "Leave the second one out.")
    return dict(sorted(found.items()))


def _check_one_backbone(prompts: Sequence[SoftPrompt]) -> None:
    """By its weights: where it was found may differ from command to command."""
    found = {prompt.card["backbone"]["fingerprint"]: prompt.card["backbone"]["name"] for prompt in prompts}
    if len(found) > 1:
        got = listed(f"{name} ({fingerprint[:12]})" for fingerprint, name in found.items())
        raise InputError("prompts are of one backbone", got, "Compare those of another in a command of its own.")


def _check_lengths(prompts: Sequence[SoftPrompt]) -> None:
    shapes = {tuple(prompt.embeddings.shape) for prompt in prompts}
    if len(shapes) > 1:
        got = listed(f"{length} x {width}" for length, width in sorted(shapes))
        must = "prompts have one length and width, that of the random prompts beside them"
        raise InputError(must, got, "Tune them with one prompt_length.")


def _check_several(made: TransferPlan) -> None:
    names = {*(source.task for source in made.sources), *(target.task.name for target in made.targets)}
    if len(names) < 2:
        must = "transfer is between two tasks or more"
        raise InputError(must, f"{listed(names)} alone", "Add prompts of another task, or tasks=… of others.")


def _check_seeds(made: TransferPlan) -> None:
    for target in made.targets:
        own = made.own(target)
        for source in made.sources:
            if own is not None and not set(own.seeds) & set(source.seeds):
                must = f"prompts of {source.task} and {own.task} share seeds, by which they are paired"
                got = f"seeds {listed(source.seeds)} and {listed(own.seeds)}"
                raise InputError(must, got, "Tune both with the same seeds.")


def _check_neurons(made: TransferPlan, neurons: Sequence[Neurons]) -> None:
    for one in neurons:
        check_backbone(made.prompts[:1], one)
    for key in SHARED:
        if len(values := sorted({str(one.card[key]) for one in neurons})) > 1:
            raise InputError(f"neurons agree in {key}", listed(values), "Discover them in one way.")
    sources = {source.task for source in made.sources}
    if strange := sorted({*made.neurons} - sources):
        must = f"neurons are of the tasks of the prompts, {listed(sorted(sources))}"
        raise InputError(must, listed(strange), "Leave them out, or add prompts of that task.")
    if missing := sorted(sources - {*made.neurons}):
        must = "neurons name a discover run for each task of the prompts"
        raise InputError(must, f"none of {listed(missing)}", "Discover them too, or leave neurons out.")
    if not top_neurons(neurons[0].ranking, made.config.top).any():
        width = neurons[0].shape[1]
        must = f"top chooses a neuron or more of the {width} of a layer"
        raise InputError(must, f"{made.config.top:g}%", f"Give {100 / width:.3g} or more.")
