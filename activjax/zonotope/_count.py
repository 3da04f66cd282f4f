"""How many cells a central arrangement has, and its Poincare polynomial, without enumeration."""

from __future__ import annotations

from math import comb, prod

import numpy as np

from activjax.zonotope._basis import basis, smaller
from activjax.zonotope._integers import primitive
from activjax.zonotope._restrictions import Level, children, joined, parts, root

_HELD = 2**26  # entries of rows of children that wait to be merged


def betti(lines: np.ndarray, limit: int | None = None) -> tuple[int, ...]:
    """The Betti numbers of the complexified complement; their sum is the number of cells.

    They are the coefficients of the Poincare polynomial pi(t) = (1 + t) q(t), where the
    coefficient of t^i in q is the number of nodes i levels below the root of the tree of
    restrictions (see `_restrictions`; equal nodes are visited once, with their multiplicity). In
    R^2, a node of l lines has l - 1 children without children. Polynomials of direct summands
    are multiplied.

    Args:
        lines: `[N, r]` int64 or Python integers; rows are nonzero and no two are parallel.
        limit: stop where there are more cells.

    Returns:
        `r + 1` integers b_0 = 1, b_1 = N, ...; 0 above the rank.

    Raises:
        ValueError: there are more than `limit` cells, or parallel rows.
    """
    r = lines.shape[1]
    if not len(lines):
        return (1,) + (0,) * r
    root(lines)
    found = basis(lines)
    summands = found.summands
    check_limit(least_cells(summands), limit)
    if len(summands) == 1 and not smaller(lines, found):
        summands = [primitive(lines)]
    product = [1]
    for rows in summands:
        reduced = _Tree(rows, limit).coefficients
        factor = [a + b for a, b in zip([*reduced, 0], [0, *reduced])]
        product = _multiplied(product, factor)
        check_limit(sum(product), limit)
    return (*product[: r + 1], *[0] * (r + 1 - len(product)))


def least_cells(summands: list[np.ndarray]) -> int:
    """The least cells direct sums of `[N, rank]` lines can have: 2^(rank - 1) (N - rank + 2) each.

    By induction: a line whose removal keeps the rank cuts at least 2^(rank - 1) cells. (Shannon,
    J. Combin. Theory A 20, 1976.)
    """
    shapes = [rows.shape for rows in summands]
    return prod(2 ** (rank - 1) * (n - rank + 2) for n, rank in shapes)


def _multiplied(a: list[int], b: list[int]) -> list[int]:
    product = [0] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            product[i + j] += x * y
    while product[-1] == 0:
        product.pop()
    return product


def check_limit(cells: int, limit: int | None) -> None:
    """Raises ValueError where there are more cells than that."""
    if limit is not None and cells > limit:
        raise ValueError(
            f"the arrangement has at least {cells} cells, more than the limit of {limit}"
        )


class _Tree:
    """Sums the nodes of each level of the tree of restrictions, depth first over parts of it."""

    def __init__(self, rows: np.ndarray, limit: int | None):
        n, r = rows.shape
        self.coefficients = [0] * (r + 1)
        self.limit = limit
        # int64 where no sum of multiplicities can exceed it: a level has at most as many nodes,
        # counted with multiplicity, as in general position.
        most = max(comb(n, i) for i in range(min(n, r) + 1))
        self.dtype = np.int64 if most < 2**62 else object
        self.coefficients[0] = 1
        self._add(root(rows), np.ones(1, self.dtype), 1)

    def _add(self, level: Level, times: np.ndarray, depth: int) -> None:
        """Counts all nodes below these, of which each stands for `times`; children are at depth."""
        self.coefficients[depth] += int((times * (level.sizes - 1)).sum())
        check_limit(2 * sum(self.coefficients), self.limit)
        if level.dim <= 2:
            return
        waiting: list[tuple[Level, np.ndarray]] = []
        for begin, end in parts(level):
            below = children(level, begin, end, merge=level.dim > 3)
            weight = self._gathered(below.level.nodes, below.child, times[below.node])
            waiting.append((below.level, weight))
            if level.dim == 3 or sum(len(v.codes) for v, _ in waiting) * level.dim > _HELD:
                self._add(*self._joined(waiting), depth + 1)
                waiting = []
        if waiting:
            self._add(*self._joined(waiting), depth + 1)

    def _joined(self, waiting: list[tuple[Level, np.ndarray]]) -> tuple[Level, np.ndarray]:
        level, which = joined([level for level, _ in waiting])
        times = np.concatenate([times for _, times in waiting])
        return level, self._gathered(level.nodes, np.concatenate(which), times)

    def _gathered(self, nodes: int, which: np.ndarray, times: np.ndarray) -> np.ndarray:
        total = np.zeros(nodes, self.dtype)
        np.add.at(total, which, times)
        return total
