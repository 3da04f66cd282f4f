"""What is measured of a value before and after a step: sizes, turns, projections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from activjax.training._cross_entropy import cross_entropy
from activjax.training._dtypes import wide


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SiteDrift:
    """How far the vectors at a site moved, over the positions that count; loops follow `n`.

    With `h` before and `h'` after, and `D = h' - h`:

    Attributes:
      norm_mean: mean of `|D|`.
      norm_max, norm_std: largest and standard deviation of `|D|` over positions; None where there
        is one position only.
      relative: mean of `|D| / |h|`.
      turn: mean of `1 - cos(h, h')`.
      along: mean of `|u . D|` for each direction `u`, last axis; None without directions.
    """

    norm_mean: Float[Array, "n *loops"]
    norm_max: Float[Array, "n *loops"] | None
    norm_std: Float[Array, "n *loops"] | None
    relative: Float[Array, "n *loops"]
    turn: Float[Array, "n *loops"]
    along: Float[Array, "n *loops k"] | None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class OutDrift:
    """How far the logits `z`, and the probabilities `p` that they stand for, moved.

    Attributes:
      norm: mean of `|z' - z|` over positions.
      label_logit: mean of the move of the label's logit; None where the labels are no classes.
      kl: mean of KL(p || p') in nats; None as before.
      log_p_min, log_p_std: least and standard deviation over positions of the move of the label's
        log probability; None as before, or where there is one position only. Its mean is minus
        the drift of the cross-entropy.
    """

    norm: Float[Array, " n"]
    label_logit: Float[Array, " n"] | None
    kl: Float[Array, " n"] | None
    log_p_min: Float[Array, " n"] | None
    log_p_std: Float[Array, " n"] | None


def site_drift(
    before: Array, after: Array, loops: int, mask: Array | None, directions: Array | None
) -> SiteDrift:
    """The drift at one site of one example.

    Args:
      before, after: `[*loops, *positions, d]`; without axes after the loops, a number is a vector.
      loops: how many axes loops left.
      mask: which positions count; it belongs to the first axes of its shape.
      directions: `[k, d]`.
    """
    if before.ndim == loops:
        before, after = before[..., None], after[..., None]
    h, moved = (a.astype(wide(a.dtype)) for a in (before, after))
    step = moved - h
    weights = _weights(h.shape[loops:-1], mask)
    size = _norm(step)
    inner = {"loops": loops, "weights": weights}
    # 1 - cos from the unit vectors' distance: the difference itself would lose all digits.
    turn = jnp.square(_norm(_unit(moved) - _unit(h))) / 2
    along = None
    if directions is not None:
        by_direction = jnp.abs(jnp.einsum("...d,kd->k...", step, directions.astype(step.dtype)))
        along = jnp.moveaxis(jax.vmap(lambda a: _mean(a, **inner))(by_direction), 0, -1)
    return SiteDrift(
        _mean(size, **inner),
        None if weights.ndim == 0 else _largest(size, **inner),
        None if weights.ndim == 0 else _spread(size, **inner),
        _mean(size / _positive(_norm(h)), **inner),
        _mean(turn, **inner),
        along,
    )


def out_drift(before: Any, after: Any, y: Any, mask: Array | None) -> OutDrift | None:
    """The drift of one example's output; None if that is not one floating-point array.

    Args:
      before, after: `[*positions, classes]`.
      y: labels `[*positions]`, or anything else.
      mask: which positions count.
    """
    if not isinstance(before, jax.Array) or not jnp.issubdtype(before.dtype, jnp.floating):
        return None
    if before.ndim == 0:
        before, after = before[None], after[None]
    z, moved = (a.astype(wide(a.dtype)) for a in (before, after))
    weights = _weights(z.shape[:-1], mask)
    inner = {"loops": 0, "weights": weights}
    norm = _mean(_norm(moved - z), **inner)
    labels = isinstance(y, jax.Array) and jnp.issubdtype(y.dtype, jnp.integer)
    if not labels or y.shape != z.shape[:-1]:
        return OutDrift(norm, None, None, None, None)
    y = jnp.where(weights > 0, y, 0).astype(jnp.int32)
    own = jnp.take_along_axis(moved - z, y[..., None], axis=-1)[..., 0]
    log_p, log_q = jax.nn.log_softmax(z), jax.nn.log_softmax(moved)
    kl = jnp.sum(_divergence(log_p, log_q), axis=-1)
    gain = cross_entropy(z, y) - cross_entropy(moved, y)
    several = weights.ndim > 0
    return OutDrift(
        norm,
        _mean(own, **inner),
        _mean(kl, **inner),
        -_largest(-gain, **inner) if several else None,
        _spread(gain, **inner) if several else None,
    )


def _divergence(log_p: Array, log_q: Array) -> Array:
    """Terms of KL(p || q), less `p - q`, which sums to 0: each is 0 or more, so nothing cancels."""
    p, gap = jnp.exp(log_p), log_q - log_p
    small = gap < 1  # beyond, the exponential may overflow
    near = p * (jnp.expm1(jnp.where(small, gap, 0)) - gap)
    return jnp.where(small, near, jnp.exp(log_q) - p - p * gap)


def _weights(positions: tuple[int, ...], mask: Array | None) -> Array:
    """Which positions count, `[*positions]`."""
    ones = jnp.ones(positions, jnp.float32)
    if mask is None:
        return ones
    at = next(
        (i for i in range(len(positions)) if positions[i : i + mask.ndim] == mask.shape), None
    )
    if at is None or mask.ndim == 0:
        return ones
    after = len(positions) - at - mask.ndim
    shape = (*(1,) * at, *mask.shape, *(1,) * after)
    return jnp.where(mask.astype(bool).reshape(shape), ones, 0)


def _over(a: Array, loops: int) -> tuple[int, ...]:
    return tuple(range(loops, a.ndim))


def _mean(a: Array, *, loops: int, weights: Array) -> Array:
    """The mean over positions that count; 0 if none does."""
    w = weights.astype(a.dtype)
    total = jnp.sum(jnp.where(w > 0, a, 0), axis=_over(a, loops))
    return total / jnp.maximum(jnp.sum(w), 1)


def _largest(a: Array, *, loops: int, weights: Array) -> Array:
    found = jnp.max(jnp.where(weights > 0, a, -jnp.inf), axis=_over(a, loops))
    return jnp.where(jnp.any(weights > 0), found, 0)


def _spread(a: Array, *, loops: int, weights: Array) -> Array:
    mean = _mean(a, loops=loops, weights=weights)
    centred = a - mean.reshape(*mean.shape, *(1,) * (a.ndim - loops))
    return jnp.sqrt(_mean(jnp.square(centred), loops=loops, weights=weights))


def _norm(a: Array) -> Array:
    return jnp.sqrt(jnp.sum(jnp.square(a), axis=-1))


def _unit(a: Array) -> Array:
    return a / _positive(_norm(a))[..., None]


def _positive(norm: Array) -> Array:
    """A norm to divide by: a vector of zeros stays one."""
    return jnp.where(norm > 0, norm, 1)
