"""A worker of a search: claims trials until there are none left, each into a run of its own."""

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console

from skillneurons.backbones import loading
from skillneurons.commands.environment import environment, peak_memory_mb, reset_peak_memory
from skillneurons.plots.style import Curve, learning_curves
from skillneurons.search.plan import SearchPlan
from skillneurons.search.study import TRIAL_RUN, Claim, SharedStudy, TakenOverError, masked
from skillneurons.search.trial import Rung, best, checkpoint, checkpoint_steps, climb
from skillneurons.stats.intervals import Estimate, accuracy, mean_interval
from skillneurons.tracking.runs import ADDRESS, Run, Stopped, Tracking
from skillneurons.tune.command import COMMAND as TUNE
from skillneurons.tune.loop import history_from
from skillneurons.tune.seed import CurveLog, TuningSetup, predictions

TRIAL = "skillneurons.trial"
WORKER = "skillneurons.worker"
RESUMED_FROM = "skillneurons.resumed_from_step"
PARENT_PID = "SKILLNEURONS_SEARCH_PARENT"
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Worker:
    """One process at work on a study; `parent` is the tracked run of the study."""

    plan: SearchPlan
    study: SharedStudy
    tracking: Tracking
    parent: Run
    console: Console

    def work(self) -> None:
        """Take trials until the number asked for is complete or pruned, by whomever."""
        asked = self.plan.config.trials
        while not self.study.ledger(asked).done:
            leave_with_parent()
            claim = self.study.claim(asked)
            if claim is None:
                time.sleep(POLL_SECONDS)  # others are at work on the last ones, and may yet die
            else:
                self._trial(claim)

    @cached_property
    def setup(self) -> TuningSetup:
        """The backbone, loaded for the first trial, and the tokenised rows: no trial sees those of test."""
        config = self.plan.first.config
        torch.set_num_threads(config.threads or torch.get_num_threads())
        accelerator = TUNE.accelerator(self.plan.first)
        backbone = loading.load(self.plan.first.info, device=accelerator.device, dtype=torch.float32)
        encoded = {role: self.plan.first.encode(role) for role in ("train", "dev")}
        return TuningSetup(self.plan.first, backbone, encoded, accelerator)

    @cached_property
    def _environment(self) -> dict[str, str]:
        return command_tags(self.plan, self.setup.accelerator)

    def _trial(self, claim: Claim) -> None:
        setup = replace(self.setup, plan=self.plan.tune_plan(claim.params))
        address = self.plan.trial_address(claim.origin, claim.params)
        worker = f"{socket.gethostname()}:{os.getpid()}"
        tags = {"skillneurons.stage": "search trial", TRIAL: str(claim.origin), WORKER: worker, ADDRESS: address}
        name = f"trial {claim.origin} · {self.plan.title}"
        with (
            self.study.at_work(claim),
            contextlib.suppress(Stopped),
            self.tracking.run(name, {**self._environment, **tags}, self.parent) as run,
        ):
            try:
                self._take(claim, setup, run, address)
                self._climb(claim, setup, run, address)
            except TakenOverError as error:
                raise Stopped(f"held dead for want of heartbeats: another worker has {error}") from error

    def _take(self, claim: Claim, setup: TuningSetup, run: Run, address: str) -> None:
        claim.trial.set_user_attr(TRIAL_RUN, run.id)
        self.tracking.supersede(address, run)
        if claim.previous_run:
            self.tracking.close(claim.previous_run, "KILLED", run)
        steps = checkpoint_steps(setup, address)
        if any(steps.values()):
            run.tags({RESUMED_FROM: max(steps.values())})
        run.params({**setup.plan.config.model_dump(mode="json"), "trial": claim.origin})
        run.inputs(self.plan.first.splits[role] for role in ("train", "dev"))
        settings = ", ".join(f"{name}={_short(value)}" for name, value in claim.params.items())
        since = f", taken up at step {max(steps.values())}" if any(steps.values()) else ""
        self._say(claim, f"{settings}{since}")

    def _climb(self, claim: Claim, setup: TuningSetup, run: Run, address: str) -> None:
        curves, config = CurveLog(run), setup.plan.config
        reset_peak_memory(setup.accelerator.device)

        def stop(rung: Rung) -> str | None:
            leave_with_parent()
            step = min(rung.evaluation * config.eval_every, config.max_steps)
            run.curve([("dev/curve/best_accuracy", rung.value, step)])
            for seed, state in rung.states.items():
                curves.follow(history_from(state["history"]), "" if len(rung.states) == 1 else f"seed_{seed}/")
            self._say(claim, f"evaluation {rung.evaluation}/{self.plan.evaluations}, dev {rung.value:.1%}")
            pruned = self.study.report(claim, rung.value, rung.evaluation)
            last = rung.evaluation == self.plan.evaluations
            return f"pruned at evaluation {rung.evaluation}, dev {rung.value:.1%}" if pruned and not last else None

        rung, reason = climb(setup, address, self.plan.evaluations, stop)
        if rung is not None:
            _record(setup, run, rung, whole=reason is None)
            for name, value in _facts(rung).items():
                claim.trial.set_user_attr(name, value)
        self.study.finish(claim, rung.value if rung else None, reason)
        for seed in config.seeds:
            checkpoint(address, seed).drop()
        self._say(claim, reason or "complete")
        if reason:
            run.note(f"{reason}.")
            raise Stopped(reason)

    def _say(self, claim: Claim, text: str) -> None:
        self.console.print(f"trial {claim.origin}  {text}", highlight=False, markup=False, soft_wrap=True)


def leave_with_parent() -> None:
    """Stop, as by an interrupt, when the command that started this worker is gone."""
    parent = os.environ.get(PARENT_PID)
    if parent and os.getppid() != int(parent):
        raise KeyboardInterrupt


def command_tags(plan: SearchPlan, accelerator: Accelerator) -> dict[str, str]:
    """With what a run was made; a password in the storage's URL is not told."""
    tags = environment(accelerator, plan.config)
    if storage := plan.config.storage:
        tags["skillneurons.command"] = tags["skillneurons.command"].replace(storage, masked(storage))
    return tags


def _facts(rung: Rung) -> dict[str, float]:
    """What the table of trials tells of one: the interval is Wilson's for one seed, else Student's."""
    bests = [best(state) for state in rung.states.values()]
    mean = mean_interval([point["accuracy"] for point in bests], within=(0, 1))
    one = len(bests) == 1
    low, high = (bests[0]["low"], bests[0]["high"]) if one else (mean.low, mean.high)
    seconds = sum(state["seconds"] for state in rung.states.values())
    return {"low": low, "high": high, "loss": rung.loss(), "seconds": seconds, "value": rung.value}


def _record(setup: TuningSetup, run: Run, rung: Rung, whole: bool) -> None:
    """Metrics and figure of a trial; of a whole one also the selected prompts' predictions on dev."""
    dev, facts = setup.plan.splits["dev"], _facts(rung)
    peak = peak_memory_mb(setup.accelerator.device)
    metrics = {"seconds": facts["seconds"], "peak_memory_mb": peak, "evaluations": float(rung.evaluation)}
    if whole:
        metrics |= {"dev/accuracy": rung.value, "dev/accuracy_low": facts["low"], "dev/accuracy_high": facts["high"]}
        metrics |= {"dev/loss": facts["loss"], "dev/majority": dev.majority_rate, "dev/n": float(len(dev))}
    for seed, state in rung.states.items() if whole else ():
        scores = setup.scores(state["best"], "dev")
        one = len(rung.states) == 1
        path = "predictions/dev.parquet" if one else f"predictions/seed_{seed}/dev.parquet"
        run.parquet(predictions(dev, scores), path)
        if not one:
            found = accuracy(dev.labels, scores.argmax(1).numpy(), scores.shape[1])
            metrics[f"seed_{seed}/dev/accuracy"] = found.value
    run.metrics(metrics, rung.evaluation)
    curves = {seed: _curve(state) for seed, state in rung.states.items()}
    run.figure(learning_curves(curves, dev.majority_rate), "figures/learning_curves.png")


def _curve(state: Mapping[str, Any]) -> Curve:
    history = history_from(state["history"])
    dev = [(point.step, Estimate(point.accuracy, point.low, point.high)) for point in history.dev]
    return Curve(history.train, dev, int(best(state)["step"]))


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
