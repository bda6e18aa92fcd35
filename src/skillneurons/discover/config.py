"""Parameters of `discover`."""

from typing import Literal

from pydantic import Field

from skillneurons.commands.config import ParallelConfig
from skillneurons.neurons.sites import SiteName
from skillneurons.stats.neuron_tests import LEAST_PERMUTATIONS


class DiscoverConfig(ParallelConfig):
    """What `discover` takes."""

    prompts: str = Field(
        description="runs:/<id> (a tune run: all its seeds), last, models:/…, or folders; commas between"
    )
    task: str | None = Field(None, description="a name in experiments/tasks, or a path; else the prompts' own")
    site: SiteName = Field("prompt", description="prompt, prompt-body, decoder or label")
    protocol: Literal["split", "paper"] = Field(
        "split", description="split: choose on half A of dev, test on half B; paper: both on all of dev"
    )
    permutations: int = Field(
        200, ge=LEAST_PERMUTATIONS, le=10_000, description="R, label permutations of the chance level"
    )
    random_prompts: int = Field(2, ge=0, le=20, description="prompts nobody tuned, counted beside as a baseline")
    effect_steps: int = Field(
        1, ge=0, le=100, description="effects by attribution patching (1), integrated gradients (more), or none (0)"
    )
    seed: int = Field(0, ge=0, description="of the permutations and the random prompts")
    cards: int = Field(10, ge=1, le=100, description="neurons that get a card")
    compare: str | None = Field(None, description="discover runs of other tasks, for the specificity matrix")
    max_train_rows: int | None = Field(None, ge=2, description="rows of the baseline; else all of train")
    max_dev_rows: int | None = Field(None, ge=4, description="subsample dev, both halves, by row hash")
    max_length: int | None = Field(None, ge=8, description="T, tokens of text kept; else as tuned")
    eval_batch_size: int = Field(32, ge=1, description="rows per forward pass")


CONFIG = DiscoverConfig
