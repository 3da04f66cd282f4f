"""What scores ask of their arrays: shapes, the dtype they compute in, and means under a mask."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from activjax.training._dtypes import wide


def floating(x: Any, what: str) -> Array:
    """`x` in float32, or in float64 where it came so."""
    x = jnp.asarray(x)
    if jnp.iscomplexobj(x):
        raise ValueError(f"{what}: dtype {x.dtype}, expected real numbers")
    return x.astype(wide(x.dtype))


def token_mask(mask: Any, shape: tuple[int, ...], what: str) -> Bool[Array, "n seq"] | None:
    """The mask as booleans of the tokens' shape; None stays None.

    Raises:
      ValueError: another shape, or values that are known and neither 0 nor 1.
    """
    if mask is None:
        return None
    if len(shape) != 2:
        raise ValueError(
            f"{what}: mask: a mask takes losses of tokens, [n, seq], got shape {list(shape)}"
        )
    array = jnp.asarray(mask)
    if array.shape != shape:
        raise ValueError(
            f"{what}: mask has shape {list(array.shape)}, expected {list(shape)}, one per token"
        )
    if array.dtype != bool and not isinstance(mask, Tracer):
        zero = jnp.zeros((), array.dtype)
        if not ((array == zero) | (array == zero + 1)).all():
            raise ValueError(f"{what}: mask holds other values, expected booleans or 0 and 1")
    return array.astype(bool)


def masked_sum(x: Float[Array, "n seq"], mask: Bool[Array, "n seq"] | None) -> Float[Array, " n"]:
    """Sums over counted tokens; NaN for a row without any."""
    if mask is None:
        return x.sum(-1)
    return jnp.where(mask.any(-1), jnp.where(mask, x, 0).sum(-1), jnp.nan)


def masked_mean(x: Float[Array, "n seq"], mask: Bool[Array, "n seq"] | None) -> Float[Array, " n"]:
    """Means over counted tokens; NaN for a row without any."""
    if mask is None:
        return x.mean(-1)
    return masked_sum(x, mask) / jnp.maximum(mask.sum(-1), 1).astype(x.dtype)


def per_example(x: Any, mask: Any, what: str) -> Float[Array, " n"]:
    """`[n]` as it is, `[n, seq]` as means over counted tokens."""
    x = floating(x, what)
    if x.ndim not in (1, 2):
        raise ValueError(f"{what} has shape {list(x.shape)}, expected [n] or [n, seq]")
    mask = token_mask(mask, x.shape, what)
    return x if x.ndim == 1 else masked_mean(x, mask)


def same_shape(a: Array, b: Array, what: str) -> None:
    """Refuses two arrays of different shapes."""
    if a.shape != b.shape:
        raise ValueError(f"{what}: shapes {list(a.shape)} and {list(b.shape)}, expected equal ones")
