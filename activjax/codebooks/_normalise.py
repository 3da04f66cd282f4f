"""What is done to an activation before codes are compared with it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from activjax.codebooks._power import powers
from activjax.codebooks._spec import Spec
from activjax.training._dtypes import wide

_EPS = 1e-6  # of the mean square, relative to that of the data: the result scales with the data


def normalise(
    x: Float[Array, "*lead groups d"], scale: Float[Array, "#*lead groups"] | None, spec: Spec
) -> Float[Array, "*lead groups d"]:
    """Rows as the codes see them, in float32 at least.

    With `norm="rms"`, `x / sqrt(mean(x^2) + 1e-6 s^2)`; "layer" takes the mean of `x` off first.
    `s` is `scale`, the root mean square of the data.
    """
    a = x.astype(wide(x.dtype))
    if spec.norm is None:
        return a
    s = _column(scale, a)
    top = jax.lax.stop_gradient(jnp.maximum(jnp.abs(a).max(axis=-1, keepdims=True), s))
    inverse = powers(top)[1]  # it cancels out; squares of 1e20 or 1e-20 would not be numbers
    a, s = a * inverse, s * inverse
    if spec.norm == "layer":
        a = a - jnp.mean(a, axis=-1, keepdims=True)
    square = jnp.mean(jnp.square(a), axis=-1, keepdims=True)
    return a / jnp.sqrt(square + jnp.square(s) * jnp.asarray(_EPS, a.dtype))


def denormalise(q: Array, scale: Float[Array, "#*lead groups"] | None, spec: Spec) -> Array:
    """What codes add up to, at the scale of the data: `s q`."""
    return q if spec.norm is None else q * _column(scale, q)


def _column(scale: Array | None, like: Array) -> Array:
    s = jnp.asarray(1.0, like.dtype) if scale is None else scale.astype(like.dtype)[..., None]
    return jax.lax.stop_gradient(s)


def data_scale(
    rows: Float[Array, "tokens groups d"], on: Array, spec: Spec
) -> Float[Array, " groups"]:
    """Root mean square of each group's rows that are no padding; 1 where all are 0."""
    a = rows.astype(wide(rows.dtype))
    a = jnp.where(on[:, None, None], a, jnp.zeros((), a.dtype))  # padding may be NaN
    size, inverse = powers(jnp.abs(a).max(axis=(0, 2), initial=0))
    a = a * inverse[:, None]
    if spec.norm == "layer":
        a = a - jnp.mean(a, axis=-1, keepdims=True)
    count = jnp.maximum(jnp.sum(on, dtype=a.dtype), 1) * a.shape[-1]
    mean = jnp.sum(jnp.square(a), axis=(0, 2)) / count
    root = jnp.sqrt(jnp.where(mean > 0, mean, 1)) * size
    return jnp.where(mean > 0, root, jnp.ones((), a.dtype))
