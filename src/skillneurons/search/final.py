"""The end of a search: the winner tuned anew, judged on test beside the first trial's settings, and recorded."""

import tempfile
from html import escape
from pathlib import Path

import pandas as pd
from optuna.trial import TrialState
from rich.console import Console

from skillneurons.data.splits import Split
from skillneurons.search.figures import rates, standard
from skillneurons.search.ledger import Ledger
from skillneurons.search.plan import SearchPlan
from skillneurons.search.report import FinalSeed, Verdict, trials_table, tries
from skillneurons.search.space import RATE
from skillneurons.search.study import TRIAL_RUN, SharedStudy
from skillneurons.stats.mcnemar import mcnemar_exact
from skillneurons.tracking.registry import registered_name, set_champion
from skillneurons.tracking.runs import CHILDREN, Run, Tracking
from skillneurons.tune.command import COMMAND as TUNE
from skillneurons.tune.report import SeedResult, Summary

INTERACTIVE = "figures/interactive.html"


class NoWinnerError(ArithmeticError):
    """Not one configuration could be tuned to the end."""


def judge_study(plan: SearchPlan, study: SharedStudy, tracking: Tracking, run: Run, console: Console) -> Verdict:
    """Judge a study whose trials are done; what it has to say is put into its run.

    Raises:
        NoWinnerError: every configuration was pruned or diverged.
    """
    ledger = study.ledger(plan.config.trials)
    _close_runs(ledger, tracking)
    _record_trials(plan, ledger, run)
    best = ledger.winner
    if best is None:
        raise NoWinnerError("no configuration could be tuned to the end; see the trials' reasons in trials.json")
    won = TUNE.execute(plan.tune_plan(best.params, plan.config.final_seeds), tracking, console, run).report
    pairs = _pairs(plan, ledger, won, tracking, run, console)
    dev = plan.first.splits["dev"]
    test = {result.seed: result.test for result in won.results}
    verdict = Verdict.of(plan.title, ledger, test, (len(dev), dev.majority_rate), pairs)
    set_champion(tracking, registered_name(plan.first.task.name, plan.first.info.name))
    run.metrics(verdict.metrics)
    if pairs:
        run.table(verdict.table(), "comparison.json")
    run.tags({CHILDREN: ",".join(result.run_id for result in won.results)})
    run.finding(verdict.finding(), _best_trials(ledger, dev))
    return verdict


def _pairs(
    plan: SearchPlan, ledger: Ledger, won: Summary, tracking: Tracking, run: Run, console: Console
) -> list[FinalSeed]:
    """The winner and the first trial's settings, seed by seed; none where they are the same."""
    first = plan.tune_plan(plan.space.first, plan.config.final_seeds)
    best = ledger.winner
    assert best is not None
    if plan.tune_plan(best.params, plan.config.final_seeds).address == first.address:
        return []
    reference = TUNE.execute(first, tracking, console, run).report
    both = zip(won.results, reference.results, strict=True)
    return [_pair(winner, other, tracking) for winner, other in both]


def _pair(winner: SeedResult, first: SeedResult, tracking: Tracking) -> FinalSeed:
    ours, theirs = _right(winner.run_id, tracking), _right(first.run_id, tracking)
    assert list(ours.index) == list(theirs.index), "two tunings of one study are judged on the same rows"
    test = mcnemar_exact(ours.to_numpy(), theirs.to_numpy())
    return FinalSeed(winner.seed, winner.run_id, first.run_id, winner.test, first.test, test)


def _right(run_id: str, tracking: Tracking) -> pd.Series:
    """Whether each row of test is answered right, by row hash, from what the run has logged."""
    with tempfile.TemporaryDirectory() as scratch:
        tracking.download(run_id, "predictions", Path(scratch) / "predictions")
        frame = pd.read_parquet(Path(scratch) / "predictions" / "test.parquet")
    return pd.Series((frame["label"] == frame["prediction"]).to_numpy(), index=frame["row_hash"])


def _close_runs(ledger: Ledger, tracking: Tracking) -> None:
    # a worker may die after it told the outcome and before it ended its run
    for trial in ledger.counted:
        if run_id := trial.user_attrs.get(TRIAL_RUN):
            tracking.close(run_id, "FINISHED" if trial.state == TrialState.COMPLETE else "KILLED")


def _record_trials(plan: SearchPlan, ledger: Ledger, run: Run) -> None:
    tried, dev = tries(ledger), plan.first.splits["dev"]
    run.table(trials_table(ledger, dev), "trials.json")
    if not tried:
        return
    if RATE in plan.space.parameters:
        title = f"{plan.title}: learning rate and accuracy on dev (n={len(dev)})"
        run.figure(rates(tried, dev.majority_rate, title), "figures/learning_rate.png")
    pages: list[str] = []
    for name, figure, page in standard(ledger.counted, dev.majority_rate):
        run.figure(figure, f"figures/{name}.png")
        # the library of all pages, once
        pages.append(page.to_html(full_html=False, include_plotlyjs=not pages))
    head = f"<!doctype html><meta charset=utf-8><title>{escape(plan.title)}</title>"
    run.text("\n".join([head, *pages]), INTERACTIVE)


def _best_trials(ledger: Ledger, dev: Split) -> str:
    table = trials_table(ledger, dev).sort_values("dev_accuracy", ascending=False).head(5)
    lines = ["| trial | state | dev accuracy | 95% interval |", "|---|---|---|---|"]
    for _, row in table.iterrows():
        interval = f"[{row['dev_low']:.1%}, {row['dev_high']:.1%}]"
        lines.append(f"| {row['trial']} | {row['state']} | {row['dev_accuracy']:.1%} | {interval} |")
    return "\n".join(lines)
