"""`suppress`: does the model need its skill neurons? Accuracy with them changed, beside random sets."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from accelerate import Accelerator
from rich.console import Console

from skillneurons.backbone import Backbone
from skillneurons.checkpoints import alone
from skillneurons.config import SuppressConfig, parse
from skillneurons.display import clock
from skillneurons.estimate import EFFICIENCY, matrix_rate
from skillneurons.figures import suppression_curves
from skillneurons.registry import fetch, fetch_neurons
from skillneurons.stage_tune import environment
from skillneurons.subjects import Subject
from skillneurons.suppress_plan import SuppressPlan, plan
from skillneurons.suppress_report import Measured, Report
from skillneurons.suppression import suppressed_scores
from skillneurons.tracking import ADDRESS, NOTE, SAME_AS, Run, Tracking

TABLE, ROWS, FIGURE = "suppression.json", "predictions/test.parquet", "figures/suppression.png"
_NOT_KEPT = {"rerun", "dry_run", "config"}
_WORDS = {
    "zero": "set to 0",
    "mean": "set to the baseline's mean",
    "noise": "with noise of {sigma:g} added",
    "resample": "taken from another row",
}


@dataclass(frozen=True)
class Outcome:
    """Where the result of a suppress command is, what it says, and its table unless it was `reused`."""

    run_id: str
    reused: bool
    finding: str
    report: Report | None = None


def run(given: Mapping[str, str], console: Console) -> int:
    """Carry out `suppress`; returns the exit code."""
    config = None if given.get("config") else parse(SuppressConfig, given)
    tracking = Tracking.connect()
    checked = prepare(config or parse(SuppressConfig, given, _older(tracking, given["config"])), tracking)
    if checked.config.dry_run:
        console.print(dry_run(checked), highlight=False, markup=False, soft_wrap=True)
        return 0
    return announce(execute(checked, tracking, console), tracking, console)


def prepare(config: SuppressConfig, tracking: Tracking) -> SuppressPlan:
    """Fetch prompts and neurons, and check the command whole."""
    neurons = fetch_neurons(tracking, config.neurons)
    others = fetch(tracking, config.other_tasks) if config.other_tasks else []
    return plan(config, fetch(tracking, config.prompts), neurons, others)


def execute(plan: SuppressPlan, tracking: Tracking, console: Console, parent: Run | None = None) -> Outcome:
    """Do the work of a checked command, or find the finished run that did it."""
    address, config = plan.address, plan.config
    if not config.rerun and (done := tracking.finished(address)):
        return point_to(tracking, plan, done, parent)
    torch.set_num_threads(config.threads or torch.get_num_threads())
    accelerator = Accelerator(cpu=config.device_type == "cpu")
    with alone(address):
        tags = {"skillneurons.stage": "suppress", ADDRESS: address, **environment(accelerator, config)}
        with tracking.run(f"suppress {plan.title}", tags, parent, adopt=parent is None) as run:
            tracking.supersede(address, run)
            _describe(plan, run)
            started = time.perf_counter()
            measured = _measure_all(plan, accelerator.device, console)
            effects = [effect for one in measured for effect in one.effects(plan.sets, config.seed)]
            report = Report(plan.title, how(plan), config.keep, effects)
            _record(plan, run, measured, report, time.perf_counter() - started)
    return Outcome(run.id, False, report.finding(), report)


def point_to(tracking: Tracking, plan: SuppressPlan, done: str, parent: Run | None) -> Outcome:
    """Name the finished run; a run that `mlflow run` made for us only points to it."""
    if parent is not None or os.environ.get("MLFLOW_RUN_ID"):
        tags = {SAME_AS: done, "skillneurons.stage": "suppress"}
        with tracking.run(f"suppress {plan.title} (found)", tags, parent, adopt=parent is None) as run:
            run.note(f"The same command had finished as run `{done}`; nothing was done again.")
    return Outcome(done, True, tracking.tag(done, NOTE) or "")


def announce(outcome: Outcome, tracking: Tracking, console: Console) -> int:
    """Say what came out and where it is; returns the exit code."""
    run = Run(tracking.client, outcome.run_id)
    if outcome.report is not None:
        console.print(outcome.report.rich_table())
    again = f"This configuration has finished as run {outcome.run_id}; rerun=true works it again."
    for line in (
        *([again] if outcome.reused else []),
        outcome.finding.replace("**", ""),
        f"picture: {run.artifact_path(FIGURE)}",
        f"run: {outcome.run_id}",
        f"the UI: {tracking.ui}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return 0


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
    values = plan.config.model_dump(mode="json")
    run.params({name: value for name, value in values.items() if value is not None})
    run.yaml({name: value for name, value in values.items() if name not in _NOT_KEPT}, "config.yaml")
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


def _older(tracking: Tracking, reference: str) -> dict[str, Any]:
    run_id = reference.removeprefix("runs:/").strip("/")
    text = tracking.text(tracking.tag(run_id, SAME_AS) or run_id, "config.yaml")
    return {k: v for k, v in yaml.safe_load(text).items() if k in SuppressConfig.model_fields}
