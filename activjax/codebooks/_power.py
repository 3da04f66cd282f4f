"""Powers of two to divide by: exact, and afterwards no square or sum overflows or vanishes."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def powers(top: Float[Array, "*n"]) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """A power of two next to each number, and its inverse; 1 for what is not finite."""
    one, zero = jnp.ones((), top.dtype), jnp.zeros((), top.dtype)
    _, exponent = jnp.frexp(jnp.where(jnp.isfinite(top), top, zero))
    limit = jnp.finfo(top.dtype).maxexp - 2
    exponent = jnp.clip(exponent, -limit, limit).astype(jnp.int32)
    return jnp.ldexp(one, exponent), jnp.ldexp(one, -exponent)
