"""Records of cells: made from what a cell's own code returned or raised, written all or nothing."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from activjax import _files
from activjax.runs.result import Result, strict, to_json
from activjax.runs.store import storing
from activjax.runs.sweep.folder import SweepFolder

_FLUSH_SECONDS = 1.0
_MANY = 8

#: Why a cell has failed.
RAISED, TIME, MEMORY, CRASH = "raised", "time", "memory", "crash"


@dataclasses.dataclass(frozen=True)
class CellTask:
    """A cell as an engine is given it; plain values, so that it can go anywhere as JSON.

    Attributes:
        id, group, seed, point: as in `plan.Cell`.
        config: the whole config as plain values.
        data_hash: of its data files.
    """

    id: str
    group: str
    seed: int
    point: dict[str, Any]
    config: dict[str, Any]
    data_hash: str | None = None


def done(
    cell: CellTask,
    source: str,
    result: Result,
    warnings: list[str],
    contents: list[dict[str, Any]],
    run: dict[str, Any],
) -> dict[str, Any]:
    """The record of a cell that has a result. Raises `TypeError` if that is none."""
    found = to_json(result, warnings)
    found.pop("status")
    return {**_head(cell, source, "done"), **found, "contents": contents, "run": run}


def failed(
    cell: CellTask,
    source: str,
    *,
    kind: str,
    message: str,
    traceback: str | None,
    checkpoint: str | None,
    run: dict[str, Any],
) -> dict[str, Any]:
    """The record of a cell without a result.

    Args:
        cell: the cell.
        source: hash of the sources.
        kind: `RAISED`, `TIME`, `MEMORY` or `CRASH`.
        message: one or two lines.
        traceback: of the experiment's own code, or the last output of the process.
        checkpoint: the folder of its last checkpoint, relative to the sweep's.
        run: how it was run.
    """
    error = {"kind": kind, "message": message, "traceback": traceback, "checkpoint": checkpoint}
    return {**_head(cell, source, "failed"), "error": error, "run": run}


def pruned(
    cell: CellTask, source: str, *, step: int | None, metric: str, value: float | None, why: str
) -> dict[str, Any]:
    """The record of a cell that a search has given up.

    Args:
        cell: the cell.
        source: hash of the sources.
        step: it was trained to; None where it was not compared itself.
        metric: that it was compared by.
        value: of the metric, over the seeds.
        why: the rule, or what else ended it.
    """
    about = {"step": step, "metric": metric, "value": strict(value), "why": why}
    return {**_head(cell, source, "pruned"), "pruned": about}


def _head(cell: CellTask, source: str, status: str) -> dict[str, Any]:
    return {
        "id": cell.id,
        "status": status,
        "seed": cell.seed,
        "point": strict(cell.point),
        "config": strict(cell.config),
        "source_hash": source,
        "data_hash": cell.data_hash,
    }


class Writer:
    """Writes records in groups: all are durable before the first is renamed to its place.

    A kill in between leaves whole records or none.

    Args:
        folder: the sweep's.
        kept: called with every record once it is on the disk.
    """

    def __init__(
        self, folder: SweepFolder, kept: Callable[[dict[str, Any]], object] = lambda _: None
    ):
        self._folder, self._kept = folder, kept
        self._waiting: list[dict[str, Any]] = []
        self._last = time.monotonic()

    def add(self, record: dict[str, Any]) -> None:
        """Take a record; it is on the disk after the next `flush`. Raises `StorageError`."""
        self._waiting.append(record)
        if time.monotonic() - self._last > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting. Raises `StorageError`; then none of it counts as written."""
        records, self._waiting = self._waiting, []
        self._last = time.monotonic()
        if not records:
            return
        folder = self._folder.path / "cells"
        with storing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            pairs = [self._prepare(folder, record) for record in records]
            _flush_to_disk([temporary for temporary, _ in pairs])
            for temporary, path in pairs:
                temporary.replace(path)
            _files.settle(folder)
        self._last = time.monotonic()
        for record in records:
            self._kept(record)

    def _prepare(self, folder: Path, record: dict[str, Any]) -> tuple[Path, Path]:
        path = self._folder.record_path(record["id"])
        temporary = folder / f".{record['id']}.{os.getpid()}.tmp"
        with temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False, ensure_ascii=False) + "\n")
        return temporary, path


def _flush_to_disk(paths: list[Path]) -> None:
    """Make files durable: many of them by one call for their whole file system, where there is."""
    if len(paths) >= _MANY and sys.platform == "linux":
        handle = os.open(paths[0], os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(handle) == 0:
                return
        finally:
            os.close(handle)
    for path in paths:
        _files.settle(path)
