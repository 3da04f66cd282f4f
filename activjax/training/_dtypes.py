"""The dtype to compute in: float32, or the one given where it is wider."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp


def wide(dtype: Any) -> Any:
    """float32 for numbers that are smaller or whole; float64 and complex stay as they are."""
    dtype = jnp.dtype(dtype)
    if not jnp.issubdtype(dtype, jnp.inexact) or dtype.itemsize < 4:
        return jnp.dtype(jnp.float32)
    return dtype
