"""How a sweep is run, and the engine for it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from activjax.runs.errors import ConfigError
from activjax.runs.sweep.drive import Limits
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.inline import InlineEngine
from activjax.runs.sweep.local import LocalEngine, cores, cores_for
from activjax.runs.sweep.plan import SweepPlan
from activjax.runs.sweep.tasks import Engine
from activjax.runs.sweep.width import CPU_WIDTH
from activjax.runs.sweep.worker import Hello

_ACCELERATED_WIDTH = 1024
_DEVICES = ("nvidia[0-9]*", "accel*", "kfd", "vfio/[0-9]*")


@dataclasses.dataclass(frozen=True)
class Options:
    """How a sweep is run; none of it decides which cells there are.

    Attributes:
        engine: `"local"`: worker processes; `"inline"`: this process, for notebooks and debuggers.
        workers: processes; None means one for each core, or one where there is an accelerator.
        width: the most cells of a program; None means 16 on CPU, else what the memory allows.
        cell_seconds: a cell may take, compilation included; None without a limit.
        memory_mb: a worker may hold; None without a limit.
    """

    engine: str = "local"
    workers: int | None = None
    width: int | None = None
    cell_seconds: float | None = None
    memory_mb: float | None = None

    def __post_init__(self) -> None:
        if self.engine not in ("local", "inline"):
            raise ConfigError(f"engine: expected local or inline, got '{self.engine}'")
        for name in ("workers", "width", "cell_seconds", "memory_mb"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name}: expected a positive number, got {value}")


def limits(options: Options, plan: SweepPlan) -> Limits:
    """What a cell may take, and the most cells of a program."""
    width = options.width or (_ACCELERATED_WIDTH if accelerated() else CPU_WIDTH)
    return Limits(options.cell_seconds, options.memory_mb, 1 if plan.exact else width)


@contextlib.contextmanager
def engine(
    plan: SweepPlan, folder: SweepFolder, options: Options, root: Path, stopping: Any
) -> Iterator[Engine]:
    """The engine that the options ask for; its processes end with the block."""
    workers = options.workers or (1 if accelerated() else cores())
    workers = min(workers, len(plan.cells)) if options.engine == "local" else 1
    experiment = plan.experiment
    hello = Hello(
        folder=str(folder.path.absolute()),
        experiment=str(experiment.path) if experiment.label.endswith(".py") else experiment.label,
        source=plan.source,
        checkpoint_seconds=plan.checkpoint_seconds,
        engine=options.engine,
        sharded=not plan.exact,
        workers=workers,
        cache=str((root / ".compiled").absolute()),
    )
    if options.engine == "inline":
        made: Engine = InlineEngine(hello, stopping)
    else:
        made = LocalEngine(hello, [set()] * workers if accelerated() else cores_for(workers))
    try:
        yield made
    finally:
        made.close()


def accelerated() -> bool:
    """Whether JAX will find something better than a CPU; asked without waking it."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms:
        return not platforms.startswith("cpu")
    return any(any(Path("/dev").glob(pattern)) for pattern in _DEVICES)
