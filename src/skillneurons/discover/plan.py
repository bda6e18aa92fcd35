"""Everything about a discover command that can be known, and refused, before a model is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from skillneurons import fingerprints
from skillneurons.backbones.base import BackboneInfo
from skillneurons.backbones.batching import Encoded
from skillneurons.backbones.tokenization import LabelWords
from skillneurons.commands.evaluated_task import check_distinct, encoded, task_of, tuned_words
from skillneurons.data.splits import Split, halves, load_splits
from skillneurons.data.tasks import Task, unsourced
from skillneurons.discover.config import DiscoverConfig
from skillneurons.discover.counting import Protocol, Question
from skillneurons.errors import InputError, listed
from skillneurons.neurons.scores import Neurons
from skillneurons.neurons.sites import Site, site_of
from skillneurons.prompts.predictor import find_backbone
from skillneurons.prompts.soft_prompt import SoftPrompt
from skillneurons.tracking.registry import fetch, fetch_neurons
from skillneurons.tracking.runs import Tracking

METHOD_VERSION = 3
Selection = Literal["half A", "unknown"]


@dataclass(frozen=True)
class DiscoverPlan:
    """A checked discover command: prompts of one task and backbone (not loaded), site, data."""

    config: DiscoverConfig
    prompts: Sequence[SoftPrompt]
    info: BackboneInfo
    task: Task
    site: Site
    splits: Mapping[str, Split]
    others: Sequence[Neurons] = ()

    @property
    def address(self) -> str:
        """SHA-256 of what decides the outcome of the command."""
        prompts = [prompt.fingerprint for prompt in self.prompts]
        others = [other.card["fingerprint"] for other in self.others]
        return fingerprints.of_value(
            {
                "stage": "discover",
                "prompts": prompts,
                "cards": self.config.cards,
                "random": self.config.random_prompts,
                "others": others,
                "selection": self.selection,
                **self._deciding(),
            }
        )

    def prompt_address(self, prompt: SoftPrompt) -> str:
        """SHA-256 of what decides the counts of one prompt, whatever others the command has."""
        return fingerprints.of_value({"stage": "discover prompt", "prompt": prompt.fingerprint, **self._deciding()})

    def random_address(self, number: int) -> str:
        """SHA-256 of what decides the counts of one random prompt."""
        which = [number, self.prompts[0].length]
        return fingerprints.of_value({"stage": "discover random prompt", "prompt": which, **self._deciding()})

    @property
    def targets(self) -> tuple[int, ...]:
        """Label 1 of two labels; of more, each against the rest."""
        return (1,) if len(self.task.labels) == 2 else tuple(range(len(self.task.labels)))

    @property
    def title(self) -> str:
        """`sst2 · roberta-base · prompt`."""
        return f"{self.task.name} · {self.info.name} · {self.site.name}"

    @property
    def selection(self) -> Selection:
        """Whether half B is fresh: whether all prompts were selected on half A of this very dev split."""
        known = all(prompt.chosen_on_half_a(self.splits["dev"].whole) for prompt in self.prompts)
        return "half A" if known else "unknown"

    @property
    def max_length(self) -> int:
        """T: as asked, or as the prompts were tuned."""
        return self.config.max_length or min(int(prompt.card.get("max_length", 128)) for prompt in self.prompts)

    def question(self) -> Question:
        """What the core is asked; tokenises."""
        dev = self.splits["dev"]
        everything = range(len(dev))
        parts = (everything, everything) if self.config.protocol == "paper" else halves(dev.twins)
        return Question(
            train=self._encode("train"),
            dev=self._encode("dev"),
            halves=parts,
            targets=self.targets,
            classes=len(self.task.labels),
            protocol=self.config.protocol,
            permutations=self.config.permutations,
            seed=self.config.seed,
            batch_size=self.config.eval_batch_size,
            words=self.words,
            effect_steps=self.config.effect_steps,
        )

    @property
    def words(self) -> LabelWords | None:
        """Whose margin effects are of; None where none are asked for, or the prompts have other or more labels."""
        labels = list(self.task.labels)
        alike = all(list(prompt.card["task"]["labels"]) == labels for prompt in self.prompts)
        return tuned_words(self.prompts[0]) if self.config.effect_steps and len(labels) == 2 and alike else None

    def card(self) -> dict[str, Any]:
        """The facts of the neurons' card that are known beforehand."""
        return {
            "protocol": self.config.protocol,
            "site": self.site.name,
            "stack": self.site.stack,
            "task": self.task.name,
            "definition": unsourced(self.task),
            "targets": [self.task.labels[target] for target in self.targets],
            "backbone": {
                "name": self.info.name,
                "fingerprint": self.info.fingerprint,
                "family": self.info.family,
                "reference": self.info.reference,
            },
            "prompts": [prompt.fingerprint for prompt in self.prompts],
            "prompt_length": self.prompts[0].length,
            "seeds": [prompt.card.get("seed") for prompt in self.prompts],
            "selection": self.selection,
            "data": {role: split.fingerprint for role, split in self.splits.items()},
            "rows": {role: len(split) for role, split in self.splits.items()},
            "max_length": self.max_length,
            "permutations": self.config.permutations,
            "effect_steps": self.config.effect_steps,
            "method": METHOD_VERSION,
            "address": self.address,
        }

    def _encode(self, role: str) -> Encoded:
        return encoded(self.splits[role], self.task, self.info, self.max_length)

    def _deciding(self) -> dict[str, object]:
        return {
            "method": METHOD_VERSION,
            "site": self.site.name,
            "protocol": self.config.protocol,
            "permutations": self.config.permutations,
            "seed": self.config.seed,
            "effects": [self.config.effect_steps, self.words.ids] if self.words else None,
            "max_length": self.max_length,
            "task": unsourced(self.task),
            "data": {role: split.fingerprint for role, split in self.splits.items()},
            "backbone": self.info.fingerprint,
        }


def plan(config: DiscoverConfig, tracking: Tracking) -> DiscoverPlan:
    """Check a discover command whole.

    Raises:
        InputError: the first thing that is wrong.
    """
    prompts = fetch(tracking, config.prompts)
    check_distinct(prompts)
    task = task_of(prompts, config.task)
    info = common_backbone(prompts)
    site = site_of(info, config.site, prompts[0].length)
    splits = load_splits(
        task,
        roles=("train", "dev"),
        data_dir=config.data_dir,
        max_train_rows=config.max_train_rows,
        max_dev_rows=config.max_dev_rows,
    )
    _check_dev(splits["dev"], task, config.protocol)
    if config.protocol == "paper" and len(task.labels) > 2:
        must = "protocol=paper is for tasks of two labels, as in the paper"
        raise InputError(must, f"{len(task.labels)} labels", "Use protocol=split, which takes each against the rest.")
    others = [fetch_neurons(tracking, one.strip()) for one in config.compare.split(",")] if config.compare else []
    _check_others(others, info, site)
    _check_others_differ(others, prompts, task)
    return DiscoverPlan(config, prompts, info, task, site, splits, others)


def common_backbone(prompts: Sequence[SoftPrompt]) -> BackboneInfo:
    """The backbone that all prompts were tuned on, not loaded.

    Raises:
        InputError: there are several, the prompts differ in length or placement, or it cannot be found.
    """
    facts = {
        "backbone": {prompt.card["backbone"]["fingerprint"][:12] for prompt in prompts},
        "length": {prompt.length for prompt in prompts},
        "placement": {prompt.card["placement"] for prompt in prompts},
    }
    for what, values in facts.items():
        if len(values) > 1:
            got = listed(sorted(map(str, values)))
            raise InputError(f"the prompts share one {what}", got, "Name prompts of one tune command.")
    info = find_backbone(prompts[0])
    if info.embedding_width != prompts[0].embeddings.shape[1]:
        must = f"a prompt for {info.name} is {info.embedding_width} wide"
        raise InputError(must, str(prompts[0].embeddings.shape[1]), "Use a prompt tuned on this backbone.")
    return info


def _check_dev(dev: Split, task: Task, protocol: Protocol) -> None:
    first, second = halves(dev.twins)
    parts = {"dev": dev} if protocol == "paper" else {"half A": dev.take(first), "half B": dev.take(second)}
    for name, part in parts.items():
        if min(part.counts) < 1:
            counts = ", ".join(f"{count} of {label}" for label, count in zip(task.labels, part.counts, strict=True))
            raise InputError(f"{name} holds a row of every label", counts, "Raise max_dev_rows, or give more.")


def _check_others(others: Sequence[Neurons], info: BackboneInfo, site: Site) -> None:
    for other in others:
        card = other.card
        if card["backbone"]["fingerprint"] != info.fingerprint or card["site"] != site.name:
            raise InputError(
                f"compare names neurons of {info.name} at site {site.name}",
                f"those of {card['backbone']['name']} at {card['site']}",
                "Name discover runs on the same backbone and site.",
            )


def _check_others_differ(others: Sequence[Neurons], prompts: Sequence[SoftPrompt], task: Task) -> None:
    """Refuse neurons that are compared with themselves, whose correlation of 1 would say nothing."""
    seen = {(task.name, prompt.fingerprint) for prompt in prompts}
    for other in others:
        own = {(other.card["task"], fingerprint) for fingerprint in other.card.get("prompts", [])}
        if own & seen:
            must = "compare names discover runs of other tasks, or of other prompts, each once"
            raise InputError(must, f"one of {other.card['task']} whose prompts are there already", "Leave it out.")
        seen |= own
