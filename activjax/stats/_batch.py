"""Batches: how many examples one has, and one filled up to a size."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def examples(batch: Any) -> int:
    """The length of the first axis of every leaf of a batch.

    Raises:
      ValueError: leaves without such an axis, or of different lengths.
    """
    leaves = jax.tree_util.tree_leaves_with_path(batch)
    if not leaves:
        raise ValueError("harvest: a batch is empty, expected arrays with examples on axis 0")
    first: int | None = None
    for path, leaf in leaves:
        shape = jnp.shape(leaf)
        if not shape or (first is not None and shape[0] != first):
            want = "examples" if first is None else f"{first} examples"
            name = jax.tree_util.keystr(path) or "the array"
            raise ValueError(
                f"harvest: in a batch {name} has shape {shape}, expected {want} on its first axis"
            )
        first = shape[0]
    return first or 0


def fill_up(batch: Any, n: int, size: int) -> Any:
    """A batch of `n >= 1` examples with copies of the last one, up to `size`."""
    if n == size:
        return batch

    def longer(leaf: Any) -> Any:
        xp: Any = jnp if isinstance(leaf, jax.Array) else np
        return xp.concatenate([leaf, xp.repeat(leaf[-1:], size - n, axis=0)])

    return jax.tree.map(longer, batch)
