"""Positions that a site itself names: the token that stands at place 5, wherever it lies.

A function may say where the entries of an axis stand in a longer sequence: a tag `positions` of
integers whose last axis is that axis (a decoder's: `[batch, seq]`, going on under a cache, padding
-1). Then `at={"seq": 5}` means the entry whose position is 5, in each example its own. A
word, `at={"seq": "last_prompt"}`, is the name of a site that holds a position for each example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Int

from activjax.transforms._holes import spoil
from activjax.transforms._indices import Settling, integers
from activjax.transforms._names import SiteError
from activjax.transforms._sites import Site, SiteTable

POSITIONS = "positions"
Seen = Mapping[str, jax.Array]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Word:
    """A position by the name of the site that holds it."""

    name: str = field(metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class PerExample:
    """A position for each example; made by `per_example`."""

    index: Any
    axis: str = field(metadata={"static": True})


def per_example(index: Int[Array, " n"] | Any, axis: str = "batch") -> PerExample:
    """A position of its own for each example of a batch, for `select(at={"seq": ...})`.

    Args:
      index: integers `[n]`, one for each entry of `axis`; negative ones count from the end.
      axis: the name of the site's axis that they run along.

    Returns:
      An index for `at`; the axis that it indexes disappears. It may be traced.

    Raises:
      TypeError: not integers of shape `[n]`.
    """
    array = index if isinstance(index, (jax.Array, Tracer)) else np.asarray(index)
    if array.ndim != 1 or not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(
            f"per_example: expected integers of shape [{axis}], got {array.dtype}"
            f"{list(array.shape)}"
        )
    return PerExample(array, axis)


@dataclass(frozen=True, eq=False)
class Place:
    """Where to read or edit along one axis, found by position at run time.

    Attributes:
      axis: the axis of one example's value.
      size: its length.
      wanted: positions `[k]`; or None, with `word`; or of shape `[n]` along the axis `of`.
      of: the axis of the value along which `wanted` differs, or None.
      scalar: whether the axis disappears.
      positions: the site that says where entries stand, or None: where they lie.
      word: the site that holds the wanted position.
      axes: names of the value's axes.
      traced: whether the wanted positions are not known.
    """

    axis: int
    size: int
    wanted: jax.Array | None
    of: int | None
    scalar: bool
    positions: Site | None
    word: Site | None
    axes: tuple[str, ...]
    traced: bool

    @property
    def needs(self) -> tuple[Site, ...]:
        """The sites whose values it reads."""
        return tuple(s for s in (self.positions, self.word) if s is not None)

    def get(self, x: jax.Array, seen: Seen, *, holes: bool) -> jax.Array:
        """The chosen entries, `k` along the axis; where there are none holes, or any others."""
        match = self._match(x.ndim, seen)
        index = jnp.argmax(match, axis=self.axis + 1)  # the first of equals
        out = jnp.take_along_axis(x, index, self.axis)
        return spoil(out, ~jnp.any(match, axis=self.axis + 1)) if holes else out

    def put(self, x: jax.Array, value: jax.Array, seen: Seen) -> jax.Array:
        """The value with the chosen entries replaced; where there are none, as it was."""
        match = self._match(x.ndim, seen)
        first = jnp.argmax(match, axis=self.axis + 1, keepdims=True)
        match &= _along([self.axis + 1], x.ndim + 1, jnp.arange(self.size)) == first  # as `get`
        which = jnp.argmax(match, axis=self.axis)
        return jnp.where(
            jnp.any(match, axis=self.axis), jnp.take_along_axis(value, which, self.axis), x
        )

    def settling(self, axis: int) -> Settling | None:
        """What is still to do to a derivative: a repeated position has it at its first place."""
        if self.scalar or self.wanted is None:
            return None
        first = jnp.argmax(self.wanted[:, None] == self.wanted[None, :], axis=1)
        return Settling(axis, first, None) if self.traced else None

    def _match(self, ndim: int, seen: Seen) -> jax.Array:
        """Of rank `ndim + 1`: whether the entry at `axis + 1` is the one wanted at `axis`."""
        lies = _along([self.axis], ndim, jnp.arange(self.size, dtype=jnp.int32))
        stands = lies if self.positions is None else self._aligned(self.positions, ndim, seen)
        lies, stands = (jnp.expand_dims(p, self.axis) for p in (lies, stands))
        if self.word is not None:
            wanted = self._aligned(self.word, ndim, seen)
        elif self.of is not None:
            wanted = _along([self.of], ndim, jnp.asarray(self.wanted, jnp.int32))
        else:
            wanted = _along([self.axis], ndim, jnp.asarray(self.wanted, jnp.int32))
        wanted = jnp.expand_dims(wanted, self.axis + 1)
        if self.word is not None:
            return (stands == wanted) & (wanted >= 0)
        return jnp.where(wanted >= 0, stands == wanted, lies == wanted + self.size)

    def _aligned(self, site: Site, ndim: int, seen: Seen) -> jax.Array:
        value = seen[site.name].astype(jnp.int32)
        return _along([self.axes.index(a) for a in site.axes or ()], ndim, value)


def _along(axes: list[int], ndim: int, x: jax.Array) -> jax.Array:
    """A value whose axes belong at `axes` of a rank `ndim`, with ones elsewhere."""
    order = sorted(range(len(axes)), key=lambda i: axes[i])
    x = jnp.transpose(x, order)
    return jnp.expand_dims(x, [i for i in range(ndim) if i not in axes])


def place_of(index: Any, axis: int, site: Site, table: SiteTable) -> Place | None:
    """How to find an index along an axis by position; None where it is just an index.

    Raises:
      SiteError: a word that no site before has, or positions whose axes the site has not.
    """
    name, axes = (site.axes or ())[axis], site.axes or ()
    where = f"site {site.name!r}, axis {name!r}"
    positions = _nearest(POSITIONS, site, table, having=name)
    wanted: Any = None
    word, of, scalar, traced = None, None, True, True
    if isinstance(index, Word):
        word = _word(index.name, axis, site, table, where, positions)
    elif isinstance(index, PerExample):
        wanted, of = index.index, _along_axis(index, axis, site, where)
    elif positions is None or isinstance(index, slice):
        return None
    else:
        items, scalar = integers(index, where)
        traced = isinstance(items, jax.Array)
        if not traced and all(i < 0 for i in items):
            return None  # from the end of what is given: no need to look
        _check_known(items, site.shape[axis], where)
        wanted = jnp.atleast_1d(jnp.asarray(items, jnp.int32))
        if not wanted.shape[0]:
            return None
    if positions is not None:
        _check_axes(positions, site, where)
    return Place(axis, site.shape[axis], wanted, of, scalar, positions, word, axes, traced)


def _word(
    word: str, axis: int, site: Site, table: SiteTable, where: str, positions: Site | None
) -> Site:
    """The site that a word names, checked to hold positions along the axis."""
    name = (site.axes or ())[axis]
    found = _nearest(word, site, table, having=None)
    if found is None:
        near = [s.name for s in table if _is_word(s)]
        raise SiteError(
            f"{where}: {word!r} is no site of integers before it; there are 'last', indices, and "
            f"the sites {near or 'none'}"
        )
    _check_axes(found, site, where)
    if name in (found.axes or ()):
        raise SiteError(f"{where}: site {found.name!r} runs along this axis itself")
    other = None if positions else _nearest(POSITIONS, site, table, having=None)
    if other is not None:
        raise SiteError(
            f"{where}: {word!r} is a position in the sequence that {other.name!r} describes, and "
            f"nothing tells where the entries of {name!r} stand in it: give an index"
        )
    return found


def _along_axis(index: PerExample, axis: int, site: Site, where: str) -> int:
    """The axis of the site that positions for each example run along."""
    axes = site.axes or ()
    if index.axis not in axes or index.axis == axes[axis]:
        raise SiteError(f"{where}: per_example(axis={index.axis!r}), but its axes are {axes}")
    of = axes.index(index.axis)
    if index.index.shape[0] != site.shape[of]:
        raise SiteError(
            f"{where}: per_example has {index.index.shape[0]} positions for {site.shape[of]} "
            f"entries of axis {index.axis!r}"
        )
    return of


def _check_known(items: Any, size: int, where: str) -> None:
    if isinstance(items, jax.Array):
        return
    if len(set(items)) < len(items):
        raise SiteError(f"{where}: an index is repeated in {list(items)!r}")
    if low := [i for i in items if i < -size]:
        raise SiteError(f"{where}: index {low[0]} is out of range for length {size}")


def _check_axes(other: Site, site: Site, where: str) -> None:
    sizes = dict(zip(site.axes or (), site.shape, strict=True))
    for name, size in zip(other.axes or (), other.shape, strict=True):
        if name not in sizes:
            raise SiteError(
                f"{where}: positions are found through site {other.name!r}, whose axes "
                f"{other.axes} are not all the site's: {name!r} is missing"
            )
        if sizes[name] != size:
            raise SiteError(
                f"{where}: positions are found through site {other.name!r}, which has {size} "
                f"entries along {name!r}, and this site has {sizes[name]}"
            )


def _is_word(site: Site) -> bool:
    return site.kind == "tag" and jnp.issubdtype(site.dtype, jnp.integer) and site.axes is not None


def _nearest(name: str, site: Site, table: SiteTable, having: str | None) -> Site | None:
    """The site of a name, of all before `site` the one in the innermost scope around it.

    Args:
      name: the site's own name.
      site: where it is needed.
      table: all sites.
      having: what its last axis must be, or None for any.

    Raises:
      SiteError: it stands before, but its value cannot be had at the site.
    """
    scopes = site.base.split("/")[:-1]
    earlier = table[: list(table).index(site)]
    for depth in range(len(scopes), -1, -1):
        base = "/".join([*scopes[:depth], name])
        found = [s for s in earlier if s.base == base and _is_word(s)]
        if having is not None:
            found = [s for s in found if (s.axes or ())[-1:] == (having,)]
        usable = [s for s in found if s.before(site) and not s.blocked]
        if usable:
            return usable[-1]
        if found:
            why = found[-1].blocked or "inside a body that has ended (a jit, a loop, a branch)"
            raise SiteError(
                f"site {site.name!r}: its positions are those of site {found[-1].name!r}, which "
                f"cannot be had here: it is {why}; tag it in the body around both"
            )
    return None
