"""`transfer`: the accuracy of every task under every task's prompts, beside random ones and beside the neurons."""

import time
from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np
import torch
from accelerate import Accelerator
from rich.console import Console

from skillneurons import fingerprints
from skillneurons.backbone import Backbone
from skillneurons.checkpoints import FileCheckpoint
from skillneurons.config import TransferConfig
from skillneurons.display import clock
from skillneurons.encoding import mix
from skillneurons.estimate import forward_seconds
from skillneurons.evaluation import score
from skillneurons.initialisation import like_vocabulary
from skillneurons.measuring import Outcome, announce, configured, found, worked
from skillneurons.registry import fetch, fetch_neurons
from skillneurons.similarity import similarity
from skillneurons.tracking import Run, Tracking
from skillneurons.transfer_cells import RANDOM, Measured, Reader, lines
from skillneurons.transfer_figures import transfer_and_overlap, transfer_matrix
from skillneurons.transfer_panels import heats, overlaps, points
from skillneurons.transfer_plan import Target, TransferPlan, plan
from skillneurons.transfer_report import Report

TABLE, FAMILIES, CORRELATIONS, OVERLAP = (
    "transfer.json",
    "transfer_by_family.json",
    "correlation.json",
    "overlap.json",
)
FIGURE, OVERLAP_FIGURE = "figures/transfer.png", "figures/transfer_overlap.png"


def run(given: Mapping[str, str], console: Console) -> int:
    """Carry out `transfer`; returns the exit code."""
    config, tracking = configured(TransferConfig, given)
    checked = prepare(config, tracking)
    if config.dry_run:
        console.print(dry_run(checked), highlight=False, markup=False, soft_wrap=True)
        return 0
    return announce(execute(checked, tracking, console), tracking, console, FIGURE)


def prepare(config: TransferConfig, tracking: Tracking) -> TransferPlan:
    """Fetch prompts and neurons, and check the command whole."""
    named = config.neurons.split(",") if config.neurons else []
    neurons = [fetch_neurons(tracking, one.strip()) for one in named]
    return plan(config, fetch(tracking, config.prompts), neurons)


def execute(plan: TransferPlan, tracking: Tracking, console: Console, parent: Run | None = None) -> Outcome:
    """Do the work of a checked command, or find the finished run that did it."""
    if known := found("transfer", plan, tracking, parent):
        return known
    with worked("transfer", plan, tracking, parent) as (run, accelerator):
        _describe(plan, run)
        started = time.perf_counter()
        measured = list(_measure_all(plan, accelerator, console))
        report = report_of(plan, measured)
        _record(run, measured, report, time.perf_counter() - started)
    for target in plan.targets:
        FileCheckpoint(plan.target_address(target)).drop()
    return Outcome(run.id, False, report.finding(), report)


def report_of(plan: TransferPlan, measured: list[Measured]) -> Report:
    """The cells, and the neurons of each pair of tasks."""
    c, pairs = plan.config, combinations(plan.neurons, 2)
    alike = {(a, b): similarity(plan.neurons[a], plan.neurons[b], c.top) for a, b in pairs}
    return Report(plan.title, lines(measured), alike, c.top, c.permutations, c.seed)


def dry_run(plan: TransferPlan) -> str:
    """What the command would do and about what it would cost."""
    times, tokens, rows = len(plan.prompts) + plan.config.random_prompts, 0.0, 0
    for target in plan.targets:
        lengths = target.encode(plan.info).lengths
        tokens += times * float(lengths.sum() + len(lengths) * plan.prompts[0].length)
        rows += times * len(lengths)
    seconds = max(1.0, forward_seconds(plan.info, tokens, plan.config.device_type))
    return (
        f"{_opening(plan)}\n"
        f"would read {rows:,} rows in all under {times} prompts, {plan.config.random_prompts} of them random\n"
        f"about {clock(seconds)} (within a factor of two) on {plan.config.device_type}\naddress {plan.address}"
    )


def random_prompts(plan: TransferPlan, backbone: Backbone) -> list[torch.Tensor]:
    """Prompts nobody tuned `[P, E]`, the same for all targets."""
    vocabulary, length = backbone.vocabulary_embeddings(), plan.prompts[0].length
    seeds = (mix(plan.config.seed, 3, k) for k in range(plan.config.random_prompts))
    return [like_vocabulary(vocabulary, length, seed) for seed in seeds]


def _measure_all(plan: TransferPlan, accelerator: Accelerator, console: Console) -> Iterator[Measured]:
    console.print(_opening(plan), highlight=False, soft_wrap=True)
    backbone = plan.info.load(device=accelerator.device, dtype=torch.float32)
    random = random_prompts(plan, backbone)
    readers = [
        *(Reader(s.task, s.family, seed, p.fingerprint) for s in plan.sources for seed, p in s.prompts.items()),
        *(Reader(RANDOM, "", k, fingerprints.of_tensor(prompt)) for k, prompt in enumerate(random)),
    ]
    prompts = [*(prompt.embeddings for prompt in plan.prompts), *random]
    for target in plan.targets:
        started = time.perf_counter()
        predictions = _predictions(plan, target, prompts, backbone, accelerator)
        text = f"{target.task.name}: {len(target.split)} rows, {len(prompts)} prompts"
        console.print(f"{text}, {clock(time.perf_counter() - started)}", highlight=False, soft_wrap=True)
        split = target.split
        names = (target.task.name, target.task.family)
        yield Measured(*names, split.labels, target.task.labels, split.hashes, readers, predictions)


def _predictions(
    plan: TransferPlan, target: Target, prompts: list[torch.Tensor], backbone: Backbone, accelerator: Accelerator
) -> np.ndarray:
    """`[R, n]`; those that an interrupted command has made are taken up."""
    checkpoint, size = FileCheckpoint(plan.target_address(target)), plan.config.eval_batch_size
    known = None if plan.config.rerun else checkpoint.load()
    if known is None:
        rows = target.encode(plan.info)
        found = [score(backbone, prompt, rows, target.words, accelerator, size).argmax(1) for prompt in prompts]
        known = {"predictions": torch.stack(found)}
        checkpoint.save(known)
    return np.asarray(known["predictions"].numpy())


def _describe(plan: TransferPlan, run: Run) -> None:
    run.inputs([target.split for target in plan.targets])
    run.tags({"skillneurons.backbone": plan.info.fingerprint})


def _record(run: Run, measured: list[Measured], report: Report, seconds: float) -> None:
    run.metrics({**report.metrics, "seconds": seconds})
    for one in measured:
        run.parquet(one.rows(), f"predictions/{one.task}.parquet")
    run.figure(transfer_matrix(heats(report.lines)), FIGURE)
    if report.similarities:
        run.table(report.overlap_table(), OVERLAP)
        if pairs := list(points(report.lines, report.similarities)):
            heat = overlaps(report.lines, report.similarities, report.percent)
            chance = float(np.mean([one.chance for one in report.similarities.values()]))
            run.figure(transfer_and_overlap(heat, pairs, chance, report.overlap_title()), OVERLAP_FIGURE)
    for frame, path in ((report.family_table(), FAMILIES), (report.association_table(), CORRELATIONS)):
        if len(frame):
            run.table(frame, path)
    run.note(report.finding())
    run.table(report.table(), TABLE)


def _opening(plan: TransferPlan) -> str:
    sizes = ", ".join(f"{target.task.name} {len(target.split)} rows" for target in plan.targets)
    prompts = ", ".join(f"{source.task} {len(source.prompts)}" for source in plan.sources)
    return f"{plan.title}: prompts of {prompts}; test {sizes}"
