"""Certified signs of integer forms at floating-point or integer points."""

from __future__ import annotations

import numpy as np

from activjax.zonotope._integers import dyadic, floats, widened

_AT_ONCE = 2**21


def certified_signs(rows: np.ndarray, points: np.ndarray) -> np.ndarray | None:
    """Whether each form is positive at each point; None where one is 0.

    Floating points are taken for the dyadic rationals that they are. With u = 2^-53, a row is
    `a = s (F + d)`, s > 0, F in float64, |d| <= 2 u (1 + u) |F| + 2^-1074 (see `floats`), and the
    computed `F @ p` is off by at most g(r) |F| @ |p|, g(r) = r u / (1 - r u), in whatever order it
    is summed, fused or not (Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1).
    So its sign is that of `a @ p` where it exceeds (r + 4) u |F|_2 |p|_2: that leaves more than a u
    for underflow, as F has an entry 1 or -1 and p is a unit vector, and 1% for the rounding of
    norms and bounds. The others are computed in integers.

    Args:
        rows: `[N, r]` int64 or Python integers, nonzero.
        points: `[m, r]` unit vectors of float64, or Python integers.

    Returns:
        `[m, N]` booleans, or None.
    """
    positive = np.empty((len(points), len(rows)), bool)
    step = max(1, _AT_ONCE // max(1, len(rows)))
    if points.dtype == object:
        across = widened(rows).T
        for i in range(0, len(points), step):
            values = points[i : i + step] @ across
            if (values == 0).any():
                return None
            positive[i : i + step] = values > 0
        return positive
    forms = floats(rows)
    long = np.sqrt((points * points).sum(axis=1).max(initial=0))
    unclear = (rows.shape[1] + 4) * 2.0**-53 * np.sqrt((forms * forms).sum(axis=1)) * long * 1.01
    for i in range(0, len(points), step):
        values = points[i : i + step] @ forms.T
        positive[i : i + step] = values > 0
        at, of = np.nonzero(np.abs(values) <= unclear)
        if at.size:
            exact = (dyadic(points[i + at]) * widened(rows[of])).sum(axis=1)
            if (exact == 0).any():
                return None
            positive[i + at, of] = exact > 0
    return positive
