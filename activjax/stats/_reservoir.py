"""A uniform sample of the rows of a stream, the same however the stream is cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int32, Key, UInt32

from activjax.stats._accumulator import EVERY, Accumulator, Rows, channels, need_ids, table
from activjax.stats._count import Count, total


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Sample:
    """Rows drawn without replacement, in the order of their draws (which is random).

    Attributes:
      values: `[k, d]`, in the dtype of the data; 0 where `valid` is false.
      example, position: `[k]`, where each row was.
      label: `[k]`, its label; -1 where none was given.
      valid: `[k]`, false where the stream had fewer than `k` rows.
      n: rows of the stream.
    """

    values: Array
    example: UInt32[Array, "k"]
    position: UInt32[Array, "k"]
    label: Int32[Array, "k"]
    valid: Bool[Array, "k"]
    n: Count


class _State(NamedTuple):
    # In the order that decides: empty, two words of the hash, example, position.
    order: tuple[Array, ...]
    label: Array
    values: Array
    n: Count


def reservoir(key: Key[Array, ""], k: int) -> Accumulator:
    """A uniform sample of `k` rows: those whose random numbers are smallest.

    The random number of a row is a hash of the key, its example and its position, so the sample
    depends on nothing else: not on batches, on shards or on their order. Statistics that need the
    rows themselves (kernels, clusterings) are computed on it.

    Args:
      key: draws the hash. Sites read with one key give the same rows.
      k: rows to keep.

    Returns:
      An accumulator whose result is `Sample`. It needs `rows.ids`; merging is exact.

    Raises:
      ValueError: `k < 1`.
    """
    if k < 1:
        raise ValueError(f"reservoir: k is {k}, expected at least 1")

    def init(like: Any) -> _State:
        d, _ = channels("reservoir", like)
        words = [jnp.full(k, 2**32 - 1, jnp.uint32) for _ in range(4)]
        values = jnp.zeros((k, d), jnp.result_type(like))
        order = (jnp.ones(k, bool), *words)
        return _State(order, jnp.full(k, -1, jnp.int32), values, Count.zeros())

    def update(state: _State, x: Any, rows: Rows = EVERY) -> _State:
        t = table("reservoir", x, rows)
        ids, positions = need_ids("reservoir", t)
        if t.x.shape[0] == 0:
            return state
        drawn = jax.vmap(lambda i, p: jax.random.fold_in(jax.random.fold_in(key, i), p))
        words = jax.vmap(lambda one: jax.random.bits(one, (2,), jnp.uint32))(drawn(ids, positions))
        labels = jnp.full(ids.shape, -1, jnp.int32) if t.labels is None else t.labels
        n = Count.zeros().add(total(t.mask))
        order = (~t.mask, words[:, 0], words[:, 1], ids, positions)
        found = _State(order, labels, t.x, n)
        return _smallest(k, state, found)

    def finish(state: _State) -> Sample:
        empty, _, _, example, position = state.order
        valid = ~empty
        nowhere = jnp.uint32(2**32 - 1)
        return Sample(
            jnp.where(valid[:, None], state.values, jnp.zeros_like(state.values)),
            jnp.where(valid, example, nowhere),
            jnp.where(valid, position, nowhere),
            jnp.where(valid, state.label, -1),
            valid,
            state.n,
        )

    return Accumulator(init, update, lambda a, b: _smallest(k, a, b), finish)


def _smallest(k: int, a: _State, b: _State) -> _State:
    both = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), a.order, b.order)
    index = jnp.arange(both[0].shape[0], dtype=jnp.int32)
    *kept, chosen = (v[:k] for v in jax.lax.sort((*both, index), num_keys=5))
    own = a.values.shape[0]

    def take(x: Array, y: Array) -> Array:
        # Only the chosen rows are gathered: the batch is not copied.
        of_a = x[jnp.clip(chosen, 0, own - 1)]
        of_b = y[jnp.clip(chosen - own, 0, y.shape[0] - 1)]
        mine = (chosen < own).reshape(-1, *(1,) * (x.ndim - 1))
        return jnp.where(mine, of_a, of_b)

    return _State(tuple(kept), take(a.label, b.label), take(a.values, b.values), a.n + b.n)
