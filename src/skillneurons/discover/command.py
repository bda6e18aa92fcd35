"""`discover`: the skill neurons of a task's prompts, with chance levels."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.table import Table

from skillneurons.backbones import loading
from skillneurons.backbones.base import Backbone
from skillneurons.commands.config import parse
from skillneurons.commands.display import clock
from skillneurons.commands.environment import peak_memory_mb, process_count, reset_peak_memory
from skillneurons.commands.estimate import forward_seconds, layer_count
from skillneurons.commands.lifecycle import Command, Connect, Job
from skillneurons.data.splits import Split
from skillneurons.discover import report
from skillneurons.discover.cards import NeuronCard, make_cards, page
from skillneurons.discover.config import DiscoverConfig
from skillneurons.discover.counting import Counted, Question, count
from skillneurons.discover.figures import predictivity_by_layer, significant_by_layer, specificity_matrix
from skillneurons.discover.plan import DiscoverPlan, plan
from skillneurons.discover.predictivity import combine
from skillneurons.findings import Finding
from skillneurons.neurons.scores import Neurons
from skillneurons.prompts.initialization import like_vocabulary
from skillneurons.seeds import mix
from skillneurons.storage import FileCheckpoint
from skillneurons.tracking.registry import fetch_neurons
from skillneurons.tracking.runs import Run, Tracking

CARDS = "neuron_cards.json"


@dataclass(frozen=True)
class Found:
    """The neurons and the rows of their cards."""

    neurons: Neurons
    cards: pd.DataFrame

    def finding(self) -> Finding:
        """What was found."""
        return report.finding(self.neurons)

    def rich_table(self) -> Table:
        """The top neurons."""
        shown = Table("layer,\nneuron", "signs", "predictivity", "q", "AUC")
        shown.add_column("highest at", no_wrap=True, overflow="ellipsis", max_width=24)
        for card in self.cards.head(5).itertuples():
            shown.add_row(
                f"{card.layer}, {card.neuron}",
                "".join("+" if sign.startswith("+") else "−" for sign in card.signs.split()),
                f"{card.predictivity:.3f}\n\\[{card.low:.3f}, {card.high:.3f}]",
                f"{card.q_value:.1g}",
                f"{card.auc:.3f}",
                card.highest.partition(" · ")[0],
            )
        return shown


class Discover(Command[DiscoverPlan, Found]):
    """What `discover` brings."""

    name, config = "discover", DiscoverConfig
    shown = {"picture": "figures/predictivity.png", "cards": "neurons/cards.html"}

    def plan(self, given: Mapping[str, Any], base: Mapping[str, Any] | None, connect: Connect) -> DiscoverPlan:
        config = parse(DiscoverConfig, given, base)
        process_count(config)  # refused before the store is touched
        return plan(config, connect())

    def dry_run(self, plan: DiscoverPlan) -> str:
        """What the command would do and about what it would cost."""
        asked = plan.question()
        tokens = plan.prompts[0].length + float(asked.dev.lengths.float().mean())
        prompts = len(plan.prompts) + plan.config.random_prompts
        # an effect is a forward pass and twice as much backward, where there are steps at each of every layer
        steps = plan.config.effect_steps if plan.words else 0
        passes = 3 * (steps if steps < 2 else 1 + steps * layer_count(plan.info))
        rows = prompts * (len(asked.train) + 1.5 * len(asked.dev)) + len(plan.prompts) * passes * len(asked.dev)
        device = plan.config.device_type
        seconds = forward_seconds(plan.info, rows * tokens, device)
        sizes = ", ".join(f"{role} {len(split)}" for role, split in plan.splits.items())
        return (
            f"{plan.title}: {len(plan.prompts)} prompt(s) of {plan.prompts[0].length}, {plan.config.random_prompts} "
            f"random; rows {sizes}; "
            f"protocol {plan.config.protocol}, {plan.config.permutations} permutations\n"
            f"about {clock(max(1.0, seconds))} on {device} (within a factor of two); memory: the weights "
            f"({plan.info.parameter_count_estimate * 4 / 2**30:.1f} GiB) and less than 1 GiB, whatever the rows\n"
            f"address {plan.address}"
        )

    def processes(self, plan: DiscoverPlan) -> int:
        return process_count(plan.config)

    def inputs(self, plan: DiscoverPlan) -> Iterable[Split]:
        return plan.splits.values()

    def reused(self, plan: DiscoverPlan, tracking: Tracking, run_id: str) -> Found:
        return Found(fetch_neurons(tracking, f"runs:/{run_id}"), tracking.table(run_id, CARDS))

    def work(self, plan: DiscoverPlan, job: Job) -> Found:
        reset_peak_memory(job.accelerator.device)
        neurons, cards = _find(plan, job)
        found = Found(neurons, pd.DataFrame([card.row() for card in cards]))
        if job.accelerator.is_main_process:
            job.run.metrics({"peak_memory_mb": peak_memory_mb(job.accelerator.device)})
            _record(plan, job.run, neurons, found.cards, cards)
        return found

    def forget(self, plan: DiscoverPlan) -> None:
        for prompt in plan.prompts:
            FileCheckpoint(plan.prompt_address(prompt)).drop()
        for number in range(plan.config.random_prompts):
            FileCheckpoint(plan.random_address(number)).drop()


def _find(plan: DiscoverPlan, job: Job) -> tuple[Neurons, list[NeuronCard]]:
    """What every process does: each reads its share of the rows, and all hold the same result."""
    asked, accelerator = plan.question(), job.accelerator
    backbone = loading.load(plan.info, device=accelerator.device, dtype=torch.float32)
    with job.reading(backbone.model, f"{plan.title}: activations", _rows(plan, asked)):
        neurons = combine(_counts(plan, backbone, asked, job), len(plan.prompts), asked, plan.card())
        if drawn := plan.config.random_prompts:
            random = combine(_random_counts(plan, backbone, replace(asked, words=None), job), drawn, asked, {})
            neurons = replace(neurons, random_selected=random.selected, random_predictivity=random.seed_predictivity)
        texts = [" | ".join(row) for row in plan.splits["dev"].rows]
        prompts = [prompt.embeddings for prompt in plan.prompts]
        cards = make_cards(backbone, plan.site, prompts, neurons, asked, texts, accelerator, plan.config.cards)
    return neurons, cards


def _rows(plan: DiscoverPlan, asked: Question) -> float:
    """Forward passes of a row, those before a gradient included."""
    prompts = len(plan.prompts) + plan.config.random_prompts
    steps = plan.config.effect_steps if plan.words else 0
    passes = steps if steps < 2 else 1 + steps * layer_count(plan.info)
    return prompts * (len(asked.train) + 1.5 * len(asked.dev)) + len(plan.prompts) * passes * len(asked.dev)


def _counts(plan: DiscoverPlan, backbone: Backbone, asked: Question, job: Job) -> Iterator[Counted]:
    """One prompt after the other; those that an interrupted command has counted are taken up."""
    for number, prompt in enumerate(plan.prompts, start=1):
        yield _counted(plan, backbone, asked, job, prompt.embeddings, plan.prompt_address(prompt))
        job.say(f"prompt {number} of {len(plan.prompts)} read")


def _random_counts(plan: DiscoverPlan, backbone: Backbone, asked: Question, job: Job) -> Iterator[Counted]:
    """The same of prompts that nobody tuned, drawn like the vocabulary."""
    vocabulary, length = backbone.vocabulary_embeddings(), plan.prompts[0].length
    for number in range(plan.config.random_prompts):
        prompt = like_vocabulary(vocabulary, length, mix(plan.config.seed, 5, number))
        yield _counted(plan, backbone, asked, job, prompt, plan.random_address(number))
        job.say(f"random prompt {number + 1} of {plan.config.random_prompts} read")


def _counted(
    plan: DiscoverPlan, backbone: Backbone, asked: Question, job: Job, prompt: torch.Tensor, address: str
) -> Counted:
    checkpoint = FileCheckpoint(address)
    known = None if plan.config.rerun else checkpoint.load()
    if known is not None:
        return Counted(**known)
    one = count(backbone, plan.site, prompt, asked, job.accelerator)
    if job.accelerator.is_main_process:
        checkpoint.save({field.name: getattr(one, field.name) for field in fields(Counted)})
    return one


def _record(plan: DiscoverPlan, run: Run, neurons: Neurons, rows: pd.DataFrame, cards: list[NeuronCard]) -> None:
    said = report.finding(neurons)
    label = " · protocol paper (one split)" if plan.config.protocol == "paper" else ""
    run.metrics(report.metrics(neurons))
    run.table(rows, CARDS)
    run.table(report.layers_table(neurons), "layers.json")
    if len(baseline := report.random_table(neurons)):
        run.table(baseline, "random_prompts.json")
    if len(effects := report.effect_table(neurons)):
        run.table(effects, "effects.json")
    if report.stability(neurons):
        run.table(report.stability_table(neurons), "stability.json")
    title = f"{plan.title}{label}"
    run.figure(predictivity_by_layer(neurons, title, report.SKILL_PERCENT), "figures/predictivity.png")
    run.figure(significant_by_layer(neurons, title), "figures/significant.png")
    if plan.others:
        found = [neurons, *plan.others]
        run.table(report.specificity_table(found), "specificity.json")
        run.figure(specificity_matrix(found), "figures/specificity.png")
    run.finding(said)
    run.signatures(report.signatures(neurons))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "neurons"
        neurons.save(folder)
        (folder / "cards.html").write_text(page(cards, title, said.text), encoding="utf-8")
        run.folder(folder, "neurons")


COMMAND = Discover()
