"""The arrangement of a data matrix: exact integer normals, one to a hyperplane."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from activjax.zonotope import _require


@dataclass(frozen=True)
class Rows:
    """A data matrix as a central arrangement, in exact arithmetic.

    Floats are dyadic rationals and a positive factor of a row changes no pattern, so each row is
    the primitive integer vector in its direction. Rows that are parallel (either sign) share a
    line; zero rows have none.

    Attributes:
        given: `[n, d]`, the rows as they came: float64 (exact), or Python numbers where these are
            too large for it.
        lines: `[n_lines, rank]` integers (int64, or Python integers in an object array), of full
            column rank, pairwise not parallel, each oriented as the first row on it.
        of: `[n]`, the line of each row; -1 for a zero row.
        sign: `[n]`, +1 or -1, the orientation of each row against its line; 0 for a zero row.
        columns: `[rank]`, the columns of the matrix that are kept; the others are combinations of
            them, so that a weight vector with zeros there reaches every pattern.
    """

    given: np.ndarray
    lines: np.ndarray
    of: np.ndarray
    sign: np.ndarray
    columns: np.ndarray

    @property
    def first(self) -> np.ndarray:
        """`[n_lines]`, the first row on each line: the one whose orientation the line has."""
        on = np.flatnonzero(self.of >= 0)
        return on[np.unique(self.of[on], return_index=True)[1]]

    @property
    def forms(self) -> np.ndarray:
        """`[n, d]`, positive multiples of the rows: float64 as given, or Python integers."""
        if self.given.dtype != object:
            return self.given
        return np.array(_integers(self.given), object).reshape(self.given.shape)


def rows_of(X: Any, what: str = "X") -> Rows:
    """The arrangement of the rows of a matrix.

    Args:
        X: `[n, d]` real numbers, n, d >= 1: floats, integers, or Python's integers and fractions.
        what: how errors call it.

    Raises:
        ValueError: another shape, nothing in it, NaN or infinite entries.
        TypeError: entries that are not real numbers, or a masked array.
    """
    given = _given(X, what)
    lines: list[tuple[int, ...]] = []
    known: dict[tuple[int, ...], int] = {}
    of, sign = np.full(len(given), -1), np.zeros(len(given), np.int8)
    for i, row in enumerate(_integers(given)):
        divisor = math.gcd(*row)
        if divisor == 0:
            continue
        row = tuple(v // divisor for v in row)
        opposite = tuple(-v for v in row)
        if row in known or opposite in known:
            of[i], sign[i] = (known[row], 1) if row in known else (known[opposite], -1)
        else:
            of[i], sign[i] = len(lines), 1
            known[row] = len(lines)
            lines.append(row)
    columns = independent_columns(lines)
    kept = [[row[c] for c in columns] for row in lines]
    # A combination of other columns may have held the last odd factor.
    kept = [[v // math.gcd(*row) for v in row] for row in kept]
    return Rows(given, _array(kept, len(columns)), of, sign, np.array(columns, np.int64))


def _given(X: Any, what: str) -> np.ndarray:
    if np.ma.isMaskedArray(X):
        raise TypeError(f"{what} is a masked array; drop or fill its masked examples")
    x = _unrounded(X)
    _require.matrix(x, what, "nothing in it")
    if x.dtype == object:
        if not all(isinstance(v, (int, Fraction, np.integer)) for v in x.flat):
            raise TypeError(f"{what}: entries of an object array must be int or Fraction")
        # NumPy's integers would wrap around.
        whole = [v if isinstance(v, Fraction) else int(v) for v in x.flat]
        return np.array([*whole, None], object)[:-1].reshape(x.shape)
    if x.dtype.kind in "iu" and x.size and max(abs(int(x.min())), abs(int(x.max()))) > 2**53:
        return x.astype(object)
    if x.dtype.kind not in "biufV" or x.dtype.type is np.void:
        raise TypeError(f"{what} has dtype {x.dtype}, expected real numbers")
    if x.dtype.kind == "f" and x.dtype.itemsize > 8:
        raise TypeError(f"{what} has dtype {x.dtype}, expected at most float64")
    x = x.astype(np.float64)
    _require.finite(x, what)
    return x


def _unrounded(X: Any) -> np.ndarray:
    """`np.asarray`, but of a list with integers that float64 lacks, which NumPy may round."""
    x = np.asarray(X)
    if hasattr(X, "dtype") or x.dtype.kind != "f":
        return x
    each = np.asarray(X, object)
    if not any(isinstance(v, (int, np.integer)) and abs(int(v)) > 2**53 for v in each.flat):
        return x
    if not np.isfinite(x).all():  # it is refused in any case
        return x
    exact = [Fraction(float(v)) if isinstance(v, (float, np.floating)) else v for v in each.flat]
    return np.array([*exact, None], object)[:-1].reshape(x.shape)


def _integers(given: np.ndarray) -> list[list[int]]:
    """Each row times a positive number that makes it whole."""
    if given.dtype == object:
        rows = []
        for row in given.tolist():
            fractions = [Fraction(v) for v in row]
            scale = math.lcm(*(v.denominator for v in fractions))
            rows.append([int(v * scale) for v in fractions])
        return rows
    mantissa, exponent = np.frexp(given)
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    least = np.where(whole != 0, exponent, np.iinfo(np.int32).max).min(axis=1, keepdims=True)
    shift = np.where(whole != 0, exponent - least, 0)
    return [
        [w << s for w, s in zip(ws, ss, strict=True)]
        for ws, ss in zip(whole.tolist(), shift.tolist(), strict=True)
    ]


def independent_columns(lines: list[tuple[int, ...]]) -> list[int]:
    """The first columns that span the others, proved.

    Modulo a prime the rank is at most the true one, so that columns which are independent there
    are independent. Were the true rank above the largest `r` seen, some minor of size `r + 1` would
    not be 0, yet be divisible by every prime tried: its bound (Hadamard's) is below their product.

    Args:
        lines: `[n_lines][d]` integers.
    """
    if not lines:
        return []
    rows = np.array([v for line in lines for v in line], object).reshape(len(lines), -1)
    used = np.flatnonzero((rows != 0).any(axis=0))
    rows = rows[:, used]
    norms = sorted((sum(v * v for v in line).bit_length() for line in lines), reverse=True)
    columns: list[int] = []
    tried = 0  # bits of the product of the primes
    for prime in _primes():
        found = _columns_modulo(rows, prime)
        columns = max(found, columns, key=len)
        tried += prime.bit_length() - 1
        if len(columns) == min(rows.shape) or 2 * tried > sum(norms[: len(columns) + 1]):
            return used[columns].tolist()
    raise AssertionError("there are more primes than these")


def _primes() -> Iterator[int]:
    """Primes below 2^31, from the largest."""
    small = np.arange(3, 46341, 2)
    for n in range(2**31 - 1, 2**30, -2):
        if (n % small).all():
            yield n


def _columns_modulo(rows: np.ndarray, prime: int) -> list[int]:
    """The first columns that span the others modulo a prime, by elimination."""
    left, columns = (rows % prime).astype(np.int64), []
    for c in range(left.shape[1]):
        nonzero = np.flatnonzero(left[:, c])
        if not len(nonzero):
            continue
        top = left[nonzero[0], c:] * pow(int(left[nonzero[0], c]), -1, prime) % prime
        below = nonzero[1:]
        left[below, c:] = (left[below, c:] - left[below, c, None] * top) % prime
        left = np.delete(left, nonzero[0], axis=0)
        columns.append(c)
    return columns


def _array(rows: list[list[int]], width: int) -> np.ndarray:
    fits = all(-(2**63) < v < 2**63 for row in rows for v in row)
    return np.array(rows, np.int64 if fits else object).reshape(len(rows), width)
