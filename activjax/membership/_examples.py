"""Examples with what belongs to each, and a function mapped over them in chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Examples(NamedTuple):
    """Inputs, what the loss compares with, and masks: pytrees with the examples in front."""

    x: Any
    y: Any
    mask: Any

    @staticmethod
    def of(x: Any, y: Any, mask: Any) -> Examples:
        """Checked.

        Raises:
          ValueError: no examples, or arrays of different lengths.
        """
        found = Examples(*(jax.tree.map(jnp.asarray, part) for part in (x, y, mask)))
        lengths = {}
        for name, part in found._asdict().items():
            for path, leaf in jax.tree_util.tree_leaves_with_path(part):
                if not leaf.ndim:
                    raise ValueError(f"drift: {name}{_at(path)} is a number, expected [n, ...]")
                lengths[name + _at(path)] = leaf.shape[0]
        if not jax.tree.leaves(x):
            raise ValueError("drift: x holds no array")
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{k} {n}" for k, n in lengths.items())
            raise ValueError(f"drift: expected as many examples in each array, got {shown}")
        if not next(iter(lengths.values())):
            raise ValueError("drift: there are no examples")
        return found

    @property
    def n(self) -> int:
        """How many there are."""
        return jax.tree.leaves(self.x)[0].shape[0]


def _at(path: Any) -> str:
    return jax.tree_util.keystr(path)


def mapped(fn: Callable[[Examples], Any], examples: Examples, how: str, chunk: int) -> Any:
    """`fn` over examples: "loop", one after the other, or "vmap", so many at a time."""
    if how == "loop":
        return jax.lax.map(fn, examples)
    if chunk >= examples.n:
        return jax.vmap(fn)(examples)
    return jax.lax.map(fn, examples, batch_size=chunk)
