"""The cells of one program: seeds, and values of traced fields, stacked on a leading axis."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from activjax import hosts
from activjax.runs import fields

_AXIS = PartitionSpec("cells")


@dataclasses.dataclass(frozen=True)
class Cells:
    """What distinguishes the members of a batch of runs.

    Attributes:
        seeds: `[cells]`.
        hp: NamedTuple of the traced fields, each `[cells]`.
        keys: `[cells]` typed random keys, `jax.random.key(seed)`.
    """

    seeds: np.ndarray
    hp: Any
    keys: jax.Array

    @classmethod
    def of(cls, cells: Sequence[tuple[Any, int]]) -> Cells:
        """Stack (config, seed) pairs whose configs differ in traced fields only.

        Raises:
            ValueError: no cells.
        """
        if not cells:
            raise ValueError("a program needs at least one cell")
        values = [fields.traced_values(config) for config, _ in cells]
        hp = fields.hyper(
            cells[0][0], lambda path, _: jnp.asarray(np.array([v[path] for v in values]))
        )
        seeds = np.asarray([seed for _, seed in cells], np.int64)
        return cls(seeds, hp, _keys(seeds.astype(np.uint32)))

    @property
    def width(self) -> int:
        """How many cells there are."""
        return len(self.seeds)


@jax.jit
def _keys(seeds: jax.Array) -> jax.Array:
    return jax.vmap(jax.random.key)(seeds)


def mesh_for(width: int) -> Mesh | None:
    """A mesh over the devices that divide `width` cells evenly, equally many of every process.

    None for a single device, and where there are more processes than `width` divides by: then each
    of them runs all cells by itself.
    """
    local = len(jax.local_devices())
    counts = [n for n in range(1, local + 1) if width % (n * hosts.count()) == 0]
    if not counts or max(counts) * hosts.count() == 1:
        return None
    taken: dict[int, list[Any]] = {}
    for device in sorted(jax.devices(), key=lambda d: (d.process_index, d.id)):
        taken.setdefault(device.process_index, []).append(device)
    devices = [device for of_one in taken.values() for device in of_one[: max(counts)]]
    return jax.make_mesh((len(devices),), ("cells",), (AxisType.Auto,), devices=devices)


def over(f: Callable[..., Any], static: Any, mesh: Mesh | None) -> Callable[[Any, Any], Any]:
    """`init`, `step` or `measure` of the contract as a function of stacked `hp` and stacked input.

    Args:
        f: `f(static, hp, x)` for one cell, `x` a key or a state.
        static: what `setup` returned.
        mesh: each device gets its share of the cells. They never talk to one another, which
            `shard_map` guarantees, also where the compiler could not see it.
    """

    def mapped(hp: Any, x: Any) -> Any:
        return jax.vmap(lambda hp, x: f(static, hp, x))(hp, x)

    if mesh is None:
        return mapped
    return jax.shard_map(
        mapped, mesh=mesh, in_specs=(_AXIS, _AXIS), out_specs=_AXIS, check_vma=False
    )


def place(tree: Any, mesh: Mesh | None) -> Any:
    """The arrays, or their abstract shapes, with the leading axis over the mesh."""
    if mesh is None:
        return tree
    sharding = NamedSharding(mesh, _AXIS)

    def put(leaf: Any) -> Any:
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
        return hosts.place(leaf, sharding)

    return jax.tree.map(put, tree)
