"""The rule set of capture and intervene: what happens at a tag, and what travels with it.

A read leaves every loop as a stack of all iterations or as a buffer of the chosen ones; the values
of an edit enter every loop sliced. So nothing unasked is stacked, and gradients with respect to an
edit's values come back for all iterations in one array.
"""

from __future__ import annotations

import dataclasses
import itertools
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from activjax import program
from activjax.program import _compat
from activjax.transforms._names import SiteError
from activjax.transforms._selectors import Indices, Level, Target, hole
from activjax.transforms._sites import Site
from activjax.transforms.edits import Context, Each, Edit


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


def _fill(edit: Edit, values: list[Any]) -> Edit:
    # The edit with its per-iteration values replaced by those of the current iteration.
    rest = iter(values)
    return jax.tree_util.tree_map(lambda n: next(rest) if is_each(n) else n, edit, is_leaf=is_each)


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
            self.taps[read.name] = jnp.asarray(True) if read.is_mask else _read(x, read)
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
        return _ActivationLoop(self, plan)

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
        edit = _fill(write.edit, self.feeds.get(write.number, []))

        def one(value: jax.Array, edit: Edit, seen: dict[str, jax.Array]) -> jax.Array:
            part, context = target.get(value), self._context(target, seen)
            # Tags made by the edit itself become `site/<name>`.
            with jax.named_scope(f"aj.scope{{{_last_name(site.base, site.place.scopes)}}}"):
                new = edit.apply(part, context)
            return target.put(value, _checked(new, part, site.name))

        # Ask for the shape that the edit sees, to know which of its values are mapped too.
        part = jax.eval_shape(target.get, jax.ShapeDtypeStruct(site.shape, site.dtype))
        mapped = _mapped_axes(edit, part.shape, site.mapped)
        y = _over_mapped(one, site.batch_dims, mapped)(x, edit, self._seen(site))
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
    new = jnp.asarray(new)
    if new.shape != old.shape or new.dtype != old.dtype:
        raise SiteError(
            f"the edit of site {site!r} returned {new.dtype}{list(new.shape)}, expected "
            f"{old.dtype}{list(old.shape)}: an edit keeps shape and dtype"
        )
    return new


def _over_mapped(
    fn: Callable[..., jax.Array], batch_dims: tuple[int, ...], mapped: Any
) -> Callable[..., jax.Array]:
    """`fn(x, edit, seen)` of one example, of the value with its mapped axes in place."""
    n = len(batch_dims)
    for _ in range(n):
        fn = jax.vmap(fn, in_axes=(0, mapped, 0))

    def run(x: jax.Array, edit: Edit, seen: dict[str, jax.Array]) -> jax.Array:
        x = jnp.moveaxis(x, batch_dims, range(n))
        return jnp.moveaxis(fn(x, edit, seen), range(n), batch_dims)

    return run


def _mapped_axes(edit: Any, shape: tuple[int, ...], mapped: tuple[int, ...]) -> Any:
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
            axes[field.name] = _mapped_axes(value, shape, mapped)
        elif isinstance(value, tuple):
            axes[field.name] = tuple(_mapped_axes(v, shape, mapped) for v in value)
        else:
            own = field.name in edit.like_site and jnp.shape(value) == (*mapped, *shape)
            axes[field.name] = 0 if own else None
    return type(edit)(**axes)


def _read(x: jax.Array, read: Read) -> jax.Array:
    target = read.target
    n = len(target.site.batch_dims)
    fn = read_one(target)
    for _ in range(n):
        fn = jax.vmap(fn)
    return fn(jnp.moveaxis(x, target.site.batch_dims, range(n)))


def read_one(target: Target) -> Callable[[jax.Array], jax.Array]:
    """What is read of one example's value."""

    def fn(x: jax.Array) -> jax.Array:
        x = target.get(x)
        return x if target.reduce is None else jnp.asarray(target.reduce(x))

    return fn


class _ActivationLoop(program.Loop):
    """Slices feeds into a loop; stacks reads out of it, or keeps the chosen iterations."""

    parent: ActivationFrame

    def __init__(self, parent: ActivationFrame, plan: program.Plan):
        super().__init__(parent)
        self.depth = depth = len(parent.indices)
        actions = list(plan.data())
        self.writes = {w.number: w.target.levels[depth] for a in actions for w in a.writes}
        reads = {r.name: r for a in actions for r in a.reads}
        self.reads = reads
        self.picked: dict[str, Level] = {}
        self.carry: dict[str, jax.Array] = {}
        for name, read in reads.items():
            level = read.target.levels[depth]
            if level is not None:
                self.picked[name] = level
                shape = (*level.axis, *read.shape(depth + 1))
                self.carry[name] = hole(shape, read.inner.dtype)
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
        return ActivationFrame(
            feeds, parent.key, (*parent.indices, index), gates, parent.reading, parent.values
        )

    def leave(self, carry: Any, frame: program.Frame) -> tuple[Any, Any]:
        """Keep the chosen iterations in the carry; the rest of the reads is stacked."""
        assert isinstance(frame, ActivationFrame)
        carry, ys = dict(carry), {}
        for name, value in frame.taps.items():
            if name not in self.picked:
                ys[name] = value
                continue
            level = self.picked[name]
            if level.empty:
                continue
            hit, slot = level.hit(frame.indices[-1])
            if level.scalar:
                carry[name] = jnp.where(hit, value, carry[name])
            else:
                # Out of range drops the write, so nothing is copied in the other iterations.
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

    def select(self, running: jax.Array, new: Any, old: Any) -> Any:
        """In a mapped `while`, lanes that have finished keep what was read in them."""
        out = {}
        for name, value in new.items():
            read = self.reads[name]
            mapped = () if read.is_mask else read.target.site.mapped
            if mapped:
                shape = [1] * value.ndim
                first = value.ndim - len(read.inner.shape)
                for axis, n in zip(_lanes(running.shape, mapped, name), running.shape, strict=True):
                    shape[first + axis] = n
                mask = running.reshape(shape)
            else:
                mask = jnp.any(running)
            out[name] = jnp.where(mask, value, old[name])
        return out

    def finish(self, carry: Any, ys: Any) -> None:
        """Hand the reads to the frame around the loop."""
        out = dict(ys or {})
        for name, value in carry.items():
            level = self.picked[name]
            if isinstance(level, Indices) and level.traced and not level.scalar:
                # A repeated index was written to its first slot only.
                chosen = level.array()
                value = value[jnp.argmax(chosen[:, None] == chosen[None, :], axis=1)]
            out[name] = value
        self.parent.absorb(out)


def _lanes(lanes: tuple[int, ...], mapped: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Which of a site's mapped axes are the lanes of the mapped loop around it."""
    fits = [
        axes
        for axes in itertools.combinations(range(len(mapped)), len(lanes))
        if tuple(mapped[a] for a in axes) == lanes
    ]
    if len(fits) != 1:
        raise SiteError(
            f"site {name!r} has mapped axes of sizes {mapped} in a while loop mapped over {lanes}: "
            "which of them is the loop's cannot be told; map over different sizes, or capture "
            "inside the vmap"
        )
    return fits[0]
