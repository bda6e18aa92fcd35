"""A worker of a search: claims trials until there are none left, each into a run of its own."""

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from accelerate import Accelerator
from rich.console import Console

from skillneurons.figures import Curve, learning_curves
from skillneurons.search_plan import SearchPlan
from skillneurons.search_study import TRIAL_RUN, Claim, SharedStudy, TakenOverError, masked
from skillneurons.search_trial import Rung, best, checkpoint, checkpoint_steps, climb
from skillneurons.stage_tune import accelerator_for, environment
from skillneurons.statistics import accuracy, mean_interval
from skillneurons.tracking import ADDRESS, Run, Stopped, Tracking
from skillneurons.tune_seed import Bench, peak_memory_mb, predictions, reset_peak_memory

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
    def bench(self) -> Bench:
        """The backbone, loaded for the first trial, and the tokenised rows: no trial sees those of test."""
        config = self.plan.first.config
        torch.set_num_threads(config.threads or torch.get_num_threads())
        accelerator = accelerator_for(config)
        backbone = self.plan.first.info.load(device=accelerator.device, dtype=torch.float32)
        encoded = {role: self.plan.first.encode(role) for role in ("train", "dev")}
        return Bench(self.plan.first, backbone, encoded, accelerator)

    @cached_property
    def _environment(self) -> dict[str, str]:
        return command_tags(self.plan, self.bench.accelerator)

    def _trial(self, claim: Claim) -> None:
        bench = replace(self.bench, plan=self.plan.tune_plan(claim.params))
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
                self._take(claim, bench, run, address)
                self._climb(claim, bench, run, address)
            except TakenOverError as error:
                raise Stopped(f"held dead for want of heartbeats: another worker has {error}") from error

    def _take(self, claim: Claim, bench: Bench, run: Run, address: str) -> None:
        claim.trial.set_user_attr(TRIAL_RUN, run.id)
        self.tracking.supersede(address, run)
        if claim.previous_run:
            self.tracking.close(claim.previous_run, "KILLED", run)
        steps = checkpoint_steps(bench, address)
        if any(steps.values()):
            run.tags({RESUMED_FROM: max(steps.values())})
        run.params({**bench.plan.config.model_dump(mode="json"), "trial": claim.origin})
        run.inputs(self.plan.first.splits[role] for role in ("train", "dev"))
        settings = ", ".join(f"{name}={_short(value)}" for name, value in claim.params.items())
        since = f", taken up at step {max(steps.values())}" if any(steps.values()) else ""
        self._say(claim, f"{settings}{since}")

    def _climb(self, claim: Claim, bench: Bench, run: Run, address: str) -> None:
        curves = _Curves(run)
        reset_peak_memory(bench.accelerator.device)

        def stop(rung: Rung) -> str | None:
            leave_with_parent()
            curves.follow(rung, min(rung.evaluation * bench.plan.config.eval_every, bench.plan.config.max_steps))
            self._say(claim, f"evaluation {rung.evaluation}/{self.plan.evaluations}, dev {rung.value:.1%}")
            pruned = self.study.report(claim, rung.value, rung.evaluation)
            last = rung.evaluation == self.plan.evaluations
            return f"pruned at evaluation {rung.evaluation}, dev {rung.value:.1%}" if pruned and not last else None

        rung, reason = climb(bench, address, self.plan.evaluations, stop)
        if rung is not None:
            _record(bench, run, rung, whole=reason is None)
            for name, value in _facts(rung).items():
                claim.trial.set_user_attr(name, value)
        self.study.finish(claim, rung.value if rung else None, reason)
        for seed in bench.plan.config.seeds:
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


class _Curves:
    """Logs what is new at each rung; a worker that takes up a trial brings the points before it."""

    def __init__(self, run: Run) -> None:
        self._run, self._done = run, dict[tuple[int, str], int]()

    def follow(self, rung: Rung, step: int) -> None:
        points = [("dev/curve/best_accuracy", rung.value, step)]
        for seed, state in rung.states.items():
            prefix = "" if len(rung.states) == 1 else f"seed_{seed}/"
            for at, loss in self._new(seed, state, "train"):
                points.append((f"{prefix}train/loss", loss, at))
            for point in self._new(seed, state, "dev"):
                points.append((f"{prefix}dev/curve/accuracy", point["accuracy"], point["step"]))
                points.append((f"{prefix}dev/curve/loss", point["loss"], point["step"]))
        self._run.curve(points)

    def _new(self, seed: int, state: Mapping[str, object], which: str) -> list:  # type: ignore[type-arg]
        history: Mapping[str, list] = state["history"]  # type: ignore[assignment, type-arg]
        new = history[which][self._done.get((seed, which), 0) :]
        self._done[seed, which] = len(history[which])
        return new


def _facts(rung: Rung) -> dict[str, float]:
    """What the table of trials tells of one: the interval is Wilson's for one seed, else Student's."""
    bests = [best(state) for state in rung.states.values()]
    mean = mean_interval([point["accuracy"] for point in bests], within=(0, 1))
    one = len(bests) == 1
    low, high = (bests[0]["low"], bests[0]["high"]) if one else (mean.low, mean.high)
    seconds = sum(state["seconds"] for state in rung.states.values())
    return {"low": low, "high": high, "loss": rung.loss(), "seconds": seconds, "value": rung.value}


def _record(bench: Bench, run: Run, rung: Rung, whole: bool) -> None:
    """Metrics and figure of a trial; of a whole one also the selected prompts' predictions on dev."""
    dev, facts = bench.plan.splits["dev"], _facts(rung)
    peak = peak_memory_mb(bench.accelerator.device)
    metrics = {"seconds": facts["seconds"], "peak_memory_mb": peak, "evaluations": float(rung.evaluation)}
    if whole:
        metrics |= {"dev/accuracy": rung.value, "dev/accuracy_low": facts["low"], "dev/accuracy_high": facts["high"]}
        metrics |= {"dev/loss": facts["loss"], "dev/majority": dev.majority_rate, "dev/n": float(len(dev))}
    for seed, state in rung.states.items() if whole else ():
        scores = bench.scores(state["best"], "dev")
        one = len(rung.states) == 1
        path = "predictions/dev.parquet" if one else f"predictions/seed_{seed}/dev.parquet"
        run.parquet(predictions(dev, bench.plan.task.labels, scores), path)
        if not one:
            found = accuracy(dev.labels, scores.argmax(1).numpy(), scores.shape[1])
            metrics[f"seed_{seed}/dev/accuracy"] = found.value
    run.metrics(metrics, rung.evaluation)
    curves = {seed: _curve(state) for seed, state in rung.states.items()}
    run.figure(learning_curves(curves, dev.majority_rate), "figures/learning_curves.png")


def _curve(state: Mapping[str, object]) -> Curve:
    history: Mapping[str, list] = state["history"]  # type: ignore[assignment, type-arg]
    dev = [(p["step"], p["accuracy"], p["low"], p["high"]) for p in history["dev"]]
    return Curve([tuple(point) for point in history["train"]], dev, int(best(state)["step"]))


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
