"""A selection of patterns, polynomially many, that fits any labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from activjax import fit, patterns
from activjax.patterns import Codes
from activjax.zonotope import _given
from activjax.zonotope._rows import rows_of
from activjax.zonotope._scaled import scaled
from activjax.zonotope._signs import exact_signs

_DRAWS = 16  # directions tried before examples count as too close to one another
_DEPENDENT = 1e-10  # what is left of a row of length 1 that the block's others nearly span


@dataclass(frozen=True)
class Selection:
    """A selection and what it was made from.

    Attributes:
        active: `[k, n]`, one pattern for each block, used by two units.
        witnesses: `[k, d]`, weights with these patterns, exactly.
        blocks: for each block the examples, one for each ray, that its two units fit.
    """

    active: np.ndarray
    witnesses: np.ndarray
    blocks: list[np.ndarray]


def select_vertices(X: Any) -> tuple[Codes, np.ndarray]:
    """Patterns and output signs with which a shallow ReLU network fits any labels.

    Examples are ordered along a generic direction and cut into consecutive blocks of `rank(X)`;
    two units, of output signs 1 and -1, are active from block k on, for each k. A cone with an
    interior minus itself is the whole space, so the two can add any linear function to block k,
    which later blocks put right: `solve` on this selection reaches zero loss, hence the global
    optimum, for any labels, with `2 ceil(n / d)` units in general position, twice the least number
    of parameters that fit n labels. Where consecutive examples are dependent, blocks are shorter
    and units more. Examples on one ray (equal, or one a positive multiple of the other) count as
    one: no ReLU network of this kind tells them apart, and those of another optimum are fitted as
    well as by any.

    The idea of the count is that of Matena and Raffel ("A Combinatorial Perspective on the
    Optimization of Shallow ReLU Networks", 2022); the construction, with its proof, is in the
    design note on zonotopes. Every pattern is that of a weight vector, in exact arithmetic.

    Args:
        X: `[n, d]` with some direction in which all examples but zero rows are positive, such as a
            column of ones.

    Returns:
        Codes of `2 k` patterns, their units the examples, and signs `[2 k]`, +1 and -1 in turn.

    Raises:
        ValueError: no such direction; examples that float64 does not tell apart in order; wrong
            shapes, NaN or infinite entries.
    """
    chosen = selection(X)
    active = np.repeat(chosen.active, 2, axis=0)
    return patterns.codes({"examples": active}), np.tile([1.0, -1.0], len(chosen.active))


def selection(X: Any) -> Selection:
    """As `select_vertices`, with witnesses and blocks."""
    X = _given.examples(X, "select_vertices: X")
    rows = rows_of(X)
    rays = np.where(rows.of >= 0, 2 * rows.of + (rows.sign < 0), -1)
    _, first, ray = np.unique(rays, return_index=True, return_inverse=True)
    if rays.min() < 0:
        first, ray = first[1:], ray - 1  # zero rows
    if not len(first):
        raise ValueError("select_vertices: all rows of X are 0, no unit can be active on any")
    up = _positive(X, first)
    s = scaled(X, np.zeros(len(X)), "squared", 0.0)
    unit = s.features / np.where(s.norms > 0, s.norms, 1.0)[:, None]
    size = np.abs(X).max(axis=0)
    size = np.where(size > 0, size, 1.0)
    rng = np.random.default_rng(0)
    for _ in range(_DRAWS):
        along = rng.normal(size=X.shape[1]) / size
        position = (X[first] @ along) / (X[first] @ up)
        order = np.argsort(position, kind="stable")
        starts = _starts(unit[first[order]])
        edges = position[order]
        cuts = (edges[starts[1:] - 1] + edges[starts[1:]]) / 2
        witnesses = np.concatenate([up[None], along - cuts[:, None] * up])
        rank = np.empty(len(order), int)
        rank[order] = np.arange(len(order))
        active = (ray >= 0) & (rank[ray] >= starts[:, None])
        signs = exact_signs(X, witnesses)
        if ((signs > 0) == active).all() and ((signs != 0) == (ray >= 0)).all():
            return Selection(active, witnesses, np.split(first[order], starts[1:]))
    raise ValueError(
        "select_vertices: examples lie so close together that no direction puts them in order in "
        "float64; round X, so that such examples become equal"
    )


def interpolating(X: np.ndarray, y: np.ndarray, chosen: Selection) -> np.ndarray:
    """Weights `[2 k, d]` of the selection's network with `f(X) = y`, block after block.

    Exact but for rounding where examples on one ray have labels in proportion.
    """
    s = scaled(X, np.zeros(len(X)), "squared", 0.0)
    left = np.array(y, np.float64)
    weights = []
    blocks = zip(chosen.blocks, chosen.active, chosen.witnesses, strict=True)
    for block, active, inner in blocks:
        g, *_ = np.linalg.lstsq(s.features[block], left[block], rcond=None)
        g = s.back @ g
        left = left - np.where(active, X @ g, 0.0)
        # Far enough into the cone that the sum is in it as well.
        side, depth = np.where(active, 1.0, -1.0), np.abs(X @ inner)
        short = -side * (X @ g) / np.where(depth > 0, depth, np.inf)
        inner = max(0.0, 2 * short.max()) * inner
        weights += [g + inner, inner]
    return np.array(weights)


def _positive(X: np.ndarray, first: np.ndarray) -> np.ndarray:
    """A direction in which all examples in `first` are positive, exactly."""
    rows = X[first]
    found = [np.sign(rows[0, j]) * np.eye(X.shape[1])[j] for j in range(X.shape[1])]
    constant = [c for j, c in enumerate(found) if rows[0, j] and (rows[:, j] == rows[0, j]).all()]
    for direction in (*constant, *found):
        if (rows @ direction > 0).all():  # an entry of the matrix, or its negative
            return direction
    unit = rows / np.abs(rows).max(axis=1, keepdims=True)
    d = X.shape[1]
    program = fit.linear_program(
        np.append(np.zeros(d), -1.0),
        np.hstack([-unit, np.ones((len(unit), 1))]),
        np.zeros(len(unit)),
        lower=-1.0,
        upper=1.0,
    )
    if program.status == "optimal" and program.x is not None:
        direction = program.x[:d]
        if (exact_signs(rows, direction[None]) > 0).all():
            return direction
    raise ValueError(
        "select_vertices: no direction was found in which all examples are positive; append a "
        "column of ones to X"
    )


def _starts(rows: np.ndarray) -> np.ndarray:
    """Where blocks begin: a row that its block's others span begins the next.

    Args:
        rows: `[k, r]`, of length 1.
    """
    starts, basis = [0], rows[:1]
    for i in range(1, len(rows)):
        rest = rows[i] - (rows[i] @ basis.T) @ basis
        rest = rest - (rest @ basis.T) @ basis  # twice is enough
        size = np.sqrt(rest @ rest)
        if size > _DEPENDENT:
            basis = np.concatenate([basis, rest[None] / size])
        else:
            starts.append(i)
            basis = rows[i : i + 1]
    return np.array(starts)
