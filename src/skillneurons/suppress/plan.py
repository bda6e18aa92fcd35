"""Everything about a suppress command that can be known, and refused, before a model is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray

from skillneurons import fingerprints
from skillneurons.backbones.base import BackboneInfo
from skillneurons.commands.evaluated_task import (
    EvaluatedTask,
    by_task,
    check_backbone,
    check_fit,
    check_one_task,
    evaluated_task,
)
from skillneurons.errors import InputError, listed
from skillneurons.neurons.intervention import Intervention, Sets, sets_at
from skillneurons.neurons.scores import Neurons, RankingBy
from skillneurons.neurons.selection import Mask, top_neurons
from skillneurons.neurons.sites import Site, site_of
from skillneurons.prompts.predictor import find_backbone
from skillneurons.prompts.soft_prompt import SoftPrompt
from skillneurons.seeds import mix
from skillneurons.stats.control_sets import least_sets
from skillneurons.suppress.config import SuppressConfig
from skillneurons.suppress.faithfulness import SIZES, TESTS

METHOD_VERSION = 4


@dataclass(frozen=True)
class SuppressPlan:
    """A checked suppress command: configuration, backbone (not loaded), neurons, tasks; the own task first."""

    config: SuppressConfig
    info: BackboneInfo
    neurons: Neurons
    subjects: tuple[EvaluatedTask, ...]

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
            "subjects": [one.deciding() for one in self.subjects],
        }
        return fingerprints.of_value(deciding)

    @property
    def title(self) -> str:
        """`sst2 · roberta-base`."""
        return f"{self.subjects[0].task.name} · {self.info.name}"

    @property
    def ranking(self) -> NDArray[np.floating]:
        """What sets are chosen by `[L, F]`, or `[K, L, F]`."""
        return self.neurons.ranked(self.config.ranking_by)

    @cached_property
    def sets(self) -> tuple[Sets, ...]:
        """The sets at each rate, in rising order."""
        c, ranking = self.config, self.ranking
        return tuple(sets_at(ranking, rate, c.ranking, c.random_sets, c.seed, c.keep) for rate in sorted(c.rates))

    @property
    def tested(self) -> tuple[float, ...]:
        """The rates at which there is something to choose."""
        return tuple(one.rate for one in self.sets if one.controls is not None)

    @property
    def middle(self) -> float:
        """The rate that agreement of rankings is told at: 5 where it is asked for, else the middle one."""
        return 5.0 if 5.0 in self.tested else self.tested[len(self.tested) // 2]

    @property
    def both_tops(self) -> tuple[Mask, Mask] | None:
        """What is suppressed at each tested rate by either ranking; None but with ranking_by=both."""
        c = self.config
        if c.ranking_by != "both":
            return None
        by: tuple[RankingBy, RankingBy] = ("predictivity", "effect")
        first, second = (
            np.stack([top_neurons(self.neurons.ranked(one), rate, c.ranking) ^ c.keep for rate in self.tested])
            for one in by
        )
        return first, second

    @property
    def most_sets(self) -> int:
        """How many sets are read if no test is stopped, the untouched model among them."""
        of_curve = 2 + (2 + least_sets(TESTS)) * 2 * len(SIZES) if self.config.curve else 0
        of_both = 2 * len(self.tested) if self.config.ranking_by == "both" else 0
        return (
            of_curve + of_both + 1 + sum(1 + (0 if one.controls is None else len(one.controls)) for one in self.sets)
        )

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
    check_one_task(prompts)
    check_backbone([*prompts, *others], neurons)
    info = find_backbone(prompts[0])
    read = partial(evaluated_task, data_dir=config.data_dir, max_eval_rows=config.max_eval_rows)
    own, groups = read(prompts, config.task), by_task(others)
    if own.task.name in groups:
        must = f"other_tasks are prompts of other tasks than {own.task.name}"
        raise InputError(must, f"one of {own.task.name}", "Leave it out.")
    subjects = (own, *(read(group, own=False) for group in groups.values()))
    if config.kind == "resample" and (short := min(len(one.split) for one in subjects)) < 2:
        raise InputError("kind=resample needs two rows or more", f"{short}", "Raise max_eval_rows.")
    neurons.ranked(config.ranking_by)  # refused where there is no such ranking
    made = SuppressPlan(config, info, neurons, subjects)
    _check_site(made)
    _check_sets(made)
    return made


def _check_site(made: SuppressPlan) -> None:
    card = made.neurons.card
    for one in made.subjects:
        for prompt in one.prompts:
            check_fit(prompt, made.info)
            site = made.site(prompt)
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
