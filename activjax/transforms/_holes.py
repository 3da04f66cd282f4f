"""What stands where nothing was read, or where a traced index is out of range."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import checkify


def fill_value(dtype: Any) -> Any:
    """NaN, or 0 for types that have none."""
    return np.nan if jnp.issubdtype(dtype, jnp.inexact) else 0


def hole(shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """An array of holes: NaN, or 0 for types that have none."""
    if not shape and isinstance(dtype, np.dtype):
        # A constant: with jax_debug_nans, computing a NaN would be an error.
        return jax.device_put(np.asarray(fill_value(dtype), dtype))
    return jnp.full(shape, fill_value(dtype), dtype)


def wide_enough(dtypes: Iterable[Any]) -> contextlib.AbstractContextManager[Any]:
    """64 bits on, for values of a function that turns them on only for itself."""
    names = {dtype.name for dtype in dtypes if isinstance(dtype, np.dtype)}
    wide = names & {"int64", "uint64", "float64", "complex128"}
    return jax.enable_x64(True) if wide else contextlib.nullcontext()


def blank(shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """An array of zeros, to be written before it is read."""
    return jnp.zeros(shape, dtype)


def poison(x: jax.Array, outside: Sequence[jax.Array | None]) -> jax.Array:
    """A value, made a hole if any index is out of range; None for those that cannot be."""
    for bad in outside:
        if bad is not None:
            x = spoil(x, jnp.any(bad))
    return x


def spoil(x: jax.Array, bad: jax.Array) -> jax.Array:
    """A value with holes where `bad`; derivatives there are NaN too, not a silent 0."""
    if jnp.issubdtype(x.dtype, jnp.inexact):
        return x * jnp.where(bad, hole((), x.dtype), jnp.ones((), x.dtype))
    return jnp.where(bad, hole((), x.dtype), x)


def refuse(bad: jax.Array, where: str) -> None:
    """Under `checkify`, an error where an index is out of range; nothing otherwise."""
    checkify.debug_check(~jnp.any(bad), f"{where}: a traced index is out of range")
