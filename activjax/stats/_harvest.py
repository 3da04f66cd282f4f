"""`harvest`: statistics of activations over a stream of batches, in one pass."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from activjax.stats._accumulator import Accumulator, Rows
from activjax.stats._batch import examples, fill_up
from activjax.stats._count import Count
from activjax.stats._subjects import Subject, subjects
from activjax.transforms import Selector, capture

_IN_FLIGHT = 2  # batches on their way to the device, so that a fast reader does not fill memory


class HarvestState(NamedTuple):
    """What has been gathered: a pytree of arrays that can be saved and gone on with.

    Attributes:
      batches: how many were taken in.
      examples: how many examples those held.
      parts: the accumulators' states, with a leading axis of devices on a mesh.
    """

    batches: jax.Array
    examples: Count
    parts: tuple[Any, ...]


class Harvest:
    """A compiled pass over batches, as `harvest` returns it.

    `harvest(...)(params, batches)` does all of it. The steps are also there one by one: `init`,
    `update` (which reuses the memory of the state it is given), `merge` and `finish`.
    """

    def __init__(
        self,
        f: Callable[..., Any],
        select: Any,
        reduce: Any,
        rows: Callable[[Any], Rows] | None,
        mesh: Mesh | None,
        axis: str | None,
    ):
        self._f, self._select, self._reduce, self._rows = f, select, reduce, rows
        self._mesh, self._axis = mesh, axis
        self._devices = 1 if mesh is None else mesh.shape[axis]
        self._subjects: tuple[Subject, ...] | None = None
        self._like: Any = None
        self._advance = jax.jit(self._update, donate_argnums=1)
        self._merge = jax.jit(self._merged)
        self._finish = jax.jit(self._finished)

    def __call__(
        self,
        params: Any,
        batches: Iterable[Any],
        *,
        state: HarvestState | None = None,
        save: Callable[[HarvestState], object] | None = None,
        every: int = 100,
        progress: bool | None = None,
    ) -> dict[Any, Any]:
        """Gather over all batches.

        Args:
          params: handed to `f`.
          batches: any iterable of pytrees of arrays with the examples on their first axis. A
            batch shorter than the first is filled up with copies of its last example, which do
            not count; a longer one compiles again.
          state: go on from it; `batches` are then those to come, such as
            `itertools.islice(batches, int(state.batches), None)`. It is consumed.
          save: called with the state after every `every` batches and at the end; it must copy what
            it keeps (writing it to a file does).
          every: see `save`.
          progress: show a bar; by default where standard error is a terminal.

        Returns:
          `{site: result}`; results of sites in loops have the loops as leading axes. A tuple of
          sites in `reduce` is a key as it stands.

        Raises:
          ValueError: no batches, batches without examples, or a state of other shapes (that of
            the same statistics with another key or threshold cannot be told).
        """
        if every < 1:
            raise ValueError(f"harvest: every is {every}, expected at least 1")
        if (shape := getattr(batches, "shape", None)) is not None:
            raise ValueError(
                f"harvest: batches is one array of shape {shape}, expected an iterable "
                "of batches such as [x]"
            )
        size, since, flying = 0, 0, deque()
        params, checked = self._placed(params), False
        for batch in _shown(batches, progress):
            n = examples(batch)
            if n == 0:
                continue
            if state is None or not checked:
                fresh = self.init(params, batch)
                state, checked = fresh if state is None else _same(state, fresh), True
            size = max(size, n)
            state, token = self._step(params, state, batch, n, size)
            flying.append(token)
            if len(flying) > _IN_FLIGHT:
                flying.popleft().block_until_ready()
            since += 1
            if save is not None and since == every:
                save(state)
                since = 0
        if state is None:
            raise ValueError("harvest: there were no examples in the batches")
        if save is not None and since:
            save(state)
        return self.finish(state)

    def init(self, params: Any, batch: Any) -> HarvestState:
        """The state before the first batch. Nothing is computed on the batch.

        Raises:
          SiteError: as `capture`, or a value whose examples are not on its first axis.
        """
        n = examples(batch)
        self._subjects = subjects(self._f, self._select, self._reduce, params, batch, n)
        parts = tuple(subject.init() for subject in self._subjects)
        if self._mesh is None:
            state = HarvestState(jnp.uint32(0), Count.zeros(), parts)
        else:
            parts = jax.tree.map(lambda a: jnp.broadcast_to(a, (self._devices, *a.shape)), parts)
            whole = NamedSharding(self._mesh, PartitionSpec())
            apart = NamedSharding(self._mesh, PartitionSpec(self._axis))
            batches, count = jax.device_put((jnp.uint32(0), Count.zeros()), whole)
            state = HarvestState(batches, count, jax.device_put(parts, apart))
        self._like = _shapes(state)
        return state

    def update(self, params: Any, state: HarvestState, batch: Any) -> HarvestState:
        """The state with one more batch; the one given is consumed.

        Raises:
          ValueError: `init` was not called, or the batch has no examples.
        """
        n = examples(batch)
        if n == 0:
            raise ValueError("harvest: the batch has no examples")
        self._expect(state)
        return self._step(self._placed(params), state, batch, n, n)[0]

    def merge(self, a: HarvestState, b: HarvestState) -> HarvestState:
        """The state of two streams together; number examples by `rows.ids` if that matters."""
        self._expect(a)
        self._expect(b)
        return self._merge(a, b)

    def finish(self, state: HarvestState) -> dict[Any, Any]:
        """The results so far; the state can go on."""
        self._expect(state)
        if self._mesh is not None:  # on every device, so that shards can be taken apart
            state = jax.device_put(state, NamedSharding(self._mesh, PartitionSpec()))
        results = self._finish(state)
        return {subject.key: r for subject, r in zip(self._subjects or (), results, strict=True)}

    def _expect(self, state: HarvestState) -> None:
        if self._like is None:
            raise ValueError("harvest: call init(params, batch) first, or the harvest itself")
        if _shapes(state) != self._like:
            raise ValueError(_OTHER)

    def _placed(self, params: Any) -> Any:
        """Parameters on every device of the mesh, where they are on one device alone."""
        if self._mesh is None:
            return params
        whole = NamedSharding(self._mesh, PartitionSpec())

        def place(leaf: Any) -> Any:
            alone = isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) == 1
            return jax.device_put(leaf, whole) if alone else leaf

        return jax.tree.map(place, params)

    def _step(
        self, params: Any, state: HarvestState, batch: Any, n: int, size: int
    ) -> tuple[HarvestState, jax.Array]:
        size = -(-size // self._devices) * self._devices
        batch = fill_up(batch, n, size)
        if self._mesh is not None:
            batch = jax.device_put(batch, NamedSharding(self._mesh, PartitionSpec(self._axis)))
        return self._advance(params, state, batch, np.uint32(n))

    def _update(
        self, params: Any, state: HarvestState, batch: Any, n: jax.Array
    ) -> tuple[HarvestState, jax.Array]:
        first = state.examples.low

        def local(params: Any, parts: Any, batch: Any, first: jax.Array, n: jax.Array) -> Any:
            index = jnp.arange(examples(batch), dtype=jnp.uint32)
            if self._mesh is not None:
                shard = jax.lax.axis_index(self._axis).astype(jnp.uint32)
                index = index + shard * jnp.uint32(examples(batch))
                parts = jax.tree.map(lambda a: a[0], parts)
            parts = self._gather(params, parts, batch, index < n, first + index)
            return jax.tree.map(lambda a: a[None], parts) if self._mesh is not None else parts

        run = local
        if self._mesh is not None:
            whole, apart = PartitionSpec(), PartitionSpec(self._axis)
            run = jax.shard_map(
                local,
                mesh=self._mesh,
                in_specs=(whole, apart, apart, whole, whole),
                out_specs=apart,
                axis_names={self._axis},
                check_vma=False,
            )
        parts = run(params, state.parts, batch, first, n)
        batches = state.batches + jnp.uint32(1)
        # A second array, which no later call reuses: to wait for.
        return HarvestState(batches, state.examples.add(n), parts), batches + jnp.uint32(0)

    def _gather(self, params: Any, parts: Any, batch: Any, kept: Any, ids: Any) -> tuple[Any, ...]:
        rows = Rows() if self._rows is None else self._rows(batch)
        if not isinstance(rows, Rows):
            raise TypeError(f"harvest: rows(batch) returned {type(rows).__name__}, expected Rows")
        mask = kept
        if rows.mask is not None:
            own = jnp.asarray(rows.mask)
            if own.shape[:1] != kept.shape or jnp.issubdtype(own.dtype, jnp.inexact):
                raise ValueError(
                    f"harvest: rows.mask is {own.dtype}{own.shape}, expected booleans with the "
                    f"{kept.shape[0]} examples on the first axis"
                )
            mask = own.astype(bool) & kept.reshape(kept.shape + (1,) * (own.ndim - 1))
        rows = dataclasses.replace(rows, mask=mask, ids=ids if rows.ids is None else rows.ids)
        names = list(
            dict.fromkeys(s.name for subject in self._subjects or () for s in subject.sites)
        )
        select = names if self._select is None else self._select
        acts = capture(self._f, select, out=False)(params, batch)
        todo = zip(self._subjects or (), parts, strict=True)
        return tuple(subject.update(state, acts, rows) for subject, state in todo)

    def _merged(self, a: HarvestState, b: HarvestState) -> HarvestState:
        todo = zip(self._subjects or (), a.parts, b.parts, strict=True)
        on_mesh = self._mesh is not None
        parts = tuple(
            (jax.vmap(subject.merge) if on_mesh else subject.merge)(x, y) for subject, x, y in todo
        )
        return HarvestState(a.batches + b.batches, a.examples + b.examples, parts)

    def _finished(self, state: HarvestState) -> tuple[Any, ...]:
        out = []
        for subject, part in zip(self._subjects or (), state.parts, strict=True):
            if self._mesh is not None:
                part = _merged_shards(subject.merge, part, self._devices)
            out.append(subject.finish(part))
        return tuple(out)


def _merged_shards(merge: Callable[[Any, Any], Any], parts: Any, n: int) -> Any:
    """The state of `n` shards, merged pairwise: in a fixed order, and compiled in log n steps."""
    while n > 1:
        last = 2 * (n // 2)
        even, odd, left = (
            jax.tree.map(lambda a, s=s: a[s], parts)
            for s in (slice(0, last, 2), slice(1, last, 2), slice(last, n))
        )
        merged = jax.vmap(merge)(even, odd)
        parts = (
            jax.tree.map(lambda a, b: jnp.concatenate([a, b]), merged, left) if n % 2 else merged
        )
        n = n - n // 2
    return jax.tree.map(lambda a: a[0], parts)


_OTHER = (
    "harvest: the state given is that of another harvest: of other sites, statistics or devices"
)


def _shapes(state: HarvestState) -> Any:
    leaves, structure = jax.tree.flatten(state)
    return structure, [(jnp.shape(a), jnp.result_type(a)) for a in leaves]


def _same(state: HarvestState, fresh: HarvestState) -> HarvestState:
    """A saved state, if it is of the shape that a fresh one has."""
    if _shapes(state) != _shapes(fresh):
        raise ValueError(_OTHER)
    return jax.tree.map(lambda a, b: jax.device_put(a, b.sharding), state, fresh)


def harvest(
    f: Callable[..., Any],
    select: str | Selector | Sequence[str | Selector] | None = None,
    *,
    reduce: Accumulator | Mapping[Any, Accumulator],
    rows: Callable[[Any], Rows] | None = None,
    mesh: Mesh | None = None,
    axis: str | None = None,
) -> Harvest:
    """Statistics of activations over a stream, fused with the forward pass, in constant memory.

    The forward pass and the updates are one compiled program, which reuses the memory of its
    state; activations are never stored. What only the output of `f` needs is not run. The
    program is compiled on the first batch: what `f` closes over is fixed from then on.

    Args:
      f: called as `f(params, batch)`. It must treat examples apart (no batch statistics), since
        batches may be filled up and cut into shards.
      select: which activations, as in `capture`; by default those that `reduce` names, or all.
      reduce: an accumulator of `activjax.stats`, for every chosen site apart; or `{glob:
        accumulator}`; a key that is a tuple of sites, such as `("embed", "logits")`, gives the
        accumulator the tuple of their values (`stats.cross`). Loops around a site are axes of
        the result: one statistic a layer.
      rows: `rows(batch) -> stats.Rows` with the mask, the labels or the numbers of the examples.
        Without numbers examples are counted through the stream.
      mesh: run on all devices along one of its axes: each gathers its share of every batch, and
        shares are merged once, at the end.
      axis: that axis of the mesh; by default its first.

    Returns:
      A `Harvest`: call it with `(params, batches)`.

    Raises:
      TypeError: `reduce` is no accumulator.
      ValueError: an axis that the mesh does not have.
    """
    many = isinstance(reduce, Mapping)
    for part in reduce.values() if many else [reduce]:
        if not isinstance(part, Accumulator):
            raise TypeError(
                f"harvest: reduce is {part!r}, expected an accumulator such as stats.moments()"
            )
    if many and not reduce:
        raise ValueError("harvest: reduce is empty, expected {glob: accumulator}")
    if select is None and not many:
        select = "**"
    if mesh is not None:
        axis = mesh.axis_names[0] if axis is None else axis
        if axis not in mesh.axis_names:
            raise ValueError(f"harvest: axis is {axis!r}, expected one of {mesh.axis_names}")
    elif axis is not None:
        raise ValueError("harvest: axis= names an axis of mesh=, which was not given")
    return Harvest(f, select, reduce, rows, mesh, axis)


def _shown(batches: Iterable[Any], progress: bool | None) -> Iterable[Any]:
    import sys

    if progress is False or (progress is None and not sys.stderr.isatty()):
        return batches
    from rich.console import Console
    from rich.progress import track

    total = len(batches) if hasattr(batches, "__len__") else None  # type: ignore[arg-type]
    return track(batches, "harvest", total=total, console=Console(stderr=True))
