"""`tune`: one soft prompt a seed on a frozen backbone, tracked and registered."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from rich.console import Console

from skillneurons.checkpoints import FileCheckpoint, alone
from skillneurons.config import TuneConfig
from skillneurons.display import TuneDisplay, clock
from skillneurons.errors import InputError
from skillneurons.estimate import Work, estimate
from skillneurons.figures import accuracy_by_seed, learning_curves
from skillneurons.launching import is_worker, launch
from skillneurons.prompts import SoftPrompt
from skillneurons.registry import CHILDREN, crown, fetch, registered_name
from skillneurons.tracking import ADDRESS, DEFAULT_URI, PARENT, SAME_AS, Run, Tracking
from skillneurons.tune_plan import TunePlan, plan
from skillneurons.tune_report import SeedResult, Summary
from skillneurons.tune_seed import RESULT_FILE, Bench, tune_seed


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
    if checked.config.dry_run:
        console.print(dry_run(checked), highlight=False, markup=False, soft_wrap=True)
        return 0
    tracking = tracking or Tracking.connect()
    processes = process_count(checked.config)
    if processes > 1 and not is_worker():
        if not checked.config.rerun and (done := tracking.finished(checked.address(*checked.config.seeds))):
            return announce(point_to(tracking, checked, done, None), tracking, console)
        return launch("tune", given, processes, cpu=_device(checked.config) == "cpu")
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
    accelerator = Accelerator(
        mixed_precision="bf16" if config.precision == "bf16" else "no", cpu=_device(config) == "cpu"
    )
    if not accelerator.is_main_process:
        return Outcome("", False, _tune_all(plan, tracking, Run(), accelerator, console))
    address = plan.address(*config.seeds)
    if not config.rerun and (done := tracking.finished(address)):
        return point_to(tracking, plan, done, parent)
    with alone(address):
        if config.rerun:
            for seed in config.seeds:
                FileCheckpoint(plan.address(seed)).drop()
        tags = {"skillneurons.stage": "tune", ADDRESS: address, **environment(accelerator, config)}
        with tracking.run(f"tune {plan.title}", tags, parent, adopt=parent is None) as run:
            for old in tracking.supersede(address, run):
                console.print(f"taking up the work of run {old}, which died without a word", highlight=False)
            summary = _tune_all(plan, tracking, run, accelerator, console)
            _record_parent(plan, run, summary)
    return Outcome(run.id, False, summary)


def point_to(tracking: Tracking, plan: TunePlan, done: str, parent: Run | None) -> Outcome:
    """Name the finished run; a run that `mlflow run` made for us only points to it."""
    if parent is not None or os.environ.get("MLFLOW_RUN_ID"):
        tags = {SAME_AS: done, "skillneurons.stage": "tune"}
        with tracking.run(f"tune {plan.title} (found)", tags, parent, adopt=parent is None) as run:
            run.note(f"The same command had finished as run `{done}`; nothing was done again.")
    children = (tracking.tag(done, CHILDREN) or "").split(",")
    results = [SeedResult.from_dict(json.loads(tracking.text(child, RESULT_FILE))) for child in children]
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
    cost = estimate(work, _device(config))
    epochs = steps * config.batch_size / len(train)
    return (
        f"{_opening(plan)}\n"
        f"would tune {len(config.seeds)} prompts of {config.prompt_length} x {plan.info.embedding_width}, "
        f"{steps} steps of {config.batch_size} rows each ({epochs:.2g} epochs), "
        f"{work.evaluations} evaluations on dev a seed\n"
        f"about {clock(max(1.0, cost.seconds))} (within a factor of two), {cost.memory / 2**30:.1f} GiB of memory, "
        f"{cost.disk / 2**20:.0f} MiB of disk; {process_count(config)} process(es) on {_device(config)}\n"
        f"address {plan.address(*config.seeds)}"
    )


def announce(outcome: Outcome, tracking: Tracking, console: Console) -> int:
    """Say what came out and where it is; returns the exit code."""
    if outcome.run_id:  # other processes than the main one have none
        if outcome.reused:
            text = f"This configuration has finished as run {outcome.run_id}; rerun=true works it again."
            console.print(text, highlight=False, soft_wrap=True)
        show(outcome, tracking, console)
    return 0


def older_config(tracking: Tracking, reference: str) -> dict[str, Any]:
    """The effective configuration of `runs:/<id>`, from its `config.yaml`."""
    run_id = reference.removeprefix("runs:/").strip("/")
    run_id = tracking.tag(run_id, SAME_AS) or run_id
    text = tracking.text(run_id, "config.yaml")
    return {k: v for k, v in yaml.safe_load(text).items() if k in TuneConfig.model_fields}


def process_count(config: TuneConfig) -> int:
    """The processes asked for; by default one a GPU, or one."""
    return config.processes or (max(1, torch.cuda.device_count()) if _device(config) == "cuda" else 1)


def environment(accelerator: Accelerator, config: TuneConfig) -> dict[str, str]:
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
    uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    ui = uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}"
    for line in (
        outcome.summary.finding().replace("**", ""),
        f"picture: {run.artifact_path('figures/accuracy.png')}",
        f"run: {run.id}",
        f"the UI: {ui}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _tune_all(plan: TunePlan, tracking: Tracking, run: Run, accelerator: Accelerator, console: Console) -> Summary:
    main = accelerator.is_main_process
    run.params({name: value for name, value in plan.config.model_dump(mode="json").items() if value is not None})
    run.inputs(plan.splits.values())
    reused: list[dict[int, str]] = [_finished_seeds(plan, tracking) if main else {}]
    broadcast_object_list(reused)
    todo = [seed for seed in plan.config.seeds if seed not in reused[0]]
    results = [_reuse(tracking, run, reused[0][seed]) for seed in plan.config.seeds if seed in reused[0] and main]
    if todo:
        results += _tune_seeds(plan, todo, tracking, run, accelerator, console, reused[0])
    return Summary.of(plan.title, sorted(results, key=lambda r: plan.config.seeds.index(r.seed)))


def _tune_seeds(
    plan: TunePlan,
    todo: Sequence[int],
    tracking: Tracking,
    run: Run,
    accelerator: Accelerator,
    console: Console,
    reused: Mapping[int, str],
) -> list[SeedResult]:
    say = console.print if accelerator.is_main_process else _nothing
    say(_opening(plan), highlight=False, soft_wrap=True)
    backbone = plan.info.load(device=accelerator.device, dtype=torch.float32)
    bench = Bench(plan, backbone, {role: plan.encode(role) for role in plan.splits}, accelerator)
    unprompted, results = bench.unprompted(), []
    with TuneDisplay(plan.config.seeds, console, silent=not accelerator.is_main_process) as display:
        for seed, run_id in reused.items():
            display.note(seed, f"finished as run {run_id}")
        for seed in todo:
            results.append(_in_child(bench, seed, unprompted, tracking, run, display))
    return results


def _in_child(
    bench: Bench,
    seed: int,
    unprompted: Mapping[str, torch.Tensor],
    tracking: Tracking,
    parent: Run,
    display: TuneDisplay,
) -> SeedResult:
    plan, address = bench.plan, bench.plan.address(seed)
    if not bench.accelerator.is_main_process:
        return tune_seed(bench, seed, unprompted, tracking, Run(), display.update)
    tags = {
        "skillneurons.stage": "tune",
        "skillneurons.seed": str(seed),
        ADDRESS: address,
        **environment(bench.accelerator, plan.config),
    }
    with tracking.run(f"seed {seed} · {plan.title}", tags, parent) as run:
        tracking.supersede(address, run)
        run.params({**plan.config.model_dump(mode="json"), "seeds": seed, "seed": seed})
        run.yaml(_effective(plan, (seed,)), "config.yaml")
        run.inputs(plan.splits.values())
        result = tune_seed(bench, seed, unprompted, tracking, run, display.update)
    crown(tracking, registered_name(plan.task.name, plan.info.name))
    return result


def _finished_seeds(plan: TunePlan, tracking: Tracking) -> dict[int, str]:
    if plan.config.rerun:
        return {}
    found = {seed: tracking.finished(plan.address(seed)) for seed in plan.config.seeds}
    return {seed: run_id for seed, run_id in found.items() if run_id}


def _reuse(tracking: Tracking, parent: Run, run_id: str) -> SeedResult:
    # a seed whose command was interrupted later belongs to the command that makes it whole
    old = tracking.tag(run_id, PARENT)
    if old is None or tracking.client.get_run(old).info.status != "FINISHED":
        Run(tracking.client, run_id).tags({PARENT: parent.id})
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


def _device(config: TuneConfig) -> str:
    if config.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("device=cuda needs a GPU that torch sees", "none", "Use device=auto or device=cpu.")
    return config.device


def _commit() -> str:
    folder = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip()


def _nothing(*args: object, **kwargs: object) -> None:
    """What a process other than the main one prints."""
