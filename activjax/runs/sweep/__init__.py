"""Sweeps: thousands of cells of one experiment, and nothing lost.

    from activjax.runs import sweep

    folder = sweep.run("configs/sweeps/hash_phase.yaml", ["seeds=2"])   # as `activjax sweep`
    folder = sweep.resume(folder.path)                                   # exactly the missing cells
    sweep.forecast("configs/sweeps/hash_phase.yaml").seconds             # as `--dry-run`

An experiment may define `conclude(cells, out)`; its `cells` are `sweep.CellResult`s.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from activjax.runs.sweep.conclude import CellResult
    from activjax.runs.sweep.engines import Options
    from activjax.runs.sweep.folder import SweepFolder
    from activjax.runs.sweep.forecast import Forecast, forecast
    from activjax.runs.sweep.launch import resume, sweep as run

__all__ = ["CellResult", "Forecast", "Options", "SweepFolder", "forecast", "resume", "run"]

_HOMES = {
    "CellResult": "conclude",
    "Forecast": "forecast",
    "Options": "engines",
    "SweepFolder": "folder",
    "forecast": "forecast",
    "resume": "launch",
    "run": "launch",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:  # looking at a folder must not wait for jax
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"activjax.runs.sweep.{_HOMES[name]}")
    return getattr(home, "sweep" if name == "run" else name)
