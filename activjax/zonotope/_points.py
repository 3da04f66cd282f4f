"""Points in general position, beside hyperplanes: in float64 as far as that goes, else exact.

Arrangements are central: a point stands for its ray and may be multiplied by any positive number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from activjax.zonotope._integers import dyadic, other_columns

_BITS = 30  # of random numbers in integer points


@dataclass(frozen=True)
class Points:
    """Points, most of them in float64.

    Attributes:
        near: `[n, r]` float64 unit vectors, near the exact points where there are such.
        which: increasing indices of those that float64 is not enough for.
        exact: `[len(which), r]` Python integers, what these are.
    """

    near: np.ndarray
    which: np.ndarray
    exact: np.ndarray

    def whole(self, index: np.ndarray) -> np.ndarray:
        """`[len(index), r]` Python integers: exactly the points, times positive numbers."""
        found = np.empty((len(index), self.near.shape[1]), object)
        exact = self.is_exact(index)
        found[~exact] = dyadic(self.near[index[~exact]])
        found[exact] = self.exact[np.searchsorted(self.which, index[exact])]
        return found

    def is_exact(self, index: np.ndarray) -> np.ndarray:
        """Which of these float64 is not enough for."""
        if not len(self.which):
            return np.zeros(len(index), bool)
        return np.isin(index, self.which)


def in_float64(near: np.ndarray) -> Points:
    """Points for which float64 is enough."""
    return Points(near, np.zeros(0, np.int64), np.zeros((0, near.shape[1]), object))


def joined_points(points: Sequence[Points]) -> Points:
    """One after the other."""
    before = np.cumsum([0, *(len(p.near) for p in points)])
    return Points(
        np.concatenate([p.near for p in points]),
        np.concatenate([p.which + b for p, b in zip(points, before)]),
        np.concatenate([p.exact for p in points]),
    )


def units(vectors: np.ndarray) -> np.ndarray:
    """Float64 rows of length 1."""
    return vectors / np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]


def lifted(points: np.ndarray, h: np.ndarray, pivots: np.ndarray) -> np.ndarray:
    """The points of hyperplanes `h @ x = 0` whose coordinates other than the pivot are given.

    Args:
        points: `[n, r - 1]`, float64 or Python integers.
        h: `[n, r]`, of the same kind.
        pivots: `[n]`.

    Returns:
        `[n, r]`, in float64 unit vectors.
    """
    n, r = h.shape
    found = np.zeros((n, r), points.dtype)
    np.put_along_axis(found, other_columns(pivots, r), points, axis=1)
    index = np.arange(n)
    pivot = h[index, pivots]
    if points.dtype != object:
        found[index, pivots] = -np.einsum("ij,ij->i", found, h) / pivot
        return units(found)
    missing = (found * h).sum(axis=1) * np.where(pivot < 0, 1, -1)
    found *= np.abs(pivot)[:, None]
    found[index, pivots] = missing
    return found


def paces(values: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """How close the nearest hyperplanes are on the way from a point along h and against it.

    Args:
        values: `[n, R]` float64, of forms at the point, nonzero.
        slopes: `[n, R]`, of the same forms at h.

    Returns:
        `[n, 2]`: no form changes sign before the distance 1 / pace; at least 1/2.
    """
    ratio = slopes / values
    return np.maximum(np.stack([-ratio.min(axis=1), ratio.max(axis=1)], axis=1), 0.5)


def beside(
    points: np.ndarray, h: np.ndarray, pace: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Float64 unit vectors near the middle of the way along h before any form changes sign.

    Random, so that they are on no other hyperplane.
    """
    part = random.uniform(0.4, 0.6, len(points)) / pace
    return units(points + part[:, None] * h)


def exact_steps(
    values: np.ndarray, slopes: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """`s, t > 0`, `[n, 1]`, such that `values * s + slopes * t` have the signs of the values.

    Of Python integers. As in `beside`, t / s is random.
    """
    pace = np.maximum(-(slopes // values).min(axis=1), 1)
    part = random.integers(2 ** (_BITS - 2), 2**_BITS, len(pace)).astype(object)
    return (pace * 2**_BITS)[:, None], part[:, None]
