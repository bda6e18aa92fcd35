"""`robustness`: adversarial accuracy, what becomes of the skill neurons, and whether attacks work through them."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from skillneurons.config import RobustnessConfig
from skillneurons.contrast import share
from skillneurons.display import clock
from skillneurons.errors import InputError
from skillneurons.estimate import forward_seconds
from skillneurons.measuring import Outcome, announce, configured, found, worked
from skillneurons.registry import fetch, fetch_neurons
from skillneurons.robustness_figures import Point, comparison
from skillneurons.robustness_measure import Bench, SetMeasured
from skillneurons.robustness_plan import RobustnessPlan, plan
from skillneurons.robustness_report import Report
from skillneurons.robustness_set import SetReport
from skillneurons.significance import spearman
from skillneurons.tracking import SAME_AS, Run, Tracking

SUMMARY, COMPARED, FIGURES = "summary.json", "comparison.json", "figures"


def run(given: Mapping[str, str], console: Console) -> int:
    """Carry out `robustness`; returns the exit code."""
    config, tracking = configured(RobustnessConfig, given)
    checked = prepare(config, tracking)
    others = compared(tracking, config.compare)
    if config.dry_run:
        console.print(dry_run(checked), highlight=False, markup=False, soft_wrap=True)
        return 0
    return announce(execute(checked, tracking, console, others=others), tracking, console, FIGURES)


def prepare(config: RobustnessConfig, tracking: Tracking) -> RobustnessPlan:
    """Fetch prompts and neurons, and check the command whole."""
    neurons = [fetch_neurons(tracking, one.strip()) for one in config.neurons.split(",") if one.strip()]
    if not neurons:
        raise InputError("neurons names at least one discover run", repr(config.neurons), "Pass runs:/<id>.")
    return plan(config, fetch(tracking, config.prompts), neurons)


def compared(tracking: Tracking, references: str | None) -> list[pd.DataFrame]:
    """The summaries of other robustness runs.

    Raises:
        InputError: a reference is no finished robustness run.
    """
    found = []
    for reference in (one.strip() for one in (references or "").split(",") if one.strip()):
        run_id = reference.removeprefix("runs:/").strip("/")
        found.append(tracking.table(tracking.tag(run_id, SAME_AS) or run_id, SUMMARY))
    return found


def execute(
    plan: RobustnessPlan,
    tracking: Tracking,
    console: Console,
    parent: Run | None = None,
    others: Sequence[pd.DataFrame] = (),
) -> Outcome:
    """Do the work of a checked command, or find the finished run that did it."""
    if known := found("robustness", plan, tracking, parent):
        if others:
            _compare(Run(tracking.client, known.run_id), tracking.table(known.run_id, SUMMARY), others, known.finding)
        return known
    with worked("robustness", plan, tracking, parent) as (run, accelerator):
        _describe(plan, run)
        started = time.perf_counter()
        report, measured = _measure(plan, accelerator.device, console)
        _record(plan, run, report, measured, others, time.perf_counter() - started)
    return Outcome(run.id, False, report.finding(), report)


def dry_run(plan: RobustnessPlan) -> str:
    """What the command would do and about what it would cost."""
    c, prompts = plan.config, len(plan.prompts)
    sets = len(plan.rates) * (1 + c.controls) + 1
    tokens = rows = 0.0
    for attacked in plan.attacked:
        each = float(attacked.rows.encode(plan.info).lengths.float().mean()) + plan.prompts[0].length
        pairs = len(attacked.places) if attacked.restorable else 0
        n = prompts * (len(attacked.pairs.adversarial) * (2 + sets) + 2 * pairs * sets * len(plan.neurons))
        own = prompts * len(plan.own.split) * sets
        rows += n + own
        tokens += (n + own) * each
    names = ", ".join(f"{one.name} {len(one.pairs.adversarial)} rows" for one in plan.attacked)
    sites = ", ".join(one.card["site"] for one in plan.neurons)
    return (
        f"{plan.title}: {prompts} prompt(s); {names}; neurons of {sites}\nwould read {rows:,.0f} rows: accuracy, "
        f"activations, {sets} sets of neurons suppressed and restored\n"
        f"about {clock(max(1.0, forward_seconds(plan.info, tokens, c.device_type)))} (within a factor of two) on "
        f"{c.device_type}\naddress {plan.address}"
    )


def _measure(plan: RobustnessPlan, device: torch.device, console: Console) -> tuple[Report, list[SetMeasured]]:
    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    bench = Bench(plan, plan.info.load(device=device, dtype=torch.float32), say)
    scores = bench.scores(plan.own, bench.own)
    own = share(scores.argmax(-1) == plan.own.split.labels)
    say(f"{plan.title}: clean test read, {len(plan.own.split)} rows")
    measured = [bench.measure(attacked) for attacked in plan.attacked]
    sets = [SetReport(one, plan.rates, plan.neurons, plan.config.seed) for one in measured]
    facts = (own, len(plan.own.split), plan.own.split.majority_rate)
    return Report(plan.title, plan.info.name, plan.own.task.name, facts, sets), measured


def _describe(plan: RobustnessPlan, run: Run) -> None:
    run.inputs([plan.own.split, *(one.pairs.adversarial for one in plan.attacked)])
    neurons = ",".join(one.fingerprint for one in plan.neurons)
    run.tags({"skillneurons.neurons": neurons, "skillneurons.backbone": plan.info.fingerprint})


def _record(
    plan: RobustnessPlan,
    run: Run,
    report: Report,
    measured: Sequence[SetMeasured],
    others: Sequence[pd.DataFrame],
    seconds: float,
) -> None:
    run.metrics({**report.metrics, "seconds": seconds})
    for one in measured:
        run.parquet(_predictions(plan, one), f"predictions/{one.attacked.name}.parquet")
    for path, figure in report.figures().items():
        run.figure(figure, path)
    tables, finding = report.tables(), report.finding()
    for path, frame in tables.items():
        run.table(frame, path)
    run.note(finding)
    if others:
        _compare(run, tables[SUMMARY], others, finding)


def _compare(run: Run, own: pd.DataFrame, others: Sequence[pd.DataFrame], finding: str) -> None:
    """Put other runs beside this one: table, picture and a sentence, in place of an older comparison."""
    # a run that is named twice, or names itself, is one point all the same
    frame = pd.concat([own, *others], ignore_index=True).drop_duplicates(ignore_index=True)
    said = _relation(frame)
    run.table(frame, COMPARED)
    run.figure(comparison([_point(row) for row in frame.to_dict("records")], said), "figures/comparison.png")
    kept = finding.partition("\n\n**Comparison**")[0]
    run.note(f"{kept}\n\n**Comparison** of {len(frame)} backbones and sets: {said}.")


def _predictions(plan: RobustnessPlan, one: SetMeasured) -> pd.DataFrame:
    """Every row of a set under every prompt, and its original's prediction: enough to compute accuracies again."""
    split, labels = one.attacked.pairs.adversarial, np.array(plan.own.task.labels)
    frames = []
    for number, prompt in enumerate(plan.prompts):
        answers = one.scores[number].argmax(-1)
        frame = pd.DataFrame(
            {
                "prompt": prompt.fingerprint,
                "seed": prompt.card.get("seed"),
                "row_hash": split.hashes,
                "original": one.attacked.clusters.of,
                "label": labels[split.labels],
                "prediction": labels[answers],
                **{f"score_{name}": one.scores[number][:, c] for c, name in enumerate(labels)},
            }
        )
        if one.clean is not None and one.attacked.pairs.paired:
            clean = np.full(len(split), None, dtype=object)
            clean[one.attacked.places] = labels[one.clean[number].argmax(-1)]
            frame["clean_prediction"] = clean
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _relation(frame: pd.DataFrame) -> str:
    """Spearman of predictivity kept and accuracy kept, over the lines of the comparison."""
    kept = frame["adversarial_accuracy"] / frame["clean_accuracy"]
    known = kept.notna() & frame["skill_predictivity"].notna()
    n = int(known.sum())
    if n < 4:
        return f"{n} points, too few for a correlation"
    x, y = frame.loc[known, "skill_predictivity"].to_numpy(), kept[known].to_numpy()
    value, rng = spearman(x, y), np.random.default_rng(0)
    null = np.array([spearman(rng.permutation(x), y) for _ in range(2000)])
    p = (1 + (np.abs(null) >= abs(value) - 1e-9).sum()) / 2001
    return f"Spearman {value:.2f} over {n} points, p {p:.2g} (permutation, points taken as independent)"


def _point(row: Mapping[str, Any]) -> Point:
    def ends(name: str, stem: str) -> tuple[float, float, float]:
        value, low, high = (row[key] for key in (name, f"{stem}_low", f"{stem}_high"))
        return tuple(float("nan") if pd.isna(one) else float(one) for one in (value, low, high))  # type: ignore[return-value]

    clean, changed = ends("clean_accuracy", "clean"), ends("adversarial_accuracy", "adversarial")
    held = ends("skill_predictivity", "skill_predictivity")
    return Point(str(row["backbone"]), str(row["set"]), clean, changed, held, float(row["majority"]))
