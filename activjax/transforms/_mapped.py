"""One example at a time: functions of values that `jax.vmap` gave more axes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from activjax.transforms._actions import Read
from activjax.transforms._edit import Edit
from activjax.transforms._names import SiteError
from activjax.transforms._places import Seen
from activjax.transforms._sites import Site
from activjax.transforms._targets import Target


def over_mapped(fn: Callable[..., jax.Array], site: Site, mapped: Any) -> Callable[..., jax.Array]:
    """`fn(x, edit, seen)` of one example, of the value with its mapped axes in place."""
    dims = site.batch_dims
    for name in reversed(site.batch_names):
        fn = jax.vmap(fn, in_axes=(0, mapped, 0), axis_name=name)

    def run(x: jax.Array, edit: Edit, seen: dict[str, jax.Array]) -> jax.Array:
        x = jnp.moveaxis(x, dims, range(len(dims)))
        return jnp.moveaxis(fn(x, edit, seen), range(len(dims)), dims)

    return run


def along(x: jax.Array, other: Site, site: Site) -> jax.Array | None:
    """A value of another site with the mapped axes of `site` in front; None if they cannot be told.

    Axes of one size that `jax.vmap` named alike are taken as the same; nothing tells two unnamed
    ones apart.
    """
    names = site.batch_names
    own = [names.index(n) if n is not None and n in names else None for n in other.batch_names]
    known = [i for i in own if i is not None]
    if len(set(known)) < len(own) or any(names.count(names[i]) > 1 for i in known):
        return None
    if any(site.mapped[i] != n for i, n in zip(known, other.mapped, strict=True)):
        return None
    x = jnp.moveaxis(x, [other.batch_dims[own.index(i)] for i in sorted(known)], range(len(own)))
    x = jnp.expand_dims(x, [i for i in range(len(names)) if i not in known])
    return jnp.broadcast_to(x, (*site.mapped, *other.shape))


def mapped_axes(edit: Any, shape: tuple[int, ...], mapped: tuple[int, ...]) -> Any:
    """`vmap` axes for an edit: 0 for values that carry the site's mapped axes in front."""
    if not mapped:
        return None
    axes = {}
    for field in dataclasses.fields(edit):
        value = getattr(edit, field.name)
        if field.metadata.get("static"):
            axes[field.name] = value
        elif value is None:
            axes[field.name] = None
        elif isinstance(value, Edit):
            axes[field.name] = mapped_axes(value, shape, mapped)
        elif isinstance(value, tuple):
            axes[field.name] = tuple(mapped_axes(v, shape, mapped) for v in value)
        else:
            own = field.name in edit.like_site and jnp.shape(value) == (*mapped, *shape)
            axes[field.name] = 0 if own else None
    return type(edit)(**axes)


def positions_seen(target: Target, values: Mapping[str, tuple[Site, jax.Array]]) -> Seen:
    """The values that a target's positions need, with the mapped axes of its site in front.

    Raises:
      SiteError: it cannot be told which of their examples belongs to which of the site's.
    """
    out = {}
    for need in target.needs:
        other, x = values[need.name]
        aligned = along(x, other, target.site)
        if aligned is None:
            raise SiteError(
                f"site {target.site.name!r}: its position is found through site {other.name!r}; "
                "both are mapped by jax.vmap inside the function, and nothing tells which example "
                "of the one belongs to which of the other: name the axis (jax.vmap(f, axis_name="
                '"batch")), or capture or intervene inside the vmap'
            )
        out[need.name] = aligned
    return out


def read_value(x: jax.Array, read: Read, seen: Seen) -> jax.Array:
    """What is read of a value with its mapped axes in place; they come first."""
    target = read.target
    n = len(target.site.batch_dims)
    fn = read_one(target)
    for _ in range(n):
        fn = jax.vmap(fn)
    return fn(jnp.moveaxis(x, target.site.batch_dims, range(n)), seen)


def read_one(target: Target) -> Callable[[jax.Array, Seen], jax.Array]:
    """What is read of one example's value, given the values that its positions need."""

    def fn(x: jax.Array, seen: Seen) -> jax.Array:
        x = target.get(x, seen)
        if target.reduce is None:
            return x
        reduced = target.reduce(x)
        if not isinstance(reduced, (jax.Array, np.ndarray, np.generic)):
            raise SiteError(
                f"site {target.site.name!r}: `reduce` must return one array, got a "
                f"{type(reduced).__name__}"
            )
        return jnp.asarray(reduced)

    return fn
