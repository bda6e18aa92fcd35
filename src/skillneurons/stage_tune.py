"""`tune`: one soft prompt a seed on a frozen backbone, tracked and registered."""

import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console

from skillneurons import yaml_text
from skillneurons.checkpoints import FileCheckpoint, alone, on_main
from skillneurons.config import DiscoverConfig, StageConfig, TuneConfig
from skillneurons.display import TuneDisplay, clock
from skillneurons.errors import InputError
from skillneurons.estimate import Work, estimate
from skillneurons.figures import accuracy_by_seed, learning_curves
from skillneurons.launching import is_worker, launch
from skillneurons.prompts import SoftPrompt
from skillneurons.registry import crown, fetch, registered_name
from skillneurons.tracking import ADDRESS, CHILDREN, PARENT, SAME_AS, Run, Tracking
from skillneurons.tune_plan import TunePlan, plan
from skillneurons.tune_report import SeedResult, Summary
from skillneurons.tune_seed import RESULT_FILE, SELECTION, Bench, selected_on, tune_seed


@dataclass(frozen=True)
class Outcome:
    """Where the result of a tune command is, and what it says; `reused` if it was there already."""

    run_id: str
    reused: bool
    summary: Summary


def run(given: Mapping[str, str], console: Console) -> int:
    """Carry out `tune`; returns the exit code."""
    tracking = Tracking.connect() if given.get("config") or given.get("init_prompt") else None
    checked = prepare(given, tracking)
    processes = process_count(checked.config)
    if checked.config.dry_run:
        console.print(dry_run(checked), highlight=False, markup=False, soft_wrap=True)
        return 0
    tracking = tracking or Tracking.connect()
    if processes > 1 and not is_worker():
        if not checked.config.rerun and (done := tracking.finished(checked.address)):
            return announce(point_to(tracking, checked, done, None), tracking, console)
        return launch("tune", given, processes, cpu=checked.config.device_type == "cpu", address=checked.address)
    return announce(execute(checked, tracking, console), tracking, console)


def prepare(given: Mapping[str, str], tracking: Tracking | None) -> TunePlan:
    """Check the command; `config` and `init_prompt` are fetched from tracking."""
    base, start = None, None
    if tracking and (reference := given.get("config")):
        base = older_config(tracking, reference)
    if tracking and (reference := given.get("init_prompt")):
        start = _single_prompt(tracking, reference)
    return plan(given, base, start)


def execute(plan: TunePlan, tracking: Tracking, console: Console, parent: Run | None = None) -> Outcome:
    """Do the work of a checked command, or find the finished run that did it."""
    config = plan.config
    torch.set_num_threads(config.threads or torch.get_num_threads())
    accelerator = accelerator_for(config)
    address, main = plan.address, accelerator.is_main_process
    if done := on_main(lambda: None if config.rerun else tracking.finished(address)):
        return point_to(tracking, plan, done, parent) if main else Outcome("", True, Summary(plan.title, (), {}))
    with alone(address):
        if not main:
            return Outcome("", False, _tune_all(plan, tracking, Run(), accelerator, console))
        tags = {"skillneurons.stage": "tune", ADDRESS: address, SELECTION: selected_on(plan)}
        tags |= environment(accelerator, config)
        with tracking.run(f"tune {plan.title}", tags, parent, adopt=parent is None) as run:
            for old in tracking.supersede(address, run):
                console.print(f"taking up the work of run {old}, which died without a word", highlight=False)
            summary = _tune_all(plan, tracking, run, accelerator, console)
            _record_parent(plan, run, summary)
    return Outcome(run.id, False, summary)


def point_to(tracking: Tracking, plan: TunePlan, done: str, parent: Run | None) -> Outcome:
    """Name the finished run; a run that `mlflow run` made for us only points to it."""
    tracking.point("tune", plan.title, done, parent)
    results = [_seed_result(tracking, child) for child in tracking.children(done)]
    return Outcome(done, True, Summary.of(plan.title, results))


def dry_run(plan: TunePlan) -> str:
    """What the command would do and what it would cost."""
    config = plan.config
    steps, train = config.max_steps, plan.splits["train"]
    sample = plan.encode("train", rows=512)
    work = Work(
        plan.info,
        len(config.seeds),
        steps,
        config.batch_size,
        config.prompt_length,
        float(sample.lengths.float().mean()),
        1 + -(-steps // config.eval_every),
        len(plan.splits["dev"]),
        len(plan.splits["test"]),
    )
    cost = estimate(work, config.device_type)
    epochs = steps * config.batch_size / len(train)
    return (
        f"{_opening(plan)}\n"
        f"would tune {len(config.seeds)} prompts of {config.prompt_length} x {plan.info.embedding_width}, "
        f"{steps} steps of {config.batch_size} rows each ({epochs:.2g} epochs), "
        f"{work.evaluations} evaluations on dev a seed\n"
        f"about {clock(max(1.0, cost.seconds))} (within a factor of two), {cost.memory / 2**30:.1f} GiB of memory, "
        f"{cost.disk / 2**20:.0f} MiB of disk; {process_count(config)} process(es) on {config.device_type}\n"
        f"address {plan.address}"
    )


def announce(outcome: Outcome, tracking: Tracking, console: Console) -> int:
    """Say what came out and where it is; returns the exit code."""
    if outcome.run_id:  # other processes than the main one have none
        if outcome.reused:
            text = f"This configuration has finished as run {outcome.run_id}; rerun=true works it again."
            console.print(text, highlight=False, soft_wrap=True)
        show(outcome, tracking, console)
    return 0


def older_config(tracking: Tracking, reference: str, kind: type[StageConfig] = TuneConfig) -> dict[str, Any]:
    """The effective configuration of `runs:/<id>`, from its `config.yaml`."""
    run_id = reference.removeprefix("runs:/").strip("/")
    run_id = tracking.tag(run_id, SAME_AS) or run_id
    text = tracking.text(run_id, "config.yaml")
    return {k: v for k, v in yaml_text.parse(text).items() if k in kind.model_fields}


def accelerator_for(config: TuneConfig) -> Accelerator:
    """The device and precision of a configuration; all of one process have to agree."""
    return Accelerator(
        mixed_precision="bf16" if config.precision == "bf16" else "no", cpu=config.device_type == "cpu"
    )


def process_count(config: TuneConfig | DiscoverConfig) -> int:
    """The processes asked for; by default one a GPU, or one.

    Raises:
        InputError: more than there are GPUs to compute on.
    """
    gpus = torch.cuda.device_count() if config.device_type == "cuda" else 0
    if 0 < gpus < config.processes and not is_worker():
        must, do = f"processes is at most {gpus}, the GPUs of this machine", "Ask for fewer, or add device=cpu."
        raise InputError(must, str(config.processes), do)
    return config.processes or max(1, gpus)


def environment(accelerator: Accelerator, config: StageConfig) -> dict[str, str]:
    """Tags that say with what a run was made."""
    device = torch.cuda.get_device_name() if accelerator.device.type == "cuda" else platform.processor() or "cpu"
    versions = " ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "accelerate", "mlflow"))
    return {
        "skillneurons.commit": _commit(),
        "skillneurons.versions": f"python {platform.python_version()} {versions}",
        "skillneurons.device": f"{accelerator.device.type}: {device}",
        "skillneurons.threads": str(torch.get_num_threads()),
        "skillneurons.processes": str(accelerator.num_processes),
        "skillneurons.command": " ".join(sys.argv[1:])[:4000],
    }


def show(outcome: Outcome, tracking: Tracking, console: Console) -> None:
    """The table, the finding, the picture and the way to the UI."""
    console.print(outcome.summary.rich_table())
    run = Run(tracking.client, outcome.run_id)
    for line in (
        outcome.summary.finding().replace("**", ""),
        f"picture: {run.artifact_path('figures/accuracy.png')}",
        f"run: {run.id}",
        f"the UI: {tracking.ui}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _tune_all(plan: TunePlan, tracking: Tracking, run: Run, accelerator: Accelerator, console: Console) -> Summary:
    main, results = accelerator.is_main_process, []
    run.params({name: value for name, value in plan.config.model_dump(mode="json").items() if value is not None})
    run.inputs(plan.splits.values())
    bench = _LazyBench(plan, accelerator, console)
    with TuneDisplay(plan.config.seeds, console, silent=not main) as display:
        for seed in plan.config.seeds:
            # another command may have this seed among its own: wait, then take its result
            with alone(plan.seed_address(seed), wait=True):
                if done := _finished_seed(plan, seed, tracking):
                    display.note(seed, f"finished as run {done}")
                    results += [_reuse(tracking, run, done)] if main else []
                else:
                    results.append(_in_child(bench, seed, tracking, run, display))
    return Summary.of(plan.title, results)


class _LazyBench:
    """The backbone, loaded for the first seed that needs it."""

    def __init__(self, plan: TunePlan, accelerator: Accelerator, console: Console) -> None:
        self.plan, self.accelerator, self._console = plan, accelerator, console

    @cached_property
    def loaded(self) -> tuple[Bench, dict[str, torch.Tensor]]:
        """The bench and the scores without a prompt, which all seeds share."""
        if self.accelerator.is_main_process:
            self._console.print(_opening(self.plan), highlight=False, soft_wrap=True)
        backbone = self.plan.info.load(device=self.accelerator.device, dtype=torch.float32)
        encoded = {role: self.plan.encode(role) for role in self.plan.splits}
        bench = Bench(self.plan, backbone, encoded, self.accelerator)
        return bench, bench.unprompted()


def _in_child(lazy: _LazyBench, seed: int, tracking: Tracking, parent: Run, display: TuneDisplay) -> SeedResult:
    plan, main = lazy.plan, lazy.accelerator.is_main_process
    bench, unprompted = lazy.loaded
    if not main:
        return tune_seed(bench, seed, unprompted, tracking, Run(), display.update)
    if plan.config.rerun:
        FileCheckpoint(plan.seed_address(seed)).drop()
    tags = {
        "skillneurons.stage": "tune",
        "skillneurons.seed": str(seed),
        ADDRESS: plan.seed_address(seed),
        SELECTION: selected_on(plan),
        **environment(bench.accelerator, plan.config),
    }
    with tracking.run(f"seed {seed} · {plan.title}", tags, parent) as run:
        tracking.supersede(plan.seed_address(seed), run)
        run.params({**plan.config.model_dump(mode="json"), "seeds": seed, "seed": seed})
        run.yaml(_effective(plan, (seed,)), "config.yaml")
        run.inputs(plan.splits.values())
        result = tune_seed(bench, seed, unprompted, tracking, run, display.update)
    crown(tracking, registered_name(plan.task.name, plan.info.name))
    return result


def _finished_seed(plan: TunePlan, seed: int, tracking: Tracking) -> str | None:
    return on_main(lambda: None if plan.config.rerun else tracking.finished(plan.seed_address(seed)))


def _reuse(tracking: Tracking, parent: Run, run_id: str) -> SeedResult:
    # a seed whose command was interrupted later belongs to the command that makes it whole
    old = tracking.tag(run_id, PARENT)
    if old is None or tracking.client.get_run(old).info.status != "FINISHED":
        Run(tracking.client, run_id).tags({PARENT: parent.id})
    return _seed_result(tracking, run_id)


def _seed_result(tracking: Tracking, run_id: str) -> SeedResult:
    return SeedResult.from_dict(json.loads(tracking.text(run_id, RESULT_FILE)))


def _record_parent(plan: TunePlan, run: Run, summary: Summary) -> None:
    run.yaml(_effective(plan, plan.config.seeds), "config.yaml")
    run.metrics(summary.metrics | {"seconds": sum(result.seconds for result in summary.results)})
    run.table(summary.table(), "summary.json")
    curves = {result.seed: result.curve for result in summary.results}
    run.figure(learning_curves(curves, summary.results[0].dev.majority), "figures/learning_curves.png")
    title = f"{summary.title}: accuracy on test"
    run.figure(accuracy_by_seed(summary.bars(), summary.results[0].test.majority, title), "figures/accuracy.png")
    run.note(summary.finding())
    run.tags({CHILDREN: ",".join(result.run_id for result in summary.results)})


def _effective(plan: TunePlan, seeds: tuple[int, ...]) -> dict[str, Any]:
    skip = {"rerun", "dry_run", "config"}
    return {**plan.config.model_dump(mode="json", exclude=skip), "seeds": list(seeds)}


def _single_prompt(tracking: Tracking, reference: str) -> SoftPrompt:
    prompts = fetch(tracking, reference)
    if len(prompts) != 1:
        raise InputError("init_prompt names one prompt", f"{len(prompts)}", "Name the run of one seed.")
    return prompts[0]


def _opening(plan: TunePlan) -> str:
    sizes = ", ".join(f"{role} {len(split)}" for role, split in plan.splits.items())
    leaks = sum(split.dropped_leaks for split in plan.splits.values())
    words = " / ".join(repr(piece) for piece in plan.words.pieces)
    text = f"{plan.title}: rows {sizes}; label words {words}; P={plan.config.prompt_length}"
    return text + (f"; {leaks} rows left out that a later split holds too" if leaks else "")


def _commit() -> str:
    folder = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip()
