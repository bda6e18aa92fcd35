"""`pretrain`: the pair of small backbones, from a folder of texts, tracked and resumable."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from skillneurons.commands.display import clock
from skillneurons.commands.environment import environment
from skillneurons.commands.lifecycle import Command, Connect, Job
from skillneurons.findings import Claim, Finding, several
from skillneurons.pretrain.config import PretrainConfig
from skillneurons.pretrain.curriculum import Curriculum, as_points
from skillneurons.pretrain.display import PretrainDisplay
from skillneurons.pretrain.loop import PretrainProgress, Trained, pretrain
from skillneurons.pretrain.model_card import Made, card, check_model, opening, write_model
from skillneurons.pretrain.models import build
from skillneurons.pretrain.plan import PretrainPlan, Ready, make_ready, plan
from skillneurons.storage import FileCheckpoint, alone
from skillneurons.tracking.runs import ADDRESS, CHILDREN, Run, Tracking

# 4 layers x 256; measured on two cores of an EPYC: 4,200 for the masked LM, 3,300 for the encoder-decoder (a GPU: a
# guess)
TOKENS_PER_SECOND = {"cpu": 3_700, "cuda": 200_000}
MODEL = "model"


@dataclass(frozen=True)
class Models:
    """The models of a finished command, in their folders."""

    plan: PretrainPlan

    def finding(self) -> Finding:
        """Where each is, and what it does without a prompt."""
        said = []
        for name in self.plan.models:
            final = (check_model(self.plan.out / name) or {}).get("final", {})
            text = ", ".join(f"{a['task']} {a['accuracy']:.1%}" for a in final.get("accuracies", []))
            loss = f"held-out text {final['text_loss']:.3f} nats" if final else "no measurements"
            said.append(Claim(name, f"in {self.plan.out / name}; {loss}; accuracy without a prompt: {text}"))
        return Finding(f"{self.plan.title}: {several(len(said), 'model')} trained.", said)

    def rich_table(self) -> None:
        """None."""


class Pretrain(Command[PretrainPlan, Models]):
    """What `pretrain` brings."""

    name, config = "pretrain", PretrainConfig
    shown = {}

    def plan(self, given: Mapping[str, Any], base: Mapping[str, Any] | None, connect: Connect) -> PretrainPlan:
        return plan(given, base)

    def dry_run(self, plan: PretrainPlan) -> str:
        """What the command would do and about what it would cost."""
        train, size = plan.recipe.train, plan.recipe.size
        tokens = train.steps * train.tokens_per_step
        weight = size.layers * size.hidden**2 / 2**18
        seconds = 120 + len(plan.models) * tokens * weight / TOKENS_PER_SECOND[plan.config.device_type]
        return (
            f"would train {plan.title} on {len(plan.files)} train splits ({plan.bytes / 2**20:.0f} MiB); the texts "
            f"of {len(plan.unseen)} evaluation files are kept out\n"
            f"{train.steps} steps of {train.tokens_per_step} tokens each: {tokens / 1e6:.1f} million tokens of text "
            f"a model, {plan.recipe.supervised.share:.0%} of them labelled rows\n"
            f"about {clock(max(60, seconds))} on {plan.config.device_type} (within a factor of two), the corpus "
            f"included; less than 3 GiB of memory, {100 * len(plan.models) + 60} MiB of disk\n"
            f"model folders in {plan.out}; address {plan.address}"
        )

    def accelerator(self, plan: PretrainPlan) -> Accelerator:
        cpu = plan.config.device_type == "cpu"
        return Accelerator(mixed_precision="no" if cpu else "bf16", cpu=cpu)

    def reused(self, plan: PretrainPlan, tracking: Tracking, run_id: str) -> Models:
        for child, name in zip(tracking.children(run_id), plan.models, strict=True):
            _fetch(plan, tracking, child, name)
        return Models(plan)

    def work(self, plan: PretrainPlan, job: Job) -> Models:
        job.run.yaml(plan.recipe.model_dump(mode="json"), "recipe.yaml")
        job.run.tags({CHILDREN: ",".join(_train_all(plan, job))})
        made = Models(plan)
        job.run.finding(made.finding(), f"Each child run holds one as its artifact `{MODEL}`, with its card.")
        return made


def _train_all(plan: PretrainPlan, job: Job) -> list[str]:
    children = []
    ready: Ready | None = None
    with PretrainDisplay(plan.models, job.console) as display:
        for name in plan.models:
            address = plan.model_address(name)
            done = None if plan.config.rerun else job.tracking.finished(address)
            if done:
                _fetch(plan, job.tracking, done, name)
                display.note(name, f"finished as run {done}")
            else:
                ready = ready or make_ready(plan, display.say)
                done = _in_child(plan, name, ready, job, display)
            children.append(done)
    return children


def _in_child(plan: PretrainPlan, name: str, ready: Ready, job: Job, display: PretrainDisplay) -> str:
    address = plan.model_address(name)
    checkpoint = FileCheckpoint(f"pretrain-{address}")
    if plan.config.rerun:
        checkpoint.drop()
    about = environment(job.accelerator, plan.config)
    tags = {"skillneurons.stage": "pretrain", "skillneurons.model": name, ADDRESS: address, **about}
    with alone(address), job.tracking.run(name, tags, job.run) as run:
        job.tracking.supersede(address, run)
        run.params(_flat(plan.recipe.deciding(name)))
        curriculum = Curriculum(plan.recipe, ready.tokens, ready.tokenizer)
        learner = build(plan.recipe, name, ready.vectors, curriculum.frequencies)
        trained = pretrain(
            learner,
            curriculum,
            plan.recipe,
            name,
            job.accelerator,
            checkpoint,
            save_every=plan.config.save_every,
            watch=_Watcher(run, display).told,
        )
        made = Made(name, address, run.id, about, curriculum.unigram_entropy)
        facts = card(plan, ready, trained, made)
        write_model(plan.out / name, learner.model, plan.recipe.models[name].family, ready, facts)
        _record(run, plan.out / name, trained, opening(facts))
    checkpoint.drop()
    return run.id


class _Watcher:
    """Shows progress, and sends the points of the curves to the run in batches."""

    def __init__(self, run: Run, display: PretrainDisplay) -> None:
        self._run, self._display = run, display
        self._sent = (0, 0)

    def told(self, progress: PretrainProgress) -> None:
        self._display.update(progress)
        if not progress.at_measurement:
            return
        losses, measured = progress.curves.losses[self._sent[0] :], progress.curves.measured[self._sent[1] :]
        points = [(f"train/{kind}_loss", getattr(p, kind), p.step) for p in losses for kind in ("text", "cloze")]
        points += [(name, value, p.step) for p in measured for name, value in as_points(p.measured).items()]
        points.append(("tokens_per_second", progress.tokens_per_second, progress.step))
        self._run.curve(points)
        self._sent = (len(progress.curves.losses), len(progress.curves.measured))


def _record(run: Run, folder: Path, trained: Trained, note: str) -> None:
    run.folder(folder, MODEL)
    final = {name.replace("held_out/", "final/"): value for name, value in as_points(trained.final).items()}
    run.metrics({**final, "seconds": trained.seconds, "text_tokens": float(trained.tokens)})
    run.note(note)


def _fetch(plan: PretrainPlan, tracking: Tracking, run_id: str, name: str) -> None:
    """Put a finished model into the output folder, unless it is there."""
    there = check_model(plan.out / name)
    if there is None or there["address"] != plan.model_address(name):
        tracking.download(run_id, MODEL, plan.out / name)


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        if key in ("tasks", "probes"):
            flat[f"{prefix}{key}"] = ", ".join(inner)
        elif isinstance(inner, Mapping):
            flat.update(_flat(inner, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = inner if not isinstance(inner, list) else ", ".join(map(str, inner))[:500]
    return flat


COMMAND = Pretrain()
