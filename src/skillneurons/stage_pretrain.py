"""`pretrain`: the pair of small backbones, from a folder of texts, tracked and resumable."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console

from skillneurons.checkpoints import FileCheckpoint, alone
from skillneurons.config import PretrainConfig
from skillneurons.display import PretrainDisplay, clock
from skillneurons.lessons import Lessons, as_points
from skillneurons.pair import build
from skillneurons.pretrain_card import Made, card, check_model, write_model
from skillneurons.pretrain_plan import PretrainPlan, Ready, make_ready, plan
from skillneurons.pretraining import PretrainProgress, Trained, pretrain
from skillneurons.stage_tune import environment, older_config
from skillneurons.tracking import ADDRESS, CHILDREN, Run, Tracking

# 4 layers x 256; measured on two cores of an EPYC: 4,200 for the masked LM, 3,300 for the encoder-decoder (a GPU: a
# guess)
TOKENS_PER_SECOND = {"cpu": 3_700, "cuda": 200_000}
MODEL = "model"
_NOT_KEPT = {"rerun", "dry_run", "config", "data_dir"}


def run(given: Mapping[str, str], console: Console) -> int:
    """Carry out `pretrain`; returns the exit code."""
    tracking = Tracking.connect() if given.get("config") else None
    checked = plan(given, older_config(tracking, given["config"], PretrainConfig) if tracking else None)
    if checked.config.dry_run:
        console.print(dry_run(checked), highlight=False, markup=False, soft_wrap=True)
        return 0
    tracking = tracking or Tracking.connect()
    run_id, reused = execute(checked, tracking, console)
    for line in _closing(checked, run_id, reused):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return 0


def execute(plan: PretrainPlan, tracking: Tracking, console: Console) -> tuple[str, bool]:
    """Train what is not yet trained; the run's id, and whether a finished run had done it all."""
    address = plan.command_address
    if not plan.config.rerun and (done := tracking.finished(address)):
        for child, name in zip(tracking.children(done), plan.models, strict=True):
            _fetch(plan, tracking, child, name)
        return done, True
    torch.set_num_threads(plan.config.threads or torch.get_num_threads())
    accelerator = Accelerator(mixed_precision="bf16" if plan.device == "cuda" else "no", cpu=plan.device == "cpu")
    with alone(address):
        tags = {"skillneurons.stage": "pretrain", ADDRESS: address, **environment(accelerator, plan.config)}
        with tracking.run(f"pretrain {plan.title}", tags, adopt=True) as parent:
            for old in tracking.supersede(address, parent):
                console.print(f"taking up the work of run {old}, which died without a word", highlight=False)
            parent.params({k: v for k, v in plan.config.model_dump(mode="json").items() if v is not None})
            parent.yaml(plan.recipe.model_dump(mode="json"), "recipe.yaml")
            parent.yaml(plan.config.model_dump(mode="json", exclude=_NOT_KEPT), "config.yaml")
            children = _train_all(plan, tracking, parent, accelerator, console)
            parent.tags({CHILDREN: ",".join(children)})
            parent.note(f"Made {plan.title}; each child run holds one as its artifact `{MODEL}`, with its card.")
    return parent.id, False


def dry_run(plan: PretrainPlan) -> str:
    """What the command would do and about what it would cost."""
    train, size = plan.recipe.train, plan.recipe.size
    tokens = train.steps * train.tokens_per_step
    weight = size.layers * size.hidden**2 / 2**18
    seconds = 120 + len(plan.models) * tokens * weight / TOKENS_PER_SECOND[plan.device]
    return (
        f"would train {plan.title} on {len(plan.files)} train splits ({plan.bytes / 2**20:.0f} MiB); the texts of "
        f"{len(plan.unseen)} evaluation files are kept out\n"
        f"{train.steps} steps of {train.tokens_per_step} tokens each: {tokens / 1e6:.1f} million tokens of text "
        f"a model, {plan.recipe.supervised.share:.0%} of them labelled rows\n"
        f"about {clock(max(60, seconds))} on {plan.device} (within a factor of two), the corpus included; less than "
        f"3 GiB of memory, {100 * len(plan.models) + 60} MiB of disk\n"
        f"model folders in {plan.out}; address {plan.command_address}"
    )


def _train_all(
    plan: PretrainPlan, tracking: Tracking, parent: Run, accelerator: Accelerator, console: Console
) -> list[str]:
    children = []
    ready: Ready | None = None
    with PretrainDisplay(plan.models, console) as display:
        for name in plan.models:
            address = plan.address(name)
            done = None if plan.config.rerun else tracking.finished(address)
            if done:
                _fetch(plan, tracking, done, name)
                display.note(name, f"finished as run {done}")
            else:
                ready = ready or make_ready(plan, display.say)
                done = _in_child(plan, name, ready, tracking, parent, accelerator, display)
            children.append(done)
    return children


def _in_child(
    plan: PretrainPlan,
    name: str,
    ready: Ready,
    tracking: Tracking,
    parent: Run,
    accelerator: Accelerator,
    display: PretrainDisplay,
) -> str:
    address = plan.address(name)
    checkpoint = FileCheckpoint(f"pretrain-{address}")
    if plan.config.rerun:
        checkpoint.drop()
    about = environment(accelerator, plan.config)
    tags = {"skillneurons.stage": "pretrain", "skillneurons.model": name, ADDRESS: address, **about}
    with alone(address), tracking.run(name, tags, parent) as run:
        tracking.supersede(address, run)
        run.params(_flat(plan.recipe.deciding(name)))
        lessons = Lessons(plan.recipe, ready.tokens, ready.tokenizer)
        learner = build(plan.recipe, name, ready.vectors, lessons.frequencies)
        trained = pretrain(
            learner,
            lessons,
            plan.recipe,
            name,
            accelerator,
            checkpoint,
            save_every=plan.config.save_every,
            watch=_Watcher(run, display).told,
        )
        made = Made(name, address, run.id, about, lessons.unigram_entropy)
        facts = card(plan, ready, trained, made)
        write_model(plan.out / name, learner.model, plan.recipe.models[name].family, ready, facts)
        _record(run, plan.out / name, trained)
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


def _record(run: Run, folder: Path, trained: Trained) -> None:
    run.folder(folder, MODEL)
    final = {name.replace("held_out/", "final/"): value for name, value in as_points(trained.final).items()}
    run.metrics({**final, "seconds": trained.seconds, "text_tokens": float(trained.tokens)})
    run.note((folder / "README.md").read_text(encoding="utf-8").partition("\n## Data")[0].partition("\n# ")[2][:7000])


def _fetch(plan: PretrainPlan, tracking: Tracking, run_id: str, name: str) -> None:
    """Put a finished model into the output folder, unless it is there."""
    there = check_model(plan.out / name)
    if there is None or there["address"] != plan.address(name):
        tracking.download(run_id, MODEL, plan.out / name)


def _closing(plan: PretrainPlan, run_id: str, reused: bool) -> list[str]:
    said = [f"This configuration has finished as run {run_id}; rerun=true works it again."] if reused else []
    for name in plan.models:
        facts = check_model(plan.out / name) or {}
        found = facts.get("final", {}).get("accuracies", [])
        text = ", ".join(f"{a['task']} {a['accuracy']:.1%}" for a in found)
        said.append(
            f"{name}: {plan.out / name}; held-out text {facts['final']['text_loss']:.3f} nats; no prompt: {text}"
        )
    return [*said, f"run: {run_id}"]


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
