"""The rotation that best lays one space on another."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from activjax.fit import _check
from activjax.fit._check import dot


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Procrustes:
    """The map `x -> scale (x - mean_x) @ rotation + mean_y`.

    Attributes:
        rotation: `[dx, dy]`, orthogonal (reflections count); its rows are orthonormal if
            `dx <= dy`, its columns if `dx >= dy`.
        scale: scalar, at least 0; 1 unless asked for.
        mean_x: `[dx]`.
        mean_y: `[dy]`.
        singular_values: `[min(dx, dy)]`, decreasing, of the cross-products of deviations. Where
            one is 0, but for rounding, the rotation in that direction is arbitrary.
        residual: the sum of squared distances that is left, as a share of that of `Y` from its
            mean; 0 if `Y` does not vary.
    """

    rotation: Float[Array, "dx dy"]
    scale: Float[Array, ""]
    mean_x: Float[Array, "dx"]
    mean_y: Float[Array, "dy"]
    singular_values: Float[Array, "k"]
    residual: Float[Array, ""]

    def transform(self, X: Any) -> Float[Array, "m dy"]:
        """The rows of `X`, `[m, dx]`, in the space of `Y`."""
        X = _check.features(X, self.mean_x.shape[0], self.mean_x, "Procrustes.transform: X")
        return self.scale * dot(X - self.mean_x, self.rotation) + self.mean_y

    def inverse_transform(self, Y: Any) -> Float[Array, "m dx"]:
        """The rows of `Y`, `[m, dy]`, in the space of `X`; undoes `transform` if `dx <= dy`."""
        what = "Procrustes.inverse_transform: Y"
        Y = _check.features(Y, self.mean_y.shape[0], self.mean_y, what)
        return dot((Y - self.mean_y) / self.scale, self.rotation.T) + self.mean_x


def procrustes(X: Any, Y: Any, *, scale: bool = False) -> Procrustes:
    """The orthogonal map that best takes the examples of one space to those of another.

    Minimises `|s (X - mean_x) R - (Y - mean_y)|^2` over orthogonal `R`, and over `s >= 0` if
    `scale` (Schönemann, "A generalized solution of the orthogonal Procrustes problem", 1966;
    Schönemann and Carroll 1970 for the scale). `R` is `scipy.linalg.orthogonal_procrustes` of the
    centred matrices.

    Spaces of different widths are compared as if the narrower were padded with zeros. For `dx < dy`
    that is the best isometric embedding. For `dx > dy` the map drops `dx - dy` directions, and what
    `X` has in them is an error of the padded problem, but not part of `residual`; the scale
    minimises `residual` for this rotation.

    Args:
        X: `[n, dx]`.
        Y: `[n, dy]`; row `i` is the same example as row `i` of `X`.
        scale: whether `s` is fitted; static. Where nothing varies it stays 1.

    Returns:
        Procrustes, in the wider of the two dtypes. With one example everything is centred away:
        the rotation is then the identity. A NaN makes rotation and residual NaN.

    Raises:
        ValueError: wrong shapes, no examples, or different numbers of them.
    """
    X, Y = _check.matrix(X, "procrustes: X"), _check.matrix(Y, "procrustes: Y")
    if X.shape[0] != Y.shape[0]:
        raise ValueError(
            f"procrustes: X has {X.shape[0]} examples and Y {Y.shape[0]}, expected as many of each"
        )
    dtype = np.promote_types(X.dtype, Y.dtype)  # also under strict promotion
    return _procrustes(X.astype(dtype), Y.astype(dtype), bool(scale))


@partial(jax.jit, static_argnums=2)
def _procrustes(X: Array, Y: Array, scaled: bool) -> Procrustes:
    mean_x, mean_y = jnp.mean(X, axis=0), jnp.mean(Y, axis=0)
    X, Y = X - mean_x, Y - mean_y
    left, singular, right = jnp.linalg.svd(dot(X.T, Y), full_matrices=False)
    rotation = dot(left, right)
    turned = dot(X, rotation)
    scale = jnp.ones((), X.dtype)
    if scaled:
        size = jnp.sum(jnp.square(turned))  # that of X, unless directions were dropped
        scale = jnp.where(size == 0, scale, jnp.sum(singular) / jnp.where(size == 0, 1, size))
    total = jnp.sum(jnp.square(Y))
    residual = jnp.sum(jnp.square(scale * turned - Y)) / jnp.where(total == 0, 1, total)
    residual = jnp.where(total == 0, jnp.zeros_like(total), residual)
    return Procrustes(rotation, scale, mean_x, mean_y, singular, residual)
