"""`discover`: the skill neurons of a task's prompts, with chance levels."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator
from rich.console import Console
from rich.table import Table

from skillneurons import discover_report as report
from skillneurons.backbone import Backbone
from skillneurons.checkpoints import FileCheckpoint, alone, on_main
from skillneurons.config import DiscoverConfig, parse
from skillneurons.discover_plan import DiscoverPlan, plan
from skillneurons.discovery import Counted, Question, count
from skillneurons.display import clock
from skillneurons.estimate import forward_seconds
from skillneurons.launching import is_worker, launch
from skillneurons.neuron_cards import NeuronCard, make_cards, page
from skillneurons.neuron_figures import predictivity_by_layer, significant_by_layer, specificity_matrix
from skillneurons.neurons import Neurons
from skillneurons.predictivity import combine
from skillneurons.registry import fetch_neurons
from skillneurons.stage_tune import environment, older_config, process_count
from skillneurons.tracking import ADDRESS, Run, Tracking
from skillneurons.tune_seed import peak_memory_mb, reset_peak_memory

_NOT_KEPT = {"rerun", "dry_run", "config"}


def run(given: Mapping[str, str], console: Console) -> int:
    """Carry out `discover`; returns the exit code."""
    tracking: Tracking | None = None
    base: dict[str, Any] | None = None
    if reference := given.get("config"):
        tracking = Tracking.connect()
        base = older_config(tracking, reference, DiscoverConfig)
    config = parse(DiscoverConfig, given, base)
    processes = process_count(config)
    tracking = tracking or Tracking.connect()
    checked = plan(config, tracking)
    if config.dry_run:
        console.print(dry_run(checked), highlight=False, markup=False, soft_wrap=True)
        return 0
    if processes > 1 and not is_worker() and (config.rerun or not tracking.finished(checked.address)):
        return launch("discover", given, processes, cpu=config.device_type == "cpu", address=checked.address)
    run_id, reused = execute(checked, tracking, console)
    if reused and run_id:
        console.print(f"This configuration has finished as run {run_id}; rerun=true works it again.", soft_wrap=True)
    if run_id:  # other processes than the main one have none
        show(run_id, tracking, console)
    return 0


def execute(plan: DiscoverPlan, tracking: Tracking, console: Console, parent: Run | None = None) -> tuple[str, bool]:
    """Do the work of a checked command, or find the finished run that did it; its id, and whether it was found."""
    address = plan.address
    torch.set_num_threads(plan.config.threads or torch.get_num_threads())
    accelerator = Accelerator(cpu=plan.config.device_type == "cpu")
    main = accelerator.is_main_process
    if done := on_main(lambda: None if plan.config.rerun else tracking.finished(address)):
        if main:
            tracking.point("discover", plan.title, done, parent)
        return done if main else "", True
    with alone(address):
        if not main:
            _find(plan, accelerator, console)
            return "", False
        tags = {"skillneurons.stage": "discover", ADDRESS: address, **environment(accelerator, plan.config)}
        with tracking.run(f"discover {plan.title}", tags, parent, adopt=parent is None) as run:
            for old in tracking.supersede(address, run):
                console.print(f"taking up the work of run {old}, which died without a word", highlight=False)
            run.params({k: v for k, v in plan.config.model_dump(mode="json").items() if v is not None})
            run.inputs(plan.splits.values())
            reset_peak_memory(accelerator.device)
            neurons, cards = _find(plan, accelerator, console)
            _record(plan, run, neurons, cards, peak_memory_mb(accelerator.device))
    for prompt in plan.prompts:
        FileCheckpoint(plan.prompt_address(prompt)).drop()
    return run.id, False


def dry_run(plan: DiscoverPlan) -> str:
    """What the command would do and about what it would cost."""
    asked = plan.question()
    tokens = plan.prompts[0].length + float(asked.dev.lengths.float().mean())
    rows = len(plan.prompts) * (len(asked.train) + 1.5 * len(asked.dev))
    device = plan.config.device_type
    seconds = forward_seconds(plan.info, rows * tokens, device)
    sizes = ", ".join(f"{role} {len(split)}" for role, split in plan.splits.items())
    return (
        f"{plan.title}: {len(plan.prompts)} prompt(s) of {plan.prompts[0].length}; rows {sizes}; "
        f"protocol {plan.config.protocol}, {plan.config.permutations} permutations\n"
        f"about {clock(max(1.0, seconds))} on {device} (within a factor of two); memory: the weights "
        f"({plan.info.parameter_count_estimate * 4 / 2**30:.1f} GiB) and less than 1 GiB, whatever the rows\n"
        f"address {plan.address}"
    )


def show(run_id: str, tracking: Tracking, console: Console) -> None:
    """The top neurons, the finding, and where the pictures are."""
    run = Run(tracking.client, run_id)
    neurons = fetch_neurons(tracking, f"runs:/{run_id}")
    console.print(_table(tracking, run_id))
    for line in (
        report.finding(neurons).replace("**", ""),
        f"picture: {run.artifact_path('figures/predictivity.png')}",
        f"cards: {run.artifact_path('neurons/cards.html')}",
        f"run: {run_id}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _find(plan: DiscoverPlan, accelerator: Accelerator, console: Console) -> tuple[Neurons, list[NeuronCard]]:
    """What every process does: each reads its share of the rows, and all hold the same result."""
    asked = plan.question()
    backbone = plan.info.load(device=accelerator.device, dtype=torch.float32)
    neurons = combine(_counts(plan, backbone, asked, accelerator, console), len(plan.prompts), asked, plan.card())
    texts = [" | ".join(row) for row in plan.splits["dev"].rows]
    prompts = [prompt.embeddings for prompt in plan.prompts]
    cards = make_cards(backbone, plan.site, prompts, neurons, asked, texts, accelerator, plan.config.cards)
    return neurons, cards


def _counts(
    plan: DiscoverPlan, backbone: Backbone, asked: Question, accelerator: Accelerator, console: Console
) -> Iterator[Counted]:
    """One prompt after the other; those that an interrupted command has counted are taken up."""
    for number, prompt in enumerate(plan.prompts, start=1):
        checkpoint = FileCheckpoint(plan.prompt_address(prompt))
        known = None if plan.config.rerun else checkpoint.load()
        if known is None:
            one = count(backbone, plan.site, prompt.embeddings, asked, accelerator)
            if accelerator.is_main_process:
                checkpoint.save({field.name: getattr(one, field.name) for field in fields(Counted)})
        else:
            one = Counted(**known)
        if accelerator.is_main_process:
            console.print(f"prompt {number} of {len(plan.prompts)} read", highlight=False)
        yield one
        del one  # before the next is counted


def _record(plan: DiscoverPlan, run: Run, neurons: Neurons, cards: list[NeuronCard], peak: float) -> None:
    said = report.finding(neurons)
    label = " · protocol paper (one split)" if plan.config.protocol == "paper" else ""
    run.yaml(plan.config.model_dump(mode="json", exclude=_NOT_KEPT), "config.yaml")
    run.metrics({**report.metrics(neurons), "peak_memory_mb": peak})
    run.table(pd.DataFrame([card.row() for card in cards]), "neuron_cards.json")
    run.table(report.layers_table(neurons), "layers.json")
    if report.stability(neurons):
        run.table(report.stability_table(neurons), "stability.json")
    title = f"{plan.title}{label}"
    run.figure(predictivity_by_layer(neurons, title, report.SKILL_PERCENT), "figures/predictivity.png")
    run.figure(significant_by_layer(neurons, title), "figures/significant.png")
    if plan.others:
        found = [neurons, *plan.others]
        run.table(report.specificity_table(found), "specificity.json")
        run.figure(specificity_matrix(found), "figures/specificity.png")
    run.note(said)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "neurons"
        neurons.save(folder)
        (folder / "cards.html").write_text(page(cards, title, said.replace("**", "")), encoding="utf-8")
        run.folder(folder, "neurons")


def _table(tracking: Tracking, run_id: str) -> Table:
    cards = tracking.table(run_id, "neuron_cards.json")
    shown = Table("layer,\nneuron", "signs", "predictivity", "q", "AUC")
    shown.add_column("highest at", no_wrap=True, overflow="ellipsis", max_width=24)
    for card in cards.head(5).itertuples():
        shown.add_row(
            f"{card.layer}, {card.neuron}",
            "".join("+" if sign.startswith("+") else "−" for sign in card.signs.split()),
            f"{card.predictivity:.3f}\n\\[{card.low:.3f}, {card.high:.3f}]",
            f"{card.q_value:.1g}",
            f"{card.auc:.3f}",
            card.highest.partition(" · ")[0],
        )
    return shown
