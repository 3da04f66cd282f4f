"""Values of a network at points, with an estimate of their rounding errors.

A hinge that passes through a point is found by a value of 0 there, and rounding hides it. Each
value carries the standard deviation that independent rounding errors of all operations before it
would give it (Higham and Mary, "A new approach to probabilistic rounding error analysis", 2019);
what is below `DEVIATIONS` of these is taken for 0.
"""

from __future__ import annotations

import numpy as np

from activjax.program.networks import Affine

UNIT = np.finfo(np.float64).eps / 2
TINY = np.finfo(np.float64).tiny
DEVIATIONS = 32.0
SAFE = 1 + 1e-9  # for the rounding of bounds themselves

Values = dict[int, np.ndarray]


def before(affine: Affine, values: Values, noise: Values) -> tuple[np.ndarray, np.ndarray]:
    """The values before a layer's hinges and their noise, both `[n, m]`.

    Args:
      affine: the layer's map.
      values: rows `[n, size]` of each source.
      noise: the standard deviations of their errors.
    """
    z = affine(values)
    sources = affine.matrices
    carried = {s: np.square(noise[s]) + np.square(UNIT * values[s]) for s in sources}
    variance = affine.map(np.square).linear(carried) if sources else np.zeros_like(z)
    return z, np.sqrt(variance + (UNIT * affine.bias) ** 2 + (UNIT * z) ** 2)


def bounded(affine: Affine, values: Values, bound: Values) -> np.ndarray:
    """`[n, m]`, a bound on the errors of `affine(values)`, whatever the order of its sums.

    Higham, "Accuracy and Stability of Numerical Algorithms" (2002), section 3.1.

    Args:
      affine: the layer's map.
      values: rows `[n, size]` of each source.
      bound: of their errors.
    """
    sizes = affine.map(np.abs)
    sources = affine.sources
    terms = 2 + len(sources) + max(sources.values(), default=0)
    gamma = terms * UNIT / (1 - terms * UNIT)
    carried = {s: (1 + gamma) * bound[s] + gamma * np.abs(values[s]) for s in sources}
    first = sizes.linear(carried) if sources else np.zeros((1, affine.size))
    return SAFE * (first + gamma * np.abs(affine.bias))


def crossing(
    low: np.ndarray,
    high: np.ndarray,
    at: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray],
    column: int,
) -> np.ndarray:
    """Bounds on the errors of `between(low, high, at)` at the exact place where a column is 0.

    Args:
      low, high: `[n, m]` values at two points; those of the column have opposite signs.
      at: `[n]`, the place that was computed from them.
      bounds: of the errors of low and high; those of the column are smaller than its values.
      column: its number.
    """
    e0, e1 = bounds
    z0, z1 = np.abs(low[:, column]), np.abs(high[:, column])
    span = z0 + z1
    error = e0[:, column] + e1[:, column]
    moved = e0[:, column] * (z1 / span) + e1[:, column] * (z0 / span)
    # No two places of an edge are more than 1 apart.
    moved = np.divide(moved, span - error, out=np.ones_like(span), where=moved < span - error)
    moved = (moved + 4 * UNIT)[:, None]
    at = at[:, None]
    carried = (1 - at) * e0 + at * e1 + moved * (np.abs(high - low) + e0 + e1)
    return SAFE * (carried + 4 * UNIT * (np.abs(low) + np.abs(high)))


def settled(z: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """`z` with 0 wherever it cannot be told from 0."""
    return np.where(np.abs(z) <= DEVIATIONS * noise, 0.0, z)


def between(
    low: np.ndarray, high: np.ndarray, at: np.ndarray, noise_low: np.ndarray, noise_high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows `(1 - at) low + at high` of affine values, `at` being `[n]`, and their noise."""
    at = at[:, None]
    rows = (1 - at) * low + at * high
    return rows, (1 - at) * noise_low + at * noise_high + 2 * UNIT * np.abs(rows)
