"""What to do at a tag: values to hand out, edits to make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax

from activjax.transforms._edit import Each, Edit
from activjax.transforms._sites import Site
from activjax.transforms._targets import Target


@dataclass(frozen=True, eq=False)
class Read:
    """A value to hand out.

    Attributes:
      name: its key in the captured dict.
      target: where it is read.
      inner: its shape and dtype inside every loop.
      is_mask: whether it says that the site was reached, instead of its value.
    """

    name: str
    target: Target
    inner: jax.ShapeDtypeStruct
    is_mask: bool = False

    @classmethod
    def mask(cls, read: Read) -> Read:
        """The mask beside a read in a branch: whether the branch ran."""
        return cls(f"{read.name}#valid", read.target, jax.ShapeDtypeStruct((), bool), True)

    def shape(self, depth: int = 0) -> tuple[int, ...]:
        """Its shape outside the loop at `depth`."""
        return (*self.target.loop_axes(depth), *self.inner.shape)


@dataclass(frozen=True, eq=False)
class Write:
    """An edit to make. `number` identifies it among the feeds."""

    number: int
    target: Target
    edit: Edit


@dataclass(frozen=True, eq=False)
class Actions:
    """What to do at one tag: edits in order, then reads. None of both: an edit may ask for it."""

    site: Site
    writes: tuple[Write, ...]
    reads: tuple[Read, ...]


def is_each(x: Any) -> bool:
    """Whether a node of an edit's pytree is an `Each`."""
    return isinstance(x, Each)


def feeds(edit: Edit) -> list[Any]:
    """The per-iteration values of an edit."""
    return [n.value for n in jax.tree_util.tree_leaves(edit, is_leaf=is_each) if is_each(n)]


def fill(edit: Edit, values: list[Any]) -> Edit:
    """An edit with its per-iteration values replaced by those of the current iteration."""
    rest = iter(values)
    return jax.tree_util.tree_map(lambda n: next(rest) if is_each(n) else n, edit, is_leaf=is_each)
