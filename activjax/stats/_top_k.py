"""The largest values of a stream, and where they were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, UInt32

from activjax.stats._accumulator import EVERY, Accumulator, Rows, channels, need_ids, table
from activjax.stats._count import Count, total


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TopK:
    """The `k` largest values, largest first; of equals, by example, position and channel.

    Attributes:
      value: `[k]`, in the dtype of the data.
      example, position, channel: `[k]`, where each was; `position` counts through the axes
        between examples and channels.
      valid: `[k]`, false where there were fewer than `k` values; places are then 2^32 - 1.
      nan: values that are NaN; they are never among the largest.
    """

    value: Array
    example: UInt32[Array, "k"]
    position: UInt32[Array, "k"]
    channel: UInt32[Array, "k"]
    valid: Bool[Array, "k"]
    nan: Count


class _State(NamedTuple):
    # In the order that decides: empty, size (largest first), example, position, channel.
    empty: Array
    size: Array
    places: tuple[Array, Array, Array]
    value: Array
    nan: Count


def top_k(k: int, *, by: Literal["value", "magnitude"] = "value") -> Accumulator:
    """The largest values of all channels, with the example, position and channel of each.

    Args:
      k: how many.
      by: "magnitude" compares absolute values (and reports the values themselves).

    Returns:
      An accumulator whose result is `TopK`. It needs `rows.ids`; merging is exact, and ties are
      broken by place, so the result does not depend on how the stream is cut.

    Raises:
      ValueError: `k < 1` or another order.
    """
    if k < 1:
        raise ValueError(f"top_k: k is {k}, expected at least 1")
    if by not in ("value", "magnitude"):
        raise ValueError(f'top_k: by is {by!r}, expected "value" or "magnitude"')

    def init(like: Any) -> _State:
        channels("top_k", like)
        dtype = jnp.result_type(like)
        size = jnp.zeros(k, _size_dtype(dtype))
        places = _nowhere(k), _nowhere(k), _nowhere(k)
        return _State(jnp.ones(k, bool), size, places, jnp.zeros(k, dtype), Count.zeros())

    def update(state: _State, x: Any, rows: Rows = EVERY) -> _State:
        t = table("top_k", x, rows)
        ids, positions = need_ids("top_k", t)
        n, d = t.x.shape
        if n == 0 or d == 0:
            return state
        size = t.x.astype(_size_dtype(t.x.dtype))
        size = jnp.abs(size) if by == "magnitude" else size
        nan = jnp.isnan(size)
        fits = t.mask[:, None] & ~nan
        size = jnp.where(fits, size, _lowest(size.dtype))
        # The k largest values lie in the k rows of the largest maxima (equal ones by place).
        best = jnp.max(size, axis=1)
        none = ~jnp.any(fits, axis=1)
        order = jnp.arange(n, dtype=jnp.int32)
        *_, chosen = jax.lax.sort((none, _reverse(best), ids, positions, order), num_keys=4)
        chosen = chosen[: min(k, n)]

        def spread(a: Array) -> Array:
            return jnp.broadcast_to(a[chosen][:, None], (len(chosen), d)).ravel()

        channel = jnp.broadcast_to(jnp.arange(d, dtype=jnp.uint32), (len(chosen), d)).ravel()
        found = _State(
            ~fits[chosen].ravel(),
            jnp.where(fits[chosen], size[chosen], 0).ravel(),
            (spread(ids), spread(positions), channel),
            t.x[chosen].ravel(),
            Count.zeros().add(total(t.mask[:, None] & nan)),
        )
        return _best(k, state, found)

    def finish(state: _State) -> TopK:
        valid = ~state.empty
        value = jnp.where(valid, state.value, jnp.zeros_like(state.value))
        example, position, channel = (jnp.where(valid, p, _nowhere(k)) for p in state.places)
        return TopK(value, example, position, channel, valid, state.nan)

    return Accumulator(init, update, lambda a, b: _best(k, a, b), finish)


def _size_dtype(dtype: Any) -> Any:
    if jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.bool_):
        return jnp.int32 if dtype.itemsize < 4 or dtype == jnp.int32 else dtype
    return dtype


def _lowest(dtype: Any) -> Any:
    return -jnp.inf if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype).min


def _nowhere(k: int) -> Array:
    return jnp.full(k, 2**32 - 1, jnp.uint32)


def _reverse(x: Array) -> Array:
    """Numbers in the opposite order; applied twice, the numbers. No integer overflows."""
    return -x if jnp.issubdtype(x.dtype, jnp.floating) else ~x


def _best(k: int, a: _State, b: _State) -> _State:
    both = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), a[:-1], b[:-1])
    empty, size, places, value = both
    ordered = jax.lax.sort((empty, _reverse(size), *places, value), num_keys=5)
    empty, size, example, position, channel, value = (v[:k] for v in ordered)
    return _State(empty, _reverse(size), (example, position, channel), value, a.nan + b.nan)
