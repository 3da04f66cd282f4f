"""Dicts that come out of `jax.jit` in the order in which they went in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class InOrder:
    """A dict by its names, which are static, and its values: JAX sorts the keys of plain dicts."""

    names: tuple[str, ...] = field(metadata={"static": True})
    values: tuple[Any, ...]


def freeze(acts: Mapping[str, Any]) -> InOrder:
    """A dict whose order is kept."""
    return InOrder(tuple(acts), tuple(acts.values()))


def thaw(tree: Any) -> Any:
    """Every frozen dict in a tree as a plain one."""
    return jax.tree_util.tree_map(
        lambda x: dict(zip(x.names, x.values, strict=True)) if isinstance(x, InOrder) else x,
        tree,
        is_leaf=lambda x: isinstance(x, InOrder),
    )
