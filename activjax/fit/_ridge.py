"""Ridge regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array, Float

from activjax.fit import _check
from activjax.fit._check import dot


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Linear:
    """An affine map `x -> x @ coef + intercept`.

    Attributes:
        coef: `[d]`, or `[d, outputs]` if the targets had an output axis.
        intercept: `[]` or `[outputs]`.
    """

    coef: Float[Array, "d *outputs"]
    intercept: Float[Array, "*outputs"]

    def predict(self, X: Any) -> Float[Array, "m *outputs"]:
        """The map's value on the rows of `X`, `[m, d]`."""
        X = _check.features(X, self.coef.shape[0], self.coef, "Linear.predict: X")
        return dot(X, self.coef) + self.intercept


def ridge(X: Any, y: Any, l2: Any) -> Linear:
    """Least squares with a quadratic penalty on the coefficients, in closed form.

    Minimises `|y - X w - b|^2 + l2 |w|^2` over `w` and `b`; the intercept is not penalised. This
    is scikit-learn's `Ridge(alpha=l2)`. Solved by Cholesky on the smaller of the two Gram
    matrices, with one corrective step in which the residual is computed from `X` and not from the
    Gram matrix (Björck, "Stability analysis of the method of seminormal equations", 1987).

    Args:
        X: `[n, d]`; one example gives zero coefficients and that example's target as intercept.
        y: `[n]` or `[n, outputs]`.
        l2: positive scalar, in squared units of `X`; may be traced, so `vmap` sweeps it.

    Returns:
        Linear, in the dtype of `X`. A NaN in `X` or `y` makes the fit NaN (one in an output
        column of `y`, that output).

    Raises:
        ValueError: wrong shapes, no example, or `l2 <= 0` (where its value is known).
    """
    X = _check.matrix(X, "ridge: X")
    y = _check.targets(y, X.shape[0], X, "ridge: y")
    return _ridge(X, y, _check.penalty(l2, X, "ridge: l2"))


@jax.jit
def _ridge(X: Array, y: Array, l2: Array) -> Linear:
    n, d = X.shape
    x_mean, y_mean = jnp.mean(X, axis=0), jnp.mean(y, axis=0)
    X, columns = X - x_mean, (y - y_mean).reshape(n, -1)

    primal = d <= n
    gram = dot(X.T, X) if primal else dot(X, X.T)
    factor = cho_factor(gram + l2 * jnp.eye(min(n, d), dtype=X.dtype), lower=True)
    if primal:  # (X'X + l2) w = X'y
        coef = cho_solve(factor, dot(X.T, columns))
        coef = coef + cho_solve(factor, dot(X.T, columns - dot(X, coef)) - l2 * coef)
    else:  # w = X'v, (XX' + l2) v = y
        dual = cho_solve(factor, columns)
        dual = dual + cho_solve(factor, columns - dot(X, dot(X.T, dual)) - l2 * dual)
        coef = dot(X.T, dual)
    coef = coef.reshape(d, *y.shape[1:])
    return Linear(coef, y_mean - dot(x_mean, coef))


def ridge_from_moments(
    scatter_xx: Any, scatter_xy: Any, mean_x: Any, mean_y: Any, l2: Any
) -> Linear:
    """Ridge regression from accumulated moments: no example is stored.

    Minimises what `ridge` does. The examples themselves are not there to correct by, so the error
    is that of the normal equations: about the condition of `scatter_xx + l2` times rounding.

    Args:
        scatter_xx: `[d, d]`, sums of products of deviations (`stats.moments("full")`).
        scatter_xy: `[d]` or `[d, outputs]`, the same with the targets (`stats.cross()`).
        mean_x: `[d]`.
        mean_y: `[]` or `[outputs]`.
        l2: positive scalar, in squared units of the features; may be traced.

    Returns:
        Linear, in the dtype of `scatter_xx`. NaN in, NaN out.

    Raises:
        ValueError: wrong shapes, or `l2 <= 0` (where its value is known).
    """
    xx = _check.matrix(scatter_xx, "ridge_from_moments: scatter_xx")
    d = xx.shape[0]
    if xx.shape != (d, d):
        raise ValueError(f"ridge_from_moments: scatter_xx has shape {xx.shape}, expected [d, d]")
    xy = _check.targets(scatter_xy, d, xx, "ridge_from_moments: scatter_xy")
    mean_x, mean_y = (jnp.asarray(m, xx.dtype) for m in (mean_x, mean_y))
    if mean_x.shape != (d,) or mean_y.shape != xy.shape[1:]:
        raise ValueError(
            f"ridge_from_moments: the means have shapes {mean_x.shape} and {mean_y.shape}, "
            f"expected {(d,)} and {xy.shape[1:]}"
        )
    return _from_moments(xx, xy, mean_x, mean_y, _check.penalty(l2, xx, "ridge_from_moments: l2"))


@jax.jit
def _from_moments(xx: Array, xy: Array, mean_x: Array, mean_y: Array, l2: Array) -> Linear:
    columns = xy.reshape(xy.shape[0], -1)
    matrix = xx + l2 * jnp.eye(xx.shape[0], dtype=xx.dtype)
    factor = cho_factor(matrix, lower=True)
    coef = cho_solve(factor, columns)
    coef = (coef + cho_solve(factor, columns - dot(matrix, coef))).reshape(xy.shape)
    return Linear(coef, mean_y - dot(mean_x, coef))
