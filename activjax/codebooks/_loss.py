"""The loss that draws codes to the activations that choose them."""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

from activjax.codebooks._trace import Trace
from activjax.training._dtypes import wide


def loss(traces: Mapping[str, Trace], lam: float | Float[Array, ""] = 1.0) -> Float[Array, ""]:
    """`lam` times the squared error of all bottlenecks, summed over sites, layers and groups.

    Each is the mean over its tokens of the error summed over features (Tamkin et al. 2023, the
    reconstruction loss; its code's `aeloss`). Its gradient reaches the codes only.

    Args:
      traces: as `run` returns them.
      lam: weight.

    Raises:
      ValueError: no traces.
    """
    if not traces:
        raise ValueError("loss: no traces; pass what run(...) returned second")
    dtype = max((wide(t.mse.dtype) for t in traces.values()), key=lambda d: d.itemsize)
    total = jnp.zeros((), dtype)
    for trace in traces.values():
        error = trace.mse.astype(dtype)
        loops = trace.mse.shape[: trace.loops]
        each = jnp.sum(error.reshape(*loops, -1), axis=-1)
        count = jnp.sum(trace.tokens.reshape(*loops, -1), axis=-1)
        total = total + jnp.sum(each / jnp.maximum(count, 1).astype(dtype))
    return jnp.asarray(lam).astype(dtype) * total
