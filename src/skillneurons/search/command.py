"""`search`: settings of `tune` searched with Optuna, by workers that may die, join and leave."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from rich.console import Console

from skillneurons.commands.display import clock
from skillneurons.commands.estimate import Work, estimate
from skillneurons.commands.lifecycle import Connect, EntryPoint, Outcome, Said
from skillneurons.search.config import SearchConfig
from skillneurons.search.final import judge_study
from skillneurons.search.plan import SearchPlan, plan
from skillneurons.search.report import described
from skillneurons.search.study import SharedStudy, masked
from skillneurons.search.worker import PARENT_PID, Worker, command_tags
from skillneurons.storage import alone
from skillneurons.tracking.runs import ADDRESS, SAME_AS, Run, Tracking
from skillneurons.tune.command import COMMAND as TUNE

WATCH_SECONDS = 0.5
DEATHS = 5  # a worker that was killed is started again, so often for each place


class Search(EntryPoint[SearchPlan]):
    """What `search` brings; its work goes on where others left it, and many processes may join."""

    name, config = "search", SearchConfig

    def plan(self, given: Mapping[str, Any], base: Mapping[str, Any] | None, connect: Connect) -> SearchPlan:
        return plan(given, base, connect)

    def dry_run(self, plan: SearchPlan) -> str:
        """What the command would do and what it would cost at most."""
        config, first = plan.config, plan.first
        train = float(first.encode("train", rows=512).lengths.float().mean())
        dev, test = len(first.splits["dev"]), len(first.splits["test"])

        def seconds(seeds: int, test_rows: int) -> float:
            sizes = (first.config.batch_size, first.config.prompt_length, train)
            work = Work(first.info, seeds, first.config.max_steps, *sizes, 1 + plan.evaluations, dev, test_rows)
            return estimate(work, first.config.device_type).seconds

        trials = config.trials * seconds(len(config.seeds), 0)
        final = 2 * seconds(len(config.final_seeds), test)
        return (
            f"{plan.title}: study {plan.study} in {masked(plan.storage)}, {_already(plan)}\n"
            f"would try {config.trials} configurations of {', '.join(plan.space.parameters)}; the first: "
            f"{described(plan.space.first)}\n"
            f"each with {len(config.seeds)} seed(s), {first.config.max_steps} steps, {plan.evaluations} evaluations "
            f"on dev; then the best and the first for final_seeds={','.join(map(str, config.final_seeds))}, on test\n"
            f"at most about {clock(trials / worker_count(plan) + final)} with {worker_count(plan)} worker(s) if none "
            f"is pruned and all are the size of the first (within a factor of two)"
        )

    def carry_out(self, plan: SearchPlan, given: Mapping[str, str], tracking: Tracking, console: Console) -> int:
        study = SharedStudy.join(plan.storage, plan.study, plan.definition(), plan.space, plan.config.heartbeat)
        if PARENT_PID in os.environ:
            Worker(plan, study, tracking, Run(tracking.client, study.run_id or ""), console).work()
            return 0
        run_id = tracking.finished(plan.address)
        if run_id:
            _point(plan, tracking, run_id)
            text = f"This study has finished as run {run_id}; ask for more trials, or name another study."
            console.print(text, highlight=False, soft_wrap=True)
        try:
            run_id = run_id or _lead(plan, given, study, tracking, console)
        except ChildProcessError as error:
            print(f"skillneurons: {error}", file=sys.stderr)
            return 1
        self.announce(plan, Outcome(run_id, False, Said.by(tracking, run_id)), tracking, console)
        return 0


def worker_count(plan: SearchPlan) -> int:
    """The processes asked for; by default one a GPU, or one."""
    gpus = torch.cuda.device_count() if plan.first.config.device_type == "cuda" else 0
    return plan.config.workers or max(1, gpus)


def _already(plan: SearchPlan) -> str:
    return "which goes on if it is there" if plan.config.study else "which goes on if there is one of that name"


def _lead(
    plan: SearchPlan, given: Mapping[str, str], study: SharedStudy, tracking: Tracking, console: Console
) -> str:
    """Have the trials done, by this process or by others, then judge; the run's id."""
    with ExitStack() as stack:
        with alone(f"run-{plan.study}", wait=True):
            older = tracking.reopen(study.run_id)
            if older is not None:
                _point(plan, tracking, older)
            tags = {"skillneurons.stage": "search", "skillneurons.study": plan.study}
            name = f"search {plan.title}"
            run = stack.enter_context(tracking.run(name, tags, adopt=older is None, resume=older))
            study.run_id = run.id
        _describe(plan, run, older is not None)
        _work(plan, given, study, tracking, run, console)
        with alone(f"settle-{plan.study}", wait=True):
            # another command of the same study may have done it while this one waited
            if tracking.tag(run.id, ADDRESS) != plan.address or tracking.lost(run.id):
                verdict = judge_study(plan, study, tracking, run, console)
                run.tags({ADDRESS: plan.address})
                console.print(verdict.rich_table())
    return run.id


def _describe(plan: SearchPlan, run: Run, again: bool) -> None:
    run.params({k: v for k, v in _effective(plan).items() if v is not None})
    if not again:
        run.tags(command_tags(plan, TUNE.accelerator(plan.first)))
        run.inputs(plan.first.splits.values())
        run.yaml(_effective(plan), "config.yaml")
        run.yaml(plan.space.model_dump(mode="json", exclude_none=True), "space.yaml")


def _effective(plan: SearchPlan) -> dict[str, Any]:
    """The whole configuration less the parameters that vary; a password is not told."""
    skip = {"rerun", "dry_run", "config", "storage", *plan.space.parameters}
    tuned = plan.first.config.model_dump(mode="json", exclude=skip)
    own = plan.config.model_dump(mode="json", exclude={*skip, *tuned})
    return {**tuned, **own, "storage": masked(plan.storage), "study": plan.study}


def _work(
    plan: SearchPlan, given: Mapping[str, str], study: SharedStudy, tracking: Tracking, run: Run, console: Console
) -> None:
    if worker_count(plan) == 1:
        Worker(plan, study, tracking, run, console).work()
    else:
        _crew(plan, given, study, console)


def _crew(plan: SearchPlan, given: Mapping[str, str], study: SharedStudy, console: Console) -> None:
    """Keep the workers going until the study is done.

    Raises:
        ChildProcessError: they all ended before it was.
    """
    crew = [_start(plan, given, place) for place in range(worker_count(plan))]
    chances = DEATHS * len(crew)
    try:
        while True:
            codes = [worker.poll() for worker in crew]
            killed = [place for place, code in enumerate(codes) if code is not None and code < 0][:chances]
            if killed and not study.ledger(plan.config.trials).done:
                chances -= len(killed)
                for place in killed:
                    text = (
                        f"worker {crew[place].pid} died (signal {-crew[place].returncode}); another takes its place"
                    )
                    console.print(text, highlight=False)
                    crew[place] = _start(plan, given, place)
            elif None not in codes:
                break
            time.sleep(WATCH_SECONDS)
    finally:
        _dismiss(crew)
    if not study.ledger(plan.config.trials).done:
        raise ChildProcessError("all workers ended before the study was done; the same command goes on with it")


def _start(plan: SearchPlan, given: Mapping[str, str], place: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "skillneurons", "search", *(f"--{key}={value}" for key, value in given.items())]
    environment = {**os.environ, PARENT_PID: str(os.getpid())}
    environment.pop("MLFLOW_RUN_ID", None)
    share = max(1, (os.cpu_count() or 1) // worker_count(plan))
    environment.setdefault("OMP_NUM_THREADS", str(share))
    if plan.first.config.device_type == "cuda":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        gpus = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
        environment["CUDA_VISIBLE_DEVICES"] = gpus[place % len(gpus)]
    # an interrupt of the terminal reaches this command alone, which passes it on once
    return subprocess.Popen(command, env=environment, start_new_session=True)


def _dismiss(crew: list[subprocess.Popen[bytes]]) -> None:
    """End the workers that are left as an interrupt would, so that each gives its trial back."""
    for worker in crew:
        if worker.poll() is None:
            worker.send_signal(signal.SIGINT)
    for worker in crew:
        worker.wait()


def _point(plan: SearchPlan, tracking: Tracking, run_id: str) -> None:
    """The run that `mlflow run` made for this command points to the study's."""
    if os.environ.get("MLFLOW_RUN_ID", run_id) != run_id:
        tags = {SAME_AS: run_id, "skillneurons.stage": "search"}
        with tracking.run(f"search {plan.title} (joined)", tags, adopt=True) as pointer:
            pointer.note(f"The study `{plan.study}` goes on in run `{run_id}`.")


COMMAND = Search()
