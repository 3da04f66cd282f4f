"""Search by Optuna over the cells of an experiment, pruned through checkpoints, resumable.

    from activjax.runs import search

    folder = search.run("configs/search_quickstart.yaml")     # as `activjax search`
    folder.result()                                           # the best trial, and what it beats

A search's folder is a sweep's: `ls`, `show`, `report`, `export` and `compare` work on it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from activjax.runs.search.launch import resume, search as run

__all__ = ["resume", "run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:  # looking at a folder must not wait for jax
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module("activjax.runs.search.launch")
    return getattr(home, "search" if name == "run" else name)
