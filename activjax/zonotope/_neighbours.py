"""The vertices of the zonotope that share an edge with a vertex."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jaxtyping import Bool

from activjax import fit, patterns
from activjax.patterns import Codes
from activjax.zonotope._cells import codes_of
from activjax.zonotope._rows import Rows, rows_of
from activjax.zonotope._signs import exact_signs
from activjax.zonotope._simplex import in_cone
from activjax.zonotope._words import narrow, pack, row_bits


def neighbours(X: Any, pattern: Codes | Bool[np.ndarray, "n"] | Any) -> Codes:
    """The patterns of the vertices adjacent to a vertex of the zonotope.

    An edge flips one class of parallel rows. Whether flipping a class leads to a cell is the
    question whether its hyperplane is a facet of the cone `{w: (2 a - 1) X w >= 0}`. Every answer
    is proved: "yes" by a weight vector of the flipped pattern with signs settled in exact
    arithmetic, "no" by the row as a combination of the others with non-negative weights, in
    rational arithmetic (Farkas' lemma). Linear programs in float64 only find the proofs.

    Args:
        X: `[n, d]` real numbers, examples in rows.
        pattern: one vertex, as Codes of one row or as booleans `[n]`.

    Returns:
        Codes `[k, ceil(n / 32)]`, by the first row of the class that is flipped.

    Raises:
        ValueError: no matrix, NaN, a pattern of another length, or one that is no vertex.
        TypeError: entries that are not real numbers.
    """
    rows = rows_of(X, "neighbours: X")
    active = pattern_of(pattern, len(rows.of), "neighbours: pattern")
    signs = _line_signs(rows, active)
    bits = row_bits(rows)
    if not len(rows.lines):
        return codes_of(np.zeros((0, -(-bits.n // 32)), np.uint32), bits)
    a = rows.lines.astype(object) * signs.astype(int).astype(object)[:, None]
    scale = np.array([max(map(abs, row)) for row in a.tolist()], object)[:, None]
    near = (a / scale).astype(np.float64)
    inside = _interior(a, near)
    facets = _seen(a, near, inside)
    for k in np.flatnonzero(~facets):
        facets[k] = _is_facet(a, near, int(k))
    flipped = pack(active[None]) ^ bits.flips[facets]
    return codes_of(narrow(flipped, bits.n), bits)


def pattern_of(pattern: Any, n: int, what: str) -> np.ndarray:
    """One pattern as booleans `[n]`.

    Raises:
        ValueError: another shape, or numbers other than 0 and 1.
    """
    if isinstance(pattern, Codes):
        if pattern.words.ndim != 2 or pattern.n != 1:
            raise ValueError(f"{what} has words of shape {pattern.words.shape}, expected one row")
        pattern = patterns.unpack(pattern)[0]
    bits = np.asarray(pattern)
    if bits.shape != (n,):
        raise ValueError(f"{what} has shape {bits.shape}, expected [{n}], one bit for each example")
    if bits.dtype != bool and not np.isin(bits, (0, 1)).all():
        raise ValueError(f"{what} has entries other than 0 and 1")
    return bits.astype(bool)


def _line_signs(rows: Rows, active: np.ndarray) -> np.ndarray:
    """+-1 for each line."""
    on = np.where(active, 1, -1) * rows.sign
    signs = on[rows.first]
    for i, line in enumerate(rows.of.tolist()):
        if line < 0 and active[i]:
            raise ValueError(f"neighbours: pattern is no vertex: row {i} of X is zero, yet active")
        if line >= 0 and on[i] != signs[line]:
            raise ValueError(
                f"neighbours: pattern is no vertex: row {i} of X is parallel to an earlier row "
                "and disagrees with it"
            )
    return signs


def _interior(a: np.ndarray, near: np.ndarray) -> np.ndarray | None:
    """A point with `a w > 0`, as near the middle as the box allows; None if too thin for floats."""
    r, found = near.shape[1], _widest(near)
    if found.x is not None and _positive(a, found.x[None, :r])[0]:
        return found.x[:r]
    # Gordan: no such point exists if and only if 0 is a convex combination of the rows.
    if in_cone(np.array([0] * r + [1], object), np.column_stack([a, np.ones(len(a), object)])):
        raise ValueError("neighbours: pattern is no vertex: no weight vector has it")
    return None


def _widest(near: np.ndarray) -> fit.LinearProgram:
    """The `w` in the unit box, and last `t`, with the largest `t` such that all rows are >= t."""
    n, r = near.shape
    return fit.linear_program(
        np.append(np.zeros(r), -1.0),
        np.column_stack([-near, np.ones(n)]),
        np.zeros(n),
        lower=np.append(-np.ones(r), -np.inf),
        upper=np.append(np.ones(r), 1.0),
    )


def _positive(a: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`[m]`: whether all rows are positive at a point, exactly."""
    return np.asarray((exact_signs(a, points) > 0).all(axis=1))


def _seen(a: np.ndarray, near: np.ndarray, inside: np.ndarray | None) -> np.ndarray:
    """Facets that a ray from inside the cone meets first: one point behind each proves it."""
    facets = np.zeros(len(a), bool)
    if inside is None:
        return facets
    random = np.asarray(jax.random.normal(jax.random.key(0), near.shape, np.float32))
    directions = np.concatenate([-near, random.astype(np.float64)])
    with np.errstate(all="ignore"):
        speed = directions @ near.T
        times = np.where(speed < 0, -(near @ inside) / speed, np.inf)
        two = np.sort(times, axis=1)[:, :2] if len(a) > 1 else np.column_stack([times, times + 1])
        first = np.argmin(times, axis=1)
        until = np.where(np.isfinite(two[:, 1]), two[:, 1], 2 * two[:, 0])
        points = inside + (0.5 * (two[:, 0] + until))[:, None] * directions
    usable = np.isfinite(points).all(axis=1)
    for k in np.unique(first[usable]):
        facets[k] = _positive(_turned(a, k), points[usable & (first == k)]).any()
    return facets


def _is_facet(a: np.ndarray, near: np.ndarray, k: int) -> bool:
    r, found = near.shape[1], _widest(_turned(near, k))
    if found.x is not None and _positive(_turned(a, k), found.x[None, :r])[0]:
        return True
    others = np.arange(len(a)) != k
    if found.dual_ub is not None:
        likely = others & (found.dual_ub > 1e-9)
        if likely.any() and in_cone(a[k], a[likely]):
            return False
    return not (others.any() and in_cone(a[k], a[others]))


def _turned(rows: np.ndarray, k: int) -> np.ndarray:
    turned = rows.copy()
    turned[k] = -turned[k]
    return turned
