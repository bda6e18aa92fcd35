"""The end of a search: the winner tuned anew, judged on test beside the first trial's settings, and recorded."""

import contextlib
import tempfile
import warnings
from pathlib import Path

import optuna
import pandas as pd
from matplotlib.figure import Figure
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState
from rich.console import Console

from skillneurons import search_figures
from skillneurons.data import Split
from skillneurons.mcnemar import mcnemar_exact
from skillneurons.registry import crown, registered_name
from skillneurons.search_ledger import Ledger
from skillneurons.search_plan import SearchPlan
from skillneurons.search_report import Pair, Verdict, trials_table, tries
from skillneurons.search_space import RATE
from skillneurons.search_study import TRIAL_RUN, SharedStudy
from skillneurons.stage_tune import Outcome, execute
from skillneurons.tracking import CHILDREN, Run, Tracking
from skillneurons.tune_report import SeedResult

FEW = 4  # fewer complete trials say nothing about importance


class NoWinnerError(ArithmeticError):
    """Not one configuration could be tuned to the end."""


def settle(plan: SearchPlan, study: SharedStudy, tracking: Tracking, run: Run, console: Console) -> Verdict:
    """Judge a study whose trials are done; what it has to say is put into its run.

    Raises:
        NoWinnerError: every configuration was pruned or diverged.
    """
    ledger = study.ledger(plan.config.trials)
    _close_runs(ledger, tracking)
    _record_trials(plan, study, ledger, run)
    best = ledger.winner
    if best is None:
        raise NoWinnerError("no configuration could be tuned to the end; see the trials' reasons in trials.json")
    won = execute(plan.tune_plan(best.params, plan.config.final_seeds), tracking, console, run)
    pairs = _pairs(plan, ledger, won, tracking, run, console)
    dev = plan.first.splits["dev"]
    test = {result.seed: result.test for result in won.summary.results}
    verdict = Verdict.of(plan.title, ledger, test, (len(dev), dev.majority_rate), pairs)
    crown(tracking, registered_name(plan.first.task.name, plan.first.info.name))
    run.metrics(verdict.metrics)
    if pairs:
        run.table(verdict.table(), "comparison.json")
    run.tags({CHILDREN: ",".join(result.run_id for result in won.summary.results)})
    run.note(_note(verdict, ledger, dev))
    return verdict


def _pairs(
    plan: SearchPlan, ledger: Ledger, won: Outcome, tracking: Tracking, run: Run, console: Console
) -> list[Pair]:
    """The winner and the first trial's settings, seed by seed; none where they are the same."""
    first = plan.tune_plan(plan.space.first, plan.config.final_seeds)
    best = ledger.winner
    assert best is not None
    if plan.tune_plan(best.params, plan.config.final_seeds).address == first.address:
        return []
    reference = execute(first, tracking, console, run)
    both = zip(won.summary.results, reference.summary.results, strict=True)
    return [_pair(winner, other, tracking) for winner, other in both]


def _pair(winner: SeedResult, first: SeedResult, tracking: Tracking) -> Pair:
    ours, theirs = _right(winner.run_id, tracking), _right(first.run_id, tracking)
    assert list(ours.index) == list(theirs.index), "two tunings of one study are judged on the same rows"
    test = mcnemar_exact(ours.to_numpy(), theirs.to_numpy())
    return Pair(winner.seed, winner.run_id, first.run_id, winner.test, first.test, test)


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


def _record_trials(plan: SearchPlan, study: SharedStudy, ledger: Ledger, run: Run) -> None:
    tried, dev = tries(ledger), plan.first.splits["dev"]
    run.table(trials_table(ledger, dev), "trials.json")
    if not tried:
        return
    figures: dict[str, Figure | None] = {
        "history": search_figures.history(tried, dev.majority_rate),
        "slices": search_figures.slices(tried, dev.majority_rate),
        "parallel_coordinates": search_figures.parallel(tried),
        "importance": _importance(study.study, ledger),
    }
    if RATE in plan.space.parameters:
        title = f"{plan.title}: learning rate and accuracy on dev (n={len(dev)})"
        figures["learning_rate"] = search_figures.rates(tried, dev.majority_rate, title)
    for name, figure in figures.items():
        if figure is not None:
            run.figure(figure, f"figures/{name}.png")


def _importance(study: optuna.Study, ledger: Ledger) -> Figure | None:
    """None where there is too little to tell: few complete trials, or all alike."""
    complete = [trial for trial in ledger.counted if trial.state == TrialState.COMPLETE]
    if len(complete) < FEW or len({trial.value for trial in complete}) == 1:
        return None
    with warnings.catch_warnings(), contextlib.suppress(ValueError, RuntimeError):
        warnings.simplefilter("ignore")  # experimental
        shares = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
        return search_figures.importance(shares, len(complete))
    return None


def _note(verdict: Verdict, ledger: Ledger, dev: Split) -> str:
    table = trials_table(ledger, dev).sort_values("dev_accuracy", ascending=False).head(5)
    lines = ["| trial | state | dev accuracy | 95% interval |", "|---|---|---|---|"]
    for _, row in table.iterrows():
        interval = f"[{row['dev_low']:.1%}, {row['dev_high']:.1%}]"
        lines.append(f"| {row['trial']} | {row['state']} | {row['dev_accuracy']:.1%} | {interval} |")
    return f"{verdict.finding()}\n\n" + "\n".join(lines)
