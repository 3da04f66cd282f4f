"""From a data set to the coordinates of its programs, and back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import numpy as np

from activjax.fit import one_blas_thread
from activjax.zonotope._program import Loss, Program


@dataclass(frozen=True)
class Scaled:
    """A data set in coordinates where its programs' numbers are near one, float64.

    Weights are `scale * back @ w'`, `w'` `[r]` those of the program; objectives are the program's
    times `n scale^2`.

    Attributes:
        X: `[n, d]`, as given.
        y: `[*b, n]`, as given.
        back: `[d, r]`; its range holds the shortest of equivalent weights where that matters.
        features: `[n, r]`, `X @ back`: orthogonal columns with mean square at most 1.
        norms: `[n]`, the lengths of the rows of `features`; 0 for zero rows.
        scale: `[*b]`, the root mean square of the targets; 1 for the logistic loss.
        at_zero: `[*b]`, the objective of the function 0.
        penalty: `[r, r]`, of the program.
        weight_decay: as given.
        loss: its name.
    """

    X: np.ndarray
    y: np.ndarray
    back: np.ndarray
    features: np.ndarray
    norms: np.ndarray
    scale: np.ndarray
    at_zero: np.ndarray
    penalty: np.ndarray
    weight_decay: float
    loss: Loss

    @property
    def unit(self) -> np.ndarray:
        """`[*b]`, what 1 in the objective of a program is worth."""
        return len(self.X) * self.scale**2

    def program(
        self, active: np.ndarray, signs: np.ndarray, lines: np.ndarray | None = None
    ) -> Program:
        """The programs of patterns: constraints for every example, or for those in `lines`.

        Args:
            active: `[*b, m, n]` booleans.
            signs: `[*b, m]`.
            lines: indices of examples, `[c]`.
        """
        rows = np.arange(len(self.X)) if lines is None else lines
        norms = self.norms[rows]
        facets = self.features[rows] / np.where(norms > 0, norms, 1.0)[:, None]
        sides = np.where(norms > 0, 2.0 * active[..., rows] - 1, 0.0)
        gates = signs[..., None] * active
        y = self.y / self.scale[..., None]
        return Program(self.features, facets, sides, gates, y, self.penalty, self.loss)

    def weights(self, w: np.ndarray) -> np.ndarray:
        """`[*b, m, d]` from a program's `[*b, m, r]`."""
        return self.scale[..., None, None] * (w @ self.back.T)


def scaled(X: np.ndarray, y: np.ndarray, loss: Loss, weight_decay: float) -> Scaled:
    """The coordinates: singular vectors of `X`, its columns first brought to one size.

    They are so scaled that features have mean square 1; with a penalty that mean square and penalty
    together are 1. Directions along which all examples are 0, up to `max(n, d)` times the float64
    epsilon of the largest, are left out: no output depends on them.
    """
    n = len(X)
    # Powers of two: exact.
    size = np.abs(X).max(axis=0)
    size = np.ldexp(1.0, np.frexp(np.where(size > 0, size, 1.0))[1])
    _, spread, directions = np.linalg.svd(X / size, full_matrices=False)
    rank = max(1, int(np.sum(spread > max(X.shape) * np.finfo(float).eps * spread[0])))
    spread = np.where(spread[:rank] > 0, spread[:rank], 1.0)
    back = directions[:rank].T / size[:, None]
    if rank < X.shape[1]:
        # The shortest weights with these outputs lie in the span of the rows.
        basis, _ = np.linalg.qr(directions[:rank].T * size[:, None])
        back = basis @ (basis.T @ back)
    back = back * (np.sqrt(n) / spread)
    if weight_decay:
        # Directions that the penalty holds more than the data do are shortened.
        _, held, directions = np.linalg.svd(np.sqrt(weight_decay / (2 * n)) * back)
        back = back @ directions.T / np.sqrt(1 + held**2)
    features = X @ back
    if loss == "squared":
        top = np.abs(y).max(axis=-1)
        top = np.where(top > 0, top, 1.0)
        scale = top * np.sqrt(np.mean((y / top[..., None]) ** 2, axis=-1))
        at_zero = np.sum(y**2, axis=-1)
    else:
        scale = np.ones(y.shape[:-1])
        at_zero = np.full(y.shape[:-1], n * np.log(2.0))
    scale = np.where(scale > 0, scale, 1.0)
    penalty = weight_decay / n * (back.T @ back) if weight_decay else np.zeros((rank, rank))
    norms = np.sqrt(np.sum(features**2, axis=1))
    return Scaled(X, y, back, features, norms, scale, at_zero, penalty, weight_decay, loss)


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """64-bit JAX, with BLAS on one thread."""
    with jax.enable_x64(True), one_blas_thread():
        yield
