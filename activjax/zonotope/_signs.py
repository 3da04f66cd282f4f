"""Signs of linear forms at points that are right, whatever rounding did."""

from __future__ import annotations

import numpy as np

from activjax.zonotope._integers import dyadic, floats, widened

_AT_ONCE = 2**18


def exact_signs(rows: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The sign of each form at each point, of the numbers as given.

    Floats are taken for the dyadic rationals that they are. With u = 2^-53, a row is
    `a = s (F + d)`, s > 0, F in float64, |d| <= 2 u (1 + u) |F| + 2^-1074 (see `floats`), a point
    likewise, and the computed `F @ p` is off by at most g(r) |F| @ |p|, g(r) = r u / (1 - r u), in
    whatever order it is summed, fused or not (Higham, "Accuracy and Stability of Numerical
    Algorithms", section 3.1). So its sign is that of `a @ p` where it exceeds (r + 4) u |F|_2
    |p|_2: that leaves more than a u for underflow, as F and p have entries of 1/2 or more, and 1%
    for the rounding of norms and bounds. The others are computed in integers.

    Args:
        rows: `[N, r]` float64, int64 or Python integers.
        points: `[m, r]` float64 or Python integers.

    Returns:
        `[m, N]` int8: -1, 0 or 1.
    """
    signs = np.zeros((len(points), len(rows)), np.int8)
    used = np.flatnonzero((rows != 0).any(axis=1))
    step = max(1, _AT_ONCE // max(1, len(used)))
    if points.dtype == object:
        across = _whole(rows[used]).T
        for i in range(0, len(points), step):
            values = points[i : i + step] @ across
            signs[i : i + step, used] = (values > 0).astype(np.int8) - (values < 0)
        return signs
    forms, near = _near(rows[used]), _near(points)
    sizes = np.sqrt((forms * forms).sum(axis=1))
    lengths = np.sqrt((near * near).sum(axis=1, keepdims=True))
    for i in range(0, len(points), step):
        values = near[i : i + step] @ forms.T
        found = np.sign(values).astype(np.int8)
        unclear = 1.01 * (rows.shape[1] + 4) * 2.0**-53 * lengths[i : i + step] * sizes
        at, of = np.nonzero(~(np.abs(values) > unclear))
        if at.size:
            exact = (dyadic(points[i + at]) * _whole(rows[used[of]])).sum(axis=1)
            found[at, of] = (exact > 0).astype(np.int8) - (exact < 0)
        signs[i : i + step, used] = found
    return signs


def certified_signs(rows: np.ndarray, points: np.ndarray) -> np.ndarray | None:
    """Whether each form is positive at each point, `[m, N]`; None where one is 0."""
    signs = exact_signs(rows, points)
    return None if (signs == 0).any() else signs > 0


def _whole(rows: np.ndarray) -> np.ndarray:
    return dyadic(rows) if rows.dtype == np.float64 else widened(rows)


def _near(rows: np.ndarray) -> np.ndarray:
    """Rows times positive numbers, in float64, their largest entries from 1/2 to 1."""
    if rows.dtype != np.float64:
        return floats(rows)
    top = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    return np.ldexp(rows, -np.frexp(top)[1])
