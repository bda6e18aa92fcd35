"""What a finished search says: the table of trials, the comparison on test, the finding in words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from optuna.trial import FrozenTrial, TrialState
from rich.table import Table

from skillneurons.data.splits import Split
from skillneurons.findings import Claim, Finding, Unit, p_text, several
from skillneurons.search.figures import Tried
from skillneurons.search.ledger import Ledger, origin
from skillneurons.search.space import Params
from skillneurons.search.study import REASON, TRIAL_RUN
from skillneurons.stats.intervals import SIGNIFICANT, Accuracy, Estimate, holm, mean_interval
from skillneurons.stats.mcnemar import McNemar


@dataclass(frozen=True)
class FinalSeed:
    """One final seed: the winner and the first trial's settings on the same rows of test."""

    seed: int
    winner_run: str
    first_run: str
    winner: Accuracy
    first: Accuracy
    test: McNemar


@dataclass(frozen=True)
class Verdict:
    """The whole outcome. No pairs: the winner has the first trial's settings, and there is nothing to compare.

    Attributes:
        winner, first: trials, the latter None where it was given up.
        seeds: the final seeds.
        winner_test: accuracy of the winner on test, one a final seed.
        dev_n, dev_majority: rows of dev and their majority rate.
        adjusted: Holm's p-values over the final seeds.
    """

    title: str
    complete: int
    pruned: int
    winner: Tried
    first: Tried | None
    seeds: Sequence[int]
    winner_test: Sequence[Accuracy]
    dev_n: int
    dev_majority: float
    pairs: Sequence[FinalSeed]
    adjusted: Sequence[float]

    @classmethod
    def of(
        cls,
        title: str,
        ledger: Ledger,
        winner_test: Mapping[int, Accuracy],
        dev: tuple[int, float],
        pairs: Sequence[FinalSeed],
    ) -> "Verdict":
        """Put the outcome together, p-values corrected over seeds."""
        tried, best = tries(ledger), ledger.winner
        assert best is not None
        complete = sum(one.complete for one in tried)
        winner = next(one for one in tried if one.number == origin(best))
        first = next((one for one in tried if one.number == 0), None)
        adjusted = holm([pair.test.p_value for pair in pairs]).tolist() if pairs else []
        seeds, test = list(winner_test), list(winner_test.values())
        return cls(title, complete, len(tried) - complete, winner, first, seeds, test, *dev, pairs, adjusted)

    @property
    def better(self) -> int:
        """Final seeds for which the winner is significantly better on test."""
        return self._significant(1)

    @property
    def worse(self) -> int:
        """Final seeds for which it is significantly worse."""
        return self._significant(-1)

    @property
    def metrics(self) -> dict[str, float]:
        """Of the study's run; intervals are over seeds where there are several."""
        first, values = self.winner_test[0], [one.value for one in self.winner_test]
        test = mean_interval(values, within=(0, 1)) if len(values) > 1 else first
        metrics = {
            "trials/complete": float(self.complete),
            "trials/pruned": float(self.pruned),
            "dev/best_accuracy": self.winner.value,
            "dev/majority": self.dev_majority,
            "dev/n": float(self.dev_n),
            **test.ends("test/accuracy"),
            "test/majority": first.majority,
            "test/n": float(first.n),
        }
        if self.pairs:
            metrics |= {
                "test/first/accuracy": float(np.mean([pair.first.value for pair in self.pairs])),
                **self._difference().ends("test/difference"),
                "test/seeds_better": float(self.better),
                "test/seeds_worse": float(self.worse),
            }
        return metrics

    def table(self) -> pd.DataFrame:
        """One row a final seed: both accuracies with intervals, and the paired test."""
        return pd.DataFrame([self._row(index, pair) for index, pair in enumerate(self.pairs)])

    def rich_table(self) -> Table:
        """For the terminal."""
        n, majority = self.winner_test[0].n, self.winner_test[0].majority
        table = Table(title=f"{self.title}: accuracy on test (n={n}, majority rate {majority:.1%})")
        for column in ("seed", f"winner (trial {self.winner.number})", "first trial", "difference", "p (Holm)"):
            table.add_column(column)
        for seed, alone in zip(self.seeds, self.winner_test, strict=True) if not self.pairs else ():
            table.add_row(str(seed), alone.text.replace(" [", " \\["), "the same settings", "–", "–")
        for pair, p in zip(self.pairs, self.adjusted, strict=True):
            cells = [pair.winner.text, pair.first.text, f"{pair.test.difference:+.1%}", f"{p:.2g}"]
            table.add_row(str(pair.seed), *(cell.replace(" [", " \\[") for cell in cells))
        return table

    def finding(self) -> Finding:
        """What was found, also where nothing was."""
        return Finding(f"{self.title}: {self.verdict()}", [*self._on_test(), *self._on_dev()])

    def verdict(self) -> str:
        """In one sentence."""
        if not self.pairs:
            return "the search found nothing better on dev than the first trial's settings."
        seeds = len(self.pairs)
        if self.better and self.worse:
            return f"on test the seeds disagree: better for {self.better} of {seeds}, worse for {self.worse}."
        if self.better or self.worse:
            word, count = ("better", self.better) if self.better else ("worse", self.worse)
            return f"on test the searched settings are {word} than the first trial's, for {count} of {seeds} seeds."
        return "on test no difference to the first trial's settings is shown."

    def _on_test(self) -> Iterator[Claim]:
        """The winner, tuned anew and looked at once."""
        test, values = self.winner_test[0], [one.value for one in self.winner_test]
        mean = mean_interval(values, within=(0, 1)) if len(values) > 1 else test
        text = f"trial {self.winner.number} tuned anew for {several(len(values), 'seed')}: accuracy on test"
        above = all(one.above_majority for one in self.winner_test)
        figure, n = Estimate(mean.value, mean.low, mean.high, test.majority), f"{test.n:,} rows"
        spread = "95% interval over seeds" if len(values) > 1 else ""
        if self.pairs:
            first = np.mean([pair.first.value for pair in self.pairs])
            word = "better" if self.better and not self.worse else "worse" if self.worse and not self.better else ""
            word = word or ("seeds disagree" if self.better else "no difference shown")
            how = f"exact McNemar, Holm over seeds: better for {self.better} of {len(self.pairs)}, smallest"
            how = f"{how} {p_text(min(self.adjusted))}"
            gap = replace(self._difference(), chance=None)
            against = f"than the first trial's settings on test, {first:.1%}:"
            holds = True if word == "better" else False if word == "worse" else None
            yield Claim(word, against, gap, Unit.POINTS, n=n, test=how, holds=holds)
        word = "above chance" if above else "not above chance for every seed"
        yield Claim(word, text, figure, chance="majority rate", n=n, test=spread, holds=above or None)

    def _on_dev(self) -> Iterator[Claim]:
        """What was tried."""
        figure = replace(self.winner.dev, chance=self.dev_majority)
        text = f"trial {self.winner.number} ({described(self.winner.params)}); selected there, so flattered: accuracy"
        yield Claim("best on dev", text, figure, chance="majority rate", n=f"{self.dev_n:,} rows")
        if self.first is not None and self.first is not self.winner:
            how = "tuned to the end" if self.first.complete else "pruned"
            text = f"({described(self.first.params)}), {how}: accuracy on dev"
            yield Claim("first trial", text, self.first.dev, chance="majority rate")
        tried = several(self.complete + self.pruned, "configuration")
        yield Claim("tried", f"{tried}, {self.complete} tuned to the end, {self.pruned} pruned")

    def _difference(self) -> Estimate:
        """Mean over seeds with Student's interval; for one seed its own paired interval."""
        if len(self.pairs) == 1:
            return self.pairs[0].test.gap
        return mean_interval([pair.test.difference for pair in self.pairs], within=(-1, 1))

    def _significant(self, sign: int) -> int:
        return sum(
            p < SIGNIFICANT and pair.test.difference * sign > 0
            for pair, p in zip(self.pairs, self.adjusted, strict=True)
        )

    def _row(self, index: int, pair: FinalSeed) -> dict[str, object]:
        row: dict[str, object] = {"seed": pair.seed}
        row |= pair.winner.ends("winner_accuracy", "winner") | pair.first.ends("first_accuracy", "first")
        test = pair.test
        return row | {
            "n": test.n,
            "majority": pair.winner.majority,
            **test.gap.columns("difference"),
            "rows_only_winner": test.only_a,
            "rows_only_first": test.only_b,
            "mcnemar_p": test.p_value,
            "holm_p": self.adjusted[index],
            "winner_run": pair.winner_run,
            "first_run": pair.first_run,
        }


def tries(ledger: Ledger) -> list[Tried]:
    """The counted configurations that were evaluated at least once, for the figures."""
    return [_tried(trial) for trial in ledger.counted if "value" in trial.user_attrs]


def trials_table(ledger: Ledger, dev: Split) -> pd.DataFrame:
    """One row a configuration: its state, settings, dev accuracy with n, interval and chance, how far it came."""
    facts = {"n": len(dev), "majority": dev.majority_rate}
    return pd.DataFrame([{**_trial_row(trial), **facts} for trial in ledger.counted])


def described(params: Params) -> str:
    """`learning_rate=0.0031, init=normal`."""
    return ", ".join(f"{k}={v:.2g}" if isinstance(v, float) else f"{k}={v}" for k, v in params.items())


def _tried(trial: FrozenTrial) -> Tried:
    facts, complete = trial.user_attrs, trial.state == TrialState.COMPLETE
    return Tried(origin(trial), trial.params, Estimate(facts["value"], facts["low"], facts["high"]), complete)


def _trial_row(trial: FrozenTrial) -> dict[str, object]:
    facts, nan = trial.user_attrs, float("nan")
    return {
        "trial": origin(trial),
        "state": trial.state.name.lower(),
        **trial.params,
        "dev_accuracy": facts.get("value", nan),
        "dev_low": facts.get("low", nan),
        "dev_high": facts.get("high", nan),
        "evaluations": max(trial.intermediate_values, default=0),
        "seconds": facts.get("seconds", nan),
        "reason": facts.get(REASON, ""),
        "run": facts.get(TRIAL_RUN, ""),
    }
