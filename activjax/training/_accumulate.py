"""The gradient of a batch, piece by piece: the memory of one piece, the numbers of the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from activjax.training._dtypes import wide

#: `loss(params, model_state, batch, key) -> (loss, (model_state, metrics))`.
Loss: TypeAlias = Callable[[Any, Any, Any, Array], tuple[Array, tuple[Any, dict[str, Array]]]]

_WEIGHT = "predicted"  # the metric that says over how many the loss is a mean


def gradients(
    loss: Loss, params: Any, model_state: Any, batch: Any, key: Array, parts: int
) -> tuple[Array, Any, dict[str, Array], Any]:
    """The loss, the new model state, metrics and gradients of a batch cut into `parts`.

    Sums are kept in float32 at least, gradients come in the dtypes of the parameters. Arguments
    and errors as `train_step`.
    """
    pieces = _cut(batch, parts)
    grad = jax.value_and_grad(loss, has_aux=True)
    if parts == 1:
        (value, (model_state, metrics)), grads = grad(params, model_state, batch, key)
        return value, model_state, metrics, grads

    def body(carry: Any, piece: Any) -> Any:
        model_state, sums = carry
        (value, (model_state, metrics)), grads = grad(params, model_state, *piece)
        weight = _weight(metrics)
        sums = jax.tree.map(
            lambda s, g: s + weight.astype(s.dtype) * g.astype(s.dtype), sums, grads
        )
        return (model_state, sums), (weight, value, metrics)

    zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, wide(p.dtype)), params)
    keys = jax.random.split(key, parts)
    (model_state, sums), (weights, values, metrics) = jax.lax.scan(
        body, (model_state, zeros), (pieces, keys)
    )
    total = weights.sum()
    total = jnp.where(total > 0, total, 1)  # nothing predicted: all sums are zero
    grads = jax.tree.map(lambda s, p: (s / total.astype(s.dtype)).astype(p.dtype), sums, params)
    share = weights / total
    metrics = {
        name: each.sum(0) if name == _WEIGHT else _mean(each, share)
        for name, each in metrics.items()
    }
    return _mean(values, share), model_state, metrics, grads


def _weight(metrics: dict[str, Array]) -> Array:
    weight = jnp.asarray(metrics.get(_WEIGHT, 1.0))
    if weight.ndim:
        raise ValueError(
            f"metric {_WEIGHT!r}: micro-batches are weighted by it, so it must be one number, got "
            f"shape {list(weight.shape)}; name it otherwise"
        )
    return jax.lax.stop_gradient(weight.astype(jnp.float32))


def _mean(values: Array, share: Array) -> Array:
    share = share.reshape(-1, *[1] * (values.ndim - 1))
    dtype = wide(values.dtype)
    mean = jnp.sum(share.astype(dtype) * values.astype(dtype), axis=0)
    return mean.astype(values.dtype) if jnp.issubdtype(values.dtype, jnp.inexact) else mean


def _cut(batch: Any, parts: int) -> Any:
    """`[n, ...]` as `[parts, n / parts, ...]`, rows dealt out in turn."""
    if not isinstance(parts, (int, np.integer)) or isinstance(parts, bool) or parts < 1:
        raise ValueError(f"accumulate: expected a whole number >= 1, got {parts!r}")
    if parts == 1:
        return batch
    leaves = jax.tree.leaves(batch)
    sizes = {jnp.shape(leaf)[:1] for leaf in leaves}
    if len(sizes) != 1 or () in sizes:
        shapes = [list(jnp.shape(leaf)) for leaf in leaves]
        raise ValueError(
            f"accumulate={parts}: expected a batch of arrays with one leading axis, got {shapes}"
        )
    ((n,),) = sizes
    if n % parts:
        raise ValueError(f"accumulate={parts} does not divide the batch of {n}")
    return jax.tree.map(
        lambda leaf: leaf.reshape(n // parts, parts, *leaf.shape[1:]).swapaxes(0, 1), batch
    )
