"""Where the tasks of a sweep run: in this process, in processes, on SLURM, on Ray, over hosts."""

from typing import TYPE_CHECKING, Any

from activjax.runs.sweep.engines._options import (
    Options as Options,
    parse_resources as parse_resources,
)

if TYPE_CHECKING:
    from activjax.runs.sweep.engines._choose import engine, limits

__all__ = ["Options", "engine", "limits", "parse_resources"]


def __getattr__(name: str) -> Any:
    if name not in ("engine", "limits"):  # what only watches a worker must not wait for jax
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from activjax.runs.sweep.engines import _choose

    return getattr(_choose, name)
