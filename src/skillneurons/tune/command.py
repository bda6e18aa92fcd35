"""`tune`: one soft prompt a seed on a frozen backbone, tracked and registered."""

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import torch
from accelerate import Accelerator

from skillneurons.backbones import loading
from skillneurons.commands.display import clock
from skillneurons.commands.environment import environment, process_count
from skillneurons.commands.estimate import Work, estimate
from skillneurons.commands.lifecycle import NOT_KEPT, Command, Connect, Job
from skillneurons.data.splits import Split
from skillneurons.errors import InputError
from skillneurons.findings import several
from skillneurons.plots.style import accuracy_by_seed, learning_curves
from skillneurons.prompts.soft_prompt import SoftPrompt
from skillneurons.storage import FileCheckpoint, alone, on_main
from skillneurons.tracking.registry import fetch, registered_name, set_champion
from skillneurons.tracking.runs import ADDRESS, CHILDREN, PARENT, Run, Tracking
from skillneurons.tune.config import TuneConfig
from skillneurons.tune.display import TuneDisplay
from skillneurons.tune.plan import TunePlan, plan
from skillneurons.tune.report import SeedResult, Summary
from skillneurons.tune.seed import RESULT_FILE, SELECTION, TuningSetup, selected_on, tune_seed

PARTS = {"dev": "dev (its half A)"}  # half B is left for discover


class Tune(Command[TunePlan, Summary]):
    """What `tune` brings."""

    name, config = "tune", TuneConfig
    shown = {"picture": "figures/accuracy.png"}

    def plan(self, given: Mapping[str, Any], base: Mapping[str, Any] | None, connect: Connect) -> TunePlan:
        start = _single_prompt(connect(), reference) if (reference := given.get("init_prompt")) else None
        return plan(given, base, start)

    def dry_run(self, plan: TunePlan) -> str:
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
            f"about {clock(max(1.0, cost.seconds))} (within a factor of two), {cost.memory / 2**30:.1f} GiB of "
            f"memory, {cost.disk / 2**20:.0f} MiB of disk; {process_count(config)} process(es) on "
            f"{config.device_type}\n"
            f"address {plan.address}"
        )

    def processes(self, plan: TunePlan) -> int:
        return process_count(plan.config)

    def accelerator(self, plan: TunePlan) -> Accelerator:
        """All of one process have to agree on the precision."""
        precision = "bf16" if plan.config.precision == "bf16" else "no"
        return Accelerator(mixed_precision=precision, cpu=plan.config.device_type == "cpu")

    def inputs(self, plan: TunePlan) -> Iterable[Split]:
        return plan.splits.values()

    def tags(self, plan: TunePlan) -> dict[str, str]:
        return {SELECTION: selected_on(plan)}

    def differs(self, plan: TunePlan) -> Iterable[str]:
        return f"P={plan.config.prompt_length}", several(len(plan.config.seeds), "seed")

    def reused(self, plan: TunePlan, tracking: Tracking, run_id: str) -> Summary:
        return Summary.of(plan.title, [_seed_result(tracking, child) for child in tracking.children(run_id)])

    def work(self, plan: TunePlan, job: Job) -> Summary:
        """Tune the seeds that no finished run has."""
        main, results = job.accelerator.is_main_process, []
        setup = _LazySetup(plan, job)
        with TuneDisplay(plan.config.seeds, job.console, silent=not main) as display:
            for seed in plan.config.seeds:
                # another command may have this seed among its own: wait, then take its result
                with alone(plan.seed_address(seed), wait=True):
                    if done := _finished_seed(plan, seed, job.tracking):
                        display.note(seed, f"finished as run {done}")
                        results += [_reuse(job.tracking, job.run, done)] if main else []
                    else:
                        results.append(_in_child(setup, seed, job, display))
        summary = Summary.of(plan.title, results)
        if main:
            _record(job.run, summary)
        return summary


class _LazySetup:
    """The backbone, loaded for the first seed that needs it."""

    def __init__(self, plan: TunePlan, job: Job) -> None:
        self.plan, self._job = plan, job

    @cached_property
    def loaded(self) -> tuple[TuningSetup, dict[str, torch.Tensor]]:
        """The setup and the scores without a prompt, which all seeds share."""
        self._job.say(_opening(self.plan))
        accelerator = self._job.accelerator
        backbone = loading.load(self.plan.info, device=accelerator.device, dtype=torch.float32)
        encoded = {role: self.plan.encode(role) for role in self.plan.splits}
        setup = TuningSetup(self.plan, backbone, encoded, accelerator)
        return setup, setup.unprompted()


def _in_child(lazy: _LazySetup, seed: int, job: Job, display: TuneDisplay) -> SeedResult:
    plan, tracking, (setup, unprompted) = lazy.plan, job.tracking, lazy.loaded
    if not job.accelerator.is_main_process:
        return tune_seed(setup, seed, unprompted, tracking, Run(), display.update)
    if plan.config.rerun:
        FileCheckpoint(plan.seed_address(seed)).drop()
    tags = {
        "skillneurons.stage": "tune",
        "skillneurons.seed": str(seed),
        ADDRESS: plan.seed_address(seed),
        SELECTION: selected_on(plan),
        **environment(job.accelerator, plan.config),
    }
    with tracking.run(f"seed {seed} · {plan.title}", tags, job.run) as run:
        tracking.supersede(plan.seed_address(seed), run)
        values = {**plan.config.model_dump(mode="json"), "seeds": [seed]}
        given = {name: value for name, value in values.items() if name in plan.config.model_fields_set}
        run.params({**given, "seeds": seed, "seed": seed})
        run.yaml({name: value for name, value in values.items() if name not in NOT_KEPT}, "config.yaml")
        run.inputs(plan.splits.values())
        result = tune_seed(setup, seed, unprompted, tracking, run, display.update)
    set_champion(tracking, registered_name(plan.task.name, plan.info.name))
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


def _record(run: Run, summary: Summary) -> None:
    run.metrics(summary.metrics | {"seconds": sum(result.seconds for result in summary.results)})
    run.table(summary.table(), "summary.json")
    curves = {result.seed: result.curve for result in summary.results}
    run.figure(learning_curves(curves, summary.results[0].dev.majority), "figures/learning_curves.png")
    title = f"{summary.title}: accuracy on test"
    run.figure(accuracy_by_seed(summary.bars(), summary.results[0].test.majority, title), "figures/accuracy.png")
    run.finding(summary.finding())
    run.tags({CHILDREN: ",".join(result.run_id for result in summary.results)})
    run.signatures(summary.signatures)


def _single_prompt(tracking: Tracking, reference: str) -> SoftPrompt:
    prompts = fetch(tracking, reference)
    if len(prompts) != 1:
        raise InputError("init_prompt names one prompt", f"{len(prompts)}", "Name the run of one seed.")
    return prompts[0]


def _opening(plan: TunePlan) -> str:
    sizes = ", ".join(f"{PARTS.get(role, role)} {len(split)}" for role, split in plan.splits.items())
    leaks = sum(split.dropped_leaks for split in plan.splits.values())
    words = " / ".join(repr(piece) for piece in plan.words.pieces)
    text = f"{plan.title}: rows {sizes}; label words {words}; P={plan.config.prompt_length}"
    return text + (f"; {leaks} rows left out that a later split holds too" if leaks else "")


COMMAND = Tune()
