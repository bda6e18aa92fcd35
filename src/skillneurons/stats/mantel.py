"""Matrices of tasks by tasks: means over cells and the correlation of two, with the task as the unit.

Cells that share a task depend on each other, so intervals leave out a task, not a cell, and tests permute tasks.
Shapes: T tasks. A matrix is `[T, T]`; a cell that was not measured is NaN.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import islice, permutations, product
from math import factorial, nan, prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skillneurons.stats.intervals import Estimate, jackknife
from skillneurons.stats.neuron_tests import spearman

Floats = NDArray[np.float64]
EXACT = 8  # tasks; 8! = 40,320 orders are all looked at
_AT_ONCE = 5_000  # orders held in memory together


@dataclass(frozen=True)
class Association(Estimate):
    """Spearman's correlation over the T (T - 1) / 2 pairs of two symmetric matrices; NaN where one side is constant.

    Its interval is a jackknife over tasks within [-1, 1]; NaN below four tasks.

    Attributes:
        p_value: two-sided, the share of orders of the tasks that give as much.
        p_floor: the smallest p that these two matrices could have given.
        tasks: T.
        orders: how many were looked at; all T! of them if `exact`.
        group_p, group_floor: the same where tasks change places within their group alone: what both matrices owe to
            the groups then counts for nothing. NaN where no groups were given.
    """

    _: KW_ONLY
    p_value: float
    p_floor: float
    tasks: int
    orders: int
    exact: bool
    group_p: float = nan
    group_floor: float = nan

    @property
    def pairs(self) -> int:
        """T (T - 1) / 2."""
        return self.tasks * (self.tasks - 1) // 2


def mantel(
    a: ArrayLike, b: ArrayLike, orders: int = 10_000, seed: int = 0, groups: Sequence[str] | None = None
) -> Association:
    """Mantel's test with ranks: are tasks that are close in one matrix close in the other (Mantel 1967)?

    The tasks of one matrix are permuted as rows and columns together. Up to eight tasks every order is
    looked at and p is exact; from nine on `orders` are drawn and p = (1 + as much) / (orders + 1).

    Args:
        a: symmetric `[T, T]`, finite off the diagonal, which is not read; T >= 3.
        b: likewise, of the same tasks.
        orders: drawn for more than eight tasks.
        seed: of the drawing.
        groups: of the tasks, for the test within them.

    Raises:
        ValueError: other shapes, or a pair that is not finite.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    _check(x, y)
    tasks = len(x)
    value, exact = _correlation(x, y, range(tasks)), tasks <= EXACT
    if np.isnan(value):
        return Association(value, value, value, 0.0, p_value=value, p_floor=value, tasks=tasks, orders=0, exact=exact)
    p_value, p_floor, looked_at = _tested(value, _permuted(x, y, _orders(tasks, orders, seed)), exact)
    group_p = group_floor = nan
    if groups is not None:
        some, all_of_them = _orders_within(groups, orders, seed)
        group_p, group_floor, _ = _tested(value, _permuted(x, y, some), all_of_them)
    spread = jackknife(tasks, lambda chosen: _correlation(x, y, chosen)).within(-1, 1)
    return Association(
        value,
        spread.low,
        spread.high,
        chance=0.0,
        p_value=p_value,
        p_floor=p_floor,
        tasks=tasks,
        orders=looked_at,
        exact=exact,
        group_p=group_p,
        group_floor=group_floor,
    )


def _tested(value: float, permuted: Iterator[Floats], exact: bool) -> tuple[float, float, int]:
    """Two-sided p, its floor, and how many orders were looked at."""
    under = np.abs(np.concatenate(list(permuted)))
    # equal correlations must count as equal
    reached, best = (int((under >= level - 1e-9).sum()) for level in (abs(value), under.max()))
    extra = 0 if exact else 1
    total = len(under) + extra
    return (reached + extra) / total, best / total if exact else 1 / total, len(under)


def symmetrised(matrix: ArrayLike) -> Floats:
    """The mean of both directions, `[T, T]`."""
    m = np.asarray(matrix, dtype=np.float64)
    return np.asarray((m + m.T) / 2)


def mean_over(matrix: ArrayLike, chosen: ArrayLike) -> Estimate:
    """The mean of some cells with a jackknife interval over tasks, each left out as source and as target.

    The interval is NaN below three tasks, and where leaving one out leaves no cell.

    Args:
        matrix: `[T, T]`.
        chosen: bool `[T, T]`; cells that were not measured are left out.
    """
    m = np.asarray(matrix, dtype=np.float64)
    return _left_out(np.asarray(chosen) & np.isfinite(m), lambda which: _mean(m[which]))


def gap_between(matrix: ArrayLike, chosen: ArrayLike, others: ArrayLike) -> Estimate:
    """The mean of some cells minus the mean of others, with the same interval.

    Args:
        matrix: `[T, T]`.
        chosen: bool `[T, T]`.
        others: bool `[T, T]`.
    """
    m = np.asarray(matrix, dtype=np.float64)
    first = np.asarray(chosen) & np.isfinite(m)
    second = np.asarray(others) & np.isfinite(m)
    return _left_out(first | second, lambda which: _mean(m[which & first]) - _mean(m[which & second]))


def _left_out(which: NDArray[np.bool_], statistic: Callable[[NDArray[np.bool_]], float]) -> Estimate:
    """A statistic of chosen cells and its jackknife interval over the tasks that have any."""
    involved = np.flatnonzero(which.any(axis=0) | which.any(axis=1))

    def of(chosen: Sequence[int]) -> float:
        inside = np.zeros(len(which), dtype=np.bool_)
        inside[involved[list(chosen)]] = True
        return statistic(which & inside[:, None] & inside[None, :])

    return jackknife(len(involved), of)


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _check(a: Floats, b: Floats) -> None:
    square = a.ndim == 2 and a.shape == b.shape and a.shape[0] == a.shape[1] >= 3
    pairs = [m[np.triu_indices(len(m), 1)] for m in (a, b)] if square else []
    if not square or not all(np.isfinite(p).all() for p in pairs):
        raise ValueError(
            "Mantel's test takes two matrices [T, T] with T >= 3, finite off the diagonal; "
            f"got {a.shape} and {b.shape}. Leave out the tasks that were not measured."
        )


def _correlation(a: Floats, b: Floats, tasks: Sequence[int]) -> float:
    """Spearman over the pairs of some tasks; NaN below three tasks."""
    rows, columns = np.triu_indices(len(tasks), 1)
    chosen = np.asarray(tasks)
    i, j = chosen[rows], chosen[columns]
    return spearman(a[i, j], b[i, j]) if len(chosen) > 2 else float("nan")


def _permuted(a: Floats, b: Floats, orders: Iterator[NDArray[np.int64]]) -> Iterator[Floats]:
    """The correlation under each order of the tasks of `b`."""
    from scipy.stats import rankdata

    tasks = len(a)
    rows, columns = np.triu_indices(tasks, 1)
    x, ranks = rankdata(a[rows, columns]), np.zeros((tasks, tasks))
    ranks[rows, columns] = ranks[columns, rows] = rankdata(b[rows, columns])
    x, ranks = x - x.mean(), ranks - ranks[rows, columns].mean()
    norm = np.sqrt((x**2).sum() * (ranks[rows, columns] ** 2).sum())
    for some in orders:
        yield (ranks[some[:, rows], some[:, columns]] @ x) / norm


def _orders(tasks: int, orders: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Orders of the tasks `[some, T]`, all of them or drawn ones."""
    if tasks <= EXACT:
        every = permutations(range(tasks))
        while some := list(islice(every, _AT_ONCE)):
            yield np.array(some)
        return
    rng = np.random.default_rng(seed)
    for start in range(0, orders, _AT_ONCE):
        count = min(_AT_ONCE, orders - start)
        yield rng.permuted(np.tile(np.arange(tasks), (count, 1)), axis=1)


def _orders_within(groups: Sequence[str], orders: int, seed: int) -> tuple[Iterator[NDArray[np.int64]], bool]:
    """Orders that keep every task within its group, and whether they are all there are."""
    names = np.asarray(groups)
    members = [np.flatnonzero(names == name) for name in dict.fromkeys(groups)]
    if prod(factorial(len(part)) for part in members) <= factorial(EXACT):
        every = [list(permutations(part.tolist())) for part in members]
        place = np.argsort(np.concatenate(members))
        found = np.array([np.concatenate(one)[place] for one in product(*every)], dtype=np.int64)
        return iter([found]), True
    rng, drawn = np.random.default_rng([seed, 1]), np.tile(np.arange(len(names)), (orders, 1))
    for part in members:
        drawn[:, part] = rng.permuted(drawn[:, part], axis=1)
    return iter([drawn]), False
