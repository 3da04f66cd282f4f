"""The generic engine on the host: every cell once, by sweeping lines, with a certificate.

Algorithm: on the line where `i - 1` planes meet, the other planes cut at parameters `t`. Each
crossing is a vertex, the lowest one of exactly one cell; the sign word of that cell is the word at
`t = -inf` with the planes crossed so far flipped, and the signs at the vertex's own planes follow
from the directions of its edges. No linear program, no search, no comparison between cells.

Everything is read off the coordinates of the rows in the basis of a line,
`a_j = sum_s gamma_js a_s + (base) + alpha_j h + beta_j k`, and the answer is right as soon as the
signs of `beta` and `gamma` and the order of `t = -alpha / beta` are.

Error bound (unit roundoff u, rows of norm <= 1, entries within u of the truth): let `V` be the
computed inverse of the basis matrix `W`, `tau = |V|_F`, and `rho` a bound of `|W V - I|_F` for the
true `W`: the computed residual plus `r ((r + 3) u tau + u)`. Then `|W^-1 - V|_F <= tau rho /
(1 - rho)`, so every coordinate is within `e = 2 tau rho + (r + 3) u tau` of the truth while
`rho <= 1/2`, and `t` within `e (1 + |t|) / (|beta| - e) + 2 u |t|`. A line on which this leaves a
sign or an order open is settled in integers; a coincidence there ends the sweep.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from activjax.zonotope import _levels
from activjax.zonotope._coordinates import Coordinates, adjugate_of
from activjax.zonotope._exact_line import Redraw, exact_line
from activjax.zonotope._levels import Level
from activjax.zonotope._words import RowBits

UNIT = 2.0**-53
CHUNK = 1 << 21  # bytes of one float64 array of a chunk: it stays in the cache


@dataclass(frozen=True)
class Part:
    """Cells found on some lines, the last line positive.

    Attributes:
        words: `[m, ceil(n / 64)]` uint64, the patterns of the rows.
        level: which level they belong to.
        exact_lines: how many lines had to be settled in integers.
    """

    words: np.ndarray
    level: Level
    exact_lines: int


def sweep(where: Coordinates, bits: RowBits, chunk: int = CHUNK) -> Iterator[Part]:
    """The cells with the last line positive, part by part; level `r - 1` comes first.

    Args:
        where: the arrangement in coordinates.
        bits: what flips with a line.
        chunk: bytes of one working array; about ten of them are in use.

    Raises:
        Degenerate: the arrangement is not simple.
        Redraw: a direction of the coordinates is not general.
    """
    n_lines, rank = where.rows.shape
    rows = _levels.extended(where.rows)
    for level in _levels.levels(n_lines - 1, rank):
        if level.size == 0:
            yield lowest(where, bits, level)
            continue
        per_line = 8 * (n_lines - 1) * max(level.size - 1, bits.flips.shape[1])
        for start, stop in _levels.chunks(level, max(chunk // max(per_line, 1), 1)):
            planes = _levels.subsets(start, stop, level.size - 1, n_lines - 1)
            yield sweep_lines(where, rows, level, planes, bits)


def lowest(where: Coordinates, bits: RowBits, level: Level) -> Part:
    """Level 0: the one cell that has no lowest vertex at any level."""
    value = where.rows[:-1, -2] if where.rows.shape[1] > 1 else np.ones(0)
    positive = value < 0
    if (value == 0).any():  # entries are correctly rounded: 0, or so small that it underflows
        adjugate, determinant = adjugate_of(where.functionals)
        exact = where.lines[:-1] @ adjugate[:, -2] * determinant
        if (exact == 0).any():
            raise Redraw
        positive = (exact < 0).astype(bool)
    word = bits.of_signs(np.append(positive, True)[None])
    return Part(word, level, 0)


def sweep_lines(
    where: Coordinates, rows: np.ndarray, level: Level, planes: np.ndarray, bits: RowBits
) -> Part:
    """The cells whose lowest vertex is a line's crossing of a plane after its own.

    Args:
        where: the arrangement in coordinates.
        rows: the extended matrix.
        level: the level of the lines, `size >= 1`.
        planes: `[B, size - 1]`, ascending, the planes that meet in each line.
        bits: what flips with a line.

    Raises:
        Degenerate, Redraw: as `sweep`.
    """
    n_planes, size = len(where.rows) - 1, level.size
    gamma, alpha, beta, error = tableau(rows, n_planes, level, planes)
    own = np.zeros(beta.shape, bool)
    np.put_along_axis(own, planes, True, axis=1)
    keep = _levels.later(planes, n_planes)

    e = error[:, None]
    with np.errstate(all="ignore"):  # what is not finite is settled in integers below
        t = np.where(own, np.inf, -alpha / beta)
        reach = np.abs(beta) - e
        slack = e * (1 + np.abs(t)) / reach + 2 * UNIT * np.abs(t)
        order = np.argsort(t, axis=1)[:, : n_planes - size + 1]
        t = np.take_along_axis(t, order, axis=1)
        slack = np.take_along_axis(slack, order, axis=1)
        sure = (t[:, 1:] - t[:, :-1] > slack[:, 1:] + slack[:, :-1]).all(axis=1)
        sure &= ((reach > 0) | own).all(axis=1)
        for g in gamma:
            sure &= ((np.abs(g) > e) | ~keep).all(axis=1)
    open_ = np.flatnonzero(~sure)
    for i in open_:
        order[i], beta[i], gamma[:, i] = exact_line(where, level, planes[i])

    start = bits.of_signs(np.pad((beta < 0) & ~own, ((0, 0), (0, 1)), constant_values=True))
    crossed = np.bitwise_xor.accumulate(bits.flips[order], axis=1) ^ start[:, None]
    words = np.empty((*beta.shape, bits.flips.shape[1]), np.uint64)
    np.put_along_axis(words, order[..., None], crossed, axis=1)
    words = words[keep]
    line = np.nonzero(keep)[0]
    downward = beta[keep] < 0
    for s, g in enumerate(gamma):
        # Leaving plane s upward is leaving it on the side where -gamma / beta is positive.
        positive = (g[keep] < 0) != downward
        words ^= np.where(positive[:, None], bits.flips[planes[:, s]][line], np.uint64(0))
    return Part(words, level, len(open_))


def tableau(
    rows: np.ndarray, n_planes: int, level: Level, planes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates of all planes in the bases of lines: gamma, alpha, beta and their error bound.

    Args:
        rows: the extended matrix.
        n_planes: M, how many of its rows are planes.
        level: the level of the lines.
        planes: `[B, size - 1]`, the planes that meet in each line.

    Returns:
        `[size - 1, B, M]`, `[B, M]`, `[B, M]`, and `[B]`: how far an entry can be from the truth;
        infinite where the basis is singular to working precision.
    """
    rank, n = rows.shape[1], len(planes)
    basis = rows[_levels.basis_index(level, planes)]
    inverse, regular = inverses(basis)
    with np.errstate(all="ignore"):
        tau = np.sqrt(np.einsum("bij,bij->b", inverse, inverse))
        residual = basis @ inverse
        residual -= np.eye(rank)
        rho = np.sqrt(np.einsum("bij,bij->b", residual, residual))
        rho += rank * ((rank + 3) * UNIT * tau + UNIT)
        error = 1.01 * (2 * tau * rho + (rank + 3) * UNIT * tau)  # 1.01: rounding of this line
    error[~(regular & (rho <= 0.5))] = np.inf
    wanted = [*range(level.size - 1), rank - 2, rank - 1]
    columns = np.ascontiguousarray(inverse.transpose(2, 0, 1)[wanted]).reshape(-1, rank)
    found = (columns @ rows[:n_planes].T).reshape(len(wanted), n, n_planes)
    return found[:-2], found[-2], found[-1], error


def inverses(basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverses `[B, r, r]`, and which matrices had one; something finite for the others."""
    regular = np.ones(len(basis), bool)
    try:
        return np.linalg.inv(basis), regular
    except np.linalg.LinAlgError:
        regular = np.abs(np.linalg.det(basis)) > 0
        filled = np.where(regular[:, None, None], basis, np.eye(basis.shape[-1]))
    try:
        return np.linalg.inv(filled), regular
    except np.linalg.LinAlgError:
        return np.broadcast_to(np.eye(basis.shape[-1]), basis.shape), np.zeros(len(basis), bool)
