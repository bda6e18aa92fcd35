"""`main`: the whole chain on the embedded default, offline, in minutes; several models side by side."""

import os
import subprocess
import sys
from collections.abc import Mapping
from threading import Thread
from typing import Any

from rich.console import Console

from skillneurons.commands.config import parse
from skillneurons.commands.display import LiveRows, show_finding, show_place
from skillneurons.commands.lifecycle import Command, Connect, EntryPoint, Outcome, Plan
from skillneurons.data.tasks import load_task
from skillneurons.demo.config import MainConfig
from skillneurons.demo.plan import MainPlan
from skillneurons.demo.summary import Chain, markdown, next_commands, show
from skillneurons.discover.command import COMMAND as DISCOVER
from skillneurons.errors import InputError
from skillneurons.findings import Finding
from skillneurons.robustness.command import COMMAND as ROBUSTNESS
from skillneurons.suppress.command import COMMAND as SUPPRESS
from skillneurons.tracking.runs import Run, Tracking
from skillneurons.tune.command import COMMAND as TUNE
from skillneurons.tune.plan import TunePlan

# enough to tell skill from chance, small enough for minutes on one core; each stage by itself has more
BASELINE_ROWS, COUNTED_ROWS, TEST_ROWS = 1_000, 1_000, 300
RATES = (0, 5)
ATTACKED_ROWS, ATTACKED_RATES = 100, (5,)
PARENT_RUN = "SKILLNEURONS_MAIN_RUN"  # of which a model's chain is a child


class Models(LiveRows):
    """One row a model: its last line."""

    columns = ("model", "now")

    def __init__(self, names: list[str], console: Console) -> None:
        super().__init__(names, console, silent=console.quiet)

    def told(self, name: str, line: str) -> None:
        """Show a line of a model's chain."""
        self.show(name, (line,), f"{name}: {line}")


class Main(EntryPoint[MainPlan]):
    """What `main` brings: the commands of the chain as children of one run, a process a model."""

    name, config = "main", MainConfig

    def plan(self, given: Mapping[str, Any], base: Mapping[str, Any] | None, connect: Connect) -> MainPlan:
        asked = {key: value for key, value in given.items() if value != ""}
        # an older run's configuration is a whole one
        asked = asked if base else {**MainConfig.DEFAULTS, **asked}
        models = [one.strip() for one in str({**(base or {}), **asked}.get("model", "")).split(",") if one.strip()]
        if len(set(models)) < len(models) or not models:
            must = "model names one model or several, each once"
            raise InputError(must, ",".join(models) or "none", "E.g. model=pocket-roberta.")
        tunings = tuple(TUNE.plan({**asked, "model": model}, base, connect) for model in models)
        return MainPlan(parse(MainConfig, asked, base), tunings)

    def dry_run(self, plan: MainPlan) -> str:
        after = "then discover, suppress and robustness on its prompts, about twice as long again"
        return "\n".join(f"{TUNE.dry_run(one)}\n{after}" for one in plan.tunings)

    def carry_out(self, plan: MainPlan, given: Mapping[str, str], tracking: Tracking, console: Console) -> int:
        above, tags = os.environ.get(PARENT_RUN), {"skillneurons.stage": "main"}
        parent = Run(tracking.client, above) if above else None
        with tracking.run(f"main {plan.title}", tags, parent, adopt=above is None) as run:
            if len(plan.tunings) == 1:
                chains = [_chain(plan.tunings[0], tracking, console, run)]
            else:
                chains = _side_by_side(plan, given, tracking, console, run)
            run.metrics({name: value for chain in chains for name, value in chain.metrics.items()})
            whole = "\n\n".join(found.markdown for chain in chains for found in chain.found.values())
            run.note(f"{markdown(chains)}\n\n{whole}")
        if above is None:
            _close(chains, run, tracking, console)
        return 0


def _side_by_side(
    plan: MainPlan, given: Mapping[str, str], tracking: Tracking, console: Console, run: Run
) -> list[Chain]:
    """Each model's chain in a process of its own, which shares out the cores.

    Raises:
        ArithmeticError: one of them failed.
    """
    names = [one.info.name for one in plan.tunings]
    rest = {key: value for key, value in given.items() if key != "model"}
    environment = {**os.environ, PARENT_RUN: run.id}
    environment.pop("MLFLOW_RUN_ID", None)
    environment["COLUMNS"] = "1000"  # its lines are wrapped here
    environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // len(names)))
    crew: dict[str, subprocess.Popen[str]] = {}
    with Models(names, console) as display:
        try:
            for one in plan.tunings:
                words = [f"--{key}={value}" for key, value in {**rest, "model": one.config.model}.items()]
                command = [sys.executable, "-u", "-m", "skillneurons", "main", *words]
                crew[one.info.name] = subprocess.Popen(
                    command,
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    encoding="utf-8",
                    # an interrupt of the terminal reaches this command alone, which passes it on once
                    start_new_session=True,
                )
            readers = [Thread(target=_follow, args=(name, process, display)) for name, process in crew.items()]
            for reader in readers:
                reader.start()
            codes = {name: process.wait() for name, process in crew.items()}
            for reader in readers:
                reader.join()
        finally:
            for process in crew.values():
                if process.poll() is None:
                    process.terminate()
                    process.wait()
    if failed := [name for name, code in codes.items() if code]:
        raise ArithmeticError(f"the chain of {' and '.join(failed)} failed; its runs say why")
    return [_found(name, tracking, run) for name in names]


def _follow(name: str, process: "subprocess.Popen[str]", display: Models) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip():
            display.told(name, line.strip())


def _found(name: str, tracking: Tracking, run: Run) -> Chain:
    """What a model's chain, which another process has worked, has left."""
    chains = {tracking.tag(child, MODEL): child for child in tracking.nested(run.id, "main")}
    stages = {stage: found[0] for stage in STAGES if (found := tracking.nested(chains[name], stage))}
    runs = {stage: tracking.worked(run_id) for stage, run_id in stages.items()}
    return Chain(name, runs, {stage: tracking.found(run_id) for stage, run_id in runs.items()})


STAGES = ("tune", "discover", "suppress", "robustness")
MODEL = "skillneurons.model"


def _chain(plan: TunePlan, tracking: Tracking, console: Console, parent: Run) -> Chain:
    """Every stage, one after the other."""
    parent.tags({MODEL: plan.info.name})
    runs: dict[str, str] = {}
    found: dict[str, Finding] = {}

    def do(text: str, command: Command[Any, Any], checked: Plan) -> None:
        console.print(f"\n{len(runs) + 1}. {command.name}: {text}", highlight=False, style="bold")
        outcome: Outcome[Any] = command.execute(checked, tracking, console, parent)
        runs[command.name], found[command.name] = outcome.run_id, outcome.report.finding()
        if not console.quiet:
            show_finding(found[command.name], console, whole=plan.config.verbose)
            show_place("run", outcome.run_id, console)

    def asked(command: Command[Any, Any], **more: Any) -> Plan:
        checked: Plan = command.plan({}, {**shared, **more}, lambda: tracking)
        return checked

    c = plan.config
    do("one soft prompt a seed, the backbone frozen", TUNE, plan)
    same = {name: getattr(c, name) for name in ("data_dir", "rerun", "threads", "device")}
    shared = {"prompts": f"runs:/{runs['tune']}", **same}
    # without the position where the label is read, so that families can be compared
    rows = {"max_train_rows": BASELINE_ROWS, "max_dev_rows": COUNTED_ROWS, "site": "prompt-body", "random_prompts": 1}
    do("which neurons tell the label at the prompt's positions", DISCOVER, asked(DISCOVER, task=c.task, **rows))
    shared["neurons"] = f"runs:/{runs['discover']}"
    do("does the model need them", SUPPRESS, asked(SUPPRESS, task=c.task, rates=RATES, max_eval_rows=TEST_ROWS))
    name = f"adv_{plan.task.name}"
    try:
        load_task(name)
    except InputError:
        console.print(f"there is no task {name}: nothing to attack with", highlight=False)
        return Chain(plan.info.name, runs, found)
    rows = {"rates": ATTACKED_RATES, "max_eval_rows": ATTACKED_ROWS}
    attack = asked(ROBUSTNESS, adversarial=name, **rows)
    do("what attacks cost, and whether they work through these neurons", ROBUSTNESS, attack)
    return Chain(plan.info.name, runs, found)


def _close(chains: list[Chain], run: Run, tracking: Tracking, console: Console) -> None:
    """The summary, where to look, and what to do next."""
    console.quiet = False
    console.print()
    show(chains, console)
    first = chains[0]
    cards = Run(tracking.client, first.runs["discover"]).artifact_path(DISCOVER.shown["cards"])
    for what, where in (("look", tracking.ui(run.id)), ("cards of the neurons", cards)):
        show_place(what, where, console)
    for command in next_commands(first):
        show_place("next", command, console)


COMMAND = Main()
