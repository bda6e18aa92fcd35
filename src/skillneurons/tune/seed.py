"""One seed of a tune command: tune or take up again, compare, save the prompt, register it."""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator

from skillneurons.backbones.base import Backbone
from skillneurons.backbones.batching import Encoded
from skillneurons.commands.environment import peak_memory_mb, reset_peak_memory
from skillneurons.data.splits import Split
from skillneurons.data.tasks import origin, unsourced
from skillneurons.plots.style import learning_curves
from skillneurons.prompts import initialization
from skillneurons.prompts.scoring import content_free, score
from skillneurons.prompts.soft_prompt import SoftPrompt
from skillneurons.seeds import mix
from skillneurons.stats.intervals import Accuracy, accuracy, calibrate
from skillneurons.stats.mcnemar import mcnemar_exact
from skillneurons.storage import FileCheckpoint
from skillneurons.tracking.registry import DEV_ACCURACY, register, registered_name
from skillneurons.tracking.runs import Run, Tracking
from skillneurons.tune.loop import History, Progress, Tuned, tune
from skillneurons.tune.plan import TunePlan
from skillneurons.tune.report import SeedResult, slug

RESULT_FILE = "result.json"
SELECTION = "skillneurons.selection"  # a tag: which rows the prompts were selected on
CONTENT_FREE = ("", "N/A", "[MASK]")  # Zhao et al. 2021 average over these


@dataclass(frozen=True)
class TuningSetup:
    """What the seeds of one command share: the loaded backbone, the tokenised data, the processes."""

    plan: TunePlan
    backbone: Backbone
    encoded: Mapping[str, Encoded]
    accelerator: Accelerator

    def scores(self, prompt: torch.Tensor, role: str) -> torch.Tensor:
        """Label scores `[n, C]` of a prompt on a split."""
        return score(
            self.backbone,
            prompt,
            self.encoded[role],
            self.plan.words,
            self.accelerator,
            self.plan.config.eval_batch_size,
        )

    def tune(self, seed: int, checkpoint: FileCheckpoint, watch: Callable[[Progress], None]) -> Tuned:
        """The prompt of a seed, from its checkpoint if that holds a state; see `loop.tune`."""
        config = self.plan.config
        return tune(
            self.backbone,
            self.plan.words,
            self.encoded["train"],
            self.encoded["dev"],
            self.start(seed),
            config.settings,
            seed,
            self.accelerator,
            checkpoint,
            order_seed=config.order_seed,
            eval_batch_size=config.eval_batch_size,
            watch=watch,
        )

    def unprompted(self) -> dict[str, torch.Tensor]:
        """Scores on test without a prompt: raw, and calibrated by inputs without content."""
        # a masked LM needs the position of the mask, which row 0 of a prompt stands for
        length = 1 if self.plan.info.family == "masked_lm" else 0
        nothing = torch.zeros(length, self.plan.info.embedding_width)
        raw = self.scores(nothing, "test")
        empty = [
            self.plan.task.render(self.plan.info.family, dict.fromkeys(self.plan.task.fields, text))
            for text in CONTENT_FREE
        ]
        bias = content_free(self.backbone, nothing, empty, self.plan.words, self.plan.config.max_length)
        calibrated = torch.from_numpy(calibrate(raw.numpy(), bias.numpy())).float()
        return {"no prompt": raw, "no prompt, calibrated": calibrated}

    def random_prompt(self, seed: int) -> torch.Tensor:
        """A prompt `[P, E]` nobody tuned."""
        vocabulary = self.backbone.vocabulary_embeddings()
        return initialization.like_vocabulary(vocabulary, self.plan.config.prompt_length, mix(seed, 1))

    def start(self, seed: int) -> torch.Tensor:
        """Where the prompt of a seed starts, `[P, E]`."""
        config, width = self.plan.config, self.plan.info.embedding_width
        if config.init == "normal":
            return initialization.normal(config.prompt_length, width, config.init_std, mix(seed))
        if config.init == "prompt":
            assert self.plan.start is not None
            return initialization.from_prompt(self.plan.start.embeddings, config.prompt_length, width)
        vocabulary = self.backbone.vocabulary_embeddings()
        if config.init == "vocabulary":
            return initialization.from_vocabulary(vocabulary, config.prompt_length, mix(seed))
        tokens = self.plan.info.tokenizer(config.init_text, add_special_tokens=False)["input_ids"]
        return initialization.from_tokens(vocabulary, tokens, config.prompt_length, seed)


def tune_seed(
    setup: TuningSetup,
    seed: int,
    unprompted: Mapping[str, torch.Tensor],
    tracking: Tracking,
    run: Run,
    watch: Callable[[Progress], None],
) -> SeedResult:
    """Tune one seed into its run: curves, comparisons, predictions, prompt folder, registered version.

    `result.json` is written last: a run without it is not a whole one.
    """
    plan = setup.plan
    reset_peak_memory(setup.accelerator.device)
    checkpoint = FileCheckpoint(plan.seed_address(seed))
    curves = CurveLog(run)

    def report(progress: Progress) -> None:
        if progress.at_evaluation:
            curves.follow(progress.history)
        watch(progress)

    tuned = setup.tune(seed, checkpoint, report)
    scores = {role: setup.scores(tuned.prompt, role) for role in ("dev", "test")}
    others = {**unprompted, "random prompt": setup.scores(setup.random_prompt(seed), "test")}
    result = _result(plan, seed, run, tuned, scores, others)
    if setup.accelerator.is_main_process:
        result = _record(setup, tracking, run, tuned, scores, others, result)
        checkpoint.drop()
    return result


class CurveLog:
    """Logs curves while they grow; a resumed tuning brings the points before it.

    `dev/accuracy` is left for the selected prompt: a curve under that name would end in two values.
    """

    def __init__(self, run: Run) -> None:
        self._run, self._done = run, dict[str, tuple[int, int]]()

    def follow(self, history: History, prefix: str = "") -> None:
        """Log what is new in a history, under names that begin with `prefix`."""
        losses, points = self._done.get(prefix, (0, 0))
        train, dev = history.train[losses:], history.dev[points:]
        self._run.curve(
            [(f"{prefix}train/loss", loss, step) for step, loss in train]
            + [(f"{prefix}dev/curve/accuracy", point.accuracy, point.step) for point in dev]
            + [(f"{prefix}dev/curve/loss", point.loss, point.step) for point in dev]
        )
        self._done[prefix] = len(history.train), len(history.dev)


def predictions(split: Split, scores: torch.Tensor) -> pd.DataFrame:
    """Row hash, label, prediction and the score of each label: what a paired comparison needs."""
    frame = split.predictions(scores.argmax(1).numpy())
    return frame.assign(**{f"score_{name}": scores[:, i].numpy() for i, name in enumerate(split.label_names)})


def _accuracy(split: Split, scores: torch.Tensor) -> Accuracy:
    return accuracy(split.labels, scores.argmax(1).numpy(), scores.shape[1])


def _result(
    plan: TunePlan,
    seed: int,
    run: Run,
    tuned: Tuned,
    scores: Mapping[str, torch.Tensor],
    others: Mapping[str, torch.Tensor],
) -> SeedResult:
    test, best = plan.splits["test"], tuned.history.best
    assert best is not None
    right = scores["test"].argmax(1).numpy() == test.labels
    return SeedResult(
        seed=seed,
        run_id=run.id,
        dev=_accuracy(plan.splits["dev"], scores["dev"]),
        test=_accuracy(test, scores["test"]),
        baselines={name: _accuracy(test, other) for name, other in others.items()},
        against={
            name: mcnemar_exact(right, other.argmax(1).numpy() == test.labels) for name, other in others.items()
        },
        best_step=best.step,
        steps=tuned.steps,
        seconds=tuned.seconds,
        train_curve=tuned.history.train,
        dev_curve=[(p.step, p.accuracy, p.low, p.high) for p in tuned.history.dev],
        right=np.packbits(right).tobytes().hex(),
    )


def _record(
    setup: TuningSetup,
    tracking: Tracking,
    run: Run,
    tuned: Tuned,
    scores: Mapping[str, torch.Tensor],
    others: Mapping[str, torch.Tensor],
    result: SeedResult,
) -> SeedResult:
    plan = setup.plan
    final = result.dev.metrics("dev") | result.test.metrics("test")
    final |= {f"test/{slug(name)}/accuracy": value.value for name, value in result.baselines.items()}
    peak = peak_memory_mb(setup.accelerator.device)
    run.metrics({"seconds": tuned.seconds, "peak_memory_mb": peak})
    run.figure(learning_curves({result.seed: result.curve}, result.dev.majority), "figures/learning_curves.png")
    for role, role_scores in scores.items():
        run.parquet(predictions(plan.splits[role], role_scores), f"predictions/{role}.parquet")
    for name, other in others.items():
        frame = predictions(plan.splits["test"], other)
        run.parquet(frame, f"predictions/{slug(name)}/test.parquet")
    if result.test.collapsed:
        run.tags({"skillneurons.collapsed": "every prediction on test is one class"})
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "prompt"
        SoftPrompt(tuned.prompt, _card(plan, result)).save(folder)
        run.folder(folder, "prompt")
        name = registered_name(plan.task.name, plan.info.name)
        note = f"{_note(plan, result)}{_lineage(plan, result, tracking.experiment_id)}"
        version = register(tracking, run, folder, name, _version_tags(plan, result), note, final)
        result = replace(result, version=version)
        run.tags({"skillneurons.registered": f"{name}/{version}"})
        run.note(_note(plan, result))
        manifest = Path(scratch) / "result" / RESULT_FILE
        manifest.parent.mkdir()
        manifest.write_text(json.dumps(result.to_dict(), indent=2), encoding="utf-8")
        run.folder(manifest.parent, "")
    return result


def _card(plan: TunePlan, result: SeedResult) -> dict[str, Any]:
    info, config = plan.info, plan.config
    return {
        "task": unsourced(plan.task),
        "rows": origin(plan.task, config.data_dir),
        "selection": plan.selection,
        "label_words": {
            "variant": config.label_words,
            "entries": list(plan.task.words(info.family, published=config.label_words == "published")),
            "ids": list(plan.words.ids),
            "pieces": list(plan.words.pieces),
        },
        "backbone": {
            "reference": info.reference,
            "location": str(info.folder / info.gguf_file if info.gguf_file else info.folder),
            "name": info.name,
            "revision": info.revision,
            "fingerprint": info.fingerprint,
            "files": info.contents,
            "family": info.family,
            "embedding_width": info.embedding_width,
        },
        "placement": info.placement,
        "max_length": config.max_length,
        "data": {role: split.fingerprint for role, split in plan.splits.items()},
        "metrics": result.dev.metrics("dev") | result.test.metrics("test"),
        "tuning": {**config.deciding(), "selected_step": result.best_step, "run_id": result.run_id},
        "seed": result.seed,
    }


def _version_tags(plan: TunePlan, result: SeedResult) -> dict[str, str]:
    return {
        "seed": str(result.seed),
        DEV_ACCURACY: f"{result.dev.value:.6f}",
        "dev_n": str(result.dev.n),
        "dev": plan.splits["dev"].fingerprint[:32],
        "test_accuracy": f"{result.test.value:.6f}",
        "data": plan.splits["train"].fingerprint[:32],
        "backbone": plan.info.fingerprint[:32],
        "address": plan.seed_address(result.seed),
    }


def _note(plan: TunePlan, result: SeedResult) -> str:
    # lists, since MLflow's pages leave no room between the cells of a table
    return (
        f"Soft prompt for **{plan.task.name}** on **{plan.info.name}**, seed {result.seed}, "
        f"P={plan.config.prompt_length}, selected at step {result.best_step} of {result.steps} on "
        f"{selected_on(plan)}.\n\n"
        f"- accuracy on test: {_told(result.test)}\n"
        f"- on the rows it was selected on: {_told(result.dev)}\n"
    )


def selected_on(plan: TunePlan) -> str:
    """Which rows a prompt is selected on, in words."""
    dev = plan.splits["dev"]
    start = "" if plan.selection else "; the prompt it starts from was selected on other rows, or on unknown ones"
    return f"half A of dev ({len(dev)} rows, `{dev.fingerprint[:12]}`{start})"


def _told(value: Accuracy) -> str:
    interval = f"95% interval [{value.low:.1%}, {value.high:.1%}]"
    return f"**{value.value:.1%}**, {interval}, n = {value.n}, majority rate {value.majority:.1%}"


def _lineage(plan: TunePlan, result: SeedResult, experiment_id: str) -> str:
    """Where a registered prompt comes from: links and fingerprints, as its page shows them."""
    info = plan.info
    splits = ", ".join(f"{role} `{split.fingerprint[:32]}`" for role, split in plan.splits.items())
    return (
        f"- run: [seed {result.seed} · {plan.title}](#/experiments/{experiment_id}/runs/{result.run_id})\n"
        f"- data: {plan.task.name}, {splits}\n"
        f"- backbone: {info.name}, {info.family}, weights `{info.fingerprint[:32]}`\n"
        f"- configuration: address `{plan.seed_address(result.seed)[:32]}`\n"
    )
