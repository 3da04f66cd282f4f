"""Multipliers that cancel exactly, near ones that cancel up to rounding."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

_MOST_STEPS = 200_000  # of rational arithmetic, seconds


def cancelled(rows: np.ndarray, weights: np.ndarray, at_least_0: np.ndarray) -> list[Fraction]:
    """Exact multipliers `w` with `w @ rows = 0`, near `weights`; a multiplier of 0 stays 0.

    By elimination: as many multipliers as there are independent columns follow from the others,
    which keep their value. In a vertex solution (one of simplex) one is left, so that whole-number
    data give its exact multiple.

    Args:
        rows: `[r, j]` float64, the columns that should cancel.
        weights: `[r]` float64.
        at_least_0: `[r]`, which multipliers must not be negative.

    Returns:
        `r` fractions; the weights as they are where no exact solution is found with these signs,
        or where it would take too long.
    """
    given = [Fraction(w) for w in weights.tolist()]
    used = np.flatnonzero(weights)
    if len(used) * rows.shape[1] * min(len(used), rows.shape[1]) > _MOST_STEPS:
        return given
    left = [[Fraction(v) for v in rows[used, j].tolist()] for j in range(rows.shape[1])]
    # The multipliers with the most room follow from the others.
    room = np.where(at_least_0[used], np.abs(weights[used]), np.inf).tolist()
    follows: dict[int, list[Fraction]] = {}
    for equation in left:
        for pivot, solved in follows.items():
            _subtract(equation, solved, equation[pivot])
        free = [i for i, v in enumerate(equation) if v and i not in follows]
        if not free:
            continue
        best = max(free, key=lambda i: (min(room[i], 1.0) * abs(float(equation[i])), room[i]))
        equation[:] = [v / equation[best] for v in equation]
        for solved in follows.values():
            _subtract(solved, equation, solved[best])
        follows[best] = equation
    for pivot, solved in follows.items():
        rest = (solved[i] * given[used[i]] for i in range(len(used)) if i not in follows)
        exact = -sum(rest, Fraction(0))
        if at_least_0[used[pivot]] and exact < 0:
            return [Fraction(w) for w in weights.tolist()]
        given[used[pivot]] = exact
    return given


def _subtract(row: list[Fraction], other: Sequence[Fraction], times: Fraction) -> None:
    if times:
        row[:] = [a - times * b for a, b in zip(row, other, strict=True)]
