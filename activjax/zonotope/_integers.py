"""Exact integer rows: int64 while a bound known beforehand allows it, else Python integers.

Every function takes `[n, r]` arrays of int64 or of object dtype (Python integers) and gives back
int64 wherever the values allow. Nothing here can overflow unnoticed: int64 is used only where the
largest absolute values bound every intermediate below 2^63.
"""

from __future__ import annotations

import numpy as np

MOST = 2**63 - 1
_SMALL = 2**10  # entries up to this are kept small, larger ones well conditioned


def largest(a: np.ndarray) -> int:
    """The largest absolute value, 0 of an empty array."""
    return max(int(a.max()), -int(a.min())) if a.size else 0


def widened(a: np.ndarray) -> np.ndarray:
    """The same values as Python integers."""
    return a if a.dtype == object else a.astype(object)


def narrowed(a: np.ndarray) -> np.ndarray:
    """The same values as int64 where all of them and their negatives fit, else as they are."""
    if a.dtype == object and largest(a) <= MOST:
        return a.astype(np.int64)
    return a


def primitive(rows: np.ndarray) -> np.ndarray:
    """`[n, r]` rows divided by their gcd, the first nonzero entry made positive.

    Two nonzero rows are parallel, in either direction, exactly where their primitive ones agree.
    """
    rows = narrowed(rows) if largest(rows) <= MOST else widened(rows)
    if rows.shape[1] == 0:
        return rows
    divisor = np.abs(np.gcd.reduce(rows, axis=1))  # of one number it is that number
    first = np.take_along_axis(rows, (rows != 0).argmax(axis=1)[:, None], axis=1)[:, 0]
    divisor = np.where(first < 0, -divisor, divisor)
    divisor[divisor == 0] = 1
    return narrowed(rows // divisor[:, None])


def pivots(rows: np.ndarray) -> np.ndarray:
    """`[n]`, a column where each nonzero row is nonzero.

    Of small rows the last of the smallest entries: it keeps restrictions small, and the one order
    of columns makes many of them equal (resonance-7: 3 times fewer different ones than with the
    first). Of large ones the largest, for floating-point solutions of `row @ x = 0`.
    """
    size = np.abs(rows)
    if largest(rows) > _SMALL:
        return size.argmax(axis=1)
    size[size == 0] = _SMALL + 1
    return rows.shape[1] - 1 - size[:, ::-1].argmin(axis=1)


def restricted(rows: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Each row as a linear form on the hyperplane orthogonal to its normal.

    Where c is the normal's pivot, a point of the hyperplane has the coordinates other than c; the
    form is `row |h_c| - row_c sign(h_c) h` there, up to a positive factor.

    Args:
        rows: `[n, r]`.
        normals: `[n, r]`, one for each row, nonzero.

    Returns:
        `[n, r - 1]`, primitive (so up to sign); 0 where row and normal are parallel.
    """
    if 2 * largest(rows) * largest(normals) > MOST:
        rows, normals = widened(rows), widened(normals)
    c = pivots(normals)[:, None]
    pivot = np.take_along_axis(normals, c, axis=1)
    times = np.take_along_axis(rows, c, axis=1) * np.where(pivot < 0, -1, 1)
    kept = other_columns(c[:, 0], rows.shape[1])
    rows, normals = (np.take_along_axis(a, kept, axis=1) for a in (rows, normals))
    return primitive(rows * np.abs(pivot) - times * normals)


def other_columns(columns: np.ndarray, r: int) -> np.ndarray:
    """`[n, r - 1]`: 0, ..., r - 1 without `columns[i]`."""
    index = np.arange(r - 1)
    return index + (index >= columns[:, None])


def floats(rows: np.ndarray) -> np.ndarray:
    """`[n, r]` float64: nonzero rows divided so that their largest entries are 1 or -1.

    With u = 2^-53, `row = s (F + d)` for a positive real s, |d| <= 2 u (1 + u) |F| + 2^-1074.
    """
    if rows.dtype != object:
        # s is the largest entry as rounded to float64: one rounding of an entry, one of a quotient
        rows = rows.astype(np.float64)
    # Python divides integers of any size with one rounding.
    return (rows / np.abs(rows).max(axis=1, keepdims=True)).astype(np.float64)


def dyadic(points: np.ndarray) -> np.ndarray:
    """`[n, r]` Python integers: float64 rows, each times a power of 2, exactly."""
    fraction, exponent = np.frexp(points)
    digits = np.ldexp(fraction, 53).astype(np.int64).astype(object)
    shift = np.where(digits == 0, exponent.max(axis=1, keepdims=True), exponent)
    shift = shift - shift.min(axis=1, keepdims=True)
    return digits * 2 ** shift.astype(object)
