"""Parameters of the entry points: parsed from the command line, checked before anything is loaded."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from skillneurons.errors import InputError
from skillneurons.initialisation import Init
from skillneurons.selection import Ranking
from skillneurons.sites import SiteName
from skillneurons.suppression import Kind, Positions
from skillneurons.tuning import TuneSettings

C = TypeVar("C", bound="StageConfig")


def _seed_list(value: object) -> object:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


Seeds = Annotated[tuple[int, ...], BeforeValidator(_seed_list)]
Rates = Annotated[tuple[float, ...], BeforeValidator(_seed_list)]


class StageConfig(BaseModel):
    """What every entry point takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_dir: str | None = Field(None, description="folder where the files of `file:` tasks are")
    rerun: bool = Field(False, description="work again although a finished run has this configuration")
    dry_run: bool = Field(False, description="say what would run, its time, memory and disk; load nothing")
    config: str | None = Field(None, description="start from the configuration of runs:/<id>")


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


class TuneConfig(ComputeConfig, TuneSettings):
    """What `tune` takes."""

    model: str = Field(description="a name in experiments/models, a folder, a .gguf file, or a hub id")
    task: str = Field(description="a name in experiments/tasks, or a path to such a YAML")
    seeds: Seeds = Field((0,), description="one prompt is tuned for each, e.g. 0,1,2")
    revision: str | None = Field(None, description="the hub revision of the model")
    placement: Literal["auto", "prefix"] = Field(
        "auto", description="auto: as the family has it; prefix: decoder-only, for tuning alone"
    )
    label_words: Literal["default", "published"] = Field("default", description="which words of the task")
    prompt_length: int = Field(100, ge=1, description="P, positions of the prompt")
    max_length: int = Field(128, ge=8, description="T, tokens of text kept")
    init: Init = Field("vocabulary", description="where the prompt starts")
    init_std: float = Field(0.02, gt=0, allow_inf_nan=False, description="for init=normal")
    init_text: str | None = Field(None, description="for init=text: words to start from")
    init_prompt: str | None = Field(None, description="for init=prompt: runs:/, models:/ or a folder")
    order_seed: int | None = Field(
        None, ge=0, description="one data order for all seeds, so that their spread is that of the init"
    )
    max_train_rows: int | None = Field(None, ge=1, description="subsample train by row hash")
    max_dev_rows: int | None = Field(
        None, ge=1, description="subsample dev, whose half A selects the prompt; else as max_eval_rows"
    )
    max_eval_rows: int | None = Field(None, ge=1, description="subsample dev and test by row hash")
    eval_batch_size: int = Field(64, ge=1, description="rows per forward pass in evaluation")
    processes: int = Field(0, ge=0, description="data-parallel processes; 0: the GPUs present, else 1")

    @model_validator(mode="after")
    def _consistent(self) -> "TuneConfig":
        if len(set(self.seeds)) < len(self.seeds):
            raise InputError("seeds must all differ", f"{self.seeds}", "Name each seed once.")
        if not self.seeds or min(self.seeds) < 0:
            raise InputError("seeds must be whole numbers from 0 up", f"{self.seeds}", "E.g. seeds=0,1,2.")
        for kind, name in (("text", "init_text"), ("prompt", "init_prompt")):
            if (self.init == kind) != (getattr(self, name) is not None):
                got = f"init={self.init}, {name}={getattr(self, name)}"
                raise InputError(f"{name} is given exactly when init={kind}", got, "Give both or neither.")
        if self.warmup_steps >= self.max_steps:
            got = f"{self.warmup_steps} of {self.max_steps}"
            raise InputError("warmup_steps must be fewer than max_steps", got, "Shorten the warm-up.")
        return self

    @property
    def settings(self) -> TuneSettings:
        """The part that the tuning core reads."""
        return TuneSettings(**{name: getattr(self, name) for name in TuneSettings.model_fields})

    def deciding(self) -> dict[str, Any]:
        """The values that decide a prompt: what is left out says only where and how fast.

        Model, task and data enter an address by their fingerprints instead of their names.
        """
        return self.model_dump(mode="json", exclude=set(StageConfig.model_fields) | OPERATIONAL)


OPERATIONAL = {
    "model",
    "revision",
    "task",
    "seeds",
    "init_prompt",
    "max_train_rows",
    "max_dev_rows",
    "max_eval_rows",
    "eval_batch_size",
    "accumulation",
    "processes",
    "threads",
    "device",
}


class PretrainConfig(ComputeConfig):
    """What `pretrain` takes; the recipe decides the weights, the rest says where and how fast."""

    corpus: str = Field(description="folder of <data set>/train.jsonl")
    recipe: str = Field(description="a recipe, e.g. experiments/models/pocket.yaml")
    models: str | None = Field(None, description="which models of the recipe, with commas; else all")
    out: str | None = Field(None, description="folder the model folders are written to; else in the state folder")
    steps: int | None = Field(None, ge=1, description="instead of the recipe's train.steps")
    seed: int | None = Field(None, ge=0, description="instead of the recipe's seed")
    save_every: int = Field(100, ge=1, description="steps between checkpoints")


class DiscoverConfig(ComputeConfig):
    """What `discover` takes."""

    prompts: str = Field(
        description="runs:/<id> (a tune parent: all its seeds), models:/…, or folders; commas between"
    )
    task: str | None = Field(None, description="a name in experiments/tasks, or a path; else the prompts' own")
    site: SiteName = Field("prompt", description="prompt, prompt-body, decoder or label")
    protocol: Literal["split", "paper"] = Field(
        "split", description="split: choose on half A of dev, test on half B; paper: both on all of dev"
    )
    permutations: int = Field(200, ge=20, le=10_000, description="R, label permutations of the chance level")
    seed: int = Field(0, ge=0, description="of the permutations")
    cards: int = Field(10, ge=1, le=100, description="neurons that get a card")
    compare: str | None = Field(None, description="discover runs of other tasks, for the specificity matrix")
    max_train_rows: int | None = Field(None, ge=2, description="rows of the baseline; else all of train")
    max_dev_rows: int | None = Field(None, ge=4, description="subsample dev, both halves, by row hash")
    max_length: int | None = Field(None, ge=8, description="T, tokens of text kept; else as tuned")
    eval_batch_size: int = Field(32, ge=1, description="rows per forward pass")
    processes: int = Field(0, ge=0, description="processes that share the rows; 0: the GPUs present, else 1")


class SuppressConfig(ComputeConfig):
    """What `suppress` takes."""

    prompts: str = Field(description="runs:/<tune run>, models:/<name>@<alias> or folders, with commas; one task")
    neurons: str = Field(description="runs:/<discover run>, or a neurons folder; of the same backbone")
    task: str | None = Field(None, description="whose test rows; else the prompts' own task")
    rates: Rates = Field((0, 1, 3, 5, 7, 9, 11, 13, 15), description="percent of neurons suppressed")
    kind: Kind = Field("zero", description="zero; mean (of the baseline); noise (added); resample (another row's)")
    positions: Positions = Field("all", description="all, or prompt: those of the neurons' site alone")
    ranking: Ranking = Field("layer", description="the top of each layer, or of all layers together: global")
    keep: bool = Field(False, description="suppress all neurons but the top ones")
    controls: int = Field(10, ge=1, description="K, random sets with as many neurons in each layer")
    sigma: float = Field(0.1, gt=0, allow_inf_nan=False, description="for kind=noise: its standard deviation")
    other_tasks: str | None = Field(None, description="prompts of other tasks, scored under the same sets")
    seed: int = Field(0, ge=0, description="of random sets, noise, resampling and the bootstrap")
    max_eval_rows: int | None = Field(None, ge=1, description="subsample test by row hash")
    eval_batch_size: int = Field(64, ge=1, description="rows per forward pass: texts times sets")

    @model_validator(mode="after")
    def _consistent(self) -> "SuppressConfig":
        if not self.rates or not all(0 <= rate <= 100 for rate in self.rates):
            raise InputError("rates are percentages from 0 to 100", _listed(self.rates), "E.g. rates=0,1,5,15.")
        _check_differ(self.rates)
        if self.kind == "resample" and self.positions == "all":
            must = "kind=resample needs positions=prompt: texts differ in length"
            raise InputError(must, "positions=all", "Add positions=prompt.")
        return self

    def deciding(self) -> dict[str, Any]:
        """The values that decide the outcome; prompts, neurons and tasks enter an address by fingerprint."""
        values = self.model_dump(include={"kind", "positions", "ranking", "keep", "controls", "seed"})
        noise = {"sigma": self.sigma} if self.kind == "noise" else {}
        return {**values, **noise, "rates": sorted(self.rates)}


class RobustnessConfig(ComputeConfig):
    """What `robustness` takes."""

    prompts: str = Field(description="runs:/<tune run>, models:/<name>@<alias> or folders, with commas; one task")
    neurons: str = Field(description="runs:/<discover run> of these prompts, or folders; one a site, with commas")
    adversarial: str | None = Field(
        None, description="adversarial tasks, with commas: names or paths; else adv_<task>"
    )
    rates: Rates = Field((1, 5, 15), description="percent of the neurons of a layer that count as skill neurons")
    controls: int = Field(10, ge=2, description="K, random sets with as many neurons in each layer")
    permutations: int = Field(200, ge=20, le=10_000, description="R, label permutations of the chance level")
    pairs: Literal["auto", "required"] = Field(
        "auto",
        description="auto: compare rows with their clean originals where there are any; required: refuse others",
    )
    compare: str | None = Field(None, description="robustness runs of other backbones or tasks, for the comparison")
    seed: int = Field(0, ge=0, description="of permutations, random sets and resampling")
    max_length: int | None = Field(None, ge=8, description="T, tokens of text kept; else as tuned")
    max_eval_rows: int | None = Field(None, ge=2, description="subsample test and adversarial rows by row hash")
    eval_batch_size: int = Field(64, ge=1, description="rows per forward pass: texts times sets")

    @model_validator(mode="after")
    def _consistent(self) -> "RobustnessConfig":
        if not self.rates or not all(0 < rate < 100 for rate in self.rates):
            raise InputError("rates are percentages between 0 and 100", _listed(self.rates), "E.g. rates=1,5,15.")
        _check_differ(self.rates)
        return self

    def deciding(self) -> dict[str, Any]:
        """The values that decide the outcome; prompts, neurons and tasks enter an address by fingerprint."""
        return {**self.model_dump(include={"controls", "permutations", "seed"}), "rates": sorted(self.rates)}


class TransferConfig(ComputeConfig):
    """What `transfer` takes."""

    prompts: str = Field(
        description="runs:/<tune run>, models:/<name>@<alias> or folders, with commas; several tasks"
    )
    tasks: str | None = Field(None, description="whose test rows, with commas; else the prompts' own tasks")
    neurons: str | None = Field(None, description="discover runs, one for each task of the prompts, with commas")
    top: float = Field(5.0, gt=0, lt=100, description="percent of a layer's neurons, for overlap")
    random_prompts: int = Field(10, ge=2, description="K, prompts nobody tuned, drawn like the vocabulary")
    permutations: int = Field(10_000, ge=100, description="of the tasks, where there are too many to try all")
    seed: int = Field(0, ge=0, description="of random prompts and permutations")
    max_eval_rows: int | None = Field(None, ge=2, description="subsample each test split by row hash")
    eval_batch_size: int = Field(64, ge=1, description="rows per forward pass")

    def deciding(self) -> dict[str, Any]:
        """The values that decide the outcome; prompts, tasks and neurons enter an address by fingerprint."""
        return self.model_dump(
            include={"random_prompts", "seed"} | ({"top", "permutations"} if self.neurons else set())
        )


def _check_differ(rates: tuple[float, ...]) -> None:
    if len(set(rates)) < len(rates):
        raise InputError("rates must all differ", _listed(rates), "Name each rate once.")


def _listed(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:g}" for number in numbers) or "none"


class SearchConfig(TuneConfig):
    """What `search` takes: the parameters of `tune`, each of which is fixed if given, and the study's own."""

    rerun: bool = Field(False, description="refused: a study goes on; give another name instead")
    processes: int = Field(0, ge=0, description="1 at most: a trial has one process; see workers")
    space: str = Field("default", description="a name in experiments/search, or a path to such a YAML")
    trials: int = Field(30, ge=1, description="distinct configurations to complete or prune")
    workers: int = Field(0, ge=0, description="processes here; 0: one a GPU, else 1; more may join from elsewhere")
    storage: str | None = Field(
        None, description="database URL; else SKILLNEURONS_STORAGE, else SQLite in the state folder"
    )
    study: str | None = Field(None, description="name in the storage; else <task>.<model>")
    final_seeds: Seeds = Field((0, 1, 2), description="the winner and the first trial are tuned anew for each")
    heartbeat: int = Field(20, ge=1, description="seconds between signs of life; three missing mean dead")

    @model_validator(mode="after")
    def _search_rules(self) -> "SearchConfig":
        seeds = self.final_seeds
        if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
            must = "final_seeds are different whole numbers from 0 up"
            raise InputError(must, f"{seeds}", "E.g. final_seeds=0,1,2.")
        if self.processes > 1:
            raise InputError("a trial has one process", f"processes={self.processes}", "Give workers=N instead.")
        if self.rerun:
            raise InputError("a study goes on, it is not worked again", "rerun=true", "Give another study name.")
        return self


class MainConfig(TuneConfig):
    """What `main` takes: everything `tune` does, with the embedded default filled in."""

    DEFAULTS: ClassVar[Mapping[str, str]] = {
        "model": "pocket-roberta",
        "task": "film_notes",
        "seeds": "0,1,2",
        "prompt_length": "10",
        "learning_rate": "0.02",
        "batch_size": "16",
        "max_steps": "200",
        "eval_every": "50",
        "max_length": "48",
    }


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
        near = difflib.get_close_matches(key, kind.model_fields, 1)
        hint = f"Did you mean {near[0]}?" if near else "See --help."
        raise InputError("every parameter is one the entry point has", f"{key}", hint)


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
