"""How alike two representations of the same examples are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from activjax.stats._accumulator import sums_dtype
from activjax.stats._moments import centre


def cka(X: Float[Array, "n dx"], Y: Float[Array, "n dy"], *, debiased: bool = True) -> Array:
    """Linear centred kernel alignment of two sets of features of the same examples.

    Kornblith, Norouzi, Lee and Hinton ("Similarity of neural network representations revisited",
    2019), equation 4 with linear kernels. It is 1 for features that are equal up to a rotation and
    a scale.

    Args:
      X, Y: `[n, dx]` and `[n, dy]`, rows in the same order.
      debiased: use the unbiased estimate of HSIC (Song et al., "Feature selection via dependence
        maximization", 2012, equation 5): that of independent features is 0 on average, where the
        plain one grows with `d / n`. Needs `n >= 4`, and memory for `n x n` kernels.

    Returns:
      A number: in [0, 1] when not debiased; NaN if a side is constant. Neither scale matters.

    Raises:
      ValueError: shapes that do not fit, or too few examples.
    """
    X, Y = _pair("cka", X, Y)
    n = X.shape[0]
    if n < (4 if debiased else 2):
        raise ValueError(f"cka: {n} examples, expected at least {4 if debiased else 2}")
    X, Y = _unit(X), _unit(Y)
    if not debiased:
        xy, xx, yy = (_squares(a, b) for a, b in ((X, Y), (X, X), (Y, Y)))
        return jnp.minimum(_ratio(xy, xx, yy), 1)  # rounding could leave it above
    K, L = _u_centred(X), _u_centred(Y)
    return _ratio(jnp.sum(K * L), jnp.sum(jnp.square(K)), jnp.sum(jnp.square(L)))


def _unit(X: Array) -> Array:
    """Rows less their mean, over their root mean square; exactly 0 where columns are constant."""
    _, _, X = centre(X, jnp.ones(X.shape[0], bool))
    X = X / _or_one(jnp.max(jnp.abs(X)))
    return X / _or_one(jnp.sqrt(jnp.mean(jnp.square(X))))


def _or_one(x: Array) -> Array:
    return jnp.where(x > 0, x, jnp.ones_like(x))


def _squares(X: Array, Y: Array) -> Array:
    """The squared norm of `X^T Y`, by the smaller products."""
    n, dx, dy = X.shape[0], X.shape[1], Y.shape[1]
    if dx * dy <= n * n:
        return jnp.sum(jnp.square(jnp.matmul(X.T, Y, precision="highest")))
    K, L = (jnp.matmul(a, a.T, precision="highest") for a in (X, Y))
    return jnp.sum(K * L)


def _u_centred(X: Array) -> Array:
    """The linear kernel without its diagonal, U-centred (Szekely and Rizzo 2014, definition 2).

    The unbiased HSIC is the mean of products of two of these; unlike its closed form in sums this
    does not cancel when a few rows are large.
    """
    n = X.shape[0]
    off = ~jnp.eye(n, dtype=bool)
    K = jnp.where(off, jnp.matmul(X, X.T, precision="highest"), 0)
    rows = jnp.sum(K, axis=1) / (n - 2)
    whole = jnp.sum(rows) / (n - 1)
    return jnp.where(off, K - rows[:, None] - rows[None, :] + whole, 0)


def _ratio(xy: Array, xx: Array, yy: Array) -> Array:
    good = (xx > 0) & (yy > 0)
    # Roots apart: the product of both could overflow.
    scale = jnp.sqrt(jnp.where(good, xx, 1)) * jnp.sqrt(jnp.where(good, yy, 1))
    return jnp.where(good, xy / scale, jnp.nan)


def cka_from_scatter(
    xx: Float[Array, "dx dx"], yy: Float[Array, "dy dy"], xy: Float[Array, "dx dy"]
) -> Array:
    """Linear CKA, not debiased, of features that were not stored: from `moments` and `cross`.

    Args:
      xx, yy, xy: scatter or covariance matrices of one divisor.

    Returns:
      A number in [0, 1]; NaN if a side is constant.

    Raises:
      ValueError: shapes that do not fit.
    """
    xx, yy, xy = _three("cka_from_scatter", xx, yy, xy)
    scale_x, scale_y = _or_one(jnp.max(jnp.abs(xx))), _or_one(jnp.max(jnp.abs(yy)))
    between = xy / jnp.sqrt(scale_x) / jnp.sqrt(scale_y)
    parts = (jnp.sum(jnp.square(a)) for a in (between, xx / scale_x, yy / scale_y))
    return jnp.minimum(_ratio(*parts), 1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SVCCA:
    """Canonical correlations between the leading subspaces of two representations.

    Attributes:
      correlations: `[min(dx, dy)]`, decreasing; 0 beyond the smaller number of kept directions.
      kept_x, kept_y: how many principal directions were kept of each.
      mean: of the correlations of as many directions as the smaller side keeps.
    """

    correlations: Float[Array, "d"]
    kept_x: Array
    kept_y: Array
    mean: Float[Array, ""]


def svcca(
    xx: Float[Array, "dx dx"],
    yy: Float[Array, "dy dy"],
    xy: Float[Array, "dx dy"],
    *,
    share: float = 0.99,
) -> SVCCA:
    """Singular vector canonical correlation analysis, from second moments.

    Raghu, Gilmer, Yosinski and Sohl-Dickstein ("SVCCA", 2017): keep the principal directions that
    carry `share` of each side's variance, then the canonical correlations between them. With
    `n` rows and no fewer kept directions the correlations are 1 whatever the data: have `n` much
    larger than `d`, and report the value of shuffled rows beside it.

    Args:
      xx, yy, xy: scatter or covariance matrices of one divisor (`moments`, `cross`).
      share: of variance to keep, in (0, 1].

    Returns:
      SVCCA; NaN where a side has no variance.

    Raises:
      ValueError: shapes that do not fit, or another share.
    """
    xx, yy, xy = _three("svcca", xx, yy, xy)
    if not 0 < share <= 1:
        raise ValueError(f"svcca: share is {share}, expected a number in (0, 1]")
    (white_x, kept_x), (white_y, kept_y) = _whitener(xx, share), _whitener(yy, share)
    between = jnp.matmul(
        white_x.T, jnp.matmul(xy, white_y, precision="highest"), precision="highest"
    )
    rho = jnp.clip(jnp.linalg.svd(between, compute_uv=False), 0, 1)
    kept = jnp.minimum(kept_x, kept_y)
    rho = jnp.where(jnp.arange(rho.shape[0], dtype=jnp.int32) < kept, rho, 0)
    rho = jnp.where(kept > 0, rho, jnp.nan)
    mean = jnp.where(kept > 0, jnp.sum(rho) / jnp.maximum(kept, 1).astype(rho.dtype), jnp.nan)
    return SVCCA(rho, kept_x, kept_y, mean)


def _whitener(c: Array, share: float) -> tuple[Array, Array]:
    """Columns that map the kept directions to unit variance, 0 for the others; and how many."""
    values, vectors = jnp.linalg.eigh(c)
    values, vectors = values[::-1], vectors[:, ::-1]
    rounding = c.shape[0] * jnp.asarray(jnp.finfo(c.dtype).eps, c.dtype) * jnp.max(values)
    values = jnp.where(values > rounding, values, 0)
    before = jnp.cumsum(values) - values
    keep = (values > 0) & (before < share * jnp.sum(values))
    root = jnp.where(keep, 1 / jnp.sqrt(jnp.where(keep, values, 1)), 0)
    return vectors * root, jnp.sum(keep, dtype=jnp.int32)


def _pair(what: str, X: Any, Y: Any) -> tuple[Array, Array]:
    X, Y = jnp.asarray(X), jnp.asarray(Y)
    if X.ndim != 2 or Y.ndim != 2 or X.shape[0] != Y.shape[0]:
        raise ValueError(
            f"{what}: X has shape {X.shape} and Y {Y.shape}, expected [n, dx] and [n, dy]"
        )
    dtype = sums_dtype(X.dtype, Y.dtype)
    return X.astype(dtype), Y.astype(dtype)


def _three(what: str, xx: Any, yy: Any, xy: Any) -> tuple[Array, Array, Array]:
    xx, yy, xy = (jnp.asarray(a) for a in (xx, yy, xy))
    dtype = sums_dtype(xx.dtype, yy.dtype, xy.dtype)
    xx, yy, xy = (a.astype(dtype) for a in (xx, yy, xy))
    dx, dy = xy.shape if xy.ndim == 2 else (-1, -1)
    if xx.shape != (dx, dx) or yy.shape != (dy, dy) or 0 in xy.shape:
        raise ValueError(
            f"{what}: xx, yy and xy have shapes {xx.shape}, {yy.shape} and {xy.shape}, expected "
            "[dx, dx], [dy, dy] and [dx, dy]"
        )
    return xx, yy, xy
