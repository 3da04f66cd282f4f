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
    hit = _index(logits, targets) == _wide(targets)[..., None]
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
    after = _index(logits, targets) >= _wide(targets)[..., None]
    behind = (logits < own) | ((logits == own) & after)
    return behind.all(axis=-1)


def _index(logits: Array, targets: Array) -> Array:
    """The number of each class, in the dtype of the targets, which does not mix with others."""
    return jax.lax.broadcasted_iota(_wide(targets).dtype, logits.shape, logits.ndim - 1)


def _wide(targets: Array) -> Array:
    """As they are where every class has a number in their dtype, else int32."""
    return targets if targets.dtype.itemsize >= 4 else targets.astype(jnp.int32)


def _inside(logits: Array, targets: Array) -> Array:
    targets = _wide(targets)
    return (targets >= 0) & (targets < logits.shape[-1])
