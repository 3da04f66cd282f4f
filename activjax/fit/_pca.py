"""Principal components, and standardising."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from activjax.fit import _check
from activjax.fit._check import dot


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PCA:
    """The leading principal components.

    Attributes:
        mean: `[d]`.
        components: `[k, d]`, orthonormal rows, by decreasing variance. The entry of largest
            absolute value in each row (the first such) is positive.
        explained_variance: `[k]`, with divisor `n - 1`, in squared units of `X`.
        explained_variance_ratio: `[k]`, as shares of the total variance (0 if that is 0).
        singular_values: `[k]`, of the centred matrix.
    """

    mean: Float[Array, "d"]
    components: Float[Array, "k d"]
    explained_variance: Float[Array, "k"]
    explained_variance_ratio: Float[Array, "k"]
    singular_values: Float[Array, "k"]

    def transform(self, X: Any) -> Float[Array, "m k"]:
        """Coordinates of the rows of `X`, `[m, d]`, along the components."""
        X = _check.features(X, self.mean.shape[0], self.mean, "PCA.transform: X")
        return dot(X - self.mean, self.components.T)

    def inverse_transform(self, coordinates: Any) -> Float[Array, "m d"]:
        """The points that have these coordinates, `[m, k]`."""
        k = self.components.shape[0]
        what = "PCA.inverse_transform: coordinates"
        return dot(_check.features(coordinates, k, self.mean, what), self.components) + self.mean


def pca(X: Any, k: int) -> PCA:
    """The `k` leading principal components, by a singular value decomposition.

    Equal to scikit-learn's `PCA(k, svd_solver="full")`, signs included. Components whose
    singular values are equal (those beyond the rank, for example) are only determined as a
    subspace.

    Args:
        X: `[n, d]`, `n >= 2`. It is centred but not scaled.
        k: `1 <= k <= min(n, d)`; static.

    Returns:
        PCA, in the dtype of `X`. A NaN in `X` makes everything NaN, except the mean of columns
        without one.

    Raises:
        ValueError: wrong shapes, fewer than two examples, or `k` out of range.
    """
    X = _check.matrix(X, "pca: X")
    if X.shape[0] < 2:
        raise ValueError("pca: X has 1 example, expected at least 2: one example has no variance")
    k = _check.between(k, 1, min(X.shape), "pca: k", f"the smaller side of X, {X.shape}")
    return _pca(X, k)


@partial(jax.jit, static_argnums=1)
def _pca(X: Array, k: int) -> PCA:
    mean = jnp.mean(X, axis=0)
    _, singular, components = jnp.linalg.svd(X - mean, full_matrices=False)
    largest = jnp.argmax(jnp.abs(components), axis=1)
    sign = jnp.sign(jnp.take_along_axis(components, largest[:, None], axis=1))
    variance = jnp.square(singular) / (X.shape[0] - 1)
    total = jnp.sum(variance)
    ratio = jnp.where(total == 0, jnp.zeros_like(total), variance / total)
    return PCA(mean, (components * sign)[:k], variance[:k], ratio[:k], singular[:k])


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Standardise:
    """The map `x -> (x - mean) / scale`, feature by feature.

    Attributes:
        mean: `[d]`.
        scale: `[d]`, standard deviations with divisor `n`; 1 for constant features.
    """

    mean: Float[Array, "d"]
    scale: Float[Array, "d"]

    def transform(self, X: Any) -> Float[Array, "m d"]:
        """The rows of `X`, `[m, d]`, in standard units."""
        X = _check.features(X, self.mean.shape[0], self.mean, "Standardise.transform: X")
        return (X - self.mean) / self.scale


def standardise(X: Any) -> Standardise:
    """Mean and scale of every feature, as scikit-learn's `StandardScaler`.

    A feature is constant if its variance is within what rounding gives a constant one (Chan,
    Golub and LeVeque, "Algorithms for computing the sample variance", 1983): it is centred and
    left at its scale, never divided by rounding error.

    Args:
        X: `[n, d]`; of one example every feature is constant.

    Returns:
        Standardise, in the dtype of `X`. A NaN in a column makes that column's entries NaN.

    Raises:
        ValueError: wrong shape, or no examples.
    """
    return _standardise(_check.matrix(X, "standardise: X"))


@jax.jit
def _standardise(X: Array) -> Standardise:
    n = X.shape[0]
    mean, variance = jnp.mean(X, axis=0), jnp.var(X, axis=0)
    rounding = n * float(jnp.finfo(X.dtype).eps)
    constant = variance <= rounding * variance + jnp.square(rounding * mean)
    return Standardise(mean, jnp.where(constant, jnp.ones_like(variance), jnp.sqrt(variance)))
