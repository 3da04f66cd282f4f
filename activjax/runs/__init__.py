"""From a YAML file to a report: config, experiment contract, run folders, launch.

An experiment module needs only this:

    from activjax import runs

    lr: float = runs.traced(1e-3, gt=0)      # a field that may be swept inside one program
    width: int = runs.static(32, ge=1)       # any other field, with bounds
    return runs.Result(question, answer, (runs.Row.over("accuracy", values), ...))

and `runs.run("config.yaml")` does from Python what `activjax run config.yaml` does.
"""

from typing import TYPE_CHECKING, Any

from activjax.runs.errors import (
    ConfigError,
    ExperimentError,
    LockedError,
    RunError,
    Stopped,
    StorageError,
)
from activjax.runs.fields import static, traced
from activjax.runs.result import Result, Row

if TYPE_CHECKING:
    from activjax.runs.launch import run

__all__ = [
    "ConfigError",
    "ExperimentError",
    "LockedError",
    "Result",
    "Row",
    "RunError",
    "Stopped",
    "StorageError",
    "run",
    "static",
    "traced",
]


def __getattr__(name: str) -> Any:
    if name == "run":  # jax and the checkpoint code come with it
        from activjax.runs.launch import run

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
