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
        size = jnp.zeros(k, _size_dtype(dtype, by))
        places = _nowhere(k), _nowhere(k), _nowhere(k)
        return _State(jnp.ones(k, bool), size, places, jnp.zeros(k, dtype), Count.zeros())

    def update(state: _State, x: Any, rows: Rows = EVERY) -> _State:
        t = table("top_k", x, rows)
        ids, positions = need_ids("top_k", t)
        n, d = t.x.shape
        if n == 0 or d == 0:
            return state
        size, bad = _sizes(t.x, by)
        # The k largest values lie in the k rows of the largest maxima (equal ones by place).
        best = jnp.max(size, axis=1)
        none = ~t.mask if bad is None else ~t.mask | (best == bad)
        order = jnp.arange(n, dtype=jnp.int32)
        *_, chosen = jax.lax.sort((none, ~best, ids, positions, order), num_keys=4)
        chosen = chosen[: min(k, n)]
        # In each of them the k largest; of equals `jax.lax.top_k` takes the first.
        x = t.x[chosen]
        size, channel = jax.lax.top_k(_sizes(x, by)[0], min(k, d))

        def spread(a: Array) -> Array:
            return jnp.broadcast_to(a[chosen][:, None], size.shape).ravel()

        empty = spread(none) if bad is None else spread(none) | (size == bad).ravel()
        value = jnp.take_along_axis(x, channel, axis=1).ravel()
        places = spread(ids), spread(positions), channel.ravel().astype(jnp.uint32)
        missing = total(t.mask[:, None] & jnp.isnan(t.x)) if bad is not None else jnp.uint32(0)
        found = _State(empty, size.ravel(), places, value, Count.zeros().add(missing))
        return _best(k, state, found)

    def finish(state: _State) -> TopK:
        valid = ~state.empty
        value = jnp.where(valid, state.value, jnp.zeros_like(state.value))
        example, position, channel = (jnp.where(valid, p, _nowhere(k)) for p in state.places)
        return TopK(value, example, position, channel, valid, state.nan)

    return Accumulator(init, update, lambda a, b: _best(k, a, b), finish)


def _sizes(x: Array, by: str) -> tuple[Array, int | None]:
    """Integers in the order of the values, and the one that stands for NaN (None: there is none).

    So -infinity is larger than NaN, 0 equals -0, and `~` reverses the order without overflow.
    """
    dtype = _size_dtype(x.dtype, by)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        if by == "value" or not jnp.issubdtype(x.dtype, jnp.signedinteger):
            return x.astype(dtype), None
        return jnp.where(x < 0, (~x).astype(dtype) + 1, x.astype(dtype)), None
    x = x.astype(jnp.float32) if x.dtype.itemsize < 4 else x
    lowest, highest = jnp.iinfo(dtype).min, jnp.iinfo(dtype).max
    bits = jax.lax.bitcast_convert_type(jnp.abs(x) if by == "magnitude" else x, dtype)
    ordered = jnp.where(x == 0, 0, jnp.where(bits < 0, bits ^ highest, bits))
    return jnp.where(jnp.isnan(x), lowest, ordered), lowest


def _size_dtype(dtype: Any, by: str) -> Any:
    """The integers in which values of a dtype are compared."""
    if jnp.issubdtype(dtype, jnp.floating):
        return jnp.int64 if dtype.itemsize == 8 else jnp.int32
    if by == "magnitude" and jnp.issubdtype(dtype, jnp.signedinteger):
        return jnp.uint64 if dtype.itemsize == 8 else jnp.uint32
    return jnp.int32 if dtype.itemsize < 4 else dtype


def _nowhere(k: int) -> Array:
    return jnp.full(k, 2**32 - 1, jnp.uint32)


def _best(k: int, a: _State, b: _State) -> _State:
    both = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), a[:-1], b[:-1])
    empty, size, places, value = both
    ordered = jax.lax.sort((empty, ~size, *places, value), num_keys=5)
    empty, size, example, position, channel, value = (v[:k] for v in ordered)
    return _State(empty, ~size, (example, position, channel), value, a.nan + b.nan)
