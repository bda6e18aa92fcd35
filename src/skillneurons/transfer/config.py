"""Parameters of `transfer`."""

from typing import Any

from pydantic import Field

from skillneurons.commands.config import ComputeConfig, Margin


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
    margin: Margin = 3.0
    seed: int = Field(0, ge=0, description="of random prompts and permutations")
    max_eval_rows: int | None = Field(None, ge=2, description="subsample each test split by row hash")
    eval_batch_size: int = Field(64, ge=1, description="rows per forward pass")

    def deciding(self) -> dict[str, Any]:
        """The values that decide the outcome; prompts, tasks and neurons enter an address by fingerprint."""
        return self.model_dump(
            include={"margin", "random_prompts", "seed"} | ({"top", "permutations"} if self.neurons else set())
        )


CONFIG = TransferConfig
