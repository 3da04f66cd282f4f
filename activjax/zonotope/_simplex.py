"""Whether a vector is a combination of others with weights that are not negative, exactly."""

from __future__ import annotations

from fractions import Fraction

import numpy as np


def in_cone(target: np.ndarray, rows: np.ndarray) -> bool:
    """Whether `target = sum_j c_j rows[j]` with all `c_j >= 0`, in rational arithmetic.

    Phase one of the simplex method with Bland's rule, which always ends.

    Args:
        target: `[r]` Python integers.
        rows: `[n, r]` Python integers.
    """
    r, n = len(target), len(rows)
    table = [[Fraction(rows[j][i]) for j in range(n)] + [Fraction(target[i])] for i in range(r)]
    table = [row if row[-1] >= 0 else [-v for v in row] for row in table]
    basis = list(range(n, n + r))  # one artificial variable for each equation
    cost = [-sum(column) for column in zip(*table)]  # reduced costs of the sum of artificials
    while cost[-1] != 0:
        enter = next((j for j in range(n) if cost[j] < 0), None)
        if enter is None:
            return False
        ratios = [(row[-1] / row[enter], basis[i], i) for i, row in enumerate(table)
                  if row[enter] > 0]  # fmt: skip
        _, _, leave = min(ratios)
        pivot = table[leave][enter]
        top = table[leave] = [v / pivot for v in table[leave]]
        for row in [*(t for i, t in enumerate(table) if i != leave), cost]:
            factor = row[enter]
            if factor:
                row[:] = [v - factor * t for v, t in zip(row, top)]
        basis[leave] = enter
    return True
