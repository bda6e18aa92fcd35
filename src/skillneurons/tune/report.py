"""What a finished tuning says: tables, the finding in words, the model card of a run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.table import Table

from skillneurons.commands.signatures import Signature
from skillneurons.findings import Claim, Finding, Unit, p_text, several
from skillneurons.plots.style import Bar, Curve
from skillneurons.stats.intervals import Accuracy, Estimate, holm, mean_interval, passes, wilson
from skillneurons.stats.mcnemar import McNemar, cochran

BASELINES = ("no prompt", "no prompt, calibrated", "random prompt")


@dataclass(frozen=True)
class SeedResult:
    """One seed's outcome, as it stands in its run's `result.json`.

    Attributes:
        dev, test: accuracies of the selected prompt; dev is what it was selected on, so it flatters.
        baselines: the accuracy on test without a tuned prompt, by condition.
        against: exact McNemar of the tuned prompt against each condition, on test.
        right: which test rows are right, as packed bits in hexadecimal; empty in results of before.
    """

    seed: int
    run_id: str
    dev: Accuracy
    test: Accuracy
    baselines: Mapping[str, Accuracy]
    against: Mapping[str, McNemar]
    best_step: int
    steps: int
    seconds: float
    train_curve: Sequence[tuple[int, float]]
    dev_curve: Sequence[tuple[int, float, float, float]]
    version: str = ""
    right: str = ""

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Of the test rows `[n]`."""
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(self.right), dtype=np.uint8))
        return bits[: self.test.n].astype(np.bool_)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "SeedResult":
        """The inverse of `to_dict`."""
        return cls(
            **{
                **plain,
                "dev": Accuracy(**plain["dev"]),
                "test": Accuracy(**plain["test"]),
                "baselines": {name: Accuracy(**value) for name, value in plain["baselines"].items()},
                "against": {name: McNemar(**value) for name, value in plain["against"].items()},
            }
        )

    @property
    def curve(self) -> Curve:
        """For the figure of learning curves."""
        dev = [(step, Estimate(value, low, high)) for step, value, low, high in self.dev_curve]
        return Curve([(step, loss) for step, loss in self.train_curve], dev, self.best_step)


@dataclass(frozen=True)
class Summary:
    """The seeds of one tune command together; `adjusted` are Holm's p-values over seeds, by condition."""

    title: str
    results: Sequence[SeedResult]
    adjusted: Mapping[str, Sequence[float]]

    @classmethod
    def of(cls, title: str, results: Sequence[SeedResult]) -> "Summary":
        """Summarise, correcting each comparison over the seeds by Holm's method."""
        adjusted = {name: holm([r.against[name].p_value for r in results]).tolist() for name in BASELINES}
        return cls(title, results, adjusted)

    @cached_property
    def seeds_differ(self) -> float | None:
        """P of all seeds being right equally often on the same rows (Cochran's Q); None where it is not known."""
        if len(self.results) < 2 or not all(result.right for result in self.results):
            return None
        return cochran(np.stack([result.correct for result in self.results]))

    @property
    def signatures(self) -> list[Signature]:
        """Signs of failure: one class for every row, or seeds that differ by more than the rows explain."""
        found = [Signature.COLLAPSE] if any(result.test.collapsed for result in self.results) else []
        differ = self.seeds_differ is not None and passes(self.seeds_differ)
        return [*found, Signature.SEEDS] if differ else found

    @property
    def metrics(self) -> dict[str, float]:
        """Mean over seeds with Student's interval, standard deviation and range; those of one seed alone."""
        test = [result.test.value for result in self.results]
        first = self.results[0].test
        metrics = {
            **(mean_interval(test, within=(0, 1)) if len(test) > 1 else first).ends("test/accuracy"),
            "test/majority": first.majority,
            "test/n": float(first.n),
            "test/accuracy_min": min(test),
            "test/accuracy_max": max(test),
            "dev/accuracy": float(np.mean([result.dev.value for result in self.results])),
            "dev/majority": self.results[0].dev.majority,
        }
        if len(test) > 1:
            metrics["test/accuracy_sd"] = float(np.std(test, ddof=1))
        for name in BASELINES:
            metrics[f"test/{slug(name)}/accuracy"] = float(
                np.mean([result.baselines[name].value for result in self.results])
            )
        return metrics

    def table(self) -> pd.DataFrame:
        """One row a seed and condition: accuracy, interval, n, majority rate, test against the tuned one."""
        rows = []
        for index, result in enumerate(self.results):
            rows.append(_row(result.seed, "tuned prompt", result.test))
            for name in BASELINES:
                test = result.against[name]
                extra = {
                    **test.gap.columns("difference"),
                    "rows_only_tuned": test.only_a,
                    "rows_only_other": test.only_b,
                    "mcnemar_p": test.p_value,
                    "holm_p": self.adjusted[name][index],
                }
                rows.append({**_row(result.seed, name, result.baselines[name]), **extra})
        return pd.DataFrame(rows)

    def rich_table(self) -> Table:
        """For the terminal: one row a seed, each accuracy with its interval."""
        first = self.results[0].test
        table = Table(title=f"{self.title}: accuracy on test (n={first.n}, majority rate {first.majority:.1%})")
        for column in ("seed", "tuned prompt", *BASELINES, "p against calibrated"):
            table.add_column(column)
        for index, result in enumerate(self.results):
            cells = [result.test.lines, *(result.baselines[name].lines for name in BASELINES)]
            p = f"{self.adjusted[BASELINES[1]][index]:.2g}"
            table.add_row(str(result.seed), *cells, p)
        return table

    def bars(self) -> list[Bar]:
        """For the figure of accuracies."""
        return [
            Bar(result.seed, name, value)
            for result in self.results
            for name, value in {"tuned prompt": result.test, **result.baselines}.items()
        ]

    def finding(self) -> Finding:
        """What was found, chance included."""
        against = [self._against(name) for name in BASELINES]
        return Finding(self._headline(against), [self._right(), *self._signs(), *against])

    def _headline(self, against: Sequence[Claim]) -> str:
        better = [name for name, claim in zip(BASELINES, against, strict=True) if claim.holds]
        who = "the tuned prompt is" if len(self.results) == 1 else "tuned prompts are"
        if len(better) == len(BASELINES):
            return f"{self.title}: {who} better than no prompt, calibrated or not, and than a random prompt."
        if better:
            left = " nor ".join(name for name in BASELINES if name not in better)
            return f"{self.title}: {who} better than {' and '.join(better)}, not shown to be better than {left}."
        return f"{self.title}: {who} not shown to be better than no prompt or a random one."

    def _right(self) -> Claim:
        """Accuracy on test beside the majority rate."""
        first, test = self.results[0].test, [result.test for result in self.results]
        above, seeds = sum(one.above_majority for one in test), len(test)
        verdict = (
            "above chance" if above == seeds else f"above chance for {above} of {seeds}" if above else "at chance"
        )
        claim = Claim(
            verdict,
            "accuracy on test",
            chance="majority rate",
            n=f"{first.n:,} rows",
            holds=above == seeds or None,
            name="accuracy",
        )
        if seeds == 1:
            return replace(claim, figure=Estimate(first.value, first.low, first.high, first.majority))
        mean = mean_interval([one.value for one in test], within=(0, 1))
        # seeds that score alike say nothing of other rows
        rows = wilson(mean.value * first.n, first.n)
        spread = f"95% interval over {seeds} seeds; over rows [{rows.low:.1%}, {rows.high:.1%}]"
        return replace(claim, figure=replace(mean, chance=first.majority), test=spread)

    def _against(self, name: str) -> Claim:
        """The tuned prompt beside one that is none, over seeds."""
        p_values, gaps = self.adjusted[name], [result.against[name].gap for result in self.results]
        signs = [(gap.value > 0) - (gap.value < 0) if passes(p) else 0 for p, gap in zip(p_values, gaps, strict=True)]
        better, worse, seeds = signs.count(1), signs.count(-1), len(signs)
        words = [f"{word} for {count} of {seeds}" for word, count in (("better", better), ("worse", worse)) if count]
        whole = "better" if better == seeds else "worse" if worse == seeds else " and ".join(words)
        value = np.mean([result.baselines[name].value for result in self.results])
        gap = gaps[0] if seeds == 1 else mean_interval([one.value for one in gaps], within=(-1, 1))
        corrected = f"exact McNemar, {p_text(max(p_values))}"
        test = corrected if seeds == 1 else f"{corrected} at most, Holm over {several(seeds, 'seed')}"
        text = f"than {_named(name)}, {value:.1%}:"
        holds = True if better == seeds else False if worse == seeds else None
        return Claim(
            whole or "not shown better", text, replace(gap, chance=None), Unit.POINTS, test=test, holds=holds
        )

    def _signs(self) -> Iterator[Claim]:
        if Signature.SEEDS in self.signatures:
            assert self.seeds_differ is not None
            test = f"Cochran's Q, {p_text(self.seeds_differ)}"
            yield Claim(str(Signature.SEEDS), "seeds differ by more than rows explain", test=test, holds=True)
        if seeds := [str(result.seed) for result in self.results if result.test.collapsed]:
            yield Claim("warning", f"every prediction is one class for seed {', '.join(seeds)}", holds=True)


def _named(condition: str) -> str:
    return {"no prompt, calibrated": "no prompt with calibrated scores", "random prompt": "a random prompt"}.get(
        condition, condition
    )


def slug(condition: str) -> str:
    """A condition as part of a metric's name."""
    return condition.replace(",", "").replace(" ", "_")


def _row(seed: int, condition: str, value: Accuracy) -> dict[str, Any]:
    ends = {"accuracy": value.value, "low": value.low, "high": value.high}
    return {"seed": seed, "condition": condition, **ends, "n": value.n, "majority": value.majority}
