"""The one life of a command: parse, plan, find the finished run or do the work, record, announce."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.table import Table
from torch import nn

from skillneurons.commands.config import ComputeConfig
from skillneurons.commands.display import show_finding, show_place
from skillneurons.commands.environment import environment, older_config
from skillneurons.commands.launching import is_worker, launch
from skillneurons.commands.progress import rows_read
from skillneurons.data.splits import Split
from skillneurons.findings import Finding
from skillneurons.storage import alone, on_main
from skillneurons.tracking.runs import ADDRESS, LOOKS, Run, Tracking

Connect = Callable[[], Tracking]
NOT_KEPT = {
    "rerun",
    "dry_run",
    "config",
    "quiet",
    "verbose",
}  # what is no part of a configuration that others start from

LAST = "last"
REFERENCES = ("prompts", "neurons", "other_tasks", "init_prompt", "compare", "config")  # parameters that name runs


class Plan(Protocol):
    """A checked command."""

    @property
    def config(self) -> ComputeConfig:
        """The parsed parameters."""

    @property
    def title(self) -> str:
        """What is worked on, in a few words."""

    @property
    def address(self) -> str:
        """SHA-256 of what decides the outcome."""


P = TypeVar("P", bound=Plan)


class Report(Protocol):
    """What a finished command says."""

    def finding(self) -> Finding:
        """A headline and claims, chance included."""

    def rich_table(self) -> Table | None:
        """For the terminal."""


@dataclass(frozen=True)
class Said:
    """What a run said when it was worked."""

    found: Finding

    @classmethod
    def by(cls, tracking: Tracking, run_id: str) -> "Said":
        """The finding of a run."""
        return cls(tracking.found(run_id))

    def finding(self) -> Finding:
        """As it was said."""
        return self.found

    def rich_table(self) -> None:
        """None: the finding alone was kept."""


R = TypeVar("R", bound=Report)


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """Where the result of a command is (nowhere, on other processes than the main one), and what it says."""

    run_id: str
    reused: bool
    report: R


@dataclass(frozen=True)
class Job:
    """With what a command works; `run` keeps nothing on other processes than the main one."""

    tracking: Tracking
    run: Run
    accelerator: Accelerator
    console: Console
    started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Since it was begun."""
        return time.perf_counter() - self.started

    def say(self, text: str) -> None:
        """A line of progress, from the main process."""
        if self.accelerator.is_main_process:
            self.console.print(text, highlight=False, markup=False)

    def reading(self, model: nn.Module, what: str, rows: float) -> AbstractContextManager[None]:
        """Shows the rows that a model reads inside, of about so many."""
        silent = Console(quiet=True)
        return rows_read(model, self.console if self.accelerator.is_main_process else silent, what, rows)


class EntryPoint(ABC, Generic[P]):
    """A command line: its configuration, its plan, and how it is carried out."""

    name: ClassVar[str]
    config: ClassVar[type[ComputeConfig]]
    shown: ClassVar[Mapping[str, str]] = {"pictures": "figures"}  # what is named at the end, and its artifact

    @abstractmethod
    def plan(self, given: Mapping[str, Any], base: Mapping[str, Any] | None, connect: Connect) -> P:
        """Check all that can be checked before a model is loaded.

        Args:
            given: parameters, as texts or as their values.
            base: the configuration of an older run, over which they are laid.
            connect: gives the tracking store; bad parameters are refused before it is touched.

        Raises:
            InputError: the first thing that is wrong.
        """

    @abstractmethod
    def dry_run(self, plan: P) -> str:
        """What the command would do and about what it would cost."""

    def processes(self, plan: P) -> int:
        """How many processes share the work."""
        return 1

    def run(self, given: Mapping[str, str], console: Console) -> int:
        """Carry out the command; returns the exit code."""
        connect = cache(Tracking.connect)
        plan = self.prepare(given, connect)
        processes = self.processes(plan)
        if plan.config.dry_run:
            console.print(self.dry_run(plan), highlight=False, markup=False)
            return 0
        tracking = connect()
        if processes > 1 and not is_worker() and (plan.config.rerun or not tracking.finished(plan.address)):
            cpu = plan.config.device_type == "cpu"
            return launch(self.name, given, processes, cpu=cpu, address=plan.address)
        console.quiet = plan.config.quiet  # until the finding is said
        return self.carry_out(plan, given, tracking, console)

    def prepare(self, given: Mapping[str, Any], connect: Connect) -> P:
        """The plan of a command line, over the configuration of the run that its `config` names."""
        given = {key: self._resolved(key, value, connect) for key, value in given.items()}
        reference = given.get("config")
        return self.plan(given, older_config(connect(), reference, self.config) if reference else None, connect)

    def _resolved(self, key: str, value: Any, connect: Connect) -> Any:
        """`last` and `last:<words>` as the runs that they stand for now."""
        stage = {"compare": self.name, "config": self.name, "neurons": "discover"}.get(key, "tune")
        if key not in REFERENCES or not isinstance(value, str) or LAST not in value:
            return value
        parts = [part.strip() for part in value.split(",")]
        return ",".join(connect().last(stage, part[len(LAST) :]) if _is_last(part) else part for part in parts)

    @abstractmethod
    def carry_out(self, plan: P, given: Mapping[str, str], tracking: Tracking, console: Console) -> int:
        """Do the work, or find it done, and say what came out; returns the exit code."""

    def announce(self, plan: P, outcome: Outcome[Any], tracking: Tracking, console: Console) -> None:
        """Say what came out and where it is."""
        quiet, verbose = plan.config.quiet, plan.config.verbose
        run = Run(tracking.client, outcome.run_id)
        if outcome.reused:
            again = f"This configuration has finished as run {outcome.run_id}; rerun=true works it again."
            console.print(again, highlight=False)
        if (table := outcome.report.rich_table()) is not None:
            console.print(table)
        console.quiet = False
        show_finding(outcome.report.finding(), console, whole=verbose)
        if not quiet:
            for what, path in self.shown.items():
                show_place(what, run.artifact_path(path), console)
        show_place("run", outcome.run_id, console)
        if not quiet:
            show_place("the UI", tracking.ui(outcome.run_id), console)


def _is_last(part: str) -> bool:
    return part == LAST or part.startswith(f"{LAST}:")


class Command(EntryPoint[P], Generic[P, R]):
    """What a capability brings beside that: its work, done in one run and found by its address, and its report."""

    @abstractmethod
    def work(self, plan: P, job: Job) -> R:
        """Do it, and record it in the run; all processes of a launcher call this together."""

    @abstractmethod
    def reused(self, plan: P, tracking: Tracking, run_id: str) -> R:
        """The report of a finished run."""

    def inputs(self, plan: P) -> Iterable[Split]:
        """The data that the run is of."""
        return ()

    def tags(self, plan: P) -> dict[str, str]:
        """Tags of the run, beside its stage, address and environment."""
        return {}

    def differs(self, plan: P) -> Iterable[str]:
        """What tells its run from others of the same title, in the run's name."""
        return ()

    def accelerator(self, plan: P) -> Accelerator:
        """The device, and what the work's precision is."""
        return Accelerator(cpu=plan.config.device_type == "cpu")

    def forget(self, plan: P) -> None:
        """Forget what an interrupted command would have taken up."""

    def carry_out(self, plan: P, given: Mapping[str, str], tracking: Tracking, console: Console) -> int:
        """Do the work, or find it done, and say what came out; returns the exit code."""
        outcome = self.execute(plan, tracking, console)
        if outcome.run_id:
            self.announce(plan, outcome, tracking, console)
        return 0

    def execute(self, plan: P, tracking: Tracking, console: Console, parent: Run | None = None) -> Outcome[R]:
        """Do the work of a checked command, or find the finished run that did it."""
        config, address = plan.config, plan.address
        torch.set_num_threads(config.threads or torch.get_num_threads())
        accelerator = self.accelerator(plan)
        main = accelerator.is_main_process
        if done := on_main(lambda: None if config.rerun else tracking.finished(address)):
            if main:
                tracking.point(self.name, plan.title, done, parent)
            return Outcome(done if main else "", True, self.reused(plan, tracking, done))
        with alone(address):
            if not main:
                return Outcome("", False, self.work(plan, Job(tracking, Run(), accelerator, console)))
            tags = {"skillneurons.stage": self.name, ADDRESS: address, **self.tags(plan)}
            tags |= environment(accelerator, config)
            name = " · ".join([f"{self.name} {plan.title}", *self.differs(plan)])
            with tracking.run(name, tags, parent, adopt=parent is None) as run:
                for old in tracking.supersede(address, run):
                    console.print(f"taking up the work of run {old}, which died without a word", highlight=False)
                values = config.model_dump(mode="json")
                given = config.model_fields_set
                run.params({name: v for name, v in values.items() if v is not None and name in given})
                run.yaml({name: value for name, value in values.items() if name not in NOT_KEPT}, "config.yaml")
                run.tags({LOOKS: str(tracking.looks(self.inputs(plan)))})
                run.inputs(self.inputs(plan))
                report = self.work(plan, Job(tracking, run, accelerator, console))
        self.forget(plan)
        return Outcome(run.id, False, report)
