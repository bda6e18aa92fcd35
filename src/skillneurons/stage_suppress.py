"""`suppress`: does the model need its skill neurons? Accuracy with them changed, beside random sets."""

import time
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from skillneurons.backbone import Backbone
from skillneurons.config import SuppressConfig
from skillneurons.display import clock
from skillneurons.estimate import EFFICIENCY, matrix_rate
from skillneurons.figures import suppression_curves
from skillneurons.measuring import Outcome, announce, configured, found, worked
from skillneurons.registry import fetch, fetch_neurons
from skillneurons.subjects import Subject
from skillneurons.suppress_plan import SuppressPlan, plan
from skillneurons.suppress_report import Measured, Report
from skillneurons.suppression import suppressed_scores
from skillneurons.tracking import Run, Tracking

TABLE, ROWS, FIGURE = "suppression.json", "predictions/test.parquet", "figures/suppression.png"
_WORDS = {
    "zero": "set to 0",
    "mean": "set to the baseline's mean",
    "noise": "with noise of {sigma:g} added",
    "resample": "taken from another row",
}


def run(given: Mapping[str, str], console: Console) -> int:
    """Carry out `suppress`; returns the exit code."""
    config, tracking = configured(SuppressConfig, given)
    checked = prepare(config, tracking)
    if config.dry_run:
        console.print(dry_run(checked), highlight=False, markup=False, soft_wrap=True)
        return 0
    return announce(execute(checked, tracking, console), tracking, console, FIGURE)


def prepare(config: SuppressConfig, tracking: Tracking) -> SuppressPlan:
    """Fetch prompts and neurons, and check the command whole."""
    neurons = fetch_neurons(tracking, config.neurons)
    others = fetch(tracking, config.other_tasks) if config.other_tasks else []
    return plan(config, fetch(tracking, config.prompts), neurons, others)


def execute(plan: SuppressPlan, tracking: Tracking, console: Console, parent: Run | None = None) -> Outcome:
    """Do the work of a checked command, or find the finished run that did it."""
    if known := found("suppress", plan, tracking, parent):
        return known
    with worked("suppress", plan, tracking, parent) as (run, accelerator):
        _describe(plan, run)
        started = time.perf_counter()
        measured = _measure_all(plan, accelerator.device, console)
        effects = [effect for one in measured for effect in one.effects(plan.sets, plan.config.seed)]
        report = Report(plan.title, how(plan), plan.config.keep, effects)
        _record(plan, run, measured, report, time.perf_counter() - started)
    return Outcome(run.id, False, report.finding(), report)


def how(plan: SuppressPlan) -> str:
    """The change in words: what is done to which neurons, found how."""
    c, card = plan.config, plan.neurons.card
    which = "all but the top" if c.keep else "the top"
    per = "of each layer" if c.ranking == "layer" else "of all layers"
    where = "at all positions" if c.positions == "all" else "at the positions of the site"
    found = f"{card['stack']} neurons of {card['task']}, site {card['site']}"
    paper = ", chosen and scored on one split (protocol paper)" if card["protocol"] == "paper" else ""
    return f"{found}{paper}: {which} {per} {_WORDS[c.kind].format(sigma=c.sigma)} {where}"


def dry_run(plan: SuppressPlan) -> str:
    """What the command would do and about what it would cost."""
    tokens = rows = 0.0
    for subject in plan.subjects:
        lengths, times = subject.encode(plan.info).lengths, len(plan.masks) * len(subject.prompts)
        tokens += times * float(lengths.sum() + len(lengths) * subject.prompts[0].length)
        rows += times * len(lengths)
    rate = EFFICIENCY * matrix_rate(plan.config.device_type)
    return (
        f"{_opening(plan)}\nwould read {rows:,.0f} rows: {len(plan.masks)} sets ({how(plan)})\n"
        f"about {clock(max(1.0, 2 * plan.info.parameter_count_estimate * tokens / rate))} (within a factor of two) "
        f"on {plan.config.device_type}\naddress {plan.address}"
    )


def _measure_all(plan: SuppressPlan, device: torch.device, console: Console) -> list[Measured]:
    console.print(_opening(plan), highlight=False, soft_wrap=True)
    backbone = plan.info.load(device=device, dtype=torch.float32)
    return [_measure(plan, subject, backbone, console) for subject in plan.subjects]


def _measure(plan: SuppressPlan, subject: Subject, backbone: Backbone, console: Console) -> Measured:
    encoded, masks, found = subject.encode(plan.info), plan.masks, []
    for number, prompt in enumerate(subject.prompts, 1):
        started = time.perf_counter()
        scores = suppressed_scores(
            backbone,
            plan.site(prompt),
            prompt.embeddings,
            encoded,
            subject.words,
            masks,
            plan.intervention(prompt),
            subject.keys,
            plan.config.eval_batch_size,
        )
        found.append(scores.argmax(2).numpy())
        text = (
            f"{subject.task.name}, prompt {number} of {len(subject.prompts)}: {len(encoded)} rows, {len(masks)} sets"
        )
        console.print(f"{text}, {clock(time.perf_counter() - started)}", highlight=False, soft_wrap=True)
    return Measured(
        subject.task.name,
        subject.own,
        subject.split.labels,
        subject.task.labels,
        subject.split.hashes,
        [prompt.fingerprint for prompt in subject.prompts],
        np.stack(found),
    )


def _describe(plan: SuppressPlan, run: Run) -> None:
    run.inputs([subject.split for subject in plan.subjects])
    run.tags({"skillneurons.neurons": plan.neurons.fingerprint, "skillneurons.backbone": plan.info.fingerprint})


def _record(plan: SuppressPlan, run: Run, measured: list[Measured], report: Report, seconds: float) -> None:
    run.metrics({**report.metrics, "seconds": seconds})
    run.parquet(pd.concat([one.rows(plan.sets) for one in measured], ignore_index=True), ROWS)
    label = f"top neurons {'kept' if plan.config.keep else 'suppressed'}, % of {plan.config.ranking}"
    run.figure(suppression_curves(report.panels(), label), FIGURE)
    run.note(report.finding())
    run.table(report.table(), TABLE)


def _opening(plan: SuppressPlan) -> str:
    sizes = ", ".join(f"{s.task.name} {len(s.split)} rows, {len(s.prompts)} prompts" for s in plan.subjects)
    return f"{plan.title}: test {sizes}"
