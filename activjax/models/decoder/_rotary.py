"""Rotary position embedding (Su et al. 2021), the half-split form of GPT-NeoX and Llama."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def rotate(
    x: Float[Array, "batch seq head d"], at: Int[Array, "#batch seq"], size: int, base: float
) -> Float[Array, "batch seq head d"]:
    """Rotate the first `size` dimensions of each head by angles proportional to its position.

    Dimension `i < size/2` and dimension `i + size/2` form a plane, turned by the angle
    `at * base^(-2i/size)`. Computed in float32.
    """
    half = size // 2
    rates = base ** (-jnp.arange(half, dtype=jnp.float32) * (2.0 / size))
    angles = at.astype(jnp.float32)[..., None, None] * rates
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    a, b, rest = jnp.split(x.astype(jnp.float32), [half, size], axis=-1)
    out = jnp.concatenate([a * cos - b * sin, b * cos + a * sin, rest], axis=-1)
    return out.astype(x.dtype)
