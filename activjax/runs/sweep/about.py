"""What is written about a sweep beside its cells: its definition, every attempt, the report."""

from __future__ import annotations

import contextlib
import datetime
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from activjax.runs import _yaml, store
from activjax.runs.errors import RunError, Stopped, StorageError
from activjax.runs.launch import keep_sources
from activjax.runs.provenance import surroundings
from activjax.runs.result import dumps, strict
from activjax.runs.sweep.engines import Options
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.plan import SweepPlan


def describe(plan: SweepPlan, folder: SweepFolder, options: Options, **more: Any) -> None:
    """Write `sweep.yaml`, the sources, `cells.jsonl`, and last `sweep.json`, with `more` in it.

    Raises:
        StorageError: the folder cannot be written.
    """
    label = keep_sources(plan.experiment, folder.path)
    definition = {**plan.definition, "experiment": label, "name": plan.name}
    store.write_text(folder.path / "sweep.yaml", _yaml.dump(definition))
    lines = [
        json.dumps({"id": c.id, "group": c.group, "seed": c.seed, "point": strict(c.point)}) + "\n"
        for c in plan.cells
    ]
    store.write_text(folder.path / "cells.jsonl", "".join(lines))
    about = {
        "id": plan.id,
        "name": plan.name,
        "experiment": plan.experiment.label,
        "source_hash": plan.source,
        "axes": strict(plan.axes()),
        "seeds": list(plan.seeds),
        "cells": len(plan.cells),
        **more,
        "options": {"exact": plan.exact, "run": options.saved()},
    }
    folder.write_json("sweep.json", about)


def write_report(folder: SweepFolder, warn: Callable[[str], object]) -> None:
    """Write `report.html`, unless it is there; what goes wrong is told and loses no number."""
    if (folder.path / "report.html").exists():
        return
    try:
        from activjax.runs.sweep import page

        page.write(folder)
    except Exception as error:  # the numbers are safe; `activjax report` shows the rest
        warn(f"the report could not be written: {type(error).__name__}: {error}")


@contextlib.contextmanager
def recorded(
    plan: SweepPlan, folder: SweepFolder, options: Options
) -> Iterator[Callable[[str], None]]:
    """Keep every attempt in `provenance.json`; yields what writes how it ended."""
    path = folder.path / "provenance.json"
    before = folder.read_json("provenance.json") or {}
    begin, had = time.monotonic(), len(folder.recorded())
    attempt: dict[str, Any] = {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "ended": "killed",  # until it says otherwise
        "seconds": 0.0,
        "cells": 0,
        "options": options.saved(),
    }
    data = {
        "id": plan.id,
        "name": plan.name,
        "experiment": plan.experiment.label,
        "seeds": list(plan.seeds),
        "source_hash": plan.source,
        **surroundings(plan.experiment.path),
        "wall_seconds": before.get("wall_seconds", 0.0),
        "attempts": [*before.get("attempts", []), attempt],
    }

    def write(ended: str) -> None:
        seconds = time.monotonic() - begin
        attempt.update(ended=ended, seconds=round(seconds, 3), cells=len(folder.recorded()) - had)
        wall = before.get("wall_seconds", 0.0) + seconds
        store.write_text(path, dumps({**data, "wall_seconds": round(wall, 3)}))

    write("killed")
    try:
        yield write
    except BaseException as error:
        words = {Stopped: "stopped", StorageError: "storage error", RunError: "failed"}
        ended = next((w for kind, w in words.items() if isinstance(error, kind)), "stopped")
        with contextlib.suppress(Exception):
            write(ended)
        raise
    write("done")
