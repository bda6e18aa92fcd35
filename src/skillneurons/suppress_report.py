"""What a finished suppression says: rows, table, metrics, curves, the finding.

Shapes: M sets (none, then at each rate skill and controls), S seeds, n rows, K random sets.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.table import Table

from skillneurons.contrast import Share, contrast
from skillneurons.effect import Effect, finding, percent
from skillneurons.figures import Dose, DosePanel
from skillneurons.paired import clustered_share
from skillneurons.resampling import Clusters
from skillneurons.statistics import holm
from skillneurons.suppression import Sets

INTACT, SKILL = "none", "skill"


@dataclass(frozen=True)
class Measured:
    """The predictions of one task's prompts under all sets.

    Attributes:
        task: name.
        own: whether it is the prompts' own task, or another one that stands beside it.
        labels: `[n]`.
        label_names: of the classes.
        hashes: row hashes.
        prompts: their fingerprints.
        predictions: `[S, M, n]`.
        clusters: rows made from one original; else each by itself.
    """

    task: str
    own: bool
    labels: NDArray[np.int64]
    label_names: Sequence[str]
    hashes: Sequence[str]
    prompts: Sequence[str]
    predictions: NDArray[np.int64]
    clusters: Clusters | None = None

    @property
    def correct(self) -> NDArray[np.bool_]:
        """`[S, M, n]`."""
        return np.asarray(self.predictions == self.labels)

    @property
    def majority(self) -> float:
        """Share of the commonest label."""
        return float(np.bincount(self.labels).max() / len(self.labels))

    def rows(self, sets: Sequence[Sets]) -> pd.DataFrame:
        """One line a prompt, set and row: enough to compute every number again."""
        names = list(_names(sets))
        prompt, chosen, row = (index.ravel() for index in np.indices(self.predictions.shape))
        labels = np.array(self.label_names)
        return pd.DataFrame(
            {
                "task": self.task,
                "prompt": np.array(self.prompts)[prompt],
                "rate": np.array([rate for rate, _ in names])[chosen],
                "suppressed": np.array([name for _, name in names])[chosen],
                "row_hash": np.array(self.hashes)[row],
                "label": labels[self.labels[row]],
                "prediction": labels[self.predictions.ravel()],
                "correct": self.correct.ravel(),
            }
        )

    def effects(self, sets: Sequence[Sets], seed: int) -> list[Effect]:
        """At each rate, corrected over the rates by Holm's method."""
        effects = list(self._effects(sets, seed))
        tested = [(effect, a) for effect in effects if (a := effect.against)]
        first = holm([a.p_value for _, a in tested])
        # one random set alone has no spread, and so no second p
        second = holm([a.another_set_p for _, a in tested]) if all(a.sets > 1 for _, a in tested) else first * np.nan
        held = {e.rate: (float(p), float(q)) for (e, _), p, q in zip(tested, first, second, strict=True)}
        nothing = (float("nan"), float("nan"))
        pairs = [(effect, *held.get(effect.rate, nothing)) for effect in effects]
        return [replace(effect, holm_p=p, holm_another_p=q) for effect, p, q in pairs]

    def _effects(self, sets: Sequence[Sets], seed: int) -> Iterator[Effect]:
        correct, place = self.correct, 1
        facts = (self.task, self.own, len(self.labels), self.majority, len(self.prompts))
        rows = self.clusters or Clusters.single(len(self.labels))
        intact = clustered_share(correct[:, 0], rows)
        for one in sets:
            skill, count = correct[:, place], 0 if one.controls is None else len(one.controls)
            controls = correct[:, place + 1 : place + 1 + count].swapaxes(0, 1)
            against = contrast(skill, controls, seed, clusters=rows) if count else None
            yield Effect(*facts, one.rate, one.size, intact, clustered_share(skill, rows), against)
            place += 1 + count


@dataclass(frozen=True)
class Report:
    """The outcome of one suppress command.

    Attributes:
        title: task and backbone.
        how: the change in words.
        keep: whether all but the top neurons were suppressed.
        effects: every task at every rate, the own task first, rates rising.
    """

    title: str
    how: str
    keep: bool
    effects: Sequence[Effect]

    @property
    def metrics(self) -> dict[str, float]:
        """Of the own task under `test`, of others under `other/<task>`."""
        found: dict[str, float] = {}
        for e in self.effects:
            where, rate = "test" if e.own else f"other/{e.task}", f"{e.rate:g}"
            found |= {f"{where}/majority": e.majority, f"{where}/n": float(e.n)}
            found |= _metrics(f"{where}/accuracy", e.intact)
            found |= _metrics(f"{where}/skill/{rate}/accuracy", e.skill)
            if a := e.against:
                mean, low, high = a.control
                found |= _metrics(f"{where}/random/{rate}/accuracy", Share(mean, low, high, a.lowest, a.highest))
                difference = Share(a.difference, a.low, a.high, a.low, a.high)
                found |= _metrics(f"{where}/difference/{rate}", difference)
        return found

    def table(self) -> pd.DataFrame:
        """One row a task and rate; every accuracy with n, interval and majority rate."""
        return pd.DataFrame([effect.row() for effect in self.effects])

    def rich_table(self) -> Table:
        """For the terminal; a section a task."""
        table = Table(title=self.title, caption=self.how)
        verb = "kept" if self.keep else "to 0" if "set to 0" in self.how else "changed"
        names = (f"skill {verb}", f"random {verb}", "difference", "Holm p", "p, one\nmore set", "rank p")
        for column in ("rate\nneurons", *names):
            table.add_column(column)
        for task in dict.fromkeys(effect.task for effect in self.effects):
            chosen = [effect for effect in self.effects if effect.task == task]
            first = chosen[0]
            table.add_row(f"{task}\nn={first.n}", percent(first.intact).replace(" [", "\n\\["), "untouched")
            for effect in chosen:
                table.add_row(*_cells(effect))
            table.add_section()
        return table

    def panels(self) -> list[DosePanel]:
        """For the figure, one a task."""
        tasks = dict.fromkeys(effect.task for effect in self.effects)
        return [panel([effect for effect in self.effects if effect.task == task]) for task in tasks]

    def finding(self) -> str:
        """What was found, in words, chance included."""
        return finding(self.title, self.how, self.keep, self.effects)


def _names(sets: Sequence[Sets]) -> Iterator[tuple[float, str]]:
    """(rate, what is suppressed) of each of the M sets; the untouched model has no rate."""
    yield float("nan"), INTACT
    for one in sets:
        yield one.rate, SKILL
        for k in range(0 if one.controls is None else len(one.controls)):
            yield one.rate, f"random {k}"


def _metrics(name: str, value: Share) -> dict[str, float]:
    return {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}


def _cells(e: Effect) -> tuple[str, ...]:
    first = (f"{e.rate:g}%\n{e.neurons}", percent(e.skill).replace(" [", "\n\\["))
    if e.against is None:
        return (*first, "none to draw", "", "", "", "")
    a = e.against
    random = f"{a.control.mean:.1%}\n{a.lowest:.1%} to {a.highest:.1%}"
    difference = f"{100 * a.difference:+.1f}\n\\[{100 * a.low:+.1f}, {100 * a.high:+.1f}]"
    tests = (f"{e.holm_p:.2g}", f"{e.holm_another_p:.2g}", f"{a.rank_p:.2g}\nfloor {a.rank_floor:.2g}")
    return (*first, random, difference, *tests)


def panel(effects: Sequence[Effect]) -> DosePanel:
    """One task's curve."""
    doses = []
    for e in effects:
        random = (e.against.control.mean, e.against.lowest, e.against.highest) if e.against else None
        doses.append(Dose(e.rate, (e.skill.value, e.skill.low, e.skill.high), random))
    return DosePanel(f"{effects[0].task}, test n={effects[0].n}", doses, effects[0].majority)
