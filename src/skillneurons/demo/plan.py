"""What `main` will do, checked: the tuning of each model, from which the rest follows."""

from dataclasses import dataclass

from skillneurons.demo.config import MainConfig
from skillneurons.tune.plan import TunePlan


@dataclass(frozen=True)
class MainPlan:
    """A checked command: one tuning a model.

    Attributes:
        config: as given, `model` with commas.
        tunings: one a model.
    """

    config: MainConfig
    tunings: tuple[TunePlan, ...]

    @property
    def title(self) -> str:
        """Task and models."""
        names = " and ".join(one.info.name for one in self.tunings)
        return f"{self.tunings[0].task.name} · {names}"

    @property
    def address(self) -> str:
        """Of the first tuning: `main` itself is never found done, its stages are."""
        return self.tunings[0].address
