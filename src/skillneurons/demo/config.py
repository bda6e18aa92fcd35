"""Parameters of `main`."""

from collections.abc import Mapping
from typing import ClassVar

from skillneurons.tune.config import TuneConfig


class MainConfig(TuneConfig):
    """What `main` takes: everything `tune` does, with the embedded default filled in."""

    DEFAULTS: ClassVar[Mapping[str, str]] = {
        "model": "pocket-roberta,pocket-t5",
        "task": "film_notes",
        "seeds": "0,1,2",
        "prompt_length": "10",
        "learning_rate": "0.02",
        "batch_size": "16",
        "max_steps": "120",
        "eval_every": "40",
        "max_length": "48",
    }


CONFIG = MainConfig
