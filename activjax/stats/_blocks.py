"""Updates block by block, where that keeps a batch in the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

_ELEMENTS = 2**17  # of a block: half a megabyte of float32


def fold(fn: Callable[[Any, Any], Any], state: Any, arrays: Any, width: int) -> Any:
    """`fn(state, arrays)`, on CPU by blocks of rows, one after another.

    XLA on CPU makes one pass over memory for each reduction. Block by block all but the first
    come from the cache; accelerators do better with the whole at once.

    Args:
      fn: `fn(state, arrays) -> state`, for which blocks in order are as good as the whole.
      state: pytree of arrays.
      arrays: pytree of arrays with rows on their first axis.
      width: elements a row.
    """
    rows = jax.tree.leaves(arrays)[0].shape[0]
    size = max(1, _ELEMENTS // max(1, width))
    if rows < 2 * size:
        return fn(state, arrays)
    blocks, left = divmod(rows, size)

    def blocked(state: Any, arrays: Any) -> Any:
        whole = jax.tree.map(lambda a: a[: rows - left].reshape(blocks, size, *a.shape[1:]), arrays)
        state, _ = jax.lax.scan(lambda s, block: (fn(s, block), None), state, whole)
        if left:
            state = fn(state, jax.tree.map(lambda a: a[rows - left :], arrays))
        return state

    return jax.lax.platform_dependent(state, arrays, cpu=blocked, default=fn)
