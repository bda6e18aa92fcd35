"""Parameters of `search`."""

from pydantic import Field, model_validator

from skillneurons.commands.config import Seeds
from skillneurons.errors import InputError
from skillneurons.tune.config import TuneConfig


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


CONFIG = SearchConfig
