"""Cross-entropy in float32 that keeps one array of the size of the logits, not two."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


@jax.custom_jvp
def cross_entropy(
    logits: Float[Array, "*n classes"], targets: Int[Array, "*n"]
) -> Float[Array, "*n"]:
    """`-log softmax(logits)[target]` in nats; NaN for a target that is no class.

    The derivative is written out, `softmax - onehot` in one pass: derived by JAX, the softmax and
    a scatter into zeros would each be as large as the logits.
    """
    own = jnp.take_along_axis(logits, targets[..., None], axis=-1, mode="clip")[..., 0]
    loss = jax.nn.logsumexp(logits, axis=-1) - own
    return jnp.where(_inside(logits, targets), loss, jnp.nan)


@cross_entropy.defjvp
def _(primals: Any, tangents: Any) -> Any:
    logits, targets = primals
    loss = cross_entropy(logits, targets)
    hit = _index(logits) == targets[..., None]
    log_total = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    slope = jnp.exp(logits - log_total) - hit.astype(logits.dtype)
    moved = (slope * tangents[0]).sum(-1)
    return loss, jnp.where(_inside(logits, targets), moved, jnp.nan)


def is_top(logits: Float[Array, "*n classes"], targets: Int[Array, "*n"]) -> Bool[Array, "*n"]:
    """Whether the target's logit is the largest, the first of equals; never where it is NaN.

    As `argmax(logits) == targets`, which compilers for CPUs turn into slow code.
    """
    logits = jax.lax.stop_gradient(logits)
    own = jnp.take_along_axis(logits, targets[..., None], axis=-1, mode="clip")
    behind = (logits < own) | ((logits == own) & (_index(logits) >= targets[..., None]))
    return behind.all(axis=-1)


def _index(logits: Array) -> Array:
    return jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)


def _inside(logits: Array, targets: Array) -> Array:
    return (targets >= 0) & (targets < logits.shape[-1])
