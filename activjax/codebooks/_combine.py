"""Sums of chosen codes, their error, and the gradients of both."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int32

from activjax.codebooks import _chunks
from activjax.codebooks._nearest import check, computed_in
from activjax.codebooks._scatter import sums_by_place
from activjax.codebooks._strategy import Strategy


def combine(
    a: Float[Array, "tokens groups d"],
    codes: Float[Array, "groups codes d"],
    ids: Int32[Array, "tokens groups k"],
    reduce: Literal["sum", "mean"] = "sum",
    weights: Bool[Array, "tokens *groups"] | None = None,
    strategy: Strategy | None = None,
) -> tuple[Float[Array, "tokens groups d"], Float[Array, "tokens groups"]]:
    """The sum or mean of chosen codes, and its squared distance from the activation.

    The output is, to the bit, the sum in the order of ranks (times 1/k, rounded), in float32 and
    then rounded to the dtype of `a`. With cotangents `g` of the output and `e` of the error, the
    gradient of `a` is `g` (straight through), and every chosen code receives
    `g + 2 e (q - a)`, times 1/k for a mean, as often as it was chosen. No array with k vectors
    for each token is made, in either direction. The derivative is a rule for reverse mode.

    Args:
      a: activations.
      codes: a codebook for each group.
      ids: which are chosen; one out of range makes the token's output NaN.
      reduce: "sum" or "mean".
      weights: False where the error does not count, by token or by token and group: it is 0 and
        has no gradient there.
      strategy: how.

    Returns:
      The output in the dtype of `a`, and the error, a sum over features, in float32 (float64).

    Raises:
      ValueError: shapes that do not fit, or another reduction.
    """
    strategy = strategy or Strategy()
    check(a, codes, "combine")
    if ids.ndim != 3 or ids.shape[:2] != a.shape[:2] or ids.shape[2] < 1:
        raise ValueError(
            f"combine: ids have shape {list(ids.shape)}, expected "
            f"[{a.shape[0]}, {a.shape[1]}, k], k at least 1"
        )
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(f"combine: ids have dtype {ids.dtype}, expected integers")
    if reduce not in ("sum", "mean"):
        raise ValueError(f"combine: reduce is {reduce!r}, expected 'sum' or 'mean'")
    if weights is not None:
        if weights.shape not in (a.shape[:1], a.shape[:2]) or weights.dtype != bool:
            raise ValueError(
                f"combine: weights: {weights.dtype}{list(weights.shape)}, expected booleans "
                f"{[*a.shape[:1]]} or {[*a.shape[:2]]}"
            )
        weights = jnp.broadcast_to(weights[:, None] if weights.ndim == 1 else weights, a.shape[:2])
    tokens, groups, d = a.shape
    strategy = strategy.resolved(tokens, groups, codes.shape[1], d, ids.shape[2])
    return _combine(a, codes, ids, weights, reduce, strategy)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _combine(
    a: Array, codes: Array, ids: Array, weights: Array | None, reduce: str, strategy: Strategy
) -> tuple[Array, Array]:
    del strategy
    return _sums(a, codes, ids, weights, reduce)


@partial(jax.jit, static_argnums=4)
def _sums(
    a: Array, codes: Array, ids: Array, weights: Array | None, reduce: str
) -> tuple[Array, Array]:
    dtype = computed_in(a, codes)
    flat, places = codes.reshape(-1, codes.shape[-1]), _places(ids, codes.shape[1])

    def chosen(places: Array) -> Array:
        return flat.at[places].get(mode="fill", fill_value=jnp.nan).astype(dtype)

    def rank(total: Array, places: Array) -> tuple[Array, None]:
        return total + chosen(places), None

    total, _ = lax.scan(rank, chosen(places[0]), places[1:])
    q = _shared(total, places.shape[0], reduce).astype(a.dtype)
    return q, _counted(jnp.sum(jnp.square(_gap(q, a, dtype)), axis=-1), weights)


def _forward(
    a: Array, codes: Array, ids: Array, weights: Array | None, reduce: str, strategy: Strategy
) -> Any:
    del strategy
    q, error = _sums(a, codes, ids, weights, reduce)
    return (q, error), (a, codes, ids, weights, q)


def _backward(reduce: str, strategy: Strategy, kept: Any, cotangents: tuple[Array, Array]) -> Any:
    a, codes, ids, weights, q = kept
    slope, slope_error = cotangents
    grad = _to_codes(a, codes, ids, weights, q, slope, slope_error, reduce, strategy)
    return slope, grad, None, None


_combine.defvjp(_forward, _backward)


@partial(jax.jit, static_argnums=(7, 8))
def _to_codes(
    a: Array,
    codes: Array,
    ids: Array,
    weights: Array | None,
    q: Array,
    slope: Array,
    slope_error: Array,
    reduce: str,
    strategy: Strategy,
) -> Array:
    """The gradient of the codes: every chosen code of a token receives one and the same vector."""
    dtype = computed_in(a, codes)
    pull = 2 * _counted(slope_error.astype(dtype), weights)[..., None] * _gap(q, a, dtype)
    if weights is not None:  # 0 * NaN is not 0
        pull = jnp.where(weights[..., None], pull, jnp.zeros((), dtype))
    vector = _shared(slope.astype(dtype) + pull, ids.shape[2], reduce)
    if strategy.combine == "one_hot":
        grad = _counts_times(vector, ids, codes.shape[1], strategy)
    else:
        places = _places(ids, codes.shape[1])
        grad = sums_by_place(vector, places, codes.shape[0] * codes.shape[1])
    return grad.reshape(codes.shape).astype(codes.dtype)


def _counts_times(vector: Array, ids: Array, codes: int, strategy: Strategy) -> Array:
    """How often each code was chosen by each token, times the tokens' vectors."""
    tokens, groups, d = vector.shape
    count = _chunks.layout(tokens, strategy.chunk or tokens)[1]
    vectors = _chunks.cut(vector, strategy.chunk or tokens)
    # Ids of the tokens that fill the last chunk are 0; their vectors are 0, too.
    chosen = _chunks.cut(ids, strategy.chunk or tokens)
    every = jnp.arange(codes, dtype=ids.dtype)

    def one(grad: Array, i: Array) -> tuple[Array, None]:
        v, here = _chunks.piece(vectors, i), _chunks.piece(chosen, i)

        def rank(counts: Array, ids: Array) -> tuple[Array, None]:
            return counts + (ids[..., None] == every).astype(v.dtype), None

        counts, _ = lax.scan(
            rank, jnp.zeros((*here.shape[:2], codes), v.dtype), jnp.moveaxis(here, -1, 0)
        )
        return grad + jnp.einsum("rgc,rgd->gcd", counts, v, precision="highest"), None

    start = jnp.zeros((groups, codes, d), vector.dtype)
    return lax.scan(one, start, jnp.arange(count, dtype=jnp.int32))[0]


def _places(ids: Array, codes: int) -> Int32[Array, "k tokens groups"]:
    """Rows of the codes of all groups in one table; past its end for an id out of range."""
    groups = ids.shape[1]
    offsets = codes * jnp.arange(groups, dtype=jnp.int32)[:, None]
    places = jnp.where((ids >= 0) & (ids < codes), ids.astype(jnp.int32) + offsets, groups * codes)
    return jnp.moveaxis(places, -1, 0)


def _shared(total: Array, k: int, reduce: str) -> Array:
    """The sum, or times 1/k: XLA makes this of a division by k anyway, but not everywhere."""
    return total if reduce == "sum" else total * jnp.asarray(1 / k, total.dtype)


def _gap(q: Array, a: Array, dtype: Any) -> Array:
    return q.astype(dtype) - a.astype(dtype)


def _counted(error: Array, weights: Array | None) -> Array:
    return error if weights is None else jnp.where(weights, error, jnp.zeros((), error.dtype))
