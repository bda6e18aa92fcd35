"""Parameters of `tune`."""

from typing import Any, Literal

from pydantic import Field, model_validator

from skillneurons.commands.config import ParallelConfig, Seeds, StageConfig
from skillneurons.errors import InputError
from skillneurons.prompts.initialization import Init
from skillneurons.tune.loop import TuneSettings


class TuneConfig(ParallelConfig, TuneSettings):
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


CONFIG = TuneConfig
