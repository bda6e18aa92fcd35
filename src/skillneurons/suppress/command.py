"""`suppress`: does the model need its skill neurons? Accuracy with them changed, beside random sets."""

import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from skillneurons.backbones import loading
from skillneurons.backbones.base import Backbone
from skillneurons.commands.config import parse
from skillneurons.commands.display import clock
from skillneurons.commands.estimate import EFFICIENCY, matrix_rate
from skillneurons.commands.evaluated_task import EvaluatedTask
from skillneurons.commands.lifecycle import Command, Connect, Job, Said
from skillneurons.data.splits import Split
from skillneurons.neurons.effect import effect_beside_prediction
from skillneurons.neurons.intervention import suppressed_scores
from skillneurons.neurons.selection import Mask
from skillneurons.neurons.staged_sets import read_in_stages
from skillneurons.plots.style import suppression_curves
from skillneurons.stats.power import SPREADS, smallest_by_rank, told
from skillneurons.suppress.config import SuppressConfig
from skillneurons.suppress.faithfulness import Faithfulness, measure
from skillneurons.suppress.figures import faithfulness_curves
from skillneurons.suppress.plan import SuppressPlan, plan
from skillneurons.suppress.rankings import Rankings, needed_more
from skillneurons.suppress.report import SetPredictions, SuppressionReport
from skillneurons.tracking.registry import fetch, fetch_neurons
from skillneurons.tracking.runs import Tracking

TABLE, ROWS, FIGURE = "suppression.json", "predictions/test.parquet", "figures/suppression.png"
RANKINGS = "rankings.json"
FAITHFULNESS, AREAS, CURVE = "faithfulness.json", "faithfulness_areas.json", "figures/faithfulness.png"


class Measured(NamedTuple):
    """Of one task: predictions under all sets, and of the own task what was asked for besides."""

    predictions: SetPredictions
    curve: Faithfulness | None
    rankings: Rankings | None


_WORDS = {
    "zero": "set to 0",
    "mean": "set to the baseline's mean",
    "noise": "with noise of {sigma:g} added",
    "resample": "taken from another row",
}


class Suppress(Command[SuppressPlan, SuppressionReport | Said]):
    """What `suppress` brings."""

    name, config = "suppress", SuppressConfig
    shown = {"picture": FIGURE}

    def plan(self, given: Mapping[str, Any], base: Mapping[str, Any] | None, connect: Connect) -> SuppressPlan:
        config, tracking = parse(SuppressConfig, given, base), connect()
        neurons = fetch_neurons(tracking, config.neurons)
        others = fetch(tracking, config.other_tasks) if config.other_tasks else []
        return plan(config, fetch(tracking, config.prompts), neurons, others)

    def dry_run(self, plan: SuppressPlan) -> str:
        """What the command would do and about what it would cost."""
        tokens = rows = 0.0
        for subject in plan.subjects:
            lengths, times = subject.encode(plan.info).lengths, plan.most_sets * len(subject.prompts)
            tokens += times * float(lengths.sum() + len(lengths) * subject.prompts[0].length)
            rows += times * len(lengths)
        rate, c = EFFICIENCY * matrix_rate(plan.config.device_type), plan.config
        n, tests = len(plan.subjects[0].split), sum(one.controls is not None for one in plan.sets)
        study = f"n={n} rows, K={c.random_sets}, {tests} rates"
        power = told(lambda spread: smallest_by_rank(n, c.random_sets, tests, spread), SPREADS, "random sets", study)
        return (
            f"{_opening(plan)}\nwould read up to {rows:,.0f} rows: {plan.most_sets} sets, fewer where a test is lost "
            f"before ({how(plan)})\n"
            f"about {clock(max(1.0, 2 * plan.info.parameter_count_estimate * tokens / rate))} (within a factor of "
            f"two) on {plan.config.device_type}\n{power}\naddress {plan.address}"
        )

    def inputs(self, plan: SuppressPlan) -> Iterable[Split]:
        return [subject.split for subject in plan.subjects]

    def tags(self, plan: SuppressPlan) -> dict[str, str]:
        return {"skillneurons.neurons": plan.neurons.fingerprint, "skillneurons.backbone": plan.info.fingerprint}

    def differs(self, plan: SuppressPlan) -> Iterable[str]:
        c = plan.config
        return ("kept alone" if c.keep else c.kind), f"{','.join(f'{rate:g}' for rate in c.rates)}%"

    def reused(self, plan: SuppressPlan, tracking: Tracking, run_id: str) -> Said:
        return Said.by(tracking, run_id)

    def work(self, plan: SuppressPlan, job: Job) -> SuppressionReport:
        measured = _measure_all(plan, job)
        c = plan.config
        effects = [effect for one in measured for effect in one.predictions.effects(c.seed, c.keep)]
        report = SuppressionReport(plan.title, how(plan), c.kind, c.keep, c.margin / 100, effects, *measured[0][1:])
        _record(plan, job, measured, report)
        return report


def how(plan: SuppressPlan) -> str:
    """The change in words: what is done to which neurons, found how."""
    c, card = plan.config, plan.neurons.card
    which = "all but the top" if c.keep else "the top"
    per = "of each layer" if c.ranking == "layer" else "of all layers"
    where = "at all positions" if c.positions == "all" else "at the positions of the site"
    found = f"{card['stack']} neurons of {card['task']}, site {card['site']}"
    paper = ", chosen and scored on one split (protocol paper)" if card["protocol"] == "paper" else ""
    by = "" if c.ranking_by == "predictivity" else f" by {c.ranking_by}"
    return f"{found}{paper}: {which} {per}{by} {_WORDS[c.kind].format(sigma=c.sigma)} {where}"


def _measure_all(plan: SuppressPlan, job: Job) -> list[Measured]:
    job.say(_opening(plan))
    backbone = loading.load(plan.info, device=job.accelerator.device, dtype=torch.float32)
    rows = plan.most_sets * sum(len(one.prompts) * len(one.split) for one in plan.subjects)
    with job.reading(backbone.model, f"{plan.title}: sets of neurons", rows):
        return [_measure(plan, subject, backbone, job) for subject in plan.subjects]


def _measure(plan: SuppressPlan, subject: EvaluatedTask, backbone: Backbone, job: Job) -> Measured:
    encoded, labels = subject.encode(plan.info), subject.split.labels

    def read(masks: Mask) -> NDArray[np.float32]:
        """Label scores `[M, S, n, C]`."""
        started, found = time.perf_counter(), []
        for prompt in subject.prompts:
            asked = (plan.site(prompt), prompt.embeddings, encoded, subject.words, masks, plan.intervention(prompt))
            scores = suppressed_scores(backbone, *asked, subject.keys, plan.config.eval_batch_size)
            found.append(scores.numpy())
        text = f"{subject.task.name}: {len(found)} prompt(s), {len(encoded)} rows, {len(masks)} sets"
        job.say(f"{text}, {clock(time.perf_counter() - started)}")
        return np.stack(found, axis=1)

    sets, predictions = read_in_stages(
        plan.sets,
        lambda masks: read(masks).argmax(-1),
        lambda answers: float((answers == labels).mean()),
        upward=plan.config.keep,
    )
    prompts = [prompt.fingerprint for prompt in subject.prompts]
    name, own = subject.task.name, subject.own
    curve = rankings = None
    if own and plan.config.curve:
        curve = measure(plan.ranking, plan.config.ranking, read, labels, seed=plan.config.seed)
    if own and (tops := plan.both_tops):
        rates = needed_more(plan.tested, tops, read, labels, len(subject.task.labels))
        agreement = effect_beside_prediction(plan.neurons, plan.middle)
        rankings = Rankings(plan.middle, agreement, rates) if agreement else None
    read_all = SetPredictions(name, own, subject.split, prompts, predictions.swapaxes(0, 1), sets)
    return Measured(read_all, curve, rankings)


def _record(plan: SuppressPlan, job: Job, measured: list[Measured], report: SuppressionReport) -> None:
    run = job.run
    run.metrics({**report.metrics, "seconds": job.seconds})
    run.parquet(pd.concat([one.predictions.rows() for one in measured], ignore_index=True), ROWS)
    label = f"top neurons {'kept' if plan.config.keep else 'suppressed'}, % of {plan.config.ranking}"
    run.figure(suppression_curves(report.panels(), label), FIGURE)
    if report.curve:
        if not report.curve.small:
            run.figure(faithfulness_curves(report.curve, plan.title), CURVE)
        run.table(pd.DataFrame(report.curve.rows()), FAITHFULNESS)
        run.table(pd.DataFrame([report.curve.row()]), AREAS)
    if report.rankings:
        run.table(pd.DataFrame([one.row() for one in report.rankings.rates]), RANKINGS)
    run.finding(report.finding())
    run.table(report.table(), TABLE)


def _opening(plan: SuppressPlan) -> str:
    sizes = ", ".join(f"{s.task.name} {len(s.split)} rows, {len(s.prompts)} prompts" for s in plan.subjects)
    return f"{plan.title}: test {sizes}"


COMMAND = Suppress()
