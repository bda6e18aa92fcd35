"""Parameters of `pretrain`."""

from pydantic import Field

from skillneurons.commands.config import ComputeConfig


class PretrainConfig(ComputeConfig):
    """What `pretrain` takes; the recipe decides the weights, the rest says where and how fast."""

    corpus: str = Field(description="folder of <data set>/train.jsonl")
    recipe: str = Field(description="a recipe: a name in experiments/models, e.g. pocket, or a path")
    models: str | None = Field(None, description="which models of the recipe, with commas; else all")
    out: str | None = Field(None, description="folder the model folders are written to; else in the state folder")
    steps: int | None = Field(None, ge=1, description="instead of the recipe's train.steps")
    seed: int | None = Field(None, ge=0, description="instead of the recipe's seed")
    save_every: int = Field(100, ge=1, description="steps between checkpoints")


CONFIG = PretrainConfig
