"""A soft bound on scores and logits."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def capped(x: Float[Array, "*n"], cap: float | None) -> Float[Array, "*n"]:
    """`cap * tanh(x / cap)` (Gemma 2): near `x` where that is small, never beyond `cap`."""
    return x if cap is None else cap * jnp.tanh(x / cap)
