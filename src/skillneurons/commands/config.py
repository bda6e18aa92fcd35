"""Parameters of the entry points: parsed from the command line, checked before anything is loaded."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from skillneurons.errors import InputError, meant

C = TypeVar("C", bound="StageConfig")


def _seed_list(value: object) -> object:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


Seeds = Annotated[tuple[int, ...], BeforeValidator(_seed_list)]
Rates = Annotated[tuple[float, ...], BeforeValidator(_seed_list)]
Margin = Annotated[float, Field(gt=0, lt=100, description="points within which a difference counts as none")]
# what others call a parameter
COMMON = {
    "lr": "learning_rate",
    "seed": "seeds",
    "steps": "max_steps",
    "epochs": "max_steps",
    "bs": "batch_size",
    "length": "prompt_length",
    "p": "prompt_length",
    "dataset": "task",
    "backbone": "model",
    "prompt": "prompts",
    "neuron": "neurons",
}


class StageConfig(BaseModel):
    """What every entry point takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_dir: str | None = Field(None, description="folder where the files of `file:` tasks are")
    rerun: bool = Field(False, description="work again although a finished run has this configuration")
    dry_run: bool = Field(False, description="say what would run, its time, memory and disk; load nothing")
    config: str | None = Field(None, description="start from the configuration of runs:/<id>")
    quiet: bool = Field(False, description="say the finding alone")
    verbose: bool = Field(False, description="say the whole finding, and the rows of every table")


class ComputeConfig(StageConfig):
    """What every entry point that loads a model takes."""

    threads: int = Field(0, ge=0, description="CPU threads a process; 0: as torch chooses")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to compute")

    @model_validator(mode="after")
    def _there_is_such_a_device(self) -> Self:
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError("device=cuda needs a GPU that torch sees", "none", "Use device=auto or device=cpu.")
        return self

    @property
    def device_type(self) -> str:
        """`cuda` or `cpu`, as asked for or as there is."""
        return "cuda" if self.device != "cpu" and torch.cuda.is_available() else "cpu"


class ParallelConfig(ComputeConfig):
    """What every entry point takes that several processes can work at together."""

    processes: int = Field(0, ge=0, description="processes that share the rows; 0: the GPUs present, else 1")


def check_differ(rates: tuple[float, ...]) -> None:
    """Refuse a rate that is named twice."""
    if len(set(rates)) < len(rates):
        raise InputError("rates must all differ", rates_listed(rates), "Name each rate once.")


def rates_listed(numbers: tuple[float, ...]) -> str:
    """Rates as a refusal names them."""
    return ", ".join(f"{number:g}" for number in numbers) or "none"


def parse(kind: type[C], given: Mapping[str, str], base: Mapping[str, Any] | None = None) -> C:
    """A stage's configuration from `key=value` texts over a base (defaults of a model, an older run).

    An empty text is no value: `mlflow run` passes one for a parameter left open.

    Raises:
        InputError: an unknown parameter, or a value that breaks a rule; one line, the first of them.
    """
    given = {key: value for key, value in given.items() if value != ""}
    for key in given:
        check_name(kind, key)
    try:
        return kind(**{**(base or {}), **given})
    except ValidationError as error:
        raise _explain(error, kind) from None


def check_name(kind: type[StageConfig], key: str) -> None:
    """Refuse a parameter the entry point does not have, with the nearest that it has."""
    if key not in kind.model_fields:
        common = COMMON.get(key.lower(), "")
        hint = f"Did you mean {common}?" if common in kind.model_fields else meant(key, kind.model_fields)
        raise InputError("every parameter is one the entry point has", f"{key}", hint or "See --help.")


def _explain(error: ValidationError, kind: type[StageConfig]) -> InputError:
    first = error.errors()[0]
    if isinstance(told := first.get("ctx", {}).get("error"), InputError):  # a rule of several values, in our words
        return told
    name = str(first["loc"][0]) if first["loc"] else "configuration"
    if first["type"] == "missing":
        missing = [str(e["loc"][0]) for e in error.errors() if e["type"] == "missing"]
        return InputError(f"{' and '.join(missing)} must be given", "nothing", f"Add --{name} VALUE.")
    rule = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    description = kind.model_fields[name].description if name in kind.model_fields else ""
    return InputError(f"{name} must be {rule}", repr(first["input"]), f"It is: {description}.")
