"""Coordinates in which an arrangement is swept: exact, and rounded once to float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_BITS = 53  # of a sweep direction


@dataclass(frozen=True)
class Coordinates:
    """The coordinates `y = F w` of weight space, whose last one is the last line's own value.

    The others are values of integer functionals in general directions. A line `a` is the row
    `a F^-1` in them, which is what `rows` holds up to a positive factor.

    Attributes:
        lines: `[n_lines, r]` Python integers, the normals.
        functionals: `[r, r]` Python integers, `F`; its last row is the last line.
        inverse: `[r, r]` float64, from coordinates to weights, up to one positive factor.
        rows: `[n_lines, r]` float64, each entry its exact value, rounded to nearest; 2-norms are
            at most 1.
    """

    lines: np.ndarray
    functionals: np.ndarray
    inverse: np.ndarray
    rows: np.ndarray


def coordinates(lines: np.ndarray, seed: int = 0) -> Coordinates:
    """Coordinates drawn by `seed`, in which the lines are spread as evenly as a linear map can.

    Args:
        lines: `[n_lines, r]` integers of full column rank, `n_lines >= r >= 1`.
        seed: draws the directions.
    """
    lines = lines.astype(object)
    r = lines.shape[1]
    scaled = np.array([[v / max(map(abs, row)) for v in row] for row in lines.tolist()])
    # In the basis R the lines have the unit matrix as their second moment.
    _, R = np.linalg.qr(scaled)
    weak = np.abs(np.diagonal(R)) <= 1e-12 * np.abs(R).max()
    R[weak, weak] = 1e-12 * np.abs(R).max()
    with np.errstate(all="ignore"):
        last = np.linalg.solve(R.T, scaled[-1])
    if not np.isfinite(last).all():  # it only makes for better directions
        last = np.ones(r)
    rng = np.random.default_rng(seed)
    while True:
        frame, _ = np.linalg.qr(np.column_stack([last, rng.normal(size=(r, r - 1))]))
        directions = frame[:, 1:].T @ R
        directions /= np.abs(directions).max(axis=1, keepdims=True)
        whole = np.rint(np.ldexp(directions, _BITS)).astype(np.int64).astype(object)
        F = np.vstack([whole, lines[-1:]])
        adjugate, determinant = adjugate_of(F)
        if determinant:
            break
    if determinant < 0:
        adjugate = -adjugate
    # Functionals in units of about 1: a power of two is exact.
    units = [1 << _BITS] * (r - 1) + [1 << max(map(int.bit_length, lines[-1].tolist()))]
    adjugate = adjugate * np.array(units, object)  # of int64, NumPy would round 2^63
    rows = np.array([_scaled(row) for row in (lines @ adjugate).tolist()])
    inverse = np.array(_scaled(adjugate.ravel().tolist())).reshape(r, r)
    return Coordinates(lines, F, inverse, rows)


def adjugate_of(matrix: np.ndarray) -> tuple[np.ndarray, int]:
    """`(adj, det)` with `matrix @ adj = det * I`, by Bareiss' elimination; `det` 0 if singular.

    Args:
        matrix: `[r, r]` Python integers.
    """
    r = len(matrix)
    rows = [[*row, *(int(i == j) for j in range(r))] for i, row in enumerate(matrix.tolist())]
    before = 1
    for c in range(r):
        pivot = next((i for i in range(c, r) if rows[i][c]), None)
        if pivot is None:
            return np.zeros((r, r), object), 0
        if pivot != c:
            rows[c], rows[pivot] = rows[pivot], [-v for v in rows[c]]
        top = rows[c]
        for i in range(r):
            if i != c:
                factor, row = rows[i][c], rows[i]
                # Exact: every entry of these steps is a minor of the matrix.
                rows[i] = [(top[c] * v - factor * t) // before for v, t in zip(row, top)]
        before = top[c]
    return np.array([row[r:] for row in rows], object).reshape(r, r), before


def _scaled(row: list[int]) -> list[float]:
    """A positive multiple of a row with a 2-norm of at most 1, each entry rounded to nearest."""
    bits = sum(v * v for v in row).bit_length()
    scale = 1 << -(-bits // 2)
    return [v / scale for v in row]  # Python rounds the quotient of integers correctly
