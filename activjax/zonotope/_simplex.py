"""Whether a vector is a combination of others with weights that are not negative, exactly."""

from __future__ import annotations

import numpy as np


def in_cone(target: np.ndarray, rows: np.ndarray) -> bool:
    """Whether `target = sum_j c_j rows[j]` with all `c_j >= 0`, exactly.

    Phase one of the simplex method with Bland's rule, which always ends, fraction-free.

    Args:
        target: `[r]` Python integers.
        rows: `[n, r]` Python integers.
    """
    r, n = len(target), len(rows)
    table = [[*(int(row[i]) for row in rows), int(target[i])] for i in range(r)]
    table = [row if row[-1] >= 0 else [-v for v in row] for row in table]
    basis = list(range(n, n + r))  # one artificial variable for each equation
    cost = [-sum(column) for column in zip(*table)]  # reduced costs of the sum of artificials
    before = 1  # what all entries are to be divided by: it is positive, and each is a minor
    while cost[-1] != 0:
        enter = next((j for j in range(n) if cost[j] < 0), None)
        if enter is None:
            return False
        leave = -1
        for i, row in enumerate(table):
            if row[enter] <= 0:
                continue
            if leave >= 0:
                # The sign of this row's ratio less that of the best one so far.
                more = row[-1] * table[leave][enter] - table[leave][-1] * row[enter]
                if more > 0 or (more == 0 and basis[i] > basis[leave]):
                    continue
            leave = i
        top = table[leave]
        pivot = top[enter]
        for row in [*(t for i, t in enumerate(table) if i != leave), cost]:
            factor = row[enter]
            row[:] = [(pivot * v - factor * t) // before for v, t in zip(row, top)]
        before = pivot
        basis[leave] = enter
    return True
