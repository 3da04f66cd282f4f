"""Values of a network at points, with an estimate of their rounding errors.

A hinge that passes through a point is found by a value of 0 there, and rounding hides it. Each
value carries the standard deviation that independent rounding errors of all operations before it
would give it (Higham and Mary, "A new approach to probabilistic rounding error analysis", 2019);
what is below `DEVIATIONS` of these is taken for 0.
"""

from __future__ import annotations

import numpy as np

from activjax.regions._network import Affine

UNIT = np.finfo(np.float64).eps / 2
DEVIATIONS = 32.0

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
    carried = {s: noise[s] ** 2 + (UNIT * values[s]) ** 2 for s in sources}
    variance = affine.map(np.square).linear(carried) if sources else np.zeros_like(z)
    return z, np.sqrt(variance + (UNIT * affine.bias) ** 2 + (UNIT * z) ** 2)


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
