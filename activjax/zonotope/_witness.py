"""A weight vector inside each cell that the generic engine found."""

from __future__ import annotations

import math

import numpy as np

from activjax.zonotope import _levels
from activjax.zonotope._coordinates import Coordinates, adjugate_of
from activjax.zonotope._exact_line import functional
from activjax.zonotope._generic import inverses
from activjax.zonotope._levels import Level
from activjax.zonotope._signs import exact_signs


def planes_of(where: Coordinates, level: Level, index: np.ndarray) -> np.ndarray:
    """The planes at the lowest vertices of cells of a level, by their numbers in the sweep.

    Args:
        where: the arrangement in coordinates.
        level: the level.
        index: `[k]`, `0 <= index < C(M, level.size)`.

    Returns:
        `[k, level.size]`.
    """
    if level.size == 0:
        return np.zeros((len(index), 0), np.int64)
    n_planes = len(where.rows) - 1
    lines = _levels.subsets(0, level.n_lines, level.size - 1, n_planes)
    first = lines[:, -1] + 1 if level.size > 1 else np.zeros(1, np.int64)
    ends = np.cumsum(n_planes - first)
    line = np.searchsorted(ends, index, side="right")
    plane = first[line] + index - (ends[line] - (n_planes - first[line]))
    return np.column_stack([lines[line], plane])


def witnesses(
    where: Coordinates, level: Level, planes: np.ndarray, positive: np.ndarray
) -> np.ndarray:
    """A weight vector inside each cell: from its lowest vertex a step along the sum of its edges.

    Args:
        where: the arrangement in coordinates.
        level: the level of the cells.
        planes: `[k, level.size]`, the planes at their lowest vertices.
        positive: `[k, n_lines]`, the signs of their lines, which the result is checked against.

    Returns:
        `[k, r]` float64; Python integers in an object array if a cell is too thin for float64.
    """
    rows, n_planes = _levels.extended(where.rows), len(where.rows) - 1
    fixed = np.array([*level.base, level.height], np.int64)
    index = np.concatenate([planes, np.broadcast_to(fixed, (len(planes), len(fixed)))], axis=1)
    with np.errstate(all="ignore"):  # what is not finite fails the check below
        edges, _ = inverses(rows[index])
        inward = edges / np.linalg.norm(edges, axis=1, keepdims=True)
        inward = np.einsum("bij,bj->bi", inward, _orientations(level, planes, positive))
        vertex = edges[:, :, -1]
        at, along = vertex @ rows[:n_planes].T, inward @ rows[:n_planes].T
        np.put_along_axis(at, planes, np.inf, axis=1)
        room = np.min(np.abs(at / along), axis=1, initial=np.inf)
        point = vertex + 0.5 * np.minimum(room, 1.0)[:, None] * inward
        found = point @ where.inverse.T
        found /= np.linalg.norm(found, axis=1, keepdims=True)
    lines = where.lines
    bad = ~np.isfinite(found).all(axis=1)
    found[bad] = 0.0
    bad |= (exact_signs(lines, found) != np.where(positive, 1, -1)).any(axis=1)
    if bad.any():
        found = found.astype(object)
        for i in np.flatnonzero(bad):
            found[i] = _in_integers(where, level, planes[i], positive[i])
    return found


def _orientations(level: Level, planes: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """`[k, r]`: +-1 for each plane, +1 for the last line where its value is 0, 0 for the rest."""
    n_base = len(level.base) + 1
    out = np.zeros((len(planes), planes.shape[1] + n_base))
    out[:, : planes.shape[1]] = np.where(np.take_along_axis(positive, planes, axis=1), 1, -1)
    if level.base:
        out[:, planes.shape[1]] = 1
    return out


def _in_integers(
    where: Coordinates, level: Level, planes: np.ndarray, positive: np.ndarray
) -> np.ndarray:
    basis = [functional(where, i) for i in (*planes.tolist(), *level.base, level.height)]
    edges, determinant = adjugate_of(np.array(basis, object))
    if determinant < 0:
        edges = -edges
    turns = _orientations(level, planes[None], positive[None])[0].astype(int).astype(object)
    inward, vertex = edges @ turns, edges[:, -1]
    at, along = where.lines[:-1] @ vertex, where.lines[:-1] @ inward
    others = set(range(len(at))) - set(planes.tolist())
    # vertex * steps + inward keeps the side of every other plane.
    steps = max((abs(along[j]) // abs(at[j]) + 1 for j in others), default=1)
    point = (vertex * steps + inward).tolist()
    divisor = math.gcd(*point)
    point = np.array([v // divisor for v in point], object)
    expected = np.where(positive, 1, -1)
    if (exact_signs(where.lines, point[None])[0] != expected).any():
        raise AssertionError("the witness of a certified cell lies outside it")
    return point
