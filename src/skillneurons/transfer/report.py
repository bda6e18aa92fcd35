"""What a finished transfer command says: tables, metrics, pictures, the finding in words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from rich.table import Table

from skillneurons.errors import listed
from skillneurons.stats.intervals import passes
from skillneurons.stats.mantel import Association
from skillneurons.transfer.families import (
    ALL,
    GAP,
    LEARNT,
    Beside,
    Together,
    association_row,
    associations,
    learnt,
    similarity_rows,
    together,
)
from skillneurons.transfer.matrix import ACROSS, OWN, RANDOM, WITHIN, FamilyTest, NamedCell
from skillneurons.transfer.similarity import Similarity


@dataclass(frozen=True)
class TransferReport:
    """The outcome of one transfer command.

    Attributes:
        title: tasks and backbone.
        lines: every cell.
        tests: every pair of families, which are tested first.
        margin: a difference within it, as a fraction, counts as none.
        similarities: of the neurons of each pair of tasks, by names in order; empty without neurons.
        percent: of a layer's neurons that count as top.
        orders, seed: of the permutations of tasks.
    """

    title: str
    lines: Sequence[NamedCell]
    similarities: Mapping[tuple[str, str], Similarity]
    percent: float
    orders: int
    seed: int
    tests: Sequence[FamilyTest]
    margin: float

    @cached_property
    def learnt(self) -> list[str]:
        """Tasks whose own prompt has skill."""
        return learnt(self.lines)

    @cached_property
    def together(self) -> list[Together]:
        """Means over cells."""
        return together(self.lines)

    @cached_property
    def associations(self) -> list[tuple[str, Beside, Association]]:
        """Correlations of transfer with neurons and family."""
        return associations(self.lines, self.similarities, self.orders, self.seed)

    @property
    def metrics(self) -> dict[str, float]:
        """`transfer/<source>/<target>/accuracy` and others; of the random prompts under `transfer/random`."""
        found: dict[str, float] = {}
        for line in self.lines:
            c, where = line.cell, f"transfer/{line.source}/{line.target}"
            found |= c.accuracy.ends(f"{where}/accuracy")
            found |= {f"{where}/majority": c.majority, f"{where}/n": float(c.n)}
            if r := c.relative:
                found |= r.ends(f"{where}/relative")
            random = f"transfer/random/{line.target}"
            found |= c.random.ends(f"{random}/accuracy")
            found |= {f"{random}/majority": c.majority}
        for one in self.together:
            if one.source_family == "all" and one.scope == ALL:
                found |= one.relative.ends(f"transfer/{one.relation.replace(' ', '_')}/relative")
        return found

    def table(self) -> pd.DataFrame:
        """One row a source and target."""
        return pd.DataFrame([line.row() for line in self.lines])

    def family_table(self) -> pd.DataFrame:
        """One row a relation and a pair of families."""
        return pd.DataFrame([one.row() for one in self.together])

    def test_table(self) -> pd.DataFrame:
        """One row a pair of families, beside random prompts."""
        return pd.DataFrame([test.row(self.margin) for test in self.tests])

    def association_table(self) -> pd.DataFrame:
        """One row a correlation."""
        return pd.DataFrame(
            [association_row(scope, self._named(what), one) for scope, what, one in self.associations]
        )

    def overlap_table(self) -> pd.DataFrame:
        """One row a pair of tasks."""
        return pd.DataFrame(list(similarity_rows(self.similarities, self._families, self.percent)))

    def rich_table(self) -> Table:
        """For the terminal: accuracy and, of the own prompt's, the share; chance in brackets."""
        table = Table(title=f"{self.title}: accuracy in % (of the own prompt's); (no skill shown) in brackets")
        targets = list(dict.fromkeys(line.target for line in self.lines))
        cells = {(line.source, line.target): line.cell for line in self.lines}
        for name in ("prompts of", *targets):
            table.add_column(name)
        for source in dict.fromkeys(line.source for line in self.lines):
            row = []
            for target in targets:
                c = cells[source, target]
                share = f"\n{100 * c.relative.value:.0f}%" if c.relative else ""
                text = f"{100 * c.accuracy.value:.1f}"
                row.append(f"({text}){share}" if c.at_chance else f"{text}{share}")
            table.add_row(source, *row)
        first = [cells[self.lines[0].source, target] for target in targets]
        table.add_row(f"{first[0].draws} {RANDOM}s", *(f"{100 * c.random.value:.1f}" for c in first))
        table.add_row("majority rate", *(f"{100 * c.majority:.1f}" for c in first))
        return table

    def overlap_title(self) -> str:
        """Of the picture of transfer beside overlap."""
        for scope, what, one in self.associations:
            if scope == LEARNT and what is Beside.OVERLAP:
                return f"{one.pairs} pairs of {scope}:\n{_numbers(one)}, floor {one.p_floor:.2g}"
        return "Fewer than three tasks are learnt:\nno correlation"

    def finding(self) -> str:
        """What was found, in words, chance included."""
        return " ".join([self._opening(), self._verdict(), *self._untuned(), *self._means(), *self._correlations()])

    def _opening(self) -> str:
        targets = {line.target: line.cell for line in self.lines}
        own = {line.target for line in self.lines if line.relation == OWN}
        rows, seeds = [cell.n for cell in targets.values()], [line.cell.seeds for line in self.lines]
        majority = [cell.majority for cell in targets.values()]
        prompts = f"{_range(seeds)} prompt{'s' * (max(seeds) > 1)} a task"
        head = f"**{self.title}**: {prompts}, test n={_range(rows)}, majority rate {_range(majority, '.1%')}."
        dull = sorted(own - set(self.learnt))
        if not own:
            return f"{head} No target has prompts of its own, so there are no relative accuracies."
        said = f"{head} Own prompts have skill by permuted labels on {len(self.learnt)} of {len(own)} tasks"
        if not dull:
            return f"{said}."
        return (
            f"{said}; none is shown on {listed(dull)}, where any prompt without skill has a relative accuracy near "
            "100%, which is no transfer."
        )

    def _verdict(self) -> str:
        moved = [line for line in self.lines if line.relation != OWN]
        best = max(moved, key=lambda line: (line.transfers, line.cell.accuracy.value - line.cell.majority))
        return f"{self._families_first()} {self._cells(moved)} The farthest above the majority rate: {_cell(best)}."

    def _families_first(self) -> str:
        """The primary claim: pairs of families beside random prompts."""
        tested, draws = [test for test in self.tests if test.tested], self.lines[0].cell.draws
        if not tested:
            return (
                "**Not tested**: how prompts of one task differ among themselves is not known from one of each. Tune "
                "two seeds or more."
            )
        how = f"above {draws} random prompts, Welch's t over rows, seeds and draws, Holm over {len(tested)} pairs"
        largest = max(tested, key=lambda test: test.difference.value)
        up, down = ([test for test in tested if test.beyond == way] for way in (1, -1))
        below = f" {len(down)} are below random prompts." if down else ""
        if up:
            first = sorted(up, key=lambda test: -test.difference.value)[:4]
            told = ", ".join(_pair(test) for test in first) + (", …" if len(up) > len(first) else "")
            return f"**{len(up)} of {len(tested)} pairs of families transfer** ({how}): {told}.{below}"
        if all(test.room <= self.margin for test in tested):
            return f"**No transfer** within {100 * self.margin:g} points between any families ({how}).{below}"
        room = 100 * max(test.room for test in tested)
        return (
            f"**Cannot tell**: no pair of families is {how}; the largest is {_pair(largest)}. A difference of up to "
            f"{room:.1f} points is not excluded; {100 * self.margin:g} would count as none.{below}"
        )

    def _cells(self, moved: Sequence[NamedCell]) -> str:
        """The secondary claims: single cells of the pairs that are beyond random prompts."""
        parts = []
        for relation in (WITHIN, ACROSS):
            if cells := [line for line in moved if line.relation == relation]:
                parts.append(f"{sum(line.transfers for line in cells)} of {len(cells)} {relation}")
        found, below = sum(line.transfers for line in moved), sum(line.beyond_random < 0 for line in moved)
        worse = f" {below} are below random prompts." if below else ""
        return (
            f"{found} of {len(moved)} cells transfer (skill, and above random prompts by Holm within such a pair, "
            f"corrected for the choice of pairs): {', '.join(parts)}.{worse}"
        )

    def _untuned(self) -> Iterator[str]:
        """Tasks that the backbone does under any prompt: a prompt that works there need not have carried anything."""
        cells = {line.target: line.cell for line in self.lines}
        known = {name: c for name, c in cells.items() if c.random.low > c.majority}
        if known:
            each = ", ".join(f"{name} {c.random.value:.1%}" for name, c in known.items())
            yield (
                f"**Random prompts alone** are above the majority rate on {each}: the backbone does these tasks "
                "under prompts nobody tuned, so a high accuracy there shows no transfer."
            )

    def _means(self) -> Iterator[str]:
        scope = LEARNT if any(one.scope == LEARNT for one in self.together) else ALL
        found = {one.relation: one for one in self.together if one.scope == scope and one.source_family == "all"}
        parts = [
            f"{relation} {_mean(one)} over {len(one.lines)} cells (always the commonest label "
            f"{one.relative.chance:.0%}, random prompts {one.floor:.0%})"
            for relation, one in found.items()
            if relation != GAP
        ]
        if parts:
            gap = f"; {GAP} {_points(found[GAP])}" if GAP in found else ""
            yield f"Mean relative accuracy on {scope}: {', '.join(parts)}{gap}."

    def _correlations(self) -> Iterator[str]:
        """A verdict on tasks that are learnt alone: with the others, what is near 100% by chance would decide."""
        found = [(what, one) for scope, what, one in self.associations if scope == LEARNT]
        for what, one in found:
            yield f"{_correlated(self._named(what), one)} ({LEARNT}, {one.pairs} pairs of {one.tasks})."
        if len(self.learnt) < 3:
            yield (
                f"{len(self.learnt)} tasks have an own prompt with skill; it takes three to ask whether transfer "
                "goes with shared neurons."
            )
        elif self.similarities and not any(what is not Beside.FAMILY for what, _ in found):
            yield "Transfer or overlap is the same for all pairs: nothing to correlate."

    def _named(self, what: Beside) -> str:
        return what.format(percent=self.percent)

    @property
    def _families(self) -> dict[str, str]:
        return {line.source: line.source_family for line in self.lines}


def _correlated(what: str, one: Association) -> str:
    within = "" if np.isnan(one.group_p) else f"; within families p {one.group_p:.2g} (floor {one.group_floor:.2g})"
    if not passes(one.p_floor):
        verdict = "**Too few tasks** to tell whether transfer goes with"
    elif not passes(one.p_value):
        verdict = "**Cannot tell** whether transfer goes with"
    elif within and not passes(one.group_p):
        verdict = "**Not told apart from families**: both may only share them, transfer and"
    else:
        verdict = "**Transfer goes with**" if one.value > 0 else "**Transfer goes against**"
    return f"{verdict} {what}: {_short(one)}{within}"


def _short(one: Association) -> str:
    how = "every order" if one.exact else f"{one.orders:,} orders"
    return f"{_numbers(one)} ({how}, floor {one.p_floor:.2g})"


def _numbers(one: Association) -> str:
    interval = f" [{one.low:.2f}, {one.high:.2f}]" if np.isfinite(one.low) else ""
    return f"Spearman {one.value:.2f}{interval}, p {one.p_value:.2g}"


def _pair(test: FamilyTest) -> str:
    return f"{test.source_family} → {test.target_family} {test.difference.points}, Holm p {test.holm_p:.2g}"


def _cell(line: NamedCell) -> str:
    c = line.cell
    share = f", {c.relative.value:.0%} of its own prompts'" if c.relative else ""
    return (
        f"prompts of {line.source} on {line.target}, {c.accuracy.text}{share} "
        f"(n={c.n}, majority rate {c.majority:.1%}, random prompts "
        f"{c.random.value:.1%}; {line.verdict})"
    )


def _mean(one: Together) -> str:
    low, high = one.relative.low, one.relative.high
    interval = f" [{low:.0%}, {high:.0%}, over {one.unit}]" if np.isfinite(low) else " (one value: no interval)"
    return f"{one.relative.value:.0%}{interval}"


def _points(one: Together) -> str:
    low, high = 100 * one.relative.low, 100 * one.relative.high
    interval = f" [{low:+.0f}, {high:+.0f}, over {one.unit}]" if np.isfinite(low) else ""
    return f"{100 * one.relative.value:+.0f} points{interval}"


def _range(values: Sequence[float], form: str = "g") -> str:
    low, high = min(values), max(values)
    return f"{low:{form}}" if low == high else f"{low:{form}} to {high:{form}}"
