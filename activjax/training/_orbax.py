"""What is asked of Orbax: arrays of one process, or of many, into a folder and back.

Its own `save` and `load` wait for the other processes while they work: one that fails leaves all
others waiting, for 20 minutes. Nothing here waits; the caller asks afterwards how it went.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np


def write(folder: Path, arrays: dict[str, Any]) -> None:
    """Write what this process has of the arrays; `merge` when all have."""
    with _quiet() as ocp:
        _handler(ocp).save(folder, args=ocp.args.PyTreeSave(arrays))


def merge(folder: Path) -> None:
    """Make one checkpoint of what the processes have written; on one of them."""
    with _quiet() as ocp:
        _handler(ocp).finalize(folder)


def _handler(ocp: Any) -> Any:
    kinds = ocp.type_handlers
    known = kinds.create_type_handler_registry(
        # its store of metadata waits for process 0 to make a folder
        (jax.Array, kinds.ArrayHandler(array_metadata_store=None)),
        (np.ndarray, kinds.NumpyHandler()),
    )
    return ocp.PyTreeCheckpointHandler(use_zarr3=True, type_handler_registry=known)


def read(folder: Path, like: dict[str, Any]) -> dict[str, Any]:
    """Arrays as `like` says: whole ones as numpy, of sharded ones this process's part."""
    with _quiet() as ocp:
        me = ocp.v1.multihost.process_index()
        alone = ocp.v1.options.MultiprocessingOptions(primary_host=me, active_processes={me})
        with ocp.v1.Context(multiprocessing_options=alone):
            return ocp.v1.load(folder, like)


@contextlib.contextmanager
def _quiet() -> Iterator[Any]:
    """Orbax, without the noise of its threads about an error that is raised anyway."""
    logs, hook = [logging.getLogger(name) for name in ("absl", "asyncio")], sys.unraisablehook
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL + 1)
    sys.unraisablehook = lambda _: None  # its writers may find their event loop closed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                from orbax import checkpoint as ocp
                from orbax.checkpoint import v1  # noqa: F401  `ocp.v1`

                yield ocp
            except BaseException:
                time.sleep(0.05)  # they do so a little later
                gc.collect()  # its abandoned coroutines warn when they are collected
                raise
    finally:
        for log, level in zip(logs, levels):
            log.setLevel(level)
        sys.unraisablehook = hook
