"""`transfer`: the accuracy of every task under every task's prompts, beside random ones and beside the neurons."""

import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from skillneurons import fingerprints
from skillneurons.backbones import loading
from skillneurons.backbones.base import Backbone
from skillneurons.commands.config import parse
from skillneurons.commands.display import clock
from skillneurons.commands.estimate import forward_seconds
from skillneurons.commands.lifecycle import Command, Connect, Job, Said
from skillneurons.data.splits import Split
from skillneurons.prompts.initialization import like_vocabulary
from skillneurons.prompts.scoring import score
from skillneurons.seeds import mix
from skillneurons.stats.power import PROMPT_SPREADS, smallest_by_welch, told
from skillneurons.storage import FileCheckpoint
from skillneurons.tracking.registry import fetch, fetch_neurons
from skillneurons.tracking.runs import Tracking
from skillneurons.transfer.config import TransferConfig
from skillneurons.transfer.figures import transfer_and_overlap, transfer_matrix
from skillneurons.transfer.matrix import RANDOM, PromptSource, TargetPredictions, family_tests, lines
from skillneurons.transfer.panels import heats, overlaps, points
from skillneurons.transfer.plan import Target, TransferPlan, plan
from skillneurons.transfer.report import TransferReport
from skillneurons.transfer.similarity import similarity

TESTS, TABLE, FAMILIES, CORRELATIONS, OVERLAP = (
    "family_tests.json",
    "transfer.json",
    "transfer_by_family.json",
    "correlation.json",
    "overlap.json",
)
FIGURE, OVERLAP_FIGURE = "figures/transfer.png", "figures/transfer_overlap.png"


class Transfer(Command[TransferPlan, TransferReport | Said]):
    """What `transfer` brings."""

    name, config = "transfer", TransferConfig
    shown = {"picture": FIGURE}

    def plan(self, given: Mapping[str, Any], base: Mapping[str, Any] | None, connect: Connect) -> TransferPlan:
        config, tracking = parse(TransferConfig, given, base), connect()
        named = config.neurons.split(",") if config.neurons else []
        neurons = [fetch_neurons(tracking, one.strip()) for one in named]
        return plan(config, fetch(tracking, config.prompts), neurons)

    def dry_run(self, plan: TransferPlan) -> str:
        """What the command would do and about what it would cost."""
        times, tokens, rows = len(plan.prompts) + plan.config.random_prompts, 0.0, 0
        for target in plan.targets:
            lengths = target.encode(plan.info).lengths
            tokens += times * float(lengths.sum() + len(lengths) * plan.prompts[0].length)
            rows += times * len(lengths)
        seconds = max(1.0, forward_seconds(plan.info, tokens, plan.config.device_type))
        families = {(s.family, t.task.family) for s in plan.sources for t in plan.targets if s.task != t.task.name}
        fewest, draws = min(len(source.prompts) for source in plan.sources), plan.config.random_prompts
        n, pairs = min(len(target.split) for target in plan.targets), len(families)
        study = f"a single cell of n={n} rows, {fewest} prompt(s) a task, {pairs} pairs of families"
        power = told(lambda sd: smallest_by_welch(n, 1, fewest, draws, pairs, sd), PROMPT_SPREADS, "prompts", study)
        return (
            f"{_opening(plan)}\n"
            f"would read {rows:,} rows in all under {times} prompts, {plan.config.random_prompts} of them random\n"
            f"about {clock(seconds)} (within a factor of two) on {plan.config.device_type}\n{power}\n"
            f"address {plan.address}"
        )

    def inputs(self, plan: TransferPlan) -> Iterable[Split]:
        return [target.split for target in plan.targets]

    def tags(self, plan: TransferPlan) -> dict[str, str]:
        return {"skillneurons.backbone": plan.info.fingerprint}

    def reused(self, plan: TransferPlan, tracking: Tracking, run_id: str) -> Said:
        return Said.by(tracking, run_id)

    def work(self, plan: TransferPlan, job: Job) -> TransferReport:
        measured = list(_measure_all(plan, job))
        report = report_of(plan, measured)
        _record(job, measured, report)
        return report

    def forget(self, plan: TransferPlan) -> None:
        for target in plan.targets:
            FileCheckpoint(plan.target_address(target)).drop()


def report_of(plan: TransferPlan, measured: list[TargetPredictions]) -> TransferReport:
    """The cells, and the neurons of each pair of tasks."""
    c, pairs = plan.config, combinations(plan.neurons, 2)
    alike = {(a, b): similarity(plan.neurons[a], plan.neurons[b], c.top) for a, b in pairs}
    tests = family_tests(measured)
    found = lines(measured, tests, c.seed)
    return TransferReport(plan.title, found, alike, c.top, c.permutations, c.seed, tests, c.margin / 100)


def random_prompts(plan: TransferPlan, backbone: Backbone) -> list[torch.Tensor]:
    """Prompts nobody tuned `[P, E]`, the same for all targets."""
    vocabulary, length = backbone.vocabulary_embeddings(), plan.prompts[0].length
    seeds = (mix(plan.config.seed, 3, k) for k in range(plan.config.random_prompts))
    return [like_vocabulary(vocabulary, length, seed) for seed in seeds]


def _measure_all(plan: TransferPlan, job: Job) -> Iterator[TargetPredictions]:
    job.say(_opening(plan))
    backbone = loading.load(plan.info, device=job.accelerator.device, dtype=torch.float32)
    random = random_prompts(plan, backbone)
    readers = [
        *(PromptSource(s.task, s.family, seed, p.fingerprint) for s in plan.sources for seed, p in s.prompts.items()),
        *(PromptSource(RANDOM, "", k, fingerprints.of_tensor(prompt)) for k, prompt in enumerate(random)),
    ]
    prompts = [*(prompt.embeddings for prompt in plan.prompts), *random]
    for target in plan.targets:
        started = time.perf_counter()
        with job.reading(backbone.model, f"{plan.title}: {target.task.name}", len(prompts) * len(target.split)):
            predictions = _predictions(plan, target, prompts, backbone, job.accelerator)
        text = f"{target.task.name}: {len(target.split)} rows, {len(prompts)} prompts"
        job.say(f"{text}, {clock(time.perf_counter() - started)}")
        yield TargetPredictions(target.task.name, target.task.family, target.split, readers, predictions)


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


def _record(job: Job, measured: list[TargetPredictions], report: TransferReport) -> None:
    run = job.run
    run.metrics({**report.metrics, "seconds": job.seconds})
    for one in measured:
        run.parquet(one.rows(), f"predictions/{one.task}.parquet")
    run.figure(transfer_matrix(heats(report.lines)), FIGURE)
    if report.similarities:
        run.table(report.overlap_table(), OVERLAP)
        if pairs := list(points(report.lines, report.similarities)):
            heat = overlaps(report.lines, report.similarities, report.percent)
            chance = float(np.mean([one.overlap.chance for one in report.similarities.values()]))
            run.figure(transfer_and_overlap(heat, pairs, chance, report.overlap_title()), OVERLAP_FIGURE)
    run.table(report.test_table(), TESTS)
    for frame, path in ((report.family_table(), FAMILIES), (report.association_table(), CORRELATIONS)):
        if len(frame):
            run.table(frame, path)
    run.finding(report.finding())
    run.table(report.table(), TABLE)


def _opening(plan: TransferPlan) -> str:
    sizes = ", ".join(f"{target.task.name} {len(target.split)} rows" for target in plan.targets)
    prompts = ", ".join(f"{source.task} {len(source.prompts)}" for source in plan.sources)
    return f"{plan.title}: prompts of {prompts}; test {sizes}"


COMMAND = Transfer()
