"""What the stages that measure prompts share: how a command is read, worked in a run, and announced."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.table import Table

from skillneurons.checkpoints import alone
from skillneurons.config import ComputeConfig, parse
from skillneurons.stage_tune import environment, older_config
from skillneurons.tracking import ADDRESS, NOTE, Run, Tracking

C = TypeVar("C", bound=ComputeConfig)
_NOT_KEPT = {"rerun", "dry_run", "config"}


class Plan(Protocol):
    """A checked command."""

    @property
    def config(self) -> ComputeConfig:
        """The parsed parameters."""

    @property
    def title(self) -> str:
        """What is measured, in a few words."""

    @property
    def address(self) -> str:
        """SHA-256 of what decides the outcome."""


class Report(Protocol):
    """What a finished command says."""

    def finding(self) -> str:
        """In words, chance included."""

    def rich_table(self) -> Table:
        """For the terminal."""


@dataclass(frozen=True)
class Outcome:
    """Where the result of a command is, what it says, and its report unless it was `reused`."""

    run_id: str
    reused: bool
    finding: str
    report: Report | None = None


def configured(kind: type[C], given: Mapping[str, str]) -> tuple[C, Tracking]:
    """The parameters of a command and the store; bad ones are refused before the store is touched."""
    config = None if given.get("config") else parse(kind, given)
    tracking = Tracking.connect()
    return config or parse(kind, given, older_config(tracking, given["config"], kind)), tracking


def found(stage: str, plan: Plan, tracking: Tracking, parent: Run | None) -> Outcome | None:
    """The finished run that did the same, unless it is to be worked again."""
    if plan.config.rerun or not (done := tracking.finished(plan.address)):
        return None
    tracking.point(stage, plan.title, done, parent)
    return Outcome(done, True, tracking.tag(done, NOTE) or "")


@contextmanager
def worked(stage: str, plan: Plan, tracking: Tracking, parent: Run | None) -> Iterator[tuple[Run, Accelerator]]:
    """A run to fill, its parameters and configuration logged, nobody else here at work on the same."""
    config = plan.config
    torch.set_num_threads(config.threads or torch.get_num_threads())
    accelerator = Accelerator(cpu=config.device_type == "cpu")
    with alone(plan.address):
        tags = {"skillneurons.stage": stage, ADDRESS: plan.address, **environment(accelerator, config)}
        with tracking.run(f"{stage} {plan.title}", tags, parent, adopt=parent is None) as run:
            tracking.supersede(plan.address, run)
            values = config.model_dump(mode="json")
            run.params({name: value for name, value in values.items() if value is not None})
            run.yaml({name: value for name, value in values.items() if name not in _NOT_KEPT}, "config.yaml")
            yield run, accelerator


def announce(outcome: Outcome, tracking: Tracking, console: Console, pictures: str) -> int:
    """Say what came out and where it is (`pictures`: a file or a folder); returns the exit code."""
    if outcome.report is not None:
        console.print(outcome.report.rich_table())
    again = f"This configuration has finished as run {outcome.run_id}; rerun=true works it again."
    which = "picture" if pictures.endswith(".png") else "pictures"
    for line in (
        *([again] if outcome.reused else []),
        outcome.finding.replace("**", ""),
        f"{which}: {Run(tracking.client, outcome.run_id).artifact_path(pictures)}",
        f"run: {outcome.run_id}",
        f"the UI: {tracking.ui}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return 0
