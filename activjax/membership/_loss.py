"""The loss whose gradient is climbed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from activjax.training import _cross_entropy
from activjax.training._dtypes import wide

Loss = Callable[[Any, Any, Any], Array]


def cross_entropy(
    out: Float[Array, "*seq classes"],
    y: Int[Array, "*seq"],
    mask: Bool[Array, "*seq"] | None = None,
) -> Float[Array, ""]:
    """The mean cross-entropy of one example in nats: of a class, or of its tokens.

    Args:
      out: logits.
      y: the class, or the token that each position should predict.
      mask: which positions count; all if left out. With none the loss is 0.

    Raises:
      ValueError: labels or mask of another shape.
    """
    if not jnp.issubdtype(jnp.result_type(y), jnp.integer):
        raise ValueError(
            f"cross_entropy: labels have dtype {jnp.result_type(y)}, expected whole numbers"
        )
    if jnp.shape(y) != jnp.shape(out)[:-1]:
        raise ValueError(
            f"cross_entropy: one example has logits {list(jnp.shape(out))} and labels "
            f"{list(jnp.shape(y))}, expected labels {list(jnp.shape(out)[:-1])}"
        )
    y = jnp.asarray(y).astype(jnp.int32)
    logits = out.astype(wide(out.dtype))
    if mask is None:
        return jnp.mean(_cross_entropy.cross_entropy(logits, y))
    if jnp.shape(mask) != jnp.shape(y):
        raise ValueError(
            f"cross_entropy: one example has labels {list(jnp.shape(y))} and a mask "
            f"{list(jnp.shape(mask))}, expected the same shape"
        )
    counts = jnp.asarray(mask).astype(bool)
    # a label that does not count may be anything
    losses = _cross_entropy.cross_entropy(logits, jnp.where(counts, y, 0))
    total = jnp.sum(jnp.where(counts, losses, 0))
    return total / jnp.maximum(jnp.sum(counts.astype(total.dtype)), 1)
