"""What is running now: batches and runs whose lock somebody holds, and the last line they wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from activjax.runs.browse import _paths
from activjax.runs.browse._packed import plain
from activjax.runs.store import RunFolder

_NEWEST = 256  # batches that are asked whether they are running
_LAST = 256 * 1024  # bytes; a last line that is longer is not shown
_CELLS = 16
_METRICS = 12


def running_batches(root: Path, parts: Sequence[str]) -> list[dict[str, Any]]:
    """The batches of a sweep that a worker holds, the one claimed last first.

    Args:
        root: the folder of all runs, resolved.
        parts: the sweep's folder.
    """
    place = _paths.inside(root, [*parts, "batches"])
    if place is None:
        return []
    found = []
    for time, name in claimed(place):
        if not _paths.plain(name) or _paths.inside(root, [*parts, "batches", name]) is None:
            continue
        if RunFolder(place / name)._locked():
            found.append({"batch": plain(name), "since": time,
                          **last_line(root, [*parts, "batches", name])})  # fmt: skip
    return found


def claimed(place: Path) -> list[tuple[float, str]]:
    """The batches that were claimed last, newest first: `(time, name)`."""
    dated = []
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                try:
                    dated.append((os.stat(os.path.join(entry.path, ".lock")).st_mtime, entry.name))
                except OSError:
                    continue
    except OSError:
        return []
    return sorted(dated, reverse=True)[:_NEWEST]


def is_running(root: Path, parts: Sequence[str]) -> bool:
    """Whether a worker holds one of a sweep's batches."""
    place = _paths.inside(root, [*parts, "batches"])
    return place is not None and any(
        RunFolder(place / name)._locked() for _, name in claimed(place) if _paths.plain(name)
    )


def last_line(root: Path, parts: Sequence[str]) -> dict[str, Any]:
    """Step and values of the last whole line of `metrics.jsonl`; empty without one."""
    data = _paths.read(root, [*parts, "metrics.jsonl"], last=_LAST) or b""
    lines = data[: data.rfind(b"\n") + 1].splitlines()
    try:
        line = json.loads(lines[-1])
        metrics = {}
        for name, values in list(line["metrics"].items())[:_METRICS]:
            if isinstance(values, list) and not any(isinstance(v, list) for v in values):
                metrics[plain(str(name))] = plain(values[:_CELLS])
        return {"step": int(line["step"]), "case": plain(str(line["case"] or "")),
                "metrics": metrics}  # fmt: skip
    except (IndexError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
