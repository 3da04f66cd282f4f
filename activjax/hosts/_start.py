"""Joining the processes, and which of them this one is."""

from __future__ import annotations

import os

import jax
from jax.sharding import AxisType, Mesh

_joined: list[bool] = []


class HostsError(RuntimeError):
    """The processes cannot find one another; says what to give or to start."""


def start(
    address: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    *,
    seconds: int = 300,
) -> None:
    """Join this process with the others; before anything else of JAX. A second call does nothing.

    Under SLURM (`srun`), on a TPU pod, under Open MPI or Kubernetes no argument is needed.

    Args:
        address: `HOST:PORT` of process 0, which listens there.
        processes: how many there are.
        process: which of them this is, from 0.
        seconds: to wait for the others.

    Raises:
        HostsError: they were not found, or what was given is not all.
    """
    if _joined:
        return
    given = {"address": address, "processes": processes, "process": process}
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < 3 and (processes is not None or process is not None):
        raise HostsError(
            f"hosts: {', '.join(missing)} missing: give address, processes and process together, "
            "or none of them where SLURM, a TPU pod or Open MPI says it"
        )
    if process is not None and processes is not None and not 0 <= process < processes:
        raise HostsError(f"hosts: process {process} is not one of 0 to {processes - 1}")
    if os.environ.get("JAX_PLATFORMS", "").startswith("cpu"):
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(address, processes, process, initialization_timeout=seconds)
    except (RuntimeError, ValueError, OSError) as error:
        told = (str(error).strip().splitlines() or [type(error).__name__])[0]
        at = f" at {address}" if address else ""
        raise HostsError(
            f"hosts: the processes did not meet{at} ({told}): start the same command on every host "
            "(`srun` does), or give each `address` of process 0, `processes` and its `process`"
        ) from error
    _joined.append(True)


def count() -> int:
    """How many processes there are."""
    return jax.process_count()


def index() -> int:
    """Which of them this is, from 0."""
    return jax.process_index()


def part() -> tuple[int, int]:
    """`(index, count)`: this process's share of data."""
    return index(), count()


def mesh(axis: str = "data") -> Mesh:
    """All devices of all processes on one axis, those of a process together."""
    devices = sorted(jax.devices(), key=lambda d: (d.process_index, d.id))
    return jax.make_mesh((len(devices),), (axis,), (AxisType.Auto,), devices=devices)
