"""Which sub-problems the sweep visits: levels, and the subsets of hyperplanes of each.

With the last line's value positive, the other `M` lines are an affine arrangement in dimension
`n = r - 1`. Level n holds the cells that have a lowest vertex in the first coordinate; those that
have none are the cells of the slice at minus infinity, which is swept in the next coordinate, and
so on: level i has `C(M, i)` cells, one for each of its vertices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Level:
    """Level i: the lines (of intersection) that it sweeps, one for each (i-1)-subset of planes.

    Attributes:
        size: i, how many planes meet in a vertex of this level.
        n_lines: `C(M, i - 1)`, and 1 at level 0.
        base: rows of the extended matrix whose value is 0 in this level's space.
        height: the row whose value is 1 on the affine space of this level.
        along: the row whose value grows along a swept line; of no use at level 0.
    """

    size: int
    n_lines: int
    base: tuple[int, ...]
    height: int
    along: int


def extended(rows: np.ndarray) -> np.ndarray:
    """`[M + 2r - 1, r]`: all lines but the last, the coordinates, the first ones negated.

    Rows `M .. M + r - 1` are the coordinates (the last is the last line), then come the negatives
    of the first `r - 1`.
    """
    eye = np.eye(rows.shape[1])
    return np.vstack([rows[:-1], eye, -eye[:-1]])


def levels(n_planes: int, rank: int) -> list[Level]:
    """The levels from `rank - 1` down to 0, for `n_planes` lines besides the last."""
    n, coordinate, negative = rank - 1, n_planes, n_planes + rank
    last = coordinate + n
    out = []
    for i in range(n, -1, -1):
        along = coordinate + n - i
        if i == n:
            base, height = (), last
        else:
            base = (last, *range(coordinate, coordinate + n - i - 1))
            height = negative + n - i - 1
        out.append(Level(i, math.comb(n_planes, max(i - 1, 0)), base, height, along))
    return out


def n_cells(n_planes: int, rank: int) -> int:
    """Cells with the last line positive, in general position: `sum_{i < rank} C(M, i)`."""
    return sum(math.comb(n_planes, i) for i in range(rank))


def n_cells_of(n_planes: int, level: Level) -> int:
    """Cells of one level."""
    return math.comb(n_planes, level.size)


def basis_index(level: Level, planes: np.ndarray) -> np.ndarray:
    """`[B, r]`: the rows of the extended matrix that are a line's basis.

    First the planes that meet in it, then the level's base, height and direction.
    """
    fixed = np.array([*level.base, level.height, level.along])
    return np.concatenate([planes, np.broadcast_to(fixed, (len(planes), len(fixed)))], axis=1)


def subsets(start: int, stop: int, size: int, n: int) -> np.ndarray:
    """Subsets number `start .. stop` of `size` out of `n`, in colexicographic order.

    Returns:
        `[stop - start, size]`, ascending in each row.
    """
    rank = np.arange(start, stop, dtype=np.int64)
    out = np.empty((len(rank), size), np.int64)
    for k in range(size, 0, -1):
        table = np.array([math.comb(c, k) for c in range(n + 1)], np.int64)
        out[:, k - 1] = np.searchsorted(table, rank, side="right") - 1
        rank -= table[out[:, k - 1]]
    return out


def later(planes: np.ndarray, n_planes: int) -> np.ndarray:
    """`[B, n_planes]`, the planes after all those of a line: each vertex belongs to one line.

    Args:
        planes: `[B, size - 1]`, ascending.
        n_planes: M.
    """
    return np.arange(n_planes) > planes.max(axis=1, keepdims=True, initial=-1)


def chunks(level: Level, size: int) -> Iterator[tuple[int, int]]:
    """Ranges of a level's lines, at most `size` long."""
    for start in range(0, level.n_lines, size):
        yield start, min(start + size, level.n_lines)
