"""How a sweep is run; none of it decides which cells there are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from activjax.runs._words import did_you_mean
from activjax.runs.errors import ConfigError

ENGINES = ("local", "inline", "slurm", "ray", "hosts")

#: What every cluster understands: cores, accelerators, memory and time of one task.
_AMOUNTS = ("cpus", "gpus", "memory_gb", "minutes")

#: What a cell may take, whatever engine runs it.
_ANYWHERE = ("width", "cell_seconds", "memory_mb")


@dataclasses.dataclass(frozen=True)
class Options:
    """How a sweep is run.

    Attributes:
        engine: `"local"`: worker processes; `"inline"`: this process, for notebooks and debuggers;
            `"slurm"`, `"ray"`: jobs and tasks of a cluster; `"hosts"`: one program over the
            processes of a `jax.distributed` job, of which this is one.
        workers: tasks at a time; None means one for each core (local; one where there is an
            accelerator), as many as fit (ray), 64 (slurm).
        width: the most cells of a program; None means 16 on CPU, else what the memory allows.
        cell_seconds: a cell may take, compilation included; None without a limit.
        memory_mb: a worker may hold; None without a limit.
        address: ray: of a running cluster, None for one of this machine alone; slurm: `"local"`
            runs the same jobs on this machine without a scheduler; hosts: `HOST:PORT` of process 0,
            None for what the job's environment says (SLURM, TPU pod, Open MPI).
        resources: of one task: `cpus`, `gpus`, `memory_gb`, `minutes`; more keys go to the cluster
            as they are: `partition`, `account`, `constraint`, ... (slurm), own resources (ray).
        processes, process: hosts: how many there are, and which of them this is, from 0; None for
            what the job's environment says.

    Raises:
        ConfigError: a value that cannot be; names it and what was expected.
    """

    engine: str = "local"
    workers: int | None = None
    width: int | None = None
    cell_seconds: float | None = None
    memory_mb: float | None = None
    address: str | None = None
    resources: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    processes: int | None = None
    process: int | None = None

    @classmethod
    def resumed(cls, saved: Mapping[str, Any], given: Mapping[str, Any] | None) -> Options:
        """Those that a sweep was started with, and what is now given in their place.

        Another engine has another address, other resources and other workers.
        """
        given = dict(given or {})
        kept = dict(saved)
        if given.get("engine", kept.get("engine")) != kept.get("engine"):
            kept = {k: v for k, v in kept.items() if k in _ANYWHERE}
        return cls(**{**kept, **given})

    def saved(self) -> dict[str, Any]:
        """What a resume starts with; which process this is it has to be told."""
        found = dataclasses.asdict(self)
        del found["process"]
        return found

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            near = did_you_mean(str(self.engine), ENGINES)
            raise ConfigError(f"engine: expected {', '.join(ENGINES)}, got '{self.engine}'{near}")
        for name in ("workers", "width", "cell_seconds", "memory_mb"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name}: expected a positive number, got {value}")
        if self.engine in ("local", "inline") and (self.address or self.resources):
            given = "address" if self.address else "resources"
            raise ConfigError(
                f"{given}: the engine {self.engine} has none; they belong to --engine slurm or ray"
            )
        if self.engine != "hosts" and not (self.processes is None is self.process):
            raise ConfigError("processes, process: they belong to --engine hosts")
        for name, value in self.resources.items():
            least = 0.0 if name == "gpus" else 1e-9
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if name in _AMOUNTS and not (number and value >= least):
                raise ConfigError(f"resources: {name}: expected a positive number, got {value!r}")


def parse_resources(text: str) -> dict[str, Any]:
    """`cpus=4,gpus=1,partition=short` as a mapping; numbers are numbers.

    Raises:
        ConfigError: a part without `=`, or given twice.
    """
    found: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and equals and value):
            raise ConfigError(f"resources: expected name=value,name=value, got '{part}'")
        if name in found:
            raise ConfigError(f"resources: {name} is given twice")
        found[name] = _number(value)
    return found


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text
