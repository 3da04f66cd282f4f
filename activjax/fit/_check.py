"""What the fits ask of their inputs, and the wording when they do not get it."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int32


def matrix(x: Any, what: str) -> Float[Array, "n d"]:
    """`x` as a floating `[n, d]` with `n, d >= 1`.

    float32 and float64 are kept (float64 needs JAX's 64-bit mode); half precision is widened to
    float32 and integers and booleans become JAX's default float.
    """
    x = _floating(x, what)
    if x.ndim != 2:
        hint = "; for a single example use x[None]" if x.ndim == 1 else ""
        raise ValueError(f"{what} has shape {x.shape}, expected [n, d], examples in rows{hint}")
    if 0 in x.shape:
        raise ValueError(f"{what} has shape {x.shape}: there is nothing to fit, expected n, d >= 1")
    return x


def targets(y: Any, n: int, like: Array, what: str) -> Float[Array, "n *outputs"]:
    """`y` as `[n]` or `[n, outputs]` in the dtype of `like`."""
    y = jnp.asarray(y)
    if y.ndim not in (1, 2) or y.shape[0] != n:
        raise ValueError(f"{what} has shape {y.shape}, expected [{n}] or [{n}, outputs]")
    return y.astype(like.dtype)


def labels(y: Any, n: int, n_classes: int, what: str) -> Int32[Array, "n"]:
    """`y` as int32 `[n]` in `0 .. n_classes - 1`; the range is checked where values are known."""
    if n_classes < 1:
        raise ValueError(f"{what}: n_classes is {n_classes}, expected at least 1")
    known = None if isinstance(y, Tracer) else np.asarray(y)  # before a trace around us turns it
    y = jnp.asarray(y)
    if y.shape != (n,):
        raise ValueError(f"{what} has shape {y.shape}, expected [{n}], one for each example")
    if not jnp.issubdtype(y.dtype, jnp.integer):
        raise ValueError(f"{what} has dtype {y.dtype}, expected integers 0 .. {n_classes - 1}")
    if known is not None and n:
        low, high = int(known.min()), int(known.max())
        if low < 0 or high >= n_classes:
            raise ValueError(
                f"{what} run from {low} to {high}, expected 0 .. {n_classes - 1}; number the "
                "classes from 0 (np.unique(..., return_inverse=True)) or set n_classes"
            )
    return y.astype(jnp.int32)


def between(value: int, low: int, high: int, what: str, why: str) -> int:
    """A static integer in `low .. high`."""
    if not low <= value <= high:
        raise ValueError(f"{what} is {value}, expected {low} .. {high} ({why})")
    return int(value)


def penalty(l2: Any, like: Array, what: str) -> Float[Array, ""]:
    """`l2` as a scalar in the dtype of `like`; its sign is checked where its value is known."""
    known = None if isinstance(l2, Tracer) else np.asarray(l2)
    l2 = jnp.asarray(l2, like.dtype)
    if l2.ndim:
        raise ValueError(f"{what} has shape {l2.shape}, expected a scalar; use jax.vmap for many")
    if known is not None and not known > 0:
        raise ValueError(f"{what} is {known}, expected a positive number")
    return l2


def features(x: Any, n_features: int, like: Array, what: str) -> Float[Array, "m d"]:
    """`x` as `[m, n_features]` in the dtype of a fit."""
    x = jnp.asarray(x)
    if x.ndim != 2 or x.shape[1] != n_features:
        raise ValueError(f"{what} has shape {x.shape}, expected [m, {n_features}] as in the fit")
    return x.astype(like.dtype)


def dot(a: Array, b: Array) -> Array:
    """Matrix product at full precision: accelerators' defaults round the factors to 10 bits."""
    return jnp.matmul(a, b, precision="highest")


def _floating(x: Any, what: str) -> Array:
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.floating):
        return x.astype(jnp.float32) if x.dtype.itemsize < 4 else x
    if x.dtype == bool or jnp.issubdtype(x.dtype, jnp.integer):
        return x.astype(jnp.zeros(()).dtype)
    raise ValueError(f"{what} has dtype {x.dtype}, expected real numbers")
