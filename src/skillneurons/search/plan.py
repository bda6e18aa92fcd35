"""Everything about a search command that can be known, and refused, before a model is loaded."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from skillneurons import fingerprints
from skillneurons.commands.config import check_name, parse
from skillneurons.commands.lifecycle import Connect
from skillneurons.data.tasks import unsourced
from skillneurons.errors import InputError
from skillneurons.search.config import SearchConfig
from skillneurons.search.space import Params, Space, read_space
from skillneurons.search.study import check_storage, default_storage, masked
from skillneurons.tracking.registry import registered_name
from skillneurons.tune.command import COMMAND as TUNE
from skillneurons.tune.config import TuneConfig
from skillneurons.tune.plan import METHOD_VERSION, TunePlan

STORAGE_VARIABLE = "SKILLNEURONS_STORAGE"


@dataclass(frozen=True)
class SearchPlan:
    """A checked search command; `first` is the plan of the first trial, whose settings are the paper's."""

    config: SearchConfig
    space: Space
    first: TunePlan

    @property
    def storage(self) -> str:
        """The storage's URL: a parameter, else the environment's, else SQLite in the state folder."""
        return self.config.storage or os.environ.get(STORAGE_VARIABLE) or default_storage()

    @property
    def study(self) -> str:
        """The study's name in the storage."""
        return self.config.study or registered_name(self.first.task.name, self.first.info.name)

    @property
    def title(self) -> str:
        """`sst2 · roberta-base`."""
        return self.first.title

    @property
    def evaluations(self) -> int:
        """How often a trial is evaluated on dev, the start not counted."""
        return -(-self.first.config.max_steps // self.first.config.eval_every)

    def definition(self) -> dict[str, Any]:
        """What decides the value of a configuration: a study goes on only with the same."""
        fixed = {k: v for k, v in self.first.config.deciding().items() if k not in self.space.parameters}
        data = {role: self.first.splits[role].fingerprint for role in ("train", "dev")}
        return {
            "method": METHOD_VERSION,
            "space": self.space.model_dump(mode="json", exclude_none=True),
            "fixed": fixed,
            "seeds": list(self.config.seeds),
            "task": fingerprints.of_value(unsourced(self.first.task)),
            "words": list(self.first.words.ids),
            "data": data,
            "backbone": self.first.info.fingerprint,
            "placement": self.first.info.placement,
            "start": self.first.start.fingerprint if self.first.start else None,
        }

    @property
    def address(self) -> str:
        """SHA-256 of what decides the outcome of the command, test included."""
        whole = {
            "stage": "search",
            "study": self.study,
            "definition": self.definition(),
            "trials": self.config.trials,
            "final_seeds": self.config.final_seeds,
            "test": self.first.splits["test"].fingerprint,
        }
        return fingerprints.of_value(whole)

    def trial_address(self, origin: int, params: Params) -> str:
        """SHA-256 of a configuration of the study, whoever works on it.

        The settings are part of it: a study that was deleted and begun anew under the same address and name
        has others under the same number.
        """
        study = {"storage": masked(self.storage), "name": self.study, "definition": self.definition()}
        return fingerprints.of_value({"stage": "search trial", "origin": origin, "params": dict(params), **study})

    def tune_plan(self, params: Params, seeds: tuple[int, ...] | None = None) -> TunePlan:
        """The plan to tune one configuration, for the trial's seeds or for others."""
        chosen = {"seeds": seeds or self.config.seeds, **params}
        config = TuneConfig(**{**self.first.config.model_dump(), **chosen})
        return replace(self.first, config=config)


def plan(given: Mapping[str, Any], base: Mapping[str, Any] | None, connect: Connect) -> SearchPlan:
    """Check a search command whole.

    Raises:
        InputError: the first thing that is wrong.
    """
    for name in given:
        check_name(SearchConfig, name)
    given = {name: value for name, value in given.items() if value != ""}
    config = parse(SearchConfig, given, base)
    # what an older search had is fixed: it wrote down no parameter that it varied
    fixed = {*given, *(base if base and "trials" in base else ())}
    space = read_space(config.space).without(fixed)
    first = {name: str(value) for name, value in space.first.items()}
    tune = {name: value for name, value in given.items() if name in TuneConfig.model_fields}
    checked = SearchPlan(config, space, TUNE.prepare({**tune, **first}, connect))
    _check(checked)
    return checked


def _check(plan: SearchPlan) -> None:
    check_storage(plan.storage)
    space, config = plan.space, plan.first.config
    if plan.config.trials > space.size:
        do = "Ask for fewer trials, or widen the space."
        raise InputError(
            "trials is at most the number of configurations", f"{plan.config.trials} of {space.size:g}", do
        )
    if axis := space.parameters.get("prompt_length"):
        longest = int(max([axis.high or 0, *(int(v) for v in axis.choices or ())]))
        plan.first.info.check_length(longest, config.max_length)
        if config.init == "prompt":
            must, do = "a search that starts from a prompt has its length", "Give prompt_length too."
            raise InputError(must, "prompt_length in the space", do)
    if axis := space.parameters.get("warmup_steps"):
        most = int(max([axis.high or 0, *(int(v) for v in axis.choices or ())]))
        if most >= config.max_steps:
            got, do = f"{most} of {config.max_steps}", "Shorten the warm-up."
            raise InputError("warmup_steps must be fewer than max_steps", got, do)
    _check_values(plan)


def _check_values(plan: SearchPlan) -> None:
    """Every end and choice of the space is a value that `tune` takes."""
    for name, axis in plan.space.parameters.items():
        for value in (*(axis.choices or ()), axis.low, axis.high):
            if value is not None:
                parse(TuneConfig, {}, {**plan.first.config.model_dump(), name: value})
