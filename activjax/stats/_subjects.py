"""What a harvest gathers: an accumulator with the sites that it is given, loop by loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from activjax.stats._accumulator import Accumulator, Rows
from activjax.transforms import SiteError, sites
from activjax.transforms._names import matches, nearest
from activjax.transforms._plan import Described, describe


@dataclass(frozen=True)
class Subject:
    """One accumulator and the sites that it is given.

    Attributes:
      key: of the result: a site's name, or a tuple of names.
      accumulator: the statistic.
      sites: what is known of each site's value.
      loops: the leading axes of the values that loops make; one statistic for each entry.
    """

    key: Any
    accumulator: Accumulator
    sites: tuple[Described, ...]
    loops: tuple[int, ...]

    def init(self) -> Any:
        """The state for every entry of the loops."""
        like = [jax.ShapeDtypeStruct(_rows(s.shape), s.dtype) for s in self.sites]
        state = self.accumulator.init(self._values(like))
        return jax.tree.map(lambda a: jnp.broadcast_to(a, (*self.loops, *a.shape)), state)

    def update(self, state: Any, acts: Mapping[str, Any], rows: Rows) -> Any:
        """Take in one batch's activations."""
        depth = len(self.loops)
        values = [acts[s.name] for s in self.sites]
        values = [v.reshape(*self.loops, *_rows(v.shape[depth:])) for v in values]
        ran = [acts[f"{s.name}#valid"] for s in self.sites if s.conditional]

        def one(state: Any, values: Any, ran: Any) -> Any:
            mask = rows.mask
            for flag in ran:
                mask = mask & flag
            return self.accumulator.update(
                state, self._values(values), Rows(mask, rows.labels, rows.ids)
            )

        return self._mapped(one)(state, values, ran)

    def merge(self, a: Any, b: Any) -> Any:
        """The state of both."""
        return self._mapped(self.accumulator.merge)(a, b)

    def finish(self, state: Any) -> Any:
        """The result."""
        return self._mapped(self.accumulator.finish)(state)

    def _values(self, values: list[Any]) -> Any:
        return tuple(values) if isinstance(self.key, tuple) else values[0]

    def _mapped(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        for _ in self.loops:
            fn = jax.vmap(fn)
        return fn


def _rows(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A value's shape with a channel axis: one number an example has one channel."""
    return shape if len(shape) > 1 else (*shape, 1)


def subjects(
    f: Callable[..., Any], select: Any, reduce: Any, params: Any, batch: Any, n: int
) -> tuple[Subject, ...]:
    """Match accumulators with the sites that a selection reads, by default those that they name.

    Raises:
      SiteError: no such site, one that cannot be reached, a key that names none of the selection, a
        site that two keys name, sites of different loops in one key, or a value without the
        examples on its first axis.
    """
    if select is None:
        table = {site.name: site.base for site in sites(f)(params, batch)}
        names = list(table)
        keys = [name for key in reduce for name in (key if isinstance(key, tuple) else (key,))]
        select = sorted({n for key in keys for n in _matching(key, table)}, key=names.index)
    found = describe(f, select, (params, batch))
    bases = {name: site.base for name, site in found.items()}
    if not isinstance(reduce, Mapping):
        reduce = dict.fromkeys(found, reduce)
    out, taken = [], {}
    for key, accumulator in reduce.items():
        if isinstance(key, tuple):
            names = tuple(_one(name, bases, key) for name in key)
            out.append(_subject(names, accumulator, [found[name] for name in names]))
            continue
        for name in _matching(key, bases):
            if name in taken:
                raise SiteError(
                    f"harvest: site {name!r} is named by two keys of reduce, {taken[name]!r} and "
                    f"{key!r}; for two statistics of one site use stats.together"
                )
            taken[name] = key
            out.append(_subject(name, accumulator, [found[name]]))
    for subject in out:
        for site in subject.sites:
            if site.dynamic:
                raise SiteError(
                    f"harvest: site {site.name!r} is in a while loop, so how many of its values "
                    "count is not known; capture it, and update the accumulator with a mask"
                )
            if not site.shape or site.shape[0] != n:
                raise SiteError(
                    f"harvest: site {site.name!r} has shape {site.shape} within its loops, "
                    f"expected the batch's {n} examples on its first axis"
                )
    return tuple(out)


def _subject(key: Any, accumulator: Accumulator, sites: list[Described]) -> Subject:
    loops = {site.loops for site in sites}
    if len(loops) > 1:
        shapes = ", ".join(f"{s.name!r}: {s.loops}" for s in sites)
        raise SiteError(f"harvest: the sites of one key have different loops: {shapes}")
    return Subject(key, accumulator, tuple(sites), loops.pop())


def _matching(pattern: Any, found: Mapping[str, str]) -> list[str]:
    """The sites of `found` (name -> base name) that a glob names."""
    if not isinstance(pattern, str):
        raise TypeError(f"harvest: a key of reduce is {pattern!r}, expected a glob or a tuple")
    names = [name for name, base in found.items() if matches(pattern, name, base)]
    if not names:
        near = nearest(pattern, found)
        hint = f"nearest: {', '.join(near)}" if near else f"chosen: {', '.join(found)}"
        raise SiteError(f"harvest: reduce names {pattern!r}, which is not chosen; {hint}")
    return names


def _one(pattern: Any, found: Mapping[str, str], key: tuple[Any, ...]) -> str:
    names = _matching(pattern, found)
    if len(names) > 1:
        raise SiteError(f"harvest: {pattern!r} in the key {key} is not one site: {names}")
    return names[0]
