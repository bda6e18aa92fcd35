"""What a finished suppression says: rows, table, metrics, curves, the finding.

Shapes: M sets (none, then at each rate skill and controls), S seeds, n rows, K random sets.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.table import Table

from skillneurons.data.splits import Split
from skillneurons.findings import Claim, Finding
from skillneurons.neurons.intervention import Sets
from skillneurons.plots.style import Dose, DosePanel
from skillneurons.stats.cluster_bootstrap import Clusters
from skillneurons.stats.control_sets import contrast, corrected
from skillneurons.stats.paired_accuracy import clustered_share
from skillneurons.stats.skill_test import skill
from skillneurons.suppress.effects import Effect, claims, headline
from skillneurons.suppress.faithfulness import Faithfulness
from skillneurons.suppress.rankings import Rankings

INTACT, SKILL = "none", "skill"


@dataclass(frozen=True)
class SetPredictions:
    """The predictions of one task's prompts under all sets.

    Attributes:
        task: name.
        own: whether it is the prompts' own task, or another one that stands beside it.
        split: the n rows.
        prompts: their fingerprints.
        predictions: `[S, M, n]`.
        sets: what was suppressed at each rate, with the random sets that were read.
        clusters: rows made from one original; else each by itself.
    """

    task: str
    own: bool
    split: Split
    prompts: Sequence[str]
    predictions: NDArray[np.int64]
    sets: Sequence[Sets]
    clusters: Clusters | None = None

    @property
    def correct(self) -> NDArray[np.bool_]:
        """`[S, M, n]`."""
        return np.asarray(self.predictions == self.split.labels)

    def rows(self) -> pd.DataFrame:
        """One line a prompt, set and row: enough to compute every number again."""
        rates, names = zip(*_names(self.sets), strict=True)
        prompts, chosen = {"prompt": self.prompts}, {"rate": rates, "suppressed": names}
        frame = self.split.predictions(self.predictions, prompts, chosen).assign(correct=self.correct.ravel())
        frame.insert(0, "task", self.task)
        return frame

    def effects(self, seed: int, keep: bool = False) -> list[Effect]:
        """At each rate, corrected over the rates by Holm's method; with `keep` the skill neurons alone are left."""
        effects = list(self._effects(seed, keep))
        against = corrected([effect.against for effect in effects])
        return [replace(effect, against=one) for effect, one in zip(effects, against, strict=True)]

    def _effects(self, seed: int, keep: bool) -> Iterator[Effect]:
        correct, place = self.correct, 1
        facts = (self.task, self.own, len(self.split), self.split.majority_rate, len(self.prompts))
        rows = self.clusters or Clusters.single(len(self.split))
        intact = clustered_share(correct[:, 0], rows)
        known = skill(self.predictions[:, 0], self.split.labels, rows, seed)
        for one in self.sets:
            ours, count = correct[:, place], 0 if one.controls is None else len(one.controls)
            controls = correct[:, place + 1 : place + 1 + count].swapaxes(0, 1)
            against = None
            if count:
                against = contrast(ours, controls, seed, clusters=rows, upward=keep, planned=one.planned)
            yield Effect(*facts, one.rate, one.size, intact, known, clustered_share(ours, rows), against)
            place += 1 + count


@dataclass(frozen=True)
class SuppressionReport:
    """The outcome of one suppress command.

    Attributes:
        title: task and backbone.
        how: the change in words; `kind` is the intervention by name.
        keep: whether all but the top neurons were suppressed.
        margin: differences within it, as a fraction, count as none.
        effects: every task at every rate, the own task first, rates rising.
        curve: faithfulness over size, of the own task; None where it was not asked for.
        rankings: by prediction and by effect side by side, with ranking_by=both.
    """

    title: str
    how: str
    kind: str
    keep: bool
    margin: float
    effects: Sequence[Effect]
    curve: Faithfulness | None = None
    rankings: Rankings | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """Of the own task under `test`, of others under `other/<task>`."""
        found: dict[str, float] = self.curve.metrics if self.curve else {}
        for e in self.effects:
            where, rate = "test" if e.own else f"other/{e.task}", f"{e.rate:g}"
            found |= {f"{where}/majority": e.majority, f"{where}/n": float(e.n)}
            found |= e.intact.ends(f"{where}/accuracy") | e.skill.ends(f"{where}/skill/{rate}/accuracy")
            if a := e.against:
                found |= a.control.ends(f"{where}/random/{rate}/accuracy")
                found |= a.difference.ends(f"{where}/difference/{rate}")
        return found

    def table(self) -> pd.DataFrame:
        """One row a task and rate; every accuracy with n, interval and majority rate."""
        return pd.DataFrame([effect.row() for effect in self.effects])

    def rich_table(self) -> Table:
        """For the terminal; a section a task."""
        table = Table(title=self.title, caption=self.how)
        verb = "kept" if self.keep else "to 0" if self.kind == "zero" else "changed"
        names = (f"skill {verb}", f"random {verb}", "difference", "rank p", "Holm p")
        for column in ("rate\nneurons", *names):
            table.add_column(column)
        for task in dict.fromkeys(effect.task for effect in self.effects):
            chosen = [effect for effect in self.effects if effect.task == task]
            first = chosen[0]
            table.add_row(f"{task}\nn={first.n}", first.intact.lines, "untouched")
            for effect in chosen:
                table.add_row(*_cells(effect))
            table.add_section()
        return table

    def panels(self) -> list[DosePanel]:
        """For the figure, one a task."""
        tasks = dict.fromkeys(effect.task for effect in self.effects)
        return [panel([effect for effect in self.effects if effect.task == task]) for task in tasks]

    def finding(self) -> Finding:
        """What was found, chance included."""
        found = claims(self.keep, self.effects, self.margin)
        found += self.rankings.claims(self.keep, self.margin) if self.rankings else []
        found += self.curve.claims(self.margin) if self.curve else []
        found += [Claim("what was done", self.how)]
        return Finding(headline(self.title, self.keep, found[0]), found)


def _names(sets: Sequence[Sets]) -> Iterator[tuple[float, str]]:
    """(rate, what is suppressed) of each of the M sets; the untouched model has no rate."""
    yield float("nan"), INTACT
    for one in sets:
        yield one.rate, SKILL
        for k in range(0 if one.controls is None else len(one.controls)):
            yield one.rate, f"random {k}"


def _cells(e: Effect) -> tuple[str, ...]:
    first = (f"{e.rate:g}%\n{e.neurons}", e.skill.lines)
    if e.against is None:
        return (*first, "none to draw", "", "", "")
    a = e.against
    random = f"{a.control.value:.1%}\n{a.control.lowest:.1%} to {a.control.highest:.1%}"
    difference = a.difference.points.replace(" points [", "\n\\[")
    return (
        *first,
        f"{random}\nof {a.sets}",
        difference,
        f"{a.rank_p:.2g}\nfloor {a.rank_floor:.2g}",
        f"{a.holm_p:.2g}",
    )


def panel(effects: Sequence[Effect]) -> DosePanel:
    """One task's curve."""
    doses = [Dose(e.rate, e.skill, e.against.control if e.against else None) for e in effects]
    return DosePanel(f"{effects[0].task}, test n={effects[0].n}", doses, effects[0].majority)
