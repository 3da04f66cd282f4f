"""How many cells there are, without enumerating them."""

from __future__ import annotations

from math import comb
from typing import Any, Literal, overload

from activjax.zonotope import _engines
from activjax.zonotope._count import betti as betti_of
from activjax.zonotope._rows import rows_of


@overload
def count(X: Any, *, betti: Literal[False] = False) -> int: ...
@overload
def count(X: Any, *, betti: Literal[True]) -> tuple[int, ...]: ...
@overload
def count(X: Any, *, betti: bool) -> int | tuple[int, ...]: ...
def count(X: Any, *, betti: bool = False) -> int | tuple[int, ...]:
    """The number of cells of the arrangement `x_i . w = 0`: the vertices of the zonotope.

    For `n` rows in general position it is `2 sum_{i < d} C(n - 1, i)`; a sweep of the vertices of
    the arrangement shows whether they are. Else by deletion and restriction, in integers: `chi(A) =
    chi(A - H) - chi(A restricted to H)`, where the number of cells is `|chi(-1)|` (Zaslavsky,
    "Facing up to arrangements", 1975).

    Args:
        X: `[n, d]` real numbers, examples in rows; any degeneracy is handled.
        betti: whether to give the Betti numbers of the complement in complex space.

    Returns:
        A Python int; with `betti=True` the coefficients `b_0 .. b_d` of the Poincare polynomial,
        whose sum it is (`chi(t) = sum_i (-1)^i b_i t^(d - i)`).

    Raises:
        ValueError: no matrix, NaN.
        TypeError: entries that are not real numbers.
    """
    rows = rows_of(X, "count: X")
    (n_lines, rank), d = rows.lines.shape, rows.given.shape[1]
    if not rank:
        found = (1,)
    elif n_lines > rank and _engines.is_simple(rows):
        half = [comb(n_lines - 1, i) for i in range(rank)]
        found = tuple(a + b for a, b in zip([*half, 0], [0, *half]))
    else:
        found = betti_of(rows.lines)
    found = (*found, *[0] * (d + 1 - len(found)))
    return found if betti else sum(found)
