"""What a finished robustness command says: tables, metrics, pictures, the finding in words."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import pandas as pd
from matplotlib.figure import Figure
from rich.table import Table

from skillneurons.commands.signatures import Signature
from skillneurons.findings import Claim, Finding, joined, p_text
from skillneurons.neurons.selection import top_neurons
from skillneurons.plots.style import DosePanel, suppression_curves
from skillneurons.robustness import tables
from skillneurons.robustness.consistency import ALL_ROWS, ConsistencyLine
from skillneurons.robustness.figures import (
    Group,
    Held,
    accuracy_by_group,
    agreements,
    predictivity_held,
    restoration_curves,
    shifts,
)
from skillneurons.robustness.set_report import Rows, SetReport
from skillneurons.stats.intervals import Ranged
from skillneurons.stats.skill_test import Skill
from skillneurons.suppress.report import panel

_WORDS = {"restore": "adversarial text, clean activations", "corrupt": "clean text, adversarial activations"}


@dataclass(frozen=True)
class RobustnessReport:
    """The outcome of one robustness command.

    Attributes:
        title: task and backbone.
        own: accuracy on the task's own test rows, with n, majority rate and skill.
        sets: one an adversarial set.
    """

    title: str
    backbone: str
    task: str
    own: tuple[Ranged, int, float, Skill]
    sets: Sequence[SetReport]

    def finding(self) -> Finding:
        """What was found, chance included."""
        own = [] if self.own[-1].shown else [self._clean()]
        sets = joined(one.claims() for one in self.sets)
        return Finding(self._headline(), [*own, *sets, *([] if own else [self._clean()])])

    def _headline(self) -> str:
        if not self.own[-1].shown:
            return f"{self.title}: no skill is shown on clean text that an attack could take."
        first = self.sets[0]
        if len(self.sets) > 1:
            costs = sum(one.costs is True for one in self.sets)
            through = sum(any(claim.holds for claim in one.causal[:2]) for one in self.sets)
            head = f"{self.title}: attacks cost accuracy on {costs} of {len(self.sets)} sets"
            return f"{head}; shown to work through the skill neurons on {through}."
        pair = first.whole.pair
        if pair is None or not first.costs:
            return f"{self.title}: no cost of the attack is shown on {first.name}."
        cost = f"{self.title}: the attack {first.name} costs {100 * pair.difference.value:.0f} points"
        if not first.causal:
            return f"{cost}; causes were not asked."
        holds = [claim.holds for claim in first.causal[:2]]
        if True in holds:
            return f"{cost}, in part through the skill neurons."
        return (
            f"{cost}, {'not through' if holds == [False, False] else 'not shown to work through'} the skill neurons."
        )

    def _clean(self) -> Claim:
        share, n, majority, known = self.own
        return Claim(
            "skill" if known.shown else "no skill shown",
            "clean test, accuracy",
            replace(share, chance=majority),
            chance="majority rate",
            n=f"{n:,} rows",
            test=f"by balanced accuracy, {p_text(known.p_value)}",
            holds=known.shown or None,
        )

    @property
    def signatures(self) -> list[Signature]:
        """Inconsistency: on some set rankings agree less than as many clean rows would give."""
        lost = any(one.main.consistency.agreement.lost for one in self.sets)
        return [Signature.INCONSISTENT] if lost else []

    def tables(self) -> dict[str, pd.DataFrame]:
        """Path -> table."""
        makers: dict[str, Callable[[SetReport], Iterator[tables.Row]]] = {
            "pairs.json": tables.pair_rows,
            "consistency.json": tables.consistency_rows,
            "shift.json": tables.shift_rows,
            "restoration.json": tables.restoration_rows,
            "rivals.json": tables.rival_rows,
            "suppression.json": tables.suppression_rows,
        }
        accuracies = [self._own_row(), *chain.from_iterable(map(tables.accuracy_rows, self.sets))]
        made = {path: pd.DataFrame(chain.from_iterable(map(rows, self.sets))) for path, rows in makers.items()}
        made = {"accuracy.json": pd.DataFrame(accuracies), **made}
        made["summary.json"] = pd.DataFrame([self._summary(one) for one in self.sets])
        return {path: frame for path, frame in made.items() if len(frame)}

    def figures(self) -> dict[str, Figure]:
        """Path -> picture."""
        named = [(f"{one.name}, n={one.whole.n}", [_group(rows) for rows in one.groups]) for one in self.sets]
        found = {"figures/accuracy.png": accuracy_by_group(named)}
        found["figures/consistency.png"] = predictivity_held([_held(one) for one in self.sets])
        found["figures/agreement.png"] = agreements([_agreements(one) for one in self.sets])
        both = [
            (f"{one.name}: {_WORDS[way]}", effects) for one in self.sets for way, effects in one.main.restored.items()
        ]
        if both:
            found["figures/restoration.png"] = restoration_curves(both)
        moved = [
            (f"{one.name}, top {one.primary:g}%", one.main.shift[one.primary]) for one in self.sets if one.main.shift
        ]
        if moved:
            found["figures/shift.png"] = shifts(moved)
        panels = [one_panel for one in self.sets for one_panel in _doses(one)]
        found["figures/suppression.png"] = suppression_curves(panels, "neurons of each layer set to 0, %")
        return found

    @property
    def metrics(self) -> dict[str, float]:
        """Of the clean test under `test`, of a set under `adversarial/<task>`."""
        share, n, majority, _ = self.own
        found = {**share.ends("test/accuracy"), "test/n": float(n), "test/majority": majority}
        for one in self.sets:
            where, rows = f"adversarial/{one.name}", one.whole
            found |= {**rows.accuracy.ends(f"{where}/accuracy"), f"{where}/n": float(rows.n)}
            found[f"{where}/majority"] = rows.majority
            if rows.pair is not None and not one.measured.attacked.pairs.flips:
                found |= rows.pair.success.columns(f"{where}/attack_success")
            found |= one.main.consistency.skill[one.primary].estimate.columns(f"{where}/skill_predictivity")
            found |= one.main.consistency.overlap[one.primary].estimate.columns(f"{where}/overlap")
        return found

    def rich_table(self) -> Table:
        """For the terminal."""
        table = Table(title=self.title)
        for column in ("rows", "n", "adversarial", "clean originals", "attack success", "majority"):
            table.add_column(column)
        for one in self.sets:
            for rows in one.groups:
                table.add_row(*_cells(one.name if rows is one.whole else f"  {rows.name}", rows))
        return table

    def _own_row(self) -> dict[str, object]:
        share, n, majority, known = self.own
        return {"set": self.task, "kind": "clean test", "group": ALL_ROWS, **tables.shared(share, n, majority, known)}

    def _summary(self, one: SetReport) -> dict[str, object]:
        p, held = one.point(self.backbone), one.main.consistency
        share, n, majority, _ = self.own
        found: dict[str, object] = {
            "backbone": self.backbone,
            "task": self.task,
            "set": one.name,
            "site": one.main.site,
            "percent": one.primary,
            "n": one.whole.n,
            "majority": one.whole.majority,
            "test_rows": n,
            **share.ends("test_accuracy", "test"),
            "test_chance": majority,
        }
        found |= p.clean.ends("clean_accuracy", "clean") | p.changed.ends("adversarial_accuracy", "adversarial")
        found |= held.skill[one.primary].estimate.columns("skill_predictivity")
        found |= held.overlap[one.primary].estimate.columns("overlap")
        return found | held.agreement.estimate.columns("spearman")


def _doses(one: SetReport) -> Iterator[DosePanel]:
    for direction, rows in zip(one.suppressions, ("adversarial rows", "clean test rows"), strict=True):
        made = panel(direction.effects)
        yield DosePanel(f"{one.name}: {rows}, n={direction.effects[0].n}", made.doses, made.majority)


def _group(rows: Rows) -> Group:
    return Group(rows.name, rows.n, rows.accuracy, rows.pair.clean if rows.pair else None, rows.majority)


def _held(one: SetReport) -> Held:
    held, neurons = one.main.consistency, one.neurons[-1]
    top = top_neurons(neurons.ranking, one.primary)
    clean = float(neurons.predictivity[0][top].mean())
    title = f"{one.name}, n={one.whole.n}\ntop {one.primary:g}%, site {one.main.site}"
    return Held(title, held.predictivity[top], held.predictivity.ravel(), clean, held.null)


def _agreements(one: SetReport) -> tuple[str, list[tuple[str, ConsistencyLine]]]:
    """Overlap on all rows, of each layer, and of each kind of attack."""
    held, rate = one.main.consistency, one.primary
    lines = [("all rows", held.overlap[rate])]
    lines += [(f"layer {x.layer}", x) for x in held.lines if x.layer is not None and x.percent == rate]
    lines += [(f"{x.group} (n={x.n})", x) for x in held.kinds if x.percent == rate]
    return f"{one.name}, n={one.whole.n}, site {one.main.site}\ntop {rate:g}% clean and adversarial", lines


def _cells(name: str, rows: Rows) -> tuple[str, ...]:
    pair = rows.pair
    clean = pair.clean.lines if pair else ""
    known = pair is not None and pair.success.value == pair.success.value
    success = pair.success.lines if pair and known else ""
    return name, str(rows.n), rows.accuracy.lines, clean, success, f"{rows.majority:.1%}"
