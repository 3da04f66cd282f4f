"""One line of the sweep in integers, for where float64 leaves a sign or an order open."""

from __future__ import annotations

import numpy as np

from activjax.zonotope._coordinates import Coordinates, adjugate_of
from activjax.zonotope._levels import Level


class Degenerate(Exception):
    """The arrangement is not simple: hyperplanes meet in more than general position allows."""


class Redraw(Exception):
    """A direction of the coordinates is not general; others must be drawn."""


def exact_line(
    where: Coordinates, level: Level, planes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the sweep needs of one line.

    Args:
        where: the arrangement in coordinates.
        level: the level of the line.
        planes: `[level.size - 1]`, the planes that meet in it.

    Returns:
        `(order, beta, gamma)`: the planes in the order of crossing, `[M - size + 1]`; the signs of
        the coordinates along the line, `[M]`, and along its planes, `[size - 1, M]`.

    Raises:
        Degenerate, Redraw: a sign is 0 or two crossings coincide.
    """
    n_planes, rank = len(where.lines) - 1, where.lines.shape[1]
    top = level.size == rank - 1
    basis = [functional(where, i) for i in (*planes.tolist(), *level.base, level.height)]
    adjugate, determinant = adjugate_of(np.array([*basis, functional(where, level.along)], object))
    if determinant == 0:
        raise Degenerate if top and not independent(basis) else Redraw
    wanted = adjugate[:, [*range(len(planes)), -2, -1]]
    found = where.lines[:-1] @ (wanted if determinant > 0 else -wanted)
    gamma, alpha, beta = found[:, : len(planes)].T, found[:, -2], found[:, -1]
    others = np.setdiff1d(np.arange(n_planes), planes, assume_unique=True).tolist()
    if any(beta[j] == 0 for j in others):
        raise Degenerate if top else Redraw
    # Different fractions are further apart than 2^-shift, so that rounding down parts no equals
    # and leaves the order of the others.
    shift = 2 * max((int(beta[j]).bit_length() for j in others), default=0)
    crossing = {j: (-alpha[j] << shift) // beta[j] for j in others}
    if len(set(crossing.values())) < len(others):
        raise Degenerate if top else Redraw
    if any(g[j] == 0 for g in gamma for j in others):
        raise Redraw
    order = np.array(sorted(others, key=crossing.__getitem__), np.int64)
    return order, _signs(beta), _signs(gamma).reshape(len(planes), n_planes)


def independent(rows: list[np.ndarray]) -> bool:
    """Whether integer vectors are linearly independent."""
    basis: dict[int, np.ndarray] = {}
    for row in rows:
        for pivot, other in basis.items():
            row = other[pivot] * row - row[pivot] * other
        pivot = next((c for c, v in enumerate(row) if v), None)
        if pivot is None:
            return False
        basis[pivot] = row
    return True


def functional(where: Coordinates, index: int) -> np.ndarray:
    """Row `index` of the extended matrix (see `_levels.extended`), as integers on weights."""
    n_planes, rank = len(where.lines) - 1, where.lines.shape[1]
    if index < n_planes:
        return where.lines[index]
    if index < n_planes + rank:
        return where.functionals[index - n_planes]
    return -where.functionals[index - n_planes - rank]


def _signs(values: np.ndarray) -> np.ndarray:
    return np.array([(v > 0) - (v < 0) for v in values.ravel()], np.float64).reshape(values.shape)
