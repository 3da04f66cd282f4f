"""The rule set of capture and intervene: what happens at a tag, and what travels with it.

A read leaves every loop as a stack of all iterations or as a buffer of the chosen ones; the values
of an edit enter every loop sliced. So nothing unasked is stacked, and gradients with respect to an
edit's values come back for all iterations in one array.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from activjax import program
from activjax.program import _compat
from activjax.transforms._actions import Actions, Write, fill
from activjax.transforms._loop import ActivationLoop
from activjax.transforms._mapped import mapped_axes, over_mapped, read_value
from activjax.transforms._names import SiteError
from activjax.transforms._selectors import Target, hole
from activjax.transforms._sites import Site
from activjax.transforms.edits import Context, Edit


class ActivationFrame(program.Frame):
    """Reads and edits tags at one nesting level."""

    def __init__(
        self,
        feeds: dict[int, list[Any]],
        key: jax.Array | None = None,
        indices: tuple[jax.Array, ...] = (),
        gates: dict[int, jax.Array] | None = None,
        reading: bool = False,
        values: dict[str, tuple[Site, jax.Array]] | None = None,
    ):
        self.feeds = feeds
        self.key = key
        self.indices = indices
        self.gates = gates or {}
        self.reading = reading
        self.values = dict(values or {})  # sites met so far, here and around, for `ctx.read`
        self.taps: dict[str, jax.Array] = {}

    def leaf(self, eqn: _compat.Equation, invals: list[Any], data: Actions) -> list[Any]:
        """Edit the value, tag it again so that outer transforms see it, and read it."""
        (x,) = invals
        for write in data.writes:
            x = self._write(x, write)
        if not self.reading:
            (x,) = _compat.rebind(eqn, [x])
        self.values[data.site.name] = (data.site, x)
        for read in data.reads:
            self.taps[read.name] = jnp.asarray(True) if read.is_mask else read_value(x, read)
        return [x]

    def edits(self, plan: program.Plan) -> bool:
        """Whether any leaf below edits."""
        return any(actions.writes for actions in plan.data())

    def child(self, *, reading: bool = False) -> ActivationFrame:
        """The same feeds and gates, taps of its own."""
        return ActivationFrame(
            self.feeds,
            self.key,
            self.indices,
            self.gates,
            reading or self.reading,
            self.values,
        )

    def iteration(
        self, index: jax.Array, feeds: dict[int, list[Any]], gates: dict[int, jax.Array]
    ) -> ActivationFrame:
        """The frame of one iteration of a loop."""
        return ActivationFrame(
            feeds, self.key, (*self.indices, index), gates, self.reading, self.values
        )

    def side(self) -> dict[str, jax.Array]:
        """What was read."""
        return self.taps

    def absorb(self, side: dict[str, jax.Array]) -> None:
        """Take in what was read further inside."""
        self.taps.update(side)

    def branch(
        self, plans: dict[int, program.Plan], taken: int
    ) -> tuple[program.Frame, Callable[[program.Frame], Any]]:
        """Every branch hands out the reads of all; those of the others are 0, masks False."""
        reads = {r.name: r for plan in plans.values() for a in plan.data() for r in a.reads}
        depth = len(self.indices)

        def side(frame: program.Frame) -> dict[str, jax.Array]:
            taps = frame.side()
            return {
                name: taps[name] if name in taps else jnp.zeros(r.shape(depth), r.inner.dtype)
                for name, r in reads.items()
            }

        return self.child(), side

    def loop(self, plan: program.Plan, info: program.LoopInfo) -> program.Loop:
        """Send this frame through a loop."""
        return ActivationLoop(self, plan)

    def _context(self, target: Target, seen: dict[str, jax.Array]) -> Context:
        loops = {name: i for (name, _), i in zip(target.site.loops, self.indices, strict=True)}
        key = self.key
        if key is not None:
            key = jax.random.fold_in(key, zlib.crc32(target.site.name.encode()))
            for i in self.indices:
                key = jax.random.fold_in(key, i)
        return Context(target.site.name, loops, target.site.axes, key, seen)

    def _seen(self, site: Site) -> dict[str, jax.Array]:
        """Values that an edit of `site` may ask for: those mapped like it, or not at all."""
        out = {}
        for name, (other, x) in self.values.items():
            if other.mapped == site.mapped:
                out[name] = jnp.moveaxis(x, other.batch_dims, range(len(other.batch_dims)))
            elif not other.mapped:
                out[name] = jnp.broadcast_to(x, (*site.mapped, *x.shape))
        return out

    def _write(self, x: jax.Array, write: Write) -> jax.Array:
        target, site = write.target, write.target.site
        edit = fill(write.edit, self.feeds.get(write.number, []))

        def one(value: jax.Array, edit: Edit, seen: dict[str, jax.Array]) -> jax.Array:
            part, context = target.get(value), self._context(target, seen)
            # Tags made by the edit itself become `site/<name>`.
            with jax.named_scope(f"aj.scope{{{_last_name(site.base, site.place.scopes)}}}"):
                new = edit.apply(part, context)
            return target.put(value, _checked(new, part, site.name))

        # Ask for the shape that the edit sees, to know which of its values are mapped too.
        part = jax.eval_shape(target.get, jax.ShapeDtypeStruct(site.shape, site.dtype))
        mapped = mapped_axes(edit, part.shape, site.mapped)
        y = over_mapped(one, site.batch_dims, mapped)(x, edit, self._seen(site))
        gate = self.gates.get(write.number)
        if gate is not None:
            y = jnp.where(gate, y, x)
        for level in target.levels:
            outside = None if level is None else level.outside()
            if outside is not None:
                y = jnp.where(jnp.any(outside), hole((), y.dtype), y)
        return y


def _last_name(base: str, scopes: tuple[str, ...]) -> str:
    # The tag's own name: the surrounding scopes are in the name stack already.
    prefix = "/".join(scopes)
    return base[len(prefix) + 1 :] if prefix else base


def _checked(new: Any, old: jax.Array, site: str) -> jax.Array:
    if new is None:
        raise SiteError(f"the edit of site {site!r} returned None: return the edited value")
    new = jnp.asarray(new)
    if new.shape != old.shape or new.dtype != old.dtype:
        raise SiteError(
            f"the edit of site {site!r} returned {new.dtype}{list(new.shape)}, expected "
            f"{old.dtype}{list(old.shape)}: an edit keeps shape and dtype"
        )
    return new
