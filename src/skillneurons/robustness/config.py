"""Parameters of `robustness`."""

from typing import Any, Literal

from pydantic import Field, model_validator

from skillneurons.commands.config import ComputeConfig, Margin, Rates, check_differ, rates_listed
from skillneurons.errors import InputError
from skillneurons.neurons.scores import RankingBy
from skillneurons.stats.control_sets import least_sets


class RobustnessConfig(ComputeConfig):
    """What `robustness` takes."""

    prompts: str = Field(description="runs:/<tune run>, models:/<name>@<alias> or folders, with commas; one task")
    neurons: str = Field(description="runs:/<discover run> of these prompts, or folders; one a site, with commas")
    adversarial: str | None = Field(
        None, description="adversarial tasks, with commas: names or paths; else adv_<task>"
    )
    rates: Rates = Field((1, 5, 15), description="percent of the neurons of a layer that count as skill neurons")
    controls: int | None = Field(
        None,
        ge=2,
        description="K, random sets a rate; else as many as a rank test over the rates needs (3 rates: 59)",
    )
    ranking_by: RankingBy = Field(
        "predictivity", description="what the top neurons are of: predictivity, effect, both"
    )
    margin: Margin = 3.0
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
            raise InputError(
                "rates are percentages between 0 and 100", rates_listed(self.rates), "E.g. rates=1,5,15."
            )
        check_differ(self.rates)
        return self

    def deciding(self) -> dict[str, Any]:
        """The values that decide the outcome; prompts, neurons and tasks enter an address by fingerprint."""
        found = self.model_dump(include={"margin", "permutations", "ranking_by", "seed"})
        return {**found, "controls": self.random_sets, "rates": sorted(self.rates)}

    @property
    def random_sets(self) -> int:
        """K: as asked, or what the rates need, and the two directions of the primary claim."""
        return self.controls or least_sets(max(2, len(self.rates)))


CONFIG = RobustnessConfig
