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
from activjax.transforms._actions import Actions, Read, Write, fill
from activjax.transforms._context import Context
from activjax.transforms._edit import Edit, asks, calls, checked
from activjax.transforms._holes import blank, poison, wide_enough
from activjax.transforms._loop import ActivationLoop
from activjax.transforms._mapped import along, mapped_axes, over_mapped, positions_seen, read_value
from activjax.transforms._names import SiteError
from activjax.transforms._sites import Site
from activjax.transforms._targets import Target


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
        self.effects = not reading
        self.values = dict(values or {})  # sites met so far, here and around, for `ctx.read`
        self.taps: dict[str, jax.Array] = {}

    def leaf(self, eqn: _compat.Equation, invals: list[Any], data: Actions) -> list[Any]:
        """Edit the value, tag it again so that outer transforms see it, and read it."""
        (x,) = invals
        with wide_enough([data.site.dtype]):
            for write in data.writes:
                x = self._write(x, write)
            if not self.reading:
                (x,) = _compat.rebind(eqn, [x])
            self.values[data.site.name] = (data.site, x)
            for read in data.reads:
                self.taps[read.name] = self._read(x, read)
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
            with wide_enough([r.inner.dtype for r in reads.values()]):
                return {
                    name: _compat.vary(
                        taps[name] if name in taps else blank(r.shape(depth), r.inner.dtype)
                    )
                    for name, r in reads.items()
                }

        return self.child(), side

    def loop(self, plan: program.Plan, info: program.LoopInfo) -> program.Loop:
        """Send this frame through a loop."""
        return ActivationLoop(self, plan)

    def _context(self, target: Target, seen: dict[str, jax.Array]) -> Context:
        """What an edit of `target` may ask for, given the values that it may read."""
        loops = {name: i for (name, _), i in zip(target.site.loops, self.indices, strict=True)}
        key = self.key
        if key is not None:
            key = jax.random.fold_in(key, zlib.crc32(target.site.name.encode()))
            for (name, _), i in zip(target.site.loops, self.indices, strict=True):
                # Not by shard: a value that is the same on every shard must stay so.
                key = key if name == program.SHARDS else jax.random.fold_in(key, i)
        apart = tuple(name for name in self.values if name not in seen)
        return Context(target.site.name, loops, target.site.axes, key, seen, apart)

    def _seen(self, site: Site) -> dict[str, jax.Array]:
        """Values that an edit of `site` may ask for, with its mapped axes in front."""
        found = {n: along(x, other, site) for n, (other, x) in self.values.items()}
        return {name: x for name, x in found.items() if x is not None}

    def _read(self, x: jax.Array, read: Read) -> jax.Array:
        if read.is_mask:
            return jnp.asarray(True)
        return read_value(x, read, positions_seen(read.target, self.values))

    def _write(self, x: jax.Array, write: Write) -> jax.Array:
        target, site = write.target, write.target.site
        edit = fill(write.edit, self.feeds.get(write.number, []))

        def one(value: jax.Array, edit: Edit, seen: dict[str, jax.Array]) -> jax.Array:
            part, context = target.get(value, seen, holes=False), self._context(target, seen)
            # Tags made by the edit itself become `site/<name>`.
            with jax.named_scope(f"aj.scope{{{_last_name(site.base, site.place.scopes)}}}"):
                new = edit.apply(part, context)
            return target.put(value, checked(new, part, site.name), seen)

        # Ask for the shape that the edit sees, to know which of its values are mapped too.
        part = jax.ShapeDtypeStruct(site.shape, site.dtype)
        if target.partial:
            part = jax.eval_shape(target.get, part, target.abstract_seen())
        mapped = mapped_axes(edit, part.shape, site.mapped)
        apply = over_mapped(one, site, mapped)
        seen = {
            **positions_seen(target, self.values),
            **(self._seen(site) if asks(write.edit) else {}),
        }
        gate = self.gates.get(write.number)
        if gate is None:
            y = apply(x, edit, seen)
        elif calls(write.edit):
            # Not run elsewhere: there its derivative may be NaN, which `where` would let through.
            y = program.run_if(gate, lambda: apply(x, edit, seen), x)
        else:
            y = jnp.where(gate, apply(x, edit, seen), x)
        if extra := _compat.varying(y) - _compat.varying(x):
            raise SiteError(
                f"site {site.name!r} is the same on every shard of {sorted(extra)}, and the edit "
                "would make it differ: give it one value (not `each`, a shift or a shard's own "
                "data), or use shard_map(check_vma=False)"
            )
        return poison(y, [None if level is None else level.outside() for level in target.levels])


def _last_name(base: str, scopes: tuple[str, ...]) -> str:
    # The tag's own name: the surrounding scopes are in the name stack already.
    prefix = "/".join(scopes)
    return base[len(prefix) + 1 :] if prefix else base
