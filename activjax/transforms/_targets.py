"""A selector resolved at one site: which iterations, which positions, and what is done there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from activjax import program
from activjax.transforms._holes import fill_value, poison, refuse
from activjax.transforms._indices import Indices, Level, Settling, Steps, indices
from activjax.transforms._names import SiteError
from activjax.transforms._places import Place, Seen, place_of
from activjax.transforms._selectors import Selector
from activjax.transforms._sites import Site, SiteTable


@dataclass(frozen=True, eq=False)
class Target:
    """A selector resolved at one site.

    Attributes:
      site: the site.
      levels: for each surrounding loop, outermost first, the chosen iterations, or None for all:
        a read of all is stacked (`Steps` in a `while`), an edit of all is made in each.
      positions: (axis of one example's value, chosen indices), in order of axes.
      places: chosen entries of further axes, found by position at run time.
      reduce: the selector's reduction.
    """

    site: Site
    levels: tuple[Level | None, ...]
    positions: tuple[tuple[int, Indices], ...]
    places: tuple[Place, ...]
    reduce: Callable[[jax.Array], jax.Array] | None

    @property
    def idle(self) -> bool:
        """Whether no entry of any iteration is chosen."""
        chosen = [*self.levels, *(chosen for _, chosen in self.positions)]
        return any(c is not None and c.empty for c in chosen)

    @property
    def partial(self) -> bool:
        """Whether not all entries of a value are chosen."""
        return bool(self.positions or self.places)

    @property
    def needs(self) -> tuple[Site, ...]:
        """The sites whose values tell where the chosen entries are."""
        return tuple(need for place in self.places for need in place.needs)

    def abstract_seen(self) -> dict[str, jax.ShapeDtypeStruct]:
        """One example's values of those sites, abstractly."""
        return {s.name: jax.ShapeDtypeStruct(s.shape, s.dtype) for s in self.needs}

    def refuse_outside(self) -> None:
        """Under `checkify`, an error for each traced index that is out of range."""
        for (name, _), level in zip(self.site.loops, self.levels, strict=True):
            if level is not None and (bad := level.outside()) is not None:
                refuse(bad, f"site {self.site.name!r}, loop {name!r}")
        for axis, chosen in self.positions:
            if (bad := chosen.outside()) is not None:
                name = (self.site.axes or ())[axis]
                refuse(bad, f"site {self.site.name!r}, axis {name!r}")

    def loop_axes(self, depth: int = 0) -> tuple[int, ...]:
        """The axes that loops from `depth` inwards leave."""
        out: tuple[int, ...] = ()
        for level, (_, length) in zip(self.levels[depth:], self.site.loops[depth:], strict=True):
            if level is not None:
                out += level.axis
            elif length is not None:
                out += (length,)
        return out

    def get(self, x: jax.Array, seen: Seen, *, holes: bool = True) -> jax.Array:
        """The chosen entries of one example's value; NaN (integers: 0) where out of range.

        Args:
          x: the value.
          seen: values of the sites in `needs`.
          holes: whether a place where nothing stands reads as a hole; an edit leaves it alone.
        """
        for place in self.places:
            x = place.get(x, seen, holes=holes)
        return jnp.squeeze(self._get(x), self._squeezed)

    def put(self, x: jax.Array, value: jax.Array, seen: Seen) -> jax.Array:
        """One example's value with the chosen entries replaced."""
        whole = [x]
        for place in self.places:
            whole.append(place.get(whole[-1], seen, holes=False))
        value = self._put(whole.pop(), jnp.expand_dims(value, self._squeezed))
        for place in reversed(self.places):
            value = place.put(whole.pop(), value, seen)
        return value

    @property
    def _squeezed(self) -> tuple[int, ...]:
        """Axes of one single place, once those of single positions are gone."""
        gone = [axis for axis, chosen in self.positions if chosen.scalar]
        return tuple(p.axis - sum(g < p.axis for g in gone) for p in self.places if p.scalar)

    def _get(self, x: jax.Array) -> jax.Array:
        for axis, chosen in reversed(self.positions):
            if chosen.traced:
                x = jnp.take(x, chosen.array(), axis, mode="fill", fill_value=fill_value(x.dtype))
            else:
                x = jnp.take(x, chosen.array(), axis, mode="clip")
        return x

    def _put(self, x: jax.Array, value: jax.Array) -> jax.Array:
        if not self.positions:
            return value
        if len(self.positions) > 1:
            return self._put_by_mask(x, value)
        axis, chosen = next(iter(self.positions))
        index = chosen.array()
        if chosen.traced and not chosen.scalar:
            # Of a repeated index the first place counts; the others are dropped.
            first = chosen.first() == jnp.arange(index.shape[0])
            index = jnp.where(first, index, x.shape[axis])
        out = x.at[(*(slice(None),) * axis, index)].set(value, mode="drop")
        return poison(out, [chosen.outside()])

    def settlings(self) -> list[Settling]:
        """What makes a derivative with respect to what was read like the read itself."""
        out, axis = [], 0
        for level, (_, length) in zip(self.levels, self.site.loops, strict=True):
            if isinstance(level, Indices):
                out.append(level.settling(axis))
            axis += (length is not None) if level is None else len(level.axis)
        axis += len(self.site.mapped)
        chosen = {**dict(self.positions), **{place.axis: place for place in self.places}}
        for own in range(len(self.site.shape)):
            if own in chosen:
                out.append(chosen[own].settling(axis))
            axis += not (own in chosen and chosen[own].scalar)
        return [s for s in out if s is not None]

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
        return poison(out, [c.outside() for _, c in self.positions])


def resolve(selector: Selector, site: Site, table: SiteTable, *, reading: bool) -> Target:
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
    positions, places = [], []
    for name, index in selector.at.items():
        if name not in (site.axes or ()):
            raise SiteError(
                f"site {site.name!r} has no axis {name!r}; its axes: {site.axes}"
                + ("" if site.axes else " (name them: aj.tag(x, name, axes=...))")
            )
        axis = (site.axes or ()).index(name)
        if (found := place_of(index, axis, site, table)) is not None:
            places.append(found)
            continue
        where = f"site {site.name!r}, axis {name!r}"
        positions.append((axis, indices(index, site.shape[axis], where)))
    positions.sort(key=lambda p: p[0])
    return Target(site, levels, tuple(positions), tuple(places), selector.reduce)
