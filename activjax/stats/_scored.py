"""Scores with binary labels: what the detector metrics ask of them, and their distinct values."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Scored(NamedTuple):
    """Scores in order, with the examples' labels.

    Attributes:
      scores: `[n]` float64, examples sorted by label and then by score, so that the order in
        which they came decides nothing.
      labels: `[n]` booleans.
      order: `[n]`, where each came from.
      level: `[n]`, the rank of each example's score among the distinct scores, **highest first**.
      n_levels: how many distinct scores there are.
    """

    scores: np.ndarray
    labels: np.ndarray
    order: np.ndarray
    level: np.ndarray
    n_levels: int

    @property
    def n_positive(self) -> int:
        """Examples of the positive class."""
        return int(self.labels.sum())

    @property
    def n_negative(self) -> int:
        """Examples of the negative class."""
        return len(self.labels) - self.n_positive

    def hits(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Positives and negatives at or above each distinct score, highest first, weighted."""
        weights = np.ones(len(self.labels)) if weights is None else weights
        true = np.bincount(self.level, weights * self.labels, self.n_levels)
        false = np.bincount(self.level, weights * ~self.labels, self.n_levels)
        return np.cumsum(true), np.cumsum(false)


def scored(scores: Any, labels: Any, what: str) -> Scored:
    """Checks scores and labels and puts them in order.

    Raises:
      ValueError: wrong shapes, no examples, a NaN score, labels that are not binary, or one class
        only.
    """
    x, y = real(scores, f"{what}: scores"), binary(labels, f"{what}: labels")
    if x.ndim != 1:
        raise ValueError(f"{what}: scores have shape {x.shape}, expected [n]")
    if x.shape != y.shape:
        raise ValueError(f"{what}: {len(x)} scores and {len(y)} labels, expected as many of each")
    if y.all() or not y.any():
        raise ValueError(
            f"{what}: all {len(y)} labels are {int(y[0])}, expected examples of both classes"
        )
    order = np.lexsort((x, y))
    x, y = x[order], y[order]
    levels, rank = np.unique(x, return_inverse=True)
    return Scored(x, y, order, len(levels) - 1 - rank, len(levels))


def real(values: Any, what: str) -> np.ndarray:
    """Float64 values without NaN, at least one example."""
    x = np.asarray(values)
    if np.iscomplexobj(x) or x.dtype == object:
        raise ValueError(f"{what} have dtype {x.dtype}, expected real numbers")
    x = x.astype(np.float64)
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(f"{what} have shape {x.shape}, expected [n] with n >= 1")
    bad = np.argwhere(np.isnan(x))
    if len(bad):
        index = tuple(bad[0].tolist())
        at = index[0] if len(index) == 1 else index
        raise ValueError(f"{what} are NaN at index {at} ({len(bad)} in all): a NaN has no rank")
    return x


def binary(labels: Any, what: str) -> np.ndarray:
    """Labels as booleans `[n]`."""
    y = np.asarray(labels)
    if y.ndim != 1:
        raise ValueError(f"{what} have shape {y.shape}, expected [n]")
    odd = np.flatnonzero((y != 0) & (y != 1))
    if len(odd):
        raise ValueError(f"{what} hold {y[odd[0]]} at index {odd[0]}, expected booleans or 0 and 1")
    return y.astype(bool)


def grouped(groups: Any, n: int, what: str) -> np.ndarray | None:
    """Groups as numbers from 0, `[n]`, or None."""
    if groups is None:
        return None
    g = np.asarray(groups)
    if g.shape != (n,):
        raise ValueError(f"{what}: groups have shape {g.shape}, expected [{n}], one per example")
    if g.dtype.kind == "f" and np.isnan(g).any():
        raise ValueError(f"{what}: groups are NaN at index {int(np.isnan(g).argmax())}")
    return np.unique(g, return_inverse=True)[1]
