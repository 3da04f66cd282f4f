"""Sums of vectors by place, with one exchange between devices however many ranks there are."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int32


def sums_by_place(
    vectors: Float[Array, "tokens groups d"], places: Int32[Array, "k tokens groups"], count: int
) -> Float[Array, "count d"]:
    """Each token's vector added to the rows at its k places; places past the end are dropped.

    Tokens may lie on several devices. XLA alone would exchange the sum after every rank.
    """

    @custom_vmap
    def run(vectors: Array, places: Array) -> Array:
        return _split(vectors, places, count)

    @run.def_vmap
    def _(size: int, batched: Any, vectors: Array, places: Array) -> Any:
        del size
        axes = tuple(0 if b else None for b in batched)
        return jax.vmap(partial(_sums, count=count), axes)(vectors, places), True

    return run(vectors, places)


def _sums(vectors: Array, places: Array, count: int) -> Array:
    def rank(total: Array, places: Array) -> tuple[Array, None]:
        return total.at[places].add(vectors, mode="drop"), None

    return lax.scan(rank, jnp.zeros((count, vectors.shape[-1]), vectors.dtype), places)[0]


@partial(custom_partitioning, static_argnums=(2,))
def _split(vectors: Array, places: Array, count: int) -> Array:
    return _sums(vectors, places, count)


def _partition(count: int, mesh: Any, arguments: Any, results: Any) -> Any:
    del results
    sharding = arguments[0].sharding
    tokens = (*sharding.spec, None)[0]

    def own(vectors: Array, places: Array) -> Array:
        total = _sums(vectors, places, count)
        return total if tokens is None else lax.psum(total, tokens)

    def on(*spec: Any) -> NamedSharding:
        return NamedSharding(sharding.mesh, PartitionSpec(*spec))

    return mesh, own, on(None, None), (on(tokens, None, None), on(None, tokens, None))


_split.def_partition(
    partition=_partition,
    sharding_rule="t g d, k t g -> r d",
    need_replication_factors=("g", "d", "k", "r"),
)
