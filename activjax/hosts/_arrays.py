"""Arrays that lie on the devices of several processes: made, filled, and read back."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from activjax.hosts._agree import wait


def spread(x: Any) -> bool:
    """Whether parts of an array, or of what its sharding says, lie on other processes."""
    sharding = getattr(x, "sharding", None)
    return sharding is not None and not sharding.is_fully_addressable


def place(tree: Any, sharding: Sharding) -> Any:
    """A pytree that is equal on all processes, laid out as `sharding` says over all of them."""

    def put(leaf: Any) -> Any:
        if sharding.is_fully_addressable or spread(leaf):
            return jax.device_put(leaf, sharding)
        if _is_key(leaf):
            data = put(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=str(jax.random.key_impl(leaf)))
        value = np.asarray(leaf)
        return jax.make_array_from_callback(value.shape, sharding, lambda part: value[part])

    return jax.tree.map(put, tree)


def together(tree: Any, mesh: Mesh, axis: str | None = None) -> Any:
    """One array of all processes' rows: those of process 0 first, equally many from each.

    Args:
        tree: arrays `[rows, ...]` of this process.
        mesh: over all processes.
        axis: of the mesh that divides the rows; None means its first.

    Raises:
        ValueError: rows that do not divide over this process's devices.
    """
    sharding = NamedSharding(mesh, PartitionSpec(axis or mesh.axis_names[0]))
    mine = len(sharding.addressable_devices)
    share = mine // max(1, mesh.size // mesh.shape[axis or mesh.axis_names[0]])

    def join(leaf: Any) -> jax.Array:
        value = np.asarray(leaf)
        if value.ndim == 0 or value.shape[0] % share:
            raise ValueError(
                f"together: {value.shape[0] if value.ndim else 'no'} rows do not divide over the "
                f"{share} devices of this process; give a multiple of {share}"
            )
        return jax.make_array_from_process_local_data(sharding, value)

    return jax.tree.map(join, tree)


def fetch(tree: Any) -> Any:
    """Every leaf whole, as a numpy array, on every process; typed keys stay keys.

    Raises:
        Elsewhere: another process has failed before it came here.
    """
    if any(spread(leaf) for leaf in jax.tree.leaves(tree)):
        jax.block_until_ready(tree)  # what failed here raises before the others wait for its part
        wait()

    def get(leaf: Any) -> Any:
        if not spread(leaf):
            return leaf if _is_key(leaf) else np.asarray(leaf)
        if _is_key(leaf):
            data = get(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=str(jax.random.key_impl(leaf)))
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))

    return jax.tree.map(get, tree)


def _is_key(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jax.numpy.issubdtype(dtype, jax.dtypes.prng_key)
