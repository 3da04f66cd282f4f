"""`mesh`: the devices in a grid with named axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh


def mesh(
    *, data: int = -1, model: int = 1, devices: Sequence[Any] | None = None, **more: int
) -> Mesh:
    """A mesh of devices, for `sharding`: `mesh(data=2, model=4)`.

    Args:
      data: over how many devices the batch is split; -1 for as many as there are for it.
      model: over how many devices parameters are split.
      devices: the devices; None for all. A smaller mesh takes the first ones.
      **more: further axes, for rules of one's own; one of all axes may be -1.

    Returns:
      The mesh, with the axes "data", "model" and then those of `more`. The compiler decides where
      programs are split (`AxisType.Auto`).

    Raises:
      ValueError: a size that is no count, or a mesh that the devices do not suffice for.
    """
    sizes = {"data": data, "model": model, **more}
    for name, size in sizes.items():
        if type(size) is not int or (size < 1 and size != -1):
            raise ValueError(f"mesh {name}: expected a number of devices or -1, got {size!r}")
    found = list(jax.devices() if devices is None else devices)
    open_ = [name for name, size in sizes.items() if size == -1]
    if len(open_) > 1:
        raise ValueError(f"mesh: only one axis can be -1, got {' and '.join(open_)}")
    if open_:
        rest = math.prod(size for size in sizes.values() if size != -1)
        if len(found) % rest:
            raise ValueError(
                f"mesh: {_text(sizes)}: {len(found)} devices are no multiple of {rest}"
            )
        sizes[open_[0]] = len(found) // rest
    count = math.prod(sizes.values())
    if count > len(found):
        raise ValueError(
            f"mesh: {_text(sizes)} needs {count} devices, there are {len(found)}; a CPU can stand "
            f"for several: XLA_FLAGS=--xla_force_host_platform_device_count={count}"
        )
    kinds = (AxisType.Auto,) * len(sizes)
    return jax.make_mesh(
        tuple(sizes.values()), tuple(sizes), axis_types=kinds, devices=found[:count]
    )


def _text(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name}={size}" for name, size in sizes.items())
