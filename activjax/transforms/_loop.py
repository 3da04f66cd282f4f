"""What travels through a loop: values of edits into it, reads out of it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from activjax import program
from activjax.program import _compat
from activjax.transforms._holes import blank, hole, wide_enough
from activjax.transforms._indices import Indices, Level
from activjax.transforms._names import SiteError
from activjax.transforms._sites import is_site

if TYPE_CHECKING:
    from activjax.transforms._actions import Read
    from activjax.transforms._frame import ActivationFrame


class ActivationLoop(program.Loop):
    """Slices feeds into a loop; stacks reads out of it, or keeps the chosen iterations."""

    parent: ActivationFrame

    def __init__(self, parent: ActivationFrame, plan: program.Plan):
        super().__init__(parent)
        self.depth = depth = len(parent.indices)
        actions = list(plan.data())
        self.writes = {w.number: w.target.levels[depth] for a in actions for w in a.writes}
        reads = {r.name: r for a in actions for r in a.reads}
        self.reads = reads
        self.paths = {r.name: path for path, a in plan.items() for r in a.reads}
        self.picked: dict[str, Level] = {}
        self.carry: dict[str, jax.Array] = {}
        for name, read in reads.items():
            level = read.target.levels[depth]
            if level is not None:
                self.picked[name] = level
                shape = (*level.axis, *read.shape(depth + 1))
                # Every slot of a counted loop is written, so its buffer holds no NaN meanwhile.
                start = blank if isinstance(level, Indices) and level.length is not None else hole
                with wide_enough([read.inner.dtype]):
                    self.carry[name] = _compat.vary(start(shape, read.inner.dtype))
        self.xs = {
            number: parent.feeds[number]
            for number, level in self.writes.items()
            if level is None and number in parent.feeds
        }

    def enter(self, index: jax.Array, x: Any) -> ActivationFrame:
        """Feeds of this iteration; a gate for each edit that is made in some iterations only."""
        parent = self.parent
        feeds, gates = dict(parent.feeds), dict(parent.gates)
        feeds.update(x or {})
        for number, level in self.writes.items():
            if level is None:
                continue
            hit, slot = level.hit(index)
            gates[number] = hit & gates[number] if number in gates else hit
            if not level.scalar and number in feeds:
                feeds[number] = [v[slot] for v in feeds[number]]
        return parent.iteration(index, feeds, gates)

    def leave(self, index: jax.Array, carry: Any, frame: program.Frame) -> tuple[Any, Any]:
        """Keep the chosen iterations in the carry; the rest of the reads is stacked."""
        carry, ys = dict(carry), {}
        for name, value in frame.side().items():
            if name not in self.picked:
                ys[name] = value
                continue
            level = self.picked[name]
            if level.empty:
                continue
            hit, slot = level.hit(index)
            with wide_enough([value.dtype]):
                if level.scalar:
                    carry[name] = jnp.where(hit, value, carry[name])
                else:
                    # Out of range drops the write, so nothing is copied in other iterations.
                    slot = jnp.where(hit, slot, level.axis[0])
                    carry[name] = carry[name].at[slot].set(value, mode="drop")
        return carry, ys

    def reach(self, length: int, reverse: bool) -> int:
        """Up to the last chosen iteration, where every read chooses some that are known."""
        chosen = [self.picked.get(name) for name in self.reads]
        known = [c.values for c in chosen if isinstance(c, Indices) and isinstance(c.values, tuple)]
        if len(known) < len(chosen):
            return length
        steps = [length - i if reverse else i + 1 for values in known for i in values]
        return max(steps, default=0)

    def select(
        self, running: jax.Array, new: Any, old: Any, carried: program.Carried
    ) -> dict[str, jax.Array]:
        """In a mapped `while`, lanes that have finished keep what was read in them."""
        out, depends = {}, carried(is_site)
        for name, value in new.items():
            read = self.reads[name]
            lanes = () if read.is_mask else _lanes(running.shape, read, depends[self.paths[name]])
            shape = [1] * value.ndim
            first = value.ndim - len(read.inner.shape)
            for axis, n in zip(lanes, running.shape, strict=False):
                shape[first + axis] = n
            mask = running.reshape(shape) if lanes else jnp.any(running)
            out[name] = jnp.where(mask, value, old[name])
        return out

    def finish(self, carry: Any, ys: Any) -> None:
        """Hand the reads to the frame around the loop."""
        out = dict(ys or {})
        for name, value in carry.items():
            level = self.picked[name]
            with wide_enough([value.dtype]):
                settle = level.settling(0) if isinstance(level, Indices) else None
                out[name] = settle(value) if settle else value
        self.parent.absorb(out)


def _lanes(lanes: tuple[int, ...], read: Read, carried: bool) -> tuple[int, ...]:
    """Which of a site's mapped axes are the lanes of the mapped `while` around it; () for none.

    A value that depends on the loop's carry is mapped over its lanes. One that does not may still
    be mapped by something of their size, and the two cannot be told apart.
    """
    site = read.target.site
    fits = [
        axes
        for axes in itertools.combinations(range(len(site.mapped)), len(lanes))
        if tuple(site.mapped[a] for a in axes) == lanes
    ]
    if carried and len(fits) == 1:
        return fits[0]
    if not carried and not set(lanes) & set(site.mapped) and site.kind == "tag":
        return ()
    raise SiteError(
        f"site {read.name!r} has mapped axes of sizes {site.mapped} in a while loop mapped over "
        f"{lanes}: which of them is the loop's cannot be told; capture inside the vmap"
        + ("" if site.kind == "tag" else ", or name the value with aj.tag")
        + (", or map over different sizes" if site.mapped else "")
    )
