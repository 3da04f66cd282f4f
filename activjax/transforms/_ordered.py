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


def thaw(result: Any) -> Any:
    """A frozen dict, or each of a tuple's, as a plain one; nothing deeper is touched."""
    if isinstance(result, InOrder):
        return dict(zip(result.names, result.values, strict=True))
    return tuple(map(_thaw_one, result)) if type(result) is tuple else result


def _thaw_one(item: Any) -> Any:
    return thaw(item) if isinstance(item, InOrder) else item
