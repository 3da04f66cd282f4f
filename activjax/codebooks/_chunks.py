"""Tokens some at a time, in a layout that leaves them on the devices where they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from activjax.codebooks._strategy import ROWS


def layout(tokens: int, chunk: int) -> tuple[int, int]:
    """Rows of a chunk, and how many chunks: as even as rows in sixteens allow."""
    count = max(-(-tokens // max(chunk, ROWS[0])), 1)
    rows = -(-tokens // count)
    rows = max(-(-rows // ROWS[0]), 1) * ROWS[0]
    return rows, max(-(-tokens // rows), 1)


def cut(array: Array, chunk: int) -> Array:
    """`[T, ...]` as `[rows, chunks, ...]`, filled with zeros: token `i` is in chunk `i % chunks`.

    Tokens that lie on several devices stay there: every chunk has some of each.
    """
    tokens = array.shape[0]
    rows, count = layout(tokens, chunk)
    if rows * count != tokens:
        width = [(0, rows * count - tokens)] + [(0, 0)] * (array.ndim - 1)
        array = jnp.pad(array, width)
    return array.reshape(rows, count, *array.shape[1:])


def piece(cut_array: Array, i: Any) -> Array:
    """Chunk `i` of an array that was cut."""
    return lax.dynamic_index_in_dim(cut_array, i, 1, keepdims=False)


def over(fn: Callable[..., Any], arrays: Any, tokens: int, chunk: int) -> Any:
    """`fn` of the tokens, a chunk at a time.

    Args:
      fn: of arrays `[rows, ...]` to arrays `[rows, ...]`, row by row.
      arrays: a pytree of arrays `[T, ...]`.
      tokens: T.
      chunk: about how many tokens `fn` is given.
    """
    parts = jax.tree.map(lambda x: cut(x, chunk), arrays)
    count = layout(tokens, chunk)[1]

    def one(_: None, i: Array) -> tuple[None, Any]:
        return None, fn(jax.tree.map(lambda x: piece(x, i), parts))

    if count == 1:
        out = jax.tree.map(lambda x: x[None], one(None, jnp.int32(0))[1])
    else:
        _, out = lax.scan(one, None, jnp.arange(count, dtype=jnp.int32))
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:])[:tokens], out)
