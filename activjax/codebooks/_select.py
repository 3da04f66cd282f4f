"""The largest of many similarities: values and ids, descending, of equals the lowest id first."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int32

from activjax.codebooks._strategy import Strategy
from activjax.codebooks._top_k import top_k

Picks = tuple[Float[Array, "groups rows k"], Int32[Array, "groups rows k"]]


def block(strategy: Strategy, codes: int, k: int) -> int:
    """Codes in a block; 1 where they are not searched by blocks."""
    return strategy.block if strategy.select == "blocks" and k * strategy.block < codes else 1


def in_blocks(unit: Float[Array, "groups codes d"], size: int) -> Float[Array, "groups columns d"]:
    """Codes such that the first of all blocks come first, then the second, and so on.

    Maxima over blocks are then maxima of whole rows, which compilers make vector instructions of.
    A block still is `size` codes of consecutive ids.
    """
    groups, codes, d = unit.shape
    unit = jnp.pad(unit, ((0, 0), (0, -codes % size), (0, 0)))
    return jnp.swapaxes(unit.reshape(groups, -1, size, d), 1, 2).reshape(groups, -1, d)


def largest(
    similarities: Float[Array, "groups rows columns"],
    codes: int,
    k: int,
    size: int,
    strategy: Strategy,
) -> Picks:
    """The k largest in each row; columns are codes in blocks of `size`."""
    if size > 1:
        return _blocks(similarities, codes, k, size)
    if strategy.select == "approx":
        values, ids = lax.approx_max_k(similarities, k)
        return values, ids.astype(jnp.int32)
    return top_k(similarities, k)


def _blocks(similarities: Array, codes: int, k: int, size: int) -> Picks:
    """Exact: a code outside the k best blocks is preceded by the best code of each of these.

    That holds for ties, too, as a lower block has lower ids and `top_k` prefers it.
    """
    groups, rows, columns = similarities.shape
    count = columns // size
    table = similarities.reshape(groups, rows, size, count)
    maxima = table.max(axis=2)
    if columns > codes:  # the last block is cut short
        last = table[:, :, : size - (columns - codes), -1].max(axis=-1, keepdims=True)
        maxima = jnp.concatenate([maxima[..., :-1], last], axis=-1)
    _, best = top_k(maxima, k)
    best = jnp.sort(best, axis=-1)  # candidates in the order of their ids
    offsets = jnp.arange(size, dtype=jnp.int32)
    places = (best[..., None] + offsets * count).reshape(groups, rows, k * size)
    ids = (best[..., None] * size + offsets).reshape(groups, rows, k * size)
    found = jnp.take_along_axis(similarities, places, axis=-1, mode="promise_in_bounds")
    if columns > codes:
        found = jnp.where(ids < codes, found, jnp.asarray(-jnp.inf, found.dtype))
    values, at = top_k(found, k)
    return values, jnp.take_along_axis(ids, at, axis=-1, mode="promise_in_bounds")
