"""`select`: where in a function's activations: site, loop iteration, position along an axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from activjax import program
from activjax.transforms._names import SiteError
from activjax.transforms._sites import Site

Index = Any  # int, list or tuple of ints, slice, NumPy array, or a JAX array (traced or not)


@dataclass(frozen=True, eq=False)
class Selector:
    """Where to read or edit. Made by `select`; a pytree whose leaves are the indices."""

    site: str
    layers: Index = None
    loops: Mapping[str, Index] = field(default_factory=dict)
    at: Mapping[str, Index] = field(default_factory=dict)
    reduce: Callable[[jax.Array], jax.Array] | None = None
    max_steps: int | None = None


jax.tree_util.register_dataclass(
    Selector, ["layers", "loops", "at"], ["site", "reduce", "max_steps"]
)


def select(
    site: str,
    *,
    layers: Index = None,
    loops: Mapping[str, Index] | None = None,
    at: Mapping[str, Index] | Index = None,
    reduce: Callable[[jax.Array], jax.Array] | None = None,
    max_steps: int | None = None,
) -> Selector:
    """Say where in a function's activations to read or edit.

    An index is an int (its axis disappears), a list, slice or 1-D array (its axis stays), or a JAX
    array of either kind, which may be traced. Negative indices count from the end. Concrete
    indices are checked; a traced one out of range gives NaN (integers: 0).

    Args:
      site: a glob over site names: `*` within a segment, `**` across.
      layers: iterations of the innermost loop around the site.
      loops: iterations of any surrounding loop, by name; unnamed loops are "loop0" (innermost),
        "loop1", ...
      at: positions along named axes of the value, such as `{"seq": -1}`; a bare index means "seq".
      reduce: a function of one example's value, applied where the value is made (inside the loop).
      max_steps: iterations of a `while_loop` to keep, in a buffer filled up with NaN (integers: 0);
        without it the last value is read.

    Returns:
      A selector for `capture`, `intervene` and `act_vjp`.
    """
    if at is not None and not isinstance(at, Mapping):
        at = {"seq": at}
    for name, index in (at or {}).items():
        if isinstance(index, str):
            raise SiteError(
                f"select({site!r}, at={{{name!r}: {index!r}}}): positions by word need a model "
                "that tags its positions; give an index such as -1"
            )
    named = {name: _plain(index) for name, index in (loops or {}).items()}
    places = {name: _plain(index) for name, index in (at or {}).items()}
    return Selector(site, _plain(layers), named, places, reduce, max_steps)


def _plain(index: Index) -> Index:
    # NumPy integers are known now: as Python ones they are checked, and static under jit.
    if isinstance(index, (np.ndarray, np.integer)):
        return index.tolist()
    return list(index) if isinstance(index, range) else index


def as_selectors(select: str | Selector | Sequence[str | Selector]) -> tuple[Selector, ...]:
    """One selector or glob, or a sequence of them, as selectors."""
    if isinstance(select, str):
        return (Selector(select),)
    if isinstance(select, Selector):
        return (select,)
    if isinstance(select, Sequence):
        return tuple(s for item in select for s in as_selectors(item))
    raise TypeError(
        f"select: expected a glob, an aj.select(...) or a list of them, got {type(select).__name__}"
    )


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


def indices(index: Index, length: int | None, where: str) -> Indices:
    """Check and resolve an index along an axis of a known length.

    Raises:
      SiteError: a concrete index is out of range, repeated, or no index at all.
    """
    if isinstance(index, jax.Array):
        if index.ndim > 1 or not jnp.issubdtype(index.dtype, jnp.integer):
            raise SiteError(f"{where}: expected integers of shape [] or [k], got {index.aval}")
        index = index.astype(jnp.int32)
        if length is None:
            return Indices(index, index.ndim == 0, None)
        values = jnp.where((index < 0) & (index >= -length), index + length, index)
        return Indices(values, index.ndim == 0, length)
    if isinstance(index, slice) and length is not None:
        return Indices(tuple(range(length)[index]), False, length)
    scalar = isinstance(index, int)
    items = [index] if scalar else list(index) if isinstance(index, (list, tuple)) else None
    if items is None or not all(type(i) is int for i in items):
        raise SiteError(f"{where}: expected an int, a list of ints or an array, got {index!r}")
    for i in items:
        if length is None and i < 0:
            raise SiteError(f"{where}: index {i}, but the length is not known: count from 0")
        if length is not None and not -length <= i < length:
            raise SiteError(f"{where}: index {i} is out of range for length {length}")
    values = tuple(i if length is None else i % length for i in items)
    if len(set(values)) < len(values):
        raise SiteError(f"{where}: an index is repeated in {index!r}")
    return Indices(values, scalar, length)


@dataclass(frozen=True, eq=False)
class Target:
    """A selector resolved at one site.

    Attributes:
      site: the site.
      levels: for each surrounding loop, outermost first, the chosen iterations, or None for all:
        a read of all is stacked (`Steps` in a `while`), an edit of all is made in each.
      positions: (axis of one example's value, chosen positions), in order of axes.
      reduce: the selector's reduction.
    """

    site: Site
    levels: tuple[Level | None, ...]
    positions: tuple[tuple[int, Indices], ...]
    reduce: Callable[[jax.Array], jax.Array] | None

    @property
    def empty(self) -> bool:
        """Whether no iteration at all is chosen."""
        return any(level is not None and level.empty for level in self.levels)

    def loop_axes(self, depth: int = 0) -> tuple[int, ...]:
        """The axes that loops from `depth` inwards leave."""
        out: tuple[int, ...] = ()
        for level, (_, length) in zip(self.levels[depth:], self.site.loops[depth:], strict=True):
            if level is not None:
                out += level.axis
            elif length is not None:
                out += (length,)
        return out

    def get(self, x: jax.Array) -> jax.Array:
        """The chosen positions of one example's value; NaN (integers: 0) where out of range."""
        for axis, chosen in reversed(self.positions):
            if chosen.traced:
                x = jnp.take(x, chosen.array(), axis, mode="fill", fill_value=_hole(x.dtype))
            else:
                x = jnp.take(x, chosen.array(), axis, mode="clip")
        return x

    def put(self, x: jax.Array, value: jax.Array) -> jax.Array:
        """One example's value with the chosen positions replaced."""
        if not self.positions:
            return value
        if len(self.positions) > 1:
            return self._put_by_mask(x, value)
        axis, chosen = next(iter(self.positions))
        where = (*(slice(None),) * axis, chosen.array())
        out = x.at[where].set(value, mode="drop")
        return _poison(out, [chosen.outside()])

    def _put_by_mask(self, x: jax.Array, value: jax.Array) -> jax.Array:
        # Several axes: spread the value back over each axis in turn, and select by position.
        mask = jnp.ones((), bool)
        full = value
        for axis, chosen in self.positions:
            at = jnp.arange(x.shape[axis], dtype=jnp.int32)
            equal = jnp.atleast_1d(chosen.array())[:, None] == at[None, :]
            if chosen.scalar:
                full = jnp.expand_dims(full, axis)
            full = jnp.take(full, jnp.argmax(equal, axis=0), axis=axis, mode="clip")
            shape = [1] * x.ndim
            shape[axis] = x.shape[axis]
            mask = mask & jnp.any(equal, axis=0).reshape(shape)
        out = jnp.where(mask, full, x)
        return _poison(out, [c.outside() for _, c in self.positions])


def _hole(dtype: Any) -> Any:
    return np.nan if jnp.issubdtype(dtype, jnp.inexact) else 0


def hole(shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """What stands where nothing was read: NaN, or 0 for integers."""
    return jnp.full(shape, _hole(dtype), dtype)


def _poison(x: jax.Array, outside: Sequence[jax.Array | None]) -> jax.Array:
    for bad in outside:
        if bad is not None:
            x = jnp.where(jnp.any(bad), hole((), x.dtype), x)
    return x


def resolve(selector: Selector, site: Site, *, reading: bool) -> Target:
    """Check a selector against a site that its glob names, for a read or for an edit.

    Raises:
      SiteError: a loop, an axis or an index that the site does not have.
    """
    loops = dict(selector.loops)
    names = [name for name, _ in site.loops if name != program.SHARDS]
    if selector.layers is not None:
        if not names:
            raise SiteError(
                f"site {site.name!r} is in no loop, so `layers=` cannot choose an iteration"
            )
        if names[-1] in loops:
            raise SiteError(f"site {site.name!r}: loop {names[-1]!r} is chosen twice")
        loops[names[-1]] = selector.layers
    for name in loops:
        if names.count(name) > 1:
            raise SiteError(f"site {site.name!r}: several loops around it are called {name!r}")
        if name not in names:
            raise SiteError(f"site {site.name!r} has no loop {name!r}; its loops: {names}")
    if selector.max_steps is not None:
        if not reading or all(length is not None for _, length in site.loops):
            raise SiteError(
                f"site {site.name!r}: `max_steps` is for reading a site inside a while loop"
            )
        if type(selector.max_steps) is not int or selector.max_steps < 1:
            raise SiteError(f"site {site.name!r}: max_steps={selector.max_steps!r}, expected >= 1")

    def level(name: str, length: int | None) -> Level | None:
        if name in loops:
            return indices(loops[name], length, f"site {site.name!r}, loop {name!r}")
        return Steps(selector.max_steps) if length is None and reading else None

    levels = tuple(level(name, length) for name, length in site.loops)
    positions = []
    for name, index in selector.at.items():
        if name not in (site.axes or ()):
            raise SiteError(
                f"site {site.name!r} has no axis {name!r}; its axes: {site.axes}"
                + ("" if site.axes else " (name them: aj.tag(x, name, axes=...))")
            )
        axis = (site.axes or ()).index(name)
        where = f"site {site.name!r}, axis {name!r}"
        positions.append((axis, indices(index, site.shape[axis], where)))
    return Target(site, levels, tuple(sorted(positions, key=lambda p: p[0])), selector.reduce)
