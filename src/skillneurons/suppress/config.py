"""Parameters of `suppress`."""

from typing import Any

from pydantic import Field, model_validator

from skillneurons.commands.config import ComputeConfig, Margin, Rates, check_differ, rates_listed
from skillneurons.errors import InputError
from skillneurons.neurons.intervention import Kind, Positions
from skillneurons.neurons.scores import RankingBy
from skillneurons.neurons.selection import Ranking
from skillneurons.stats.control_sets import least_sets


class SuppressConfig(ComputeConfig):
    """What `suppress` takes."""

    prompts: str = Field(description="runs:/<tune run>, models:/<name>@<alias> or folders, with commas; one task")
    neurons: str = Field(description="runs:/<discover run>, or a neurons folder; of the same backbone")
    task: str | None = Field(None, description="whose test rows; else the prompts' own task")
    rates: Rates = Field(
        (0, 1, 5, 15), description="percent of neurons suppressed; of the paper 0,1,3,5,7,9,11,13,15"
    )
    kind: Kind = Field("mean", description="mean (of the baseline); zero; noise (added); resample (another row's)")
    positions: Positions = Field("prompt", description="prompt: those of the neurons' site alone; or all")
    ranking: Ranking = Field("layer", description="the top of each layer, or of all layers together: global")
    keep: bool = Field(False, description="suppress all neurons but the top ones")
    controls: int | None = Field(
        None,
        ge=1,
        description="K, random sets a rate; else as many as a rank test over the rates needs (3 rates: 59)",
    )
    ranking_by: RankingBy = Field(
        "predictivity", description="predictivity; effect; both (mean rank; and both tops side by side)"
    )
    margin: Margin = 3.0
    curve: bool = Field(
        False,
        description="also faithfulness over sizes, 0.1 to 50%: areas kept and lost, the minimal set",
    )
    sigma: float = Field(0.1, gt=0, allow_inf_nan=False, description="for kind=noise: its standard deviation")
    other_tasks: str | None = Field(None, description="prompts of other tasks, scored under the same sets")
    seed: int = Field(0, ge=0, description="of random sets, noise, resampling and the bootstrap")
    max_eval_rows: int | None = Field(None, ge=1, description="subsample test by row hash")
    eval_batch_size: int = Field(64, ge=1, description="rows per forward pass: texts times sets")

    @model_validator(mode="after")
    def _consistent(self) -> "SuppressConfig":
        if not self.rates or not all(0 <= rate <= 100 for rate in self.rates):
            raise InputError("rates are percentages from 0 to 100", rates_listed(self.rates), "E.g. rates=0,1,5,15.")
        check_differ(self.rates)
        if self.kind == "resample" and self.positions == "all":
            must = "kind=resample needs positions=prompt: texts differ in length"
            raise InputError(must, "positions=all", "Add positions=prompt.")
        return self

    @property
    def random_sets(self) -> int:
        """K: as asked, or what the rates between none and all need."""
        return self.controls or least_sets(max(1, sum(0 < rate < 100 for rate in self.rates)))

    def deciding(self) -> dict[str, Any]:
        """The values that decide the outcome; prompts, neurons and tasks enter an address by fingerprint."""
        values = self.model_dump(include={"kind", "positions", "ranking", "ranking_by", "keep", "margin", "seed"})
        noise = {"sigma": self.sigma} if self.kind == "noise" else {}
        curve = {"curve": True} if self.curve else {}
        return {**values, **noise, **curve, "controls": self.random_sets, "rates": sorted(self.rates)}


CONFIG = SuppressConfig
