"""Features brought to one scale, as their fit set has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float64

Scaling: TypeAlias = Literal["quantile_normal", "standard", "none"]


@dataclass(frozen=True, eq=False)
class Scaler:
    """A map for each column, linear between knots and constant beyond them.

    Attributes:
      knots: for each column `(values, scaled)`, increasing; or `(mean, deviation)` as two numbers.
      kind: which of the two, or "none".
      constant: columns that were constant; they become 0 whatever they hold.
    """

    knots: tuple[tuple[np.ndarray, np.ndarray], ...]
    kind: Scaling
    constant: tuple[int, ...]

    def __call__(self, X: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, "n d"]:
        """The scaled features."""
        if self.kind == "none":
            return X
        out = np.zeros(X.shape)
        for i, (a, b) in enumerate(self.knots):
            if i not in self.constant:
                column = X[:, i]
                out[:, i] = (column - a) / b if self.kind == "standard" else np.interp(column, a, b)
        return out


def fit_scaler(X: Float64[np.ndarray, "n d"], kind: Scaling) -> Scaler:
    """The scaling of a fit set: see `fit_attack`."""
    if kind == "none":
        return Scaler((), kind, ())
    constant = tuple(np.flatnonzero(X.min(0) == X.max(0)).tolist())
    if kind == "standard":
        # by the largest value first: squares of 1e200 would overflow
        size = np.abs(X).max(0)
        size[size == 0] = 1.0
        part = X / size
        knots = tuple(zip(part.mean(0) * size, part.std(0) * size))
        return Scaler(knots, kind, constant)
    return Scaler(tuple(_normal_scores(column) for column in X.T), kind, constant)


def _normal_scores(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from scipy.special import ndtri

    values, counts = np.unique(column, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2  # the mean rank of equal values, from 1
    return values, ndtri((rank - 0.5) / len(column))
