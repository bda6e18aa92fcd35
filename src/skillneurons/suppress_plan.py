"""Everything about a suppress command that can be known, and refused, before a model is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from skillneurons import fingerprints
from skillneurons.backbone import BackboneInfo, LabelWords
from skillneurons.config import SuppressConfig
from skillneurons.data import Split, load_splits
from skillneurons.encoding import Encoded, mix
from skillneurons.errors import InputError, listed
from skillneurons.neurons import Neurons
from skillneurons.prompts import SoftPrompt
from skillneurons.registry import find_backbone
from skillneurons.selection import Mask
from skillneurons.sites import Site, site_of
from skillneurons.suppression import Intervention, Sets, sets_at
from skillneurons.tasks import Task, load_task, unsourced

METHOD_VERSION = 1
ALIKE = ("backbone", "placement", "max_length", "label_words")  # on which prompts of one task must agree


@dataclass(frozen=True)
class Subject:
    """One task whose accuracy is measured: its test rows and its prompts."""

    task: Task
    split: Split
    prompts: tuple[SoftPrompt, ...]
    own: bool

    @property
    def words(self) -> LabelWords:
        """The label words the prompts were tuned with."""
        card = self.prompts[0].card["label_words"]
        return LabelWords(tuple(map(str, card["entries"])), tuple(card["ids"]), tuple(card["pieces"]))

    @property
    def keys(self) -> list[int]:
        """A number a row, from its texts."""
        return [int(name, 16) for name in self.split.hashes]

    def encode(self, info: BackboneInfo) -> Encoded:
        """The token ids of the rows."""
        rows = [dict(zip(self.task.fields, row, strict=True)) for row in self.split.rows]
        texts = [self.task.render(info.family, row) for row in rows]
        ids = info.encode(texts, self.prompts[0].card["max_length"])
        return Encoded(ids, torch.from_numpy(self.split.labels.copy()))

    def deciding(self) -> dict[str, object]:
        """What of it decides the outcome."""
        return {
            "task": unsourced(self.task),
            "data": self.split.fingerprint,
            "words": self.words.ids,
            "max_length": self.prompts[0].card["max_length"],
            "prompts": [prompt.fingerprint for prompt in self.prompts],
        }


@dataclass(frozen=True)
class SuppressPlan:
    """A checked suppress command: configuration, backbone (not loaded), neurons, tasks; the own task first."""

    config: SuppressConfig
    info: BackboneInfo
    neurons: Neurons
    subjects: tuple[Subject, ...]

    @property
    def address(self) -> str:
        """SHA-256 of what decides the outcome of the command."""
        deciding = {
            "stage": "suppress",
            "method": METHOD_VERSION,
            "config": self.config.deciding(),
            "neurons": [self.neurons.fingerprint, self.neurons.card["site"], self.neurons.card.get("prompts")],
            "backbone": self.info.fingerprint,
            "placement": self.info.placement,
            "subjects": [subject.deciding() for subject in self.subjects],
        }
        return fingerprints.of_value(deciding)

    @property
    def title(self) -> str:
        """`sst2 · roberta-base`."""
        return f"{self.subjects[0].task.name} · {self.info.name}"

    @cached_property
    def sets(self) -> tuple[Sets, ...]:
        """The sets at each rate, in rising order."""
        c = self.config
        ranking = self.neurons.ranking
        return tuple(sets_at(ranking, rate, c.ranking, c.controls, c.seed, c.keep) for rate in sorted(c.rates))

    @property
    def masks(self) -> Mask:
        """All sets `[M, L, F]`: none first, then at each rate skill and controls."""
        parts = [np.zeros((1, *self.neurons.shape), dtype=np.bool_)]
        for one in self.sets:
            parts += [one.skill[None], *([] if one.controls is None else [one.controls])]
        return np.concatenate(parts)

    def site(self, prompt: SoftPrompt) -> Site:
        """The neurons' site under a prompt."""
        return site_of(self.info, self.neurons.card["site"], prompt.length)

    def intervention(self, prompt: SoftPrompt) -> Intervention:
        """What suppressed neurons become under a prompt; noise and resampling differ from prompt to prompt."""
        c, values = self.config, self._means(prompt) if self.config.kind == "mean" else None
        return Intervention(c.kind, c.positions, values, c.sigma, mix(c.seed, int(prompt.fingerprint[:15], 16)))

    def _means(self, prompt: SoftPrompt) -> torch.Tensor:
        """The baseline's mean over positions `[L, F]`: of this prompt, or of all where it was not among them."""
        known = list(self.neurons.card.get("prompts", []))
        means = torch.from_numpy(self.neurons.baseline).mean(dim=2)
        return means[known.index(prompt.fingerprint)] if prompt.fingerprint in known else means.mean(dim=0)


def plan(
    config: SuppressConfig, prompts: Sequence[SoftPrompt], neurons: Neurons, others: Sequence[SoftPrompt]
) -> SuppressPlan:
    """Check a suppress command whole.

    Args:
        config: the parsed parameters.
        prompts: fetched, of one task.
        neurons: fetched.
        others: fetched, of other tasks.

    Raises:
        InputError: the first thing that is wrong.
    """
    _check_alike(prompts, "prompts", "task", lambda card: card["task"]["name"])
    _check_backbone([*prompts, *others], neurons)
    info = find_backbone(prompts[0])
    own = _subject(config, config.task, prompts, own=True)
    groups: dict[str, list[SoftPrompt]] = {}
    for prompt in others:
        groups.setdefault(prompt.card["task"]["name"], []).append(prompt)
    if own.task.name in groups:
        must = f"other_tasks are prompts of other tasks than {own.task.name}"
        raise InputError(must, f"one of {own.task.name}", "Leave it out.")
    subjects = (own, *(_subject(config, None, group, own=False) for group in groups.values()))
    made = SuppressPlan(config, info, neurons, subjects)
    _check_site(made)
    _check_sets(made)
    return made


def _subject(config: SuppressConfig, asked: str | None, prompts: Sequence[SoftPrompt], own: bool) -> Subject:
    for key in ALIKE:
        _check_alike(prompts, "prompts of one task", key, lambda card, key=key: card[key])
    if len({prompt.fingerprint for prompt in prompts}) < len(prompts):
        raise InputError("each prompt is named once", "one of them twice", "A tune run stands for all its seeds.")
    tuned, task = prompts[0].card["task"], load_task(asked or prompts[0].card["task"]["name"])
    if list(task.labels) != list(tuned["labels"]):
        must = f"the rows have the labels of the prompts, {listed(tuned['labels'])}"
        raise InputError(must, f"{listed(task.labels)} of {task.name}", "Choose a task with the same labels.")
    if task.name == tuned["name"] and not _same(unsourced(task), tuned):
        must = f"the task {task.name} is the one the prompts were tuned on"
        raise InputError(must, "another definition", "Restore its YAML, or tune again.")
    split = load_splits(task, data_dir=config.data_dir, roles=("test",), max_eval_rows=config.max_eval_rows)["test"]
    if config.kind == "resample" and len(split) < 2:
        raise InputError("kind=resample needs two rows or more", f"{len(split)}", "Raise max_eval_rows.")
    return Subject(task, split, tuple(prompts), own)


def _same(definition: object, tuned: object) -> bool:
    return fingerprints.of_value(definition) == fingerprints.of_value(tuned)


def _check_alike(prompts: Sequence[SoftPrompt], which: str, key: str, of: Any) -> None:
    found = {fingerprints.of_value(of(prompt.card)): of(prompt.card) for prompt in prompts}
    if len(found) > 1:
        raise InputError(f"{which} agree in {key}", f"{listed(map(_short, found.values()))}", "Name those of one.")


def _short(value: object) -> str:
    return str(value.get("name", value) if isinstance(value, dict) else value)[:80]


def _check_backbone(prompts: Sequence[SoftPrompt], neurons: Neurons) -> None:
    theirs = neurons.card["backbone"]
    for prompt in prompts:
        ours = prompt.card["backbone"]
        if ours["fingerprint"] != theirs["fingerprint"]:
            must = f"prompts and neurons are of one backbone, {theirs['name']} ({theirs['fingerprint'][:12]})"
            got = f"a prompt of {ours['name']} ({ours['fingerprint'][:12]})"
            raise InputError(must, got, "Discover the neurons on the prompts' backbone.")


def _check_site(made: SuppressPlan) -> None:
    card = made.neurons.card
    for subject in made.subjects:
        for prompt in subject.prompts:
            site = made.site(prompt)
            if prompt.embeddings.shape[1] != made.info.embedding_width:
                must = f"a prompt for {made.info.name} is {made.info.embedding_width} wide"
                raise InputError(must, f"{prompt.embeddings.shape[1]}", "Use a prompt tuned on this backbone.")
            made.info.check_length(prompt.length, prompt.card["max_length"])
            if site.stack != card["stack"]:
                must = f"neurons of the site {site.name} of {made.info.name} are in the {site.stack}"
                raise InputError(must, f"neurons of the {card['stack']}", "Discover them again.")
    held = len(card.get("prompts", []))
    if made.neurons.baseline.shape[0] != held and made.config.kind == "mean":
        must = "the neurons have a baseline for each of their prompts"
        raise InputError(must, f"{made.neurons.baseline.shape[0]} for {held}", "Discover them again.")


def _check_sets(made: SuppressPlan) -> None:
    if all(one.controls is None for one in made.sets):
        layers, width = made.neurons.shape
        size = width if made.config.ranking == "layer" else layers * width
        rates = listed(f"{rate:g}" for rate in made.config.rates)
        must = f"a rate chooses some neurons and leaves some, of {size}"
        raise InputError(must, f"rates {rates}", f"Add one from {100 / size:.3g} to below 100.")
