"""What a sweep would be: its programs are compiled and timed a little."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from activjax.runs import store
from activjax.runs.sweep import plan as plans, tasks
from activjax.runs.sweep.drive import probe_task
from activjax.runs.sweep.engines import Options, engine, limits
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.plan import SweepPlan
from activjax.runs.sweep.watch import SweepWatch

_SECONDS = 0.3  # of each group's steps, that are timed


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What a sweep would be.

    Attributes:
        plan: its cells.
        groups: for each group: id, cells, point values that all its cells share, and what
            `width.Probe` found, or `error`.
        workers: processes.
        seconds: expected time of all steps and measurements; without `finish` and compiling.
    """

    plan: SweepPlan
    groups: list[dict[str, Any]]
    workers: int
    seconds: float


def forecast(
    config: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    exact: bool = False,
    options: Options | None = None,
    progress: bool = True,
) -> Forecast:
    """Compile every group's program and time some of its steps; nothing is kept but the cache.

    Args, Raises: as `sweep`.
    """
    plan = plans.load(config, overrides, exact=exact)
    options = options or Options()
    asked = options
    if options.engine not in ("local", "inline"):  # measured here, reckoned for there
        options = dataclasses.replace(options, engine="local", address=None, resources={})
    found: dict[str, dict[str, Any]] = {}
    with (
        tempfile.TemporaryDirectory() as scratch,
        SweepWatch(f"{plan.name} (measuring)", progress) as watch,
        engine(plan, SweepFolder(scratch), options, store.root(out), lambda: False) as running,
    ):
        for group in plan.groups:
            task = probe_task(plan, group, limits(options, plan), running.slots, timing=_SECONDS)
            running.submit(task)
        while len(found) < len(plan.groups):
            for event in running.poll(0.25):
                watch.event(event)
                if event.kind in tasks.ENDS:
                    lost = {"error": event.data.get("message", event.kind)}
                    found[event.task] = event.data if event.kind == tasks.PROBED else lost
                    watch.counts(len(found), 0, len(plan.groups))
        workers = running.slots if options is asked else asked.workers or 1
    groups = [
        {"group": group, "cells": len(cells), "shared": _shared(cells), **found[group]}
        for group, cells in plan.groups.items()
    ]
    seconds = sum(g["cells"] * (g.get("cell_seconds") or 0.0) for g in groups) / workers
    return Forecast(plan, groups, workers, seconds)


def _shared(cells: Sequence[Any]) -> dict[str, Any]:
    """The point values that all cells of a group have in common."""
    first = cells[0].point
    return {k: v for k, v in first.items() if all(c.point.get(k) == v for c in cells)}
