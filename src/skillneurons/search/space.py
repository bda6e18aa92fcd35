"""A search space: which tune parameters vary and how far; a YAML file, checked."""

import itertools
import math
import random
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

from optuna import Trial
from pydantic import BaseModel, ConfigDict, Field, model_validator

from skillneurons import fingerprints
from skillneurons.declarations import find, folders, read
from skillneurons.errors import InputError, listed

Value = bool | int | float | str
Params = Mapping[str, Value]
RATE = "learning_rate"
FLOATS = frozenset({RATE, "init_std", "weight_decay", "max_grad_norm"})
INTEGERS = frozenset({"prompt_length", "batch_size", "warmup_steps"})
WORDS = frozenset({"init", "schedule"})
NEED_MORE = frozenset({"text", "prompt"})  # inits that name a text or a prompt beside them


class _Values(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Axis(_Values):
    """One parameter: either `choices`, or all values from `low` to `high` (on a log scale with `log`)."""

    choices: tuple[Value, ...] | None = None
    low: float | None = Field(None, allow_inf_nan=False)
    high: float | None = Field(None, allow_inf_nan=False)
    log: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> "Axis":
        bounds = [bound for bound in (self.low, self.high) if bound is not None]
        if len(bounds) != (2 if self.choices is None else 0):
            raise ValueError("an axis has choices, or low and high")
        if self.choices is not None and (self.log or len(set(self.choices)) < max(1, len(self.choices))):
            raise ValueError("choices are at least one, all different, and have no log scale")
        if bounds and not bounds[0] < bounds[1]:
            raise ValueError("low is below high")
        if self.log and bounds[0] <= 0:
            raise ValueError("a log scale starts above 0")
        return self

    def suggest(self, trial: Trial, name: str) -> Value:
        """The trial's value on this axis, from the sampler."""
        if self.choices is not None:
            chosen: Value = trial.suggest_categorical(name, self.choices)
            return chosen
        assert self.low is not None
        assert self.high is not None
        if name in INTEGERS:
            return int(trial.suggest_int(name, int(self.low), int(self.high), log=self.log))
        return float(trial.suggest_float(name, self.low, self.high, log=self.log))

    def holds(self, value: Value, name: str) -> bool:
        """Whether the value lies on the axis."""
        if self.choices is not None:
            return value in self.choices
        assert self.low is not None
        assert self.high is not None
        return not isinstance(value, (str, bool)) and self.low <= value <= self.high

    def grid(self, name: str) -> tuple[Value, ...] | None:
        """All values in order; None where they are a continuum."""
        if self.choices is not None:
            return self.choices
        assert self.low is not None
        assert self.high is not None
        return tuple(range(int(self.low), int(self.high) + 1)) if name in INTEGERS else None


class Halving(_Values):
    """Successive halving on dev accuracy: at evaluations first_rung * factor^k one in `factor` goes on."""

    first_rung: int = Field(2, ge=1)
    factor: int = Field(3, ge=2)


class Space(_Values):
    """The whole file; `first` are the settings of the first trial, and `pruner: null` prunes none."""

    search: Literal["tune"]
    version: Literal[1]
    parameters: Mapping[str, Axis] = Field(min_length=1)
    first: Mapping[str, Value]
    pruner: Halving | None = Field(default_factory=lambda: Halving(first_rung=2, factor=3))

    @model_validator(mode="after")
    def _whole(self) -> "Space":
        if unknown := sorted(set(self.parameters) - FLOATS - INTEGERS - WORDS):
            raise ValueError(f"only {listed(sorted(FLOATS | INTEGERS | WORDS))} can vary: {unknown[0]} cannot")
        if odd := set(self.first) ^ set(self.parameters):
            raise ValueError(f"first and parameters have the same names: {listed(sorted(odd))} is in one of them")
        for name, axis in self.parameters.items():
            _check_axis(name, axis)
            if not axis.holds(self.first[name], name):
                raise ValueError(f"first.{name} lies in the space: {self.first[name]!r} does not")
        return self

    def without(self, names: Collection[str]) -> "Space":
        """The space less the parameters that a command fixes.

        Raises:
            InputError: nothing is left to vary.
        """
        kept = {name: axis for name, axis in self.parameters.items() if name not in names}
        if not kept:
            got = f"{listed(sorted(self.parameters))} all given"
            raise InputError("a search varies at least one parameter", got, "Leave one of them out.")
        first = {name: value for name, value in self.first.items() if name in kept}
        return self.model_copy(update={"parameters": kept, "first": first})

    def suggest(self, trial: Trial) -> dict[str, Value]:
        """The trial's value of every parameter, from the sampler."""
        return {name: axis.suggest(trial, name) for name, axis in self.parameters.items()}

    @property
    def size(self) -> float:
        """How many configurations there are; infinite with a continuous parameter."""
        grids = [axis.grid(name) for name, axis in self.parameters.items()]
        size = 1.0
        for grid in grids:
            size *= float("inf") if grid is None else len(grid)
        return size

    def unseen(self, seen: Collection[str], seed: int) -> dict[str, Value]:
        """A configuration of a finite space whose key is not among those seen, drawn by the seed."""
        left = [params for params in self._all() if key(params) not in seen]
        return random.Random(seed).choice(left)

    def _all(self) -> Iterator[dict[str, Value]]:
        grids = [axis.grid(name) or () for name, axis in self.parameters.items()]
        for values in itertools.product(*grids):
            yield dict(zip(self.parameters, values, strict=True))


def key(params: Params) -> str:
    """What makes a configuration the same as another."""
    same = {name: v if isinstance(v, str) else float(v) for name, v in params.items()}  # 1 is 1.0
    return fingerprints.of_value(same)


def read_space(name_or_path: str) -> Space:
    """Read and check a space: a name in experiments/search, or a path to such a YAML.

    Raises:
        InputError: there is none, or it breaks a rule; one line, the first of them.
    """
    file = find(name_or_path, "space", folders("search"))
    return read(Space, file, "space", "experiments/search/default.yaml")


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What two definitions differ in, one `name: old -> new` a leaf."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    names = sorted(before.keys() | after.keys())
    return [
        f"{name}: {before.get(name, 'absent')} -> {after.get(name, 'absent')}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def _leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _leaves(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner


def _check_axis(name: str, axis: Axis) -> None:
    values = [value for value in (*(axis.choices or ()), axis.low, axis.high) if value is not None]
    texts = [value for value in values if isinstance(value, str)]
    if (name in WORDS) != (len(texts) == len(values)) or any(isinstance(value, bool) for value in values):
        kind = "words, as choices" if name in WORDS else "numbers"
        raise ValueError(f"{name} takes {kind}: {values[0]!r} is not")
    if any(isinstance(value, float) and not math.isfinite(value) for value in values):
        raise ValueError(f"{name} takes finite numbers: {values} are not all")
    if name in INTEGERS and any(float(value) != int(value) for value in values if not isinstance(value, str)):
        raise ValueError(f"{name} takes whole numbers: {values} are not all")
    if name == "init" and NEED_MORE & set(texts):
        raise ValueError("init varies between normal and vocabulary: text and prompt need more than a word")
