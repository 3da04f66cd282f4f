"""Signs of inner products that are right, whatever rounding did."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

UNIT = 2.0**-53


def exact_signs(X: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The signs of `weights @ X.T`, of the numbers as given.

    In float64 where `|value| > gamma |w| . |x|`, `gamma = (d + 2) u / (1 - (d + 2) u)` with a
    guard against underflow (Higham, "Accuracy and Stability of Numerical Algorithms", 2002,
    equation 3.4); the others in rational arithmetic.

    Args:
        X: `[n, d]` float64, or Python numbers in an object array.
        weights: `[m, d]`, likewise.

    Returns:
        `[m, n]` int8, -1, 0 or 1.
    """
    if X.dtype == object or weights.dtype == object:
        if not len(weights):
            return np.zeros((0, len(X)), np.int8)
        return np.array([[_sign(x, w) for x in X] for w in weights], np.int8)
    d = X.shape[1]
    gamma = 1.01 * (d + 2) * UNIT
    with np.errstate(all="ignore"):  # infinities and NaN are settled below
        value = weights @ X.T
        bound = gamma * (np.abs(weights) @ np.abs(X).T) + 2 * d * 2.0**-1022
        signs = np.sign(value).astype(np.int8)
        open_ = np.argwhere(~(np.abs(value) > bound))
    for i, j in open_.tolist():
        signs[i, j] = _sign(X[j], weights[i])
    return signs


def _sign(x: np.ndarray, w: np.ndarray) -> int:
    total = sum((Fraction(a) * Fraction(b) for a, b in zip(x.tolist(), w.tolist()) if a and b),
                Fraction(0))  # fmt: skip
    return (total > 0) - (total < 0)
