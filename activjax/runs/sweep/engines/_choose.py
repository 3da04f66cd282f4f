"""The engine that the options ask for, and what a cell may take on it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from activjax.runs.sweep.drive import Limits
from activjax.runs.sweep.engines._inline import InlineEngine
from activjax.runs.sweep.engines._local import LocalEngine, cores, cores_for
from activjax.runs.sweep.engines._options import Options
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.plan import SweepPlan
from activjax.runs.sweep.tasks import Engine
from activjax.runs.sweep.width import CPU_WIDTH
from activjax.runs.sweep.worker import Hello

_ACCELERATED_WIDTH = 1024
_DEVICES = ("nvidia[0-9]*", "accel*", "kfd", "vfio/[0-9]*")
_CLUSTERS = ("slurm", "ray")


def limits(options: Options, plan: SweepPlan) -> Limits:
    """What a cell may take, and the most cells of a program."""
    width = options.width or (_ACCELERATED_WIDTH if _accelerated(options) else CPU_WIDTH)
    return Limits(options.cell_seconds, options.memory_mb, 1 if plan.exact else width)


@contextlib.contextmanager
def engine(
    plan: SweepPlan,
    folder: SweepFolder,
    options: Options,
    root: Path,
    stopping: Any,
    say: Any = print,
) -> Iterator[Engine]:
    """The engine that the options ask for; its processes end with the block.

    Args:
        plan, folder, options: of the sweep.
        root: of all runs; holds the compiled programs.
        stopping: whether a stop is wanted.
        say: called with a line that somebody should see.

    Raises:
        EngineError: it cannot be reached; says what to start or to install.
    """
    made = _made(plan, folder, options, root, stopping, say)
    try:
        yield made
    finally:
        made.close()


def _made(
    plan: SweepPlan, folder: SweepFolder, options: Options, root: Path, stopping: Any, say: Any
) -> Engine:
    accelerated = _accelerated(options)
    local = options.engine == "local"
    workers = (options.workers or (1 if accelerated else cores())) if local else 1
    workers = min(workers, len(plan.cells))
    hello = Hello(
        folder=str(folder.path.absolute()),
        experiment=_sources(plan, folder, options),
        source=plan.source,
        checkpoint_seconds=plan.checkpoint_seconds,
        engine=options.engine,
        sharded=not plan.exact,
        workers=workers,
        cache=str((root / ".compiled").absolute()),
        cwd=str(Path.cwd()),
    )
    if options.engine == "inline":
        return InlineEngine(hello, stopping)
    if options.engine == "hosts":
        from activjax.runs.sweep.engines._hosts import HostsEngine

        return HostsEngine(hello, stopping)
    if local:
        return LocalEngine(hello, [set()] * workers if accelerated else cores_for(workers))
    from activjax.runs.sweep.engines._spool import SpoolEngine

    if options.engine == "slurm":
        from activjax.runs.sweep.engines._slurm import Slurm as Cluster
    else:
        from activjax.runs.sweep.engines._ray import Ray as Cluster
    return SpoolEngine(hello, lambda spool: Cluster(options, spool), say)


def _sources(plan: SweepPlan, folder: SweepFolder, options: Options) -> str:
    """What the workers load: on a cluster the folder's copy, which nobody edits meanwhile."""
    experiment = plan.experiment
    if not experiment.label.endswith(".py"):
        return experiment.label
    copied = folder.path.absolute() / "source" / experiment.path.name
    return str(copied if options.engine in _CLUSTERS else experiment.path)


def _accelerated(options: Options) -> bool:
    """Whether JAX will find something better than a CPU where the tasks run; asked without it."""
    if options.engine in _CLUSTERS:
        named = {key.lower() for key, value in options.resources.items() if value}
        return any(word in key for key in named for word in ("gpu", "tpu", "gres"))
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms:
        return not platforms.startswith("cpu")
    return any(any(Path("/dev").glob(pattern)) for pattern in _DEVICES)
