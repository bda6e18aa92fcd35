"""`robustness`: adversarial accuracy, what becomes of the skill neurons, and whether attacks work through them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from skillneurons.backbones import loading
from skillneurons.commands.config import parse
from skillneurons.commands.display import clock
from skillneurons.commands.estimate import forward_seconds
from skillneurons.commands.lifecycle import Command, Connect, Job, Said
from skillneurons.data.splits import Split
from skillneurons.errors import InputError
from skillneurons.findings import Finding
from skillneurons.robustness.config import RobustnessConfig
from skillneurons.robustness.figures import Point, comparison
from skillneurons.robustness.measure import PromptedModel, SetMeasured
from skillneurons.robustness.plan import RobustnessPlan, plan
from skillneurons.robustness.report import RobustnessReport
from skillneurons.robustness.set_report import SetReport
from skillneurons.stats.control_sets import share
from skillneurons.stats.intervals import Estimate
from skillneurons.stats.neuron_tests import spearman
from skillneurons.stats.power import SPREADS, smallest_by_rank, told
from skillneurons.stats.skill_test import skill
from skillneurons.tracking.registry import fetch, fetch_neurons
from skillneurons.tracking.runs import SAME_AS, Run, Tracking

SUMMARY, COMPARED = "summary.json", "comparison.json"


class Robustness(Command[RobustnessPlan, RobustnessReport | Said]):
    """What `robustness` brings."""

    name, config = "robustness", RobustnessConfig

    def plan(self, given: Mapping[str, Any], base: Mapping[str, Any] | None, connect: Connect) -> RobustnessPlan:
        config, tracking = parse(RobustnessConfig, given, base), connect()
        neurons = [fetch_neurons(tracking, one.strip()) for one in config.neurons.split(",") if one.strip()]
        if not neurons:
            raise InputError("neurons names at least one discover run", repr(config.neurons), "Pass runs:/<id>.")
        checked = plan(config, fetch(tracking, config.prompts), neurons)
        return replace(checked, others=compared(tracking, config.compare))

    def dry_run(self, plan: RobustnessPlan) -> str:
        """What the command would do and about what it would cost."""
        c, prompts, sets = plan.config, len(plan.prompts), _sets(plan)
        found = list(_readings(plan))
        rows, tokens = sum(n for n, _ in found), sum(n * each for n, each in found)
        names = ", ".join(f"{one.name} {len(one.pairs.adversarial)} rows" for one in plan.attacked)
        sites = ", ".join(one.card["site"] for one in plan.neurons)
        power = [_power(plan, len(one.places)) for one in plan.attacked if one.restorable][:1]
        return (
            f"{plan.title}: {prompts} prompt(s); {names}; neurons of {sites}\nwould read up to {rows:,.0f} rows: "
            f"accuracy, activations, {sets} sets of neurons suppressed and restored, fewer where a test is lost\n"
            f"about {clock(max(1.0, forward_seconds(plan.info, tokens, c.device_type)))} (within a factor of two) "
            f"on {c.device_type}\n{''.join(power)}address {plan.address}"
        )

    def inputs(self, plan: RobustnessPlan) -> Iterable[Split]:
        return [plan.own.split, *(one.pairs.adversarial for one in plan.attacked)]

    def tags(self, plan: RobustnessPlan) -> dict[str, str]:
        neurons = ",".join(one.fingerprint for one in plan.neurons)
        return {"skillneurons.neurons": neurons, "skillneurons.backbone": plan.info.fingerprint}

    def differs(self, plan: RobustnessPlan) -> Iterable[str]:
        return (", ".join(one.name for one in plan.attacked),)

    def reused(self, plan: RobustnessPlan, tracking: Tracking, run_id: str) -> Said:
        said = Said.by(tracking, run_id)
        if plan.others:
            run = Run(tracking.client, run_id)
            _compare(run, tracking.table(run_id, SUMMARY), plan.others, said.found)
        return said

    def work(self, plan: RobustnessPlan, job: Job) -> RobustnessReport:
        report, measured = _measure(plan, job)
        _record(plan, job, report, measured)
        return report


def _sets(plan: RobustnessPlan) -> int:
    return len(plan.rates) * (1 + plan.config.random_sets) + 1


def _readings(plan: RobustnessPlan) -> Iterator[tuple[float, float]]:
    """Of each adversarial set: rows read at most, and tokens of one."""
    prompts, sets = len(plan.prompts), _sets(plan)
    for attacked in plan.attacked:
        each = float(attacked.rows.encode(plan.info).lengths.float().mean()) + plan.prompts[0].length
        pairs = len(attacked.places) if attacked.restorable else 0
        n = prompts * (len(attacked.pairs.adversarial) * (2 + sets) + 2 * pairs * sets * len(plan.neurons))
        yield float(n + prompts * len(plan.own.split) * sets), each


def compared(tracking: Tracking, references: str | None) -> tuple[pd.DataFrame, ...]:
    """The summaries of other robustness runs.

    Raises:
        InputError: a reference is no finished robustness run.
    """
    found = []
    for reference in (one.strip() for one in (references or "").split(",") if one.strip()):
        run_id = reference.removeprefix("runs:/").strip("/")
        found.append(tracking.table(tracking.tag(run_id, SAME_AS) or run_id, SUMMARY))
    return tuple(found)


def _measure(plan: RobustnessPlan, job: Job) -> tuple[RobustnessReport, list[SetMeasured]]:
    backbone = loading.load(plan.info, device=job.accelerator.device, dtype=torch.float32)
    model = PromptedModel(plan, backbone, job.say)
    with job.reading(backbone.model, f"{plan.title}: attacks", sum(rows for rows, _ in _readings(plan))):
        scores = model.scores(plan.own, model.own)
        job.say(f"{plan.title}: clean test read, {len(plan.own.split)} rows")
        measured = [model.measure(attacked) for attacked in plan.attacked]
    predictions, labels = scores.argmax(-1), plan.own.split.labels
    own = share(predictions == labels)
    c = plan.config
    facts_of = (plan.primary, plan.neurons, c.seed, c.margin / 100, c.ranking_by)
    sets = [SetReport(one, *facts_of) for one in measured]
    facts = (own, len(plan.own.split), plan.own.split.majority_rate, skill(predictions, labels, seed=c.seed))
    return RobustnessReport(plan.title, plan.info.name, plan.own.task.name, facts, sets), measured


def _record(plan: RobustnessPlan, job: Job, report: RobustnessReport, measured: Sequence[SetMeasured]) -> None:
    run = job.run
    run.metrics({**report.metrics, "seconds": job.seconds})
    for one in measured:
        run.parquet(_predictions(plan, one), f"predictions/{one.attacked.name}.parquet")
    for path, figure in report.figures().items():
        run.figure(figure, path)
    tables, finding = report.tables(), report.finding()
    for path, frame in tables.items():
        run.table(frame, path)
    run.finding(finding)
    run.signatures(report.signatures)
    if plan.others:
        _compare(run, tables[SUMMARY], plan.others, finding)


def _compare(run: Run, own: pd.DataFrame, others: Sequence[pd.DataFrame], finding: Finding) -> None:
    """Put other runs beside this one: table, picture and a sentence, in place of an older comparison."""
    # a run that is named twice, or names itself, is one point all the same
    frame = pd.concat([own, *others], ignore_index=True).drop_duplicates(ignore_index=True)
    said = _relation(frame)
    run.table(frame, COMPARED)
    run.figure(comparison([_point(row) for row in frame.to_dict("records")], said), "figures/comparison.png")
    run.finding(finding, f"**Comparison** of {len(frame)} backbones and sets: {said}.")


def _predictions(plan: RobustnessPlan, one: SetMeasured) -> pd.DataFrame:
    """Every row of a set under every prompt, and its original's prediction: enough to compute accuracies again."""
    split, prompts, scores = one.attacked.pairs.adversarial, plan.prompts, one.scores
    seeds = [prompt.card.get("seed") for prompt in prompts]
    named = {"prompt": [prompt.fingerprint for prompt in prompts], "seed": seeds}
    frame = split.predictions(scores.argmax(-1), named)
    frame.insert(3, "original", np.tile(one.attacked.clusters.of, len(prompts)))
    frame = frame.assign(**{f"score_{name}": scores[..., c].ravel() for c, name in enumerate(split.label_names)})
    if one.clean is not None and one.attacked.pairs.paired:
        clean = np.full((len(prompts), len(split)), None, dtype=object)
        clean[:, one.attacked.places] = np.array(split.label_names, dtype=object)[one.clean.argmax(-1)]
        frame["clean_prediction"] = clean.ravel()
    return frame


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
    def ends(name: str, stem: str) -> Estimate:
        found = [row[key] for key in (name, f"{stem}_low", f"{stem}_high")]
        value, low, high = (float("nan") if pd.isna(one) else float(one) for one in found)
        return Estimate(value, low, high)

    clean, changed = ends("clean_accuracy", "clean"), ends("adversarial_accuracy", "adversarial")
    held = ends("skill_predictivity", "skill_predictivity")
    return Point(str(row["backbone"]), str(row["set"]), clean, changed, held, float(row["majority"]))


def _power(plan: RobustnessPlan, pairs: int) -> str:
    """Of the primary claim, on accuracy: the margin sees more."""
    sets = plan.config.random_sets
    study = f"{pairs} pairs, K={sets}, both directions, on accuracy"
    return f"{told(lambda spread: smallest_by_rank(pairs, sets, 2, spread), SPREADS, 'random sets', study)}\n"


COMMAND = Robustness()
