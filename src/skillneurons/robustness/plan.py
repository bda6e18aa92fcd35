"""Everything about a robustness command that can be known, and refused, before a model is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skillneurons import fingerprints
from skillneurons.backbones.base import BackboneInfo
from skillneurons.commands.evaluated_task import (
    EvaluatedTask,
    check_backbone,
    check_fit,
    check_one_task,
    evaluated_task,
)
from skillneurons.data.pairs import Pairs, bare, load_pairs
from skillneurons.data.tasks import Task, load_task
from skillneurons.errors import InputError, listed
from skillneurons.neurons.scores import Neurons
from skillneurons.neurons.selection import top_neurons
from skillneurons.neurons.sites import Site, site_of
from skillneurons.prompts.predictor import find_backbone
from skillneurons.prompts.soft_prompt import SoftPrompt
from skillneurons.robustness.config import RobustnessConfig
from skillneurons.stats.cluster_bootstrap import Clusters

METHOD_VERSION = 4
POOL_TIMES = 3  # clean rows for a ceiling, as a multiple of the adversarial ones
GROUPS = ("construction", "method")  # columns by which adversarial rows are reported apart
LEAST_ROWS = 20  # of a kind, to rank neurons by


@dataclass(frozen=True)
class Attacked:
    """One adversarial set under the prompts: its rows, and its originals where there are any."""

    task: Task
    pairs: Pairs
    prompts: tuple[SoftPrompt, ...]
    max_length: int | None

    @property
    def name(self) -> str:
        """Of the adversarial task."""
        return self.task.name

    @property
    def rows(self) -> EvaluatedTask:
        """All adversarial rows."""
        return EvaluatedTask(self.task, self.pairs.adversarial, self.prompts, False, self.max_length)

    @property
    def clean(self) -> EvaluatedTask | None:
        """The originals; in the order of the pairs where rows are paired."""
        if self.pairs.clean is None:
            return None
        return EvaluatedTask(self.task, self.pairs.clean, self.prompts, False, self.max_length)

    @property
    def places(self) -> NDArray[np.int64]:
        """The adversarial row of each original `[m]`."""
        assert self.pairs.rows is not None
        return self.pairs.rows

    @cached_property
    def kinds(self) -> dict[tuple[str, str], NDArray[np.int64]]:
        """(column, value) -> the adversarial rows of that kind."""
        found: dict[tuple[str, str], NDArray[np.int64]] = {}
        for column in GROUPS:
            values = np.array([str(value) for value in self.pairs.adversarial.extras.get(column, ())])
            found |= {(column, name): np.flatnonzero(values == name) for name in sorted(set(values.tolist()))}
        return found

    @cached_property
    def clusters(self) -> Clusters:
        """Adversarial rows made from one original; rows without one are by themselves, equal ones together.

        Attack tools write one original with other spaces (AdvGLUE), so it is known by its letters and digits. With
        two labels it counts as two, since labels are permuted over originals.
        """
        names = list(self.pairs.adversarial.hashes)
        if self.pairs.clean is not None and self.pairs.rows is not None and not self.pairs.flips:
            for row, texts in zip(self.pairs.rows.tolist(), self.pairs.clean.rows, strict=True):
                names[row] = f"original {bare(texts)}"
        else:
            names = [f"{i}" for i in range(len(names))]
        labels = self.pairs.adversarial.labels.tolist()
        return Clusters.by([f"{name} {label}" for name, label in zip(names, labels, strict=True)])

    @property
    def restorable(self) -> bool:
        """Whether a row's original says what its neurons would have been: paired, and with the same label."""
        return self.pairs.paired and not self.pairs.flips


@dataclass(frozen=True)
class RobustnessPlan:
    """A checked robustness command; of the neurons the last are those that verdicts rest on."""

    config: RobustnessConfig
    info: BackboneInfo
    prompts: tuple[SoftPrompt, ...]
    neurons: tuple[Neurons, ...]
    own: EvaluatedTask
    pool: EvaluatedTask  # clean test rows that ceilings are drawn from
    attacked: tuple[Attacked, ...]
    others: tuple[pd.DataFrame, ...] = ()  # the summaries that this one is put beside

    @property
    def title(self) -> str:
        """`sst2 · roberta-base`."""
        return f"{self.own.task.name} · {self.info.name}"

    @property
    def rates(self) -> tuple[float, ...]:
        """Percentages, rising."""
        return tuple(sorted(self.config.rates))

    @property
    def primary(self) -> float:
        """The percentage that the claims of a set rest on: 5 where it is asked for, else the middle one."""
        return 5.0 if 5.0 in self.rates else self.rates[len(self.rates) // 2]

    @property
    def address(self) -> str:
        """SHA-256 of what decides the outcome of the command; what it is compared with does not."""
        deciding = {
            "stage": "robustness",
            "method": METHOD_VERSION,
            "config": self.config.deciding(),
            "neurons": [[one.fingerprint, one.card["site"]] for one in self.neurons],
            "backbone": self.info.fingerprint,
            "placement": self.info.placement,
            "own": self.own.deciding(),
            "pool": self.pool.split.fingerprint,
            "adversarial": [
                [one.rows.deciding(), one.clean.deciding() if one.clean else None] for one in self.attacked
            ],
        }
        return fingerprints.of_value(deciding)

    def site(self, neurons: Neurons, prompt: SoftPrompt) -> Site:
        """The neurons' site under a prompt."""
        return site_of(self.info, neurons.card["site"], prompt.length)

    def place(self, neurons: Neurons, prompt: SoftPrompt) -> int:
        """A prompt's number among those the neurons were found with."""
        return list(neurons.card["prompts"]).index(prompt.fingerprint)


def plan(config: RobustnessConfig, prompts: Sequence[SoftPrompt], neurons: Sequence[Neurons]) -> RobustnessPlan:
    """Check a robustness command whole.

    Args:
        config: the parsed parameters.
        prompts: fetched, of one task.
        neurons: fetched, one discovery a site.

    Raises:
        InputError: the first thing that is wrong.
    """
    check_one_task(prompts)
    for one in neurons:
        check_backbone(prompts, one)
    info = find_backbone(prompts[0])
    rows, length = config.max_eval_rows, config.max_length
    own = evaluated_task(prompts, data_dir=config.data_dir, max_eval_rows=rows, max_length=length)
    if len(own.task.labels) != 2:
        must = "robustness is for tasks of two labels, as neurons tell label 1 from label 0"
        raise InputError(must, listed(own.task.labels), "Measure such a task with suppress.")
    ordered = tuple(sorted(neurons, key=lambda one: one.card["site"] == "prompt-body"))
    attacked = _attacked(config, own)
    most = POOL_TIMES * max(len(one.pairs.adversarial) for one in attacked)
    pool = evaluated_task(prompts, data_dir=config.data_dir, max_eval_rows=most, max_length=length)
    made = RobustnessPlan(config, info, tuple(prompts), ordered, own, pool, attacked)
    _check_neurons(made)
    _check_rates(made)
    return made


def _attacked(config: RobustnessConfig, own: EvaluatedTask) -> tuple[Attacked, ...]:
    names = [name.strip() for name in (config.adversarial or f"adv_{own.task.name}").split(",") if name.strip()]
    found = []
    for name in names:
        task = load_task(name)
        if list(task.labels) != list(own.task.labels):
            must = f"adversarial rows have the labels of the prompts, {listed(own.task.labels)}"
            raise InputError(must, f"{listed(task.labels)} of {task.name}", "Choose a set with the same labels.")
        pairs = load_pairs(task, config.data_dir, config.max_eval_rows)
        if config.pairs == "required" and not pairs.paired:
            must = f"pairs=required needs rows of {task.name} that name their clean original"
            do = "Give an 'original' column or a 'counterpart' in its YAML, or leave pairs=auto."
            raise InputError(must, "none", do)
        found.append(Attacked(task, pairs, own.prompts, config.max_length))
    if len({one.name for one in found}) < len(found):
        raise InputError("each adversarial task is named once", listed(names), "Leave the second out.")
    return tuple(found)


def _check_neurons(made: RobustnessPlan) -> None:
    sites = [one.card["site"] for one in made.neurons]
    if len(set(sites)) < len(sites):
        raise InputError("neurons are of different sites", listed(sites), "Name one discover run a site.")
    for one in made.neurons:
        card, names = one.card, list(one.card.get("prompts", []))
        if card["targets"] != [made.own.task.labels[1]]:
            must = f"neurons tell {made.own.task.labels[1]}, label 1 of {made.own.task.name}"
            raise InputError(must, listed(card["targets"]), "Discover them on the prompts' task.")
        for prompt in made.prompts:
            check_fit(prompt, made.info)
            made.info.check_length(prompt.length, made.config.max_length or prompt.card["max_length"])
            if prompt.fingerprint not in names:
                must = "neurons were found with these prompts"
                got = f"a prompt of seed {prompt.card.get('seed')} that is not among those of site {card['site']}"
                raise InputError(must, got, "Discover them with the same prompts.")
            if (site := made.site(one, prompt)).stack != card["stack"]:
                must = f"neurons of the site {site.name} of {made.info.name} are in the {site.stack}"
                raise InputError(must, f"neurons of the {card['stack']}", "Discover them again.")


def _check_rates(made: RobustnessPlan) -> None:
    for one in made.neurons:
        one.ranked(made.config.ranking_by)  # refused where there is no such ranking
    width = made.neurons[0].shape[1]
    for rate in made.rates:
        top = top_neurons(made.neurons[0].ranking, rate)
        if not top.any() or top.all():
            must = f"a rate chooses some of {width} neurons of a layer and leaves some"
            raise InputError(must, f"rate {rate:g}", f"Take {100 / width:.3g} or more.")
