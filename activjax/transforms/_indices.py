"""Indices along one axis or loop, checked and resolved; they may be traced."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from activjax.transforms._holes import spoil
from activjax.transforms._names import SiteError

Index = Any  # int, list or tuple of ints, slice, NumPy array, or a JAX array (traced or not)


@dataclass(frozen=True, eq=False)
class Indices:
    """Chosen indices along one axis of a known length, negative ones resolved.

    Attributes:
      values: a tuple of ints, or a traced int32 array of shape [] or [k].
      scalar: whether the axis disappears.
      length: the axis's length; None: that of a `while`, not known.
    """

    values: tuple[int, ...] | jax.Array
    scalar: bool
    length: int | None

    @property
    def traced(self) -> bool:
        """Whether the indices are arrays rather than Python integers."""
        return not isinstance(self.values, tuple)

    @property
    def axis(self) -> tuple[int, ...]:
        """The axis that these indices leave: () or (k,)."""
        if self.scalar:
            return ()
        return (len(self.values) if isinstance(self.values, tuple) else self.values.shape[0],)

    @property
    def empty(self) -> bool:
        """Whether nothing is chosen, for certain."""
        return self.axis == (0,)

    def array(self) -> jax.Array:
        """The indices as int32, shape `axis`."""
        flat = jnp.asarray(self.values, jnp.int32)
        return flat.reshape(self.axis)

    def outside(self) -> jax.Array | None:
        """Whether each index is out of range, or None where that was checked already."""
        if not self.traced:
            return None
        values = self.array()
        return (values < 0) if self.length is None else (values < 0) | (values >= self.length)

    def hit(self, i: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Whether iteration `i` is chosen, and its place among the chosen ones."""
        equal = jnp.atleast_1d(self.array()) == i
        return jnp.any(equal), jnp.argmax(equal)

    def first(self) -> jax.Array:
        """For each chosen index the place where it is chosen first."""
        chosen = self.array()
        return jnp.argmax(chosen[:, None] == chosen[None, :], axis=1)

    def settling(self, axis: int) -> Settling | None:
        """What is still to do to values kept at these indices; None where they are known."""
        if not self.traced:
            return None
        return Settling(axis, None if self.scalar else self.first(), self.outside())


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Settling:
    """Values kept at traced indices, put right: a repeated index was kept at its first place only.

    Attributes:
      axis: the axis of the values that the indices left.
      first: `[k]`, for each index the place where it stands first; None for a single index.
      outside: whether each index is out of range, where there will be holes; None if not known.
    """

    axis: int = field(metadata={"static": True})
    first: jax.Array | None
    outside: jax.Array | None

    def __call__(self, x: jax.Array) -> jax.Array:
        """The values with repetitions filled in and holes made."""
        bad = self.outside
        if self.first is not None:
            x = jnp.take(x, self.first, self.axis, mode="clip")
            if bad is not None:
                bad = jnp.expand_dims(bad, [i for i in range(x.ndim) if i != self.axis])
        return x if bad is None else spoil(x, bad)


@dataclass(frozen=True)
class Steps:
    """The iterations of a `while`: the last one's value, or a buffer of the first `limit`."""

    limit: int | None
    empty = False
    traced = False

    @property
    def scalar(self) -> bool:
        """Whether no axis is left."""
        return self.limit is None

    @property
    def axis(self) -> tuple[int, ...]:
        """The axis left: () or (limit,)."""
        return () if self.limit is None else (self.limit,)

    def hit(self, i: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Whether iteration `i` is kept, and where in the buffer."""
        return jnp.asarray(True) if self.limit is None else i < self.limit, i

    def outside(self) -> None:
        """Nothing can be out of range."""


Level = Indices | Steps


def integers(index: Index, where: str) -> tuple[tuple[int, ...] | jax.Array, bool]:
    """An index as Python integers or an int32 array, and whether it is a single one.

    Raises:
      SiteError: it is no integer and no list or array `[k]` of them.
    """
    if isinstance(index, jax.Array):
        if index.ndim > 1 or not jnp.issubdtype(index.dtype, jnp.integer):
            raise SiteError(f"{where}: expected integers of shape [] or [k], got {index.aval}")
        return index.astype(jnp.int32), index.ndim == 0
    scalar = isinstance(index, int)
    items = [index] if scalar else list(index) if isinstance(index, (list, tuple)) else None
    if items is None or not all(type(i) is int for i in items):
        raise SiteError(f"{where}: expected an int, a list of ints or an array, got {index!r}")
    return tuple(items), scalar


def indices(index: Index, length: int | None, where: str) -> Indices:
    """Check and resolve an index along an axis of a known length.

    Raises:
      SiteError: a concrete index is out of range, repeated, or no index at all.
    """
    if isinstance(index, slice) and length is not None:
        return Indices(tuple(range(length)[index]), False, length)
    items, scalar = integers(index, where)
    if isinstance(items, jax.Array):
        if length is None:
            return Indices(items, scalar, None)
        values = jnp.where((items < 0) & (items >= -length), items + length, items)
        return Indices(values, scalar, length)
    for i in items:
        if length is None and i < 0:
            raise SiteError(f"{where}: index {i}, but the length is not known: count from 0")
        if length is not None and not -length <= i < length:
            raise SiteError(f"{where}: index {i} is out of range for length {length}")
    values = tuple(i if length is None else i % length for i in items)
    if len(set(values)) < len(values):
        raise SiteError(f"{where}: an index is repeated in {index!r}")
    return Indices(values, scalar, length)
