"""What a finished transfer command says: tables, metrics, pictures, the finding in words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from rich.table import Table

from skillneurons.errors import listed
from skillneurons.findings import Claim, Finding, Unit, p_text, several
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

FIRST = 3  # pairs of families that a finding names
TESTS = "family_tests.json"


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

    def finding(self) -> Finding:
        """What was found, chance included."""
        claims = [*self._families_first(), *self._untuned(), *self._correlations(), self._cells(), *self._means()]
        return Finding(self._headline(), [*claims, self._learnt()])

    def _headline(self) -> str:
        tested = [test for test in self.tests if test.tested]
        up = sum(test.beyond == 1 for test in tested)
        if not tested:
            return f"{self.title}: transfer between families is not tested, with one prompt a task."
        if up:
            return f"{self.title}: prompts transfer in {up} of {len(tested)} pairs of families."
        if all(test.room <= self.margin for test in tested):
            return f"{self.title}: no prompt transfers to another task."
        return f"{self.title}: no transfer is shown, and some is not excluded."

    def _learnt(self) -> Claim:
        """On which tasks there is something to transfer at all."""
        own = {line.target for line in self.lines if line.relation == OWN}
        dull = sorted(own - set(self.learnt))
        seeds, rows = [line.cell.seeds for line in self.lines], [line.cell.n for line in self.lines]
        n = f"{_range(rows)} test rows, {_range(seeds)} prompt{'s' * (max(seeds) > 1)} a task"
        majority = f"majority rate {_range([line.cell.majority for line in self.lines], '.1%')}"
        if not own:
            return Claim("no relative accuracies", "no target has prompts of its own", n=n, test=majority)
        text = f"own prompts have skill on {len(self.learnt)} of {len(own)} tasks"
        if not dull:
            return Claim("learnt", text, n=n, test=f"{majority}, by permuted labels", holds=True)
        why = f"{text}; on {listed(dull)} any prompt has a relative accuracy near 100%, which is no transfer"
        return Claim("not all learnt", why, n=n, test=f"{majority}, by permuted labels")

    def _families_first(self) -> Iterator[Claim]:
        """The primary claim: pairs of families beside random prompts."""
        tested, draws = [test for test in self.tests if test.tested], self.lines[0].cell.draws
        if not tested:
            why = "how prompts of one task differ is not known from one of each; tune two seeds or more"
            yield Claim("not tested", why)
            return
        up = sorted((test for test in tested if test.beyond == 1), key=lambda test: -test.difference.value)
        for test in up[:FIRST]:
            yield self._pair("transfers", test, draws, len(tested), True)
        if len(up) > FIRST:
            yield Claim("transfer", f"{len(up) - FIRST} more pairs of families, in {TESTS}", holds=True)
        if not up:
            largest = max(tested, key=lambda test: test.difference.value)
            excluded = all(test.room <= self.margin for test in tested)
            yield self._pair(
                "no transfer" if excluded else "cannot tell", largest, draws, len(tested), False if excluded else None
            )
            room = 100 * max(test.room for test in tested)
            text = f"up to {room:.1f} points are not excluded; {100 * self.margin:g} would count as none"
            yield Claim("within the margin" if excluded else "room left", text)
        if down := sum(test.beyond == -1 for test in tested):
            yield Claim("below random prompts", f"{several(down, 'pair')} of families of {len(tested)}", holds=False)

    def _pair(self, word: str, test: FamilyTest, draws: int, tested: int, holds: bool | None) -> Claim:
        text = f"{test.source_family} → {test.target_family}, above {draws} random prompts"
        how = f"Welch's t, {p_text(test.holm_p)}, Holm over {several(tested, 'pair')}"
        n = f"{test.difference.n:,} rows" if test.difference.n else ""
        return Claim(word, text, replace(test.difference, chance=None), Unit.POINTS, n=n, test=how, holds=holds)

    def _cells(self) -> Claim:
        """The secondary claims: single cells of the pairs that are beyond random prompts."""
        moved, parts = [line for line in self.lines if line.relation != OWN], []
        for relation in (WITHIN, ACROSS):
            if cells := [line for line in moved if line.relation == relation]:
                parts.append(f"{sum(line.transfers for line in cells)} of {len(cells)} {relation}")
        found, below = sum(line.transfers for line in moved), sum(line.beyond_random < 0 for line in moved)
        worse = f"; {below} below random prompts" if below else ""
        text = f"{found} of {len(moved)} single cells transfer: {', '.join(parts)}{worse}"
        test = "skill, and above random prompts by Holm within the pairs that do"
        return Claim("cells", text, test=test, holds=bool(found) or None)

    def _untuned(self) -> Iterator[Claim]:
        """Tasks that the backbone does under any prompt: a prompt that works there need not have carried anything."""
        cells = {line.target: line.cell for line in self.lines}
        known = {name: c for name, c in cells.items() if c.random.low > c.majority}
        if known:
            each = ", ".join(
                f"{name} {c.random.value:.1%} (majority rate {c.majority:.1%})" for name, c in known.items()
            )
            yield Claim("caution", f"random prompts alone are above the majority rate: {each}")

    def _means(self) -> Iterator[Claim]:
        scope = LEARNT if any(one.scope == LEARNT for one in self.together) else ALL
        found = {one.relation: one for one in self.together if one.scope == scope and one.source_family == "all"}
        for relation, one in found.items():
            if relation == GAP:
                yield Claim(
                    relation,
                    "mean relative accuracy",
                    replace(one.relative, chance=None),
                    Unit.POINTS,
                    test=_over(one),
                )
                continue
            text = f"mean relative accuracy over {several(len(one.lines), 'cell')} of {scope}"
            floor = f"random prompts {one.floor:.0%}{_over(one, '; ')}"
            yield Claim(relation, text, one.relative, chance="always the commonest label", test=floor)

    def _correlations(self) -> Iterator[Claim]:
        """A verdict on tasks that are learnt alone: with the others, what is near 100% by chance would decide."""
        found = [(what, one) for scope, what, one in self.associations if scope == LEARNT]
        for what, one in found:
            yield _correlated(self._named(what), one)
        if len(self.learnt) < 3:
            text = f"{several(len(self.learnt), 'task')} with skill of the three that a correlation takes"
            yield Claim("too few tasks", text)
        elif self.similarities and not any(what is not Beside.FAMILY for what, _ in found):
            yield Claim("nothing to correlate", "transfer or overlap is the same for all pairs")

    def _named(self, what: Beside) -> str:
        return what.format(percent=self.percent)

    @property
    def _families(self) -> dict[str, str]:
        return {line.source: line.source_family for line in self.lines}


def _correlated(what: str, one: Association) -> Claim:
    within = "" if np.isnan(one.group_p) else f"; within families {p_text(one.group_p)}"
    holds: bool | None = None
    if not passes(one.p_floor):
        verdict = "too few tasks"
    elif not passes(one.p_value):
        verdict = "cannot tell"
    elif within and not passes(one.group_p):
        verdict = "not told apart from families"
    else:
        verdict, holds = ("transfer goes with neurons" if one.value > 0 else "transfer goes against neurons"), True
    how = (
        f"{p_text(one.p_value)}, floor {one.p_floor:.2g}, {'every order' if one.exact else f'{one.orders:,} orders'}"
    )
    n = f"{one.pairs} pairs of {one.tasks} learnt tasks"
    return Claim(
        verdict, f"{what}: Spearman", replace(one, chance=None), Unit.NUMBER, n=n, test=f"{how}{within}", holds=holds
    )


def _numbers(one: Association) -> str:
    interval = f" [{one.low:.2f}, {one.high:.2f}]" if np.isfinite(one.low) else ""
    return f"Spearman {one.value:.2f}{interval}, p {one.p_value:.2g}"


def _over(one: Together, before: str = "") -> str:
    return (
        f"{before}95% interval over {one.unit}"
        if np.isfinite(one.relative.low)
        else f"{before}one value: no interval"
    )


def _range(values: Sequence[float], form: str = "g") -> str:
    low, high = min(values), max(values)
    return f"{low:{form}}" if low == high else f"{low:{form}} to {high:{form}}"
