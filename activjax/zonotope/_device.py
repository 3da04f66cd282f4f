"""The generic engine on the default device: the same cells, words and order as on the host.

One compiled program serves every level and every chunk: a line's basis is rows of the extended
matrix, whatever its level. Instead of sorting crossings, each crossing is compared with every
plane, `value_k at t_j = (alpha_k beta_j - alpha_j beta_k) / beta_j`: M times the work on a line,
all of it elementwise, which accelerators have to spare. The error bound is the host's; products
of two coordinates carry `e (|alpha_j| + |alpha_k| + |beta_j| + |beta_k|) + 2 e^2` and rounding.
Lines on which it leaves something open are done again on the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32, UInt32

from activjax.zonotope import _levels
from activjax.zonotope._coordinates import Coordinates
from activjax.zonotope._generic import UNIT, Part, lowest, sweep_lines
from activjax.zonotope._levels import Level
from activjax.zonotope._words import WORD, RowBits, narrow

CHUNK = 1 << 25
"""Bytes of the words of a chunk of lines, and of an array of all pairs of planes on these."""


def sweep(where: Coordinates, bits: RowBits, chunk: int = CHUNK) -> Iterator[Part]:
    """The cells with the last line positive, as `_generic.sweep`, bit for bit.

    Args:
        where: the arrangement in coordinates.
        bits: what flips with a line.
        chunk: bytes; see `CHUNK`.

    Raises:
        Degenerate, Redraw: as `_generic.sweep`.
    """
    n_lines, rank = where.rows.shape
    rows = _levels.extended(where.rows)
    levels = _levels.levels(n_lines - 1, rank)
    most = max(level.n_lines for level in levels)
    per_line = 8 * n_lines * max(n_lines, bits.flips.shape[1])
    per_call = max(1, min(chunk // per_line, 1 << (most - 1).bit_length()))
    for level, planes, called in _ahead(where, bits, rows, levels, per_call):
        if called is None:
            yield lowest(where, bits, level)
        else:
            words, sure = (np.asarray(x)[: len(planes)] for x in called)
            yield _checked(where, bits, rows, level, planes, words, sure)


def _ahead(
    where: Coordinates, bits: RowBits, rows: np.ndarray, levels: list[Level], per_call: int
) -> Iterator[tuple[Level, np.ndarray, tuple[Array, Array] | None]]:
    """Chunks with their results, each called before the one before it is read."""
    n_planes = len(where.rows) - 1
    negative = bits.of_signs(np.zeros((1, n_planes + 1), bool))[0]
    whole = WORD * bits.flips.shape[1]
    flips, start = narrow(bits.flips[:-1], whole), narrow(negative ^ bits.flips[-1], whole)
    waiting = None
    for level in levels:
        step = level.n_lines if level.size == 0 else per_call
        for begin, end in _levels.chunks(level, step):
            if level.size == 0:
                now = (level, np.zeros((1, 0), np.int64), None)
            else:
                planes = _levels.subsets(begin, end, level.size - 1, n_planes)
                index = np.zeros((per_call, rows.shape[1]), np.int32)
                index[: len(planes)] = _levels.basis_index(level, planes)
                index[len(planes) :] = index[0]
                with jax.enable_x64(True), jax.ensure_compile_time_eval():
                    now = (level, planes, words_of_lines(index, rows, flips, start))
            if waiting is not None:
                yield waiting
            waiting = now
    if waiting is not None:
        yield waiting


def _checked(
    where: Coordinates,
    bits: RowBits,
    rows: np.ndarray,
    level: Level,
    planes: np.ndarray,
    words: np.ndarray,
    sure: np.ndarray,
) -> Part:
    keep = _levels.later(planes, len(where.rows) - 1)
    words = np.ascontiguousarray(words.astype("<u4", copy=False)).view("<u8").astype(np.uint64)
    open_, exact = np.flatnonzero(~sure), 0
    if len(open_):
        again = sweep_lines(where, rows, level, planes[open_], bits)
        redone = np.zeros(keep.shape, bool)
        redone[open_] = keep[open_]
        words[redone] = again.words
        exact = again.exact_lines
    return Part(words[keep], level, exact)


@jax.jit
def words_of_lines(
    index: Int32[Array, "B r"],
    rows: Float[Array, "rows r"],
    flips: UInt32[Array, "M words"],
    start: UInt32[Array, "words"],
) -> tuple[UInt32[Array, "B M words"], Bool[Array, "B"]]:
    """The words of the cells above every crossing of a chunk of lines, and which lines are sure.

    Args:
        index: rows that make each line's basis.
        rows: the extended matrix, `M + 2 r - 1` rows.
        flips: the words of each plane.
        start: the word where the last line alone is positive.

    Returns:
        Words (those of planes up to a line's own mean nothing), and whether every sign that counts
        is beyond the error bound.
    """
    return jax.vmap(partial(_line, rows=rows, flips=flips, start=start))(index)


def _line(index: Array, rows: Array, flips: Array, start: Array) -> tuple[Array, Array]:
    rank, n_planes = rows.shape[1], flips.shape[0]
    basis = rows[index]
    inverse = _inverse(basis)
    unit = jnp.asarray(UNIT, rows.dtype)
    tau = jnp.sqrt(jnp.sum(inverse**2))
    residual = _dot(basis, inverse) - jnp.eye(rank, dtype=rows.dtype)
    rho = jnp.sqrt(jnp.sum(residual**2)) + rank * ((rank + 3) * unit * tau + unit)
    e = 1.01 * (2 * tau * rho + (rank + 3) * unit * tau)
    found = _dot(inverse.T, rows[:n_planes].T)
    gamma, alpha, beta = found[:-2], found[-2], found[-1]

    plane = jnp.arange(n_planes, dtype=index.dtype)
    mine = index[:-2, None] == plane  # [r - 2, M]; functionals are no planes
    own = mine.any(axis=0)
    is_plane = index[:-2] < n_planes
    keep = plane > jnp.max(jnp.where(is_plane, index[:-2], -1), initial=-1)

    forward, backward = beta[:, None] * alpha[None, :], alpha[:, None] * beta[None, :]
    cross = forward - backward
    size = jnp.abs(alpha) + jnp.abs(beta)
    bound = e * (size[:, None] + size[None, :]) + 2 * e * e
    bound = 1.01 * (bound + 4 * unit * (jnp.abs(forward) + jnp.abs(backward)))
    same = plane[:, None] == plane[None, :]
    sure = (jnp.abs(cross) > bound) | same | own[None, :] | ~keep[:, None]
    edges = (jnp.abs(gamma) > e) | ~keep | ~is_plane[:, None]
    sure = sure.all() & ((jnp.abs(beta) > e) | own).all() & edges.all() & (rho <= 0.5)

    up = beta > 0
    bits = jnp.where(same, up[:, None], (cross > 0) == up[:, None])  # [crossing, plane]
    bits &= ~own[None, :]
    words = _flip(bits, flips) ^ start
    positive = (gamma < 0) != (beta < 0)  # [r - 2, M]
    own_flips = flips[jnp.minimum(index[:-2], n_planes - 1)]
    return words ^ _flip((positive & is_plane[:, None]).T, own_flips), sure


def _flip(bits: Bool[Array, "m k"], flips: UInt32[Array, "k words"]) -> UInt32[Array, "m words"]:
    chosen = jnp.where(bits[:, :, None], flips[None], jnp.uint32(0))
    return jax.lax.reduce(chosen, np.uint32(0), jax.lax.bitwise_xor, (1,))


def _inverse(matrix: Float[Array, "r r"]) -> Float[Array, "r r"]:
    """Gauss-Jordan with partial pivoting; not finite where the matrix is singular."""
    r = matrix.shape[0]
    order = jnp.arange(r)

    def eliminate(c: Array, rows: Array) -> Array:
        column = rows[:, c]
        pivot = jnp.argmax(jnp.where(order >= c, jnp.abs(column), -1.0))
        top = rows[pivot]
        rows = jnp.where((order == pivot)[:, None], rows[c], rows)
        top = top / top[c]
        return jnp.where((order == c)[:, None], top, rows - rows[:, c][:, None] * top)

    both = jnp.concatenate([matrix, jnp.eye(r, dtype=matrix.dtype)], axis=1)
    return jax.lax.fori_loop(0, r, eliminate, both)[:, r:]


def _dot(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")
