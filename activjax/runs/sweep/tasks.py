"""What goes to an engine and what comes back: tasks and events, plain values all."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

from activjax.runs.sweep.records import CellTask

PROBE, BATCH = "probe", "batch"

#: How a task ends. Every task ends with exactly one of these events.
DONE = "done"  # all of its cells have records
PROBED = "probed"  # data: what `width.probe` found
CLAIMED = "claimed"  # another driver's worker has it
SPLIT = "split"  # something went wrong that only smaller batches can blame on a cell
STOPPED = "stopped"  # a checkpoint has been saved
PAUSED = "paused"  # as the task says; a checkpoint has been saved; data: step
STORAGE = "storage"  # the disk refuses: nothing more can be kept
LOST = "lost"  # the process is gone; data: kind, message, finishing
ENDS = (DONE, PROBED, CLAIMED, SPLIT, STOPPED, PAUSED, STORAGE, LOST)

#: What `perform` says on one of many hosts where another has failed; the engine tells how.
ELSEWHERE = "elsewhere"

#: What is heard of a task on its way.
STEP, CELL, SAY, FINISHING = "step", "cell", "say", "finishing"


@dataclasses.dataclass(frozen=True)
class Task:
    """A batch of cells that share one program, or the question how wide such batches may be.

    Attributes:
        id: of the batch, or of the group for a probe.
        kind: `PROBE` or `BATCH`.
        cells: the cells; a probe needs one only.
        width: cells of the program, at least `len(cells)`; for a probe the most that may be.
        count: for a probe, the number of cells in the group.
        owes: ids of the cells that this batch gives a record.
        seconds: for each cell, compilation included; None without a limit.
        memory_mb: of the process; None without a limit.
        timing: for a probe: also run some steps, for so many seconds.
        attempt: how often the batch has been tried.
        until: the step at which its training pauses; None: it runs to the end.
        job: what the scheduler calls the job that works on it, where there is one.
    """

    id: str
    kind: str
    cells: tuple[CellTask, ...]
    width: int
    count: int = 0
    owes: tuple[str, ...] = ()
    seconds: float | None = None
    memory_mb: float | None = None
    timing: float = 0.0
    attempt: int = 1
    until: int | None = None
    job: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Task:
        """The inverse of `to_json`."""
        cells = tuple(CellTask(**cell) for cell in data["cells"])
        return cls(**{**data, "cells": cells, "owes": tuple(data["owes"])})


@dataclasses.dataclass(frozen=True)
class Event:
    """Something about a task.

    Attributes:
        task: its id.
        kind: one of the words above.
        data: more about it.
        slot: which of the engine's places it comes from.
    """

    task: str
    kind: str
    data: dict[str, Any] = dataclasses.field(default_factory=dict)
    slot: int = 0


class Engine(Protocol):
    """Runs tasks somewhere. A process on this machine, a job of a cluster: the same task in each.

    Attributes:
        name: entered in every record.
        slots: how many tasks can run at a time.
    """

    name: str
    slots: int

    def submit(self, task: Task) -> None:
        """Start a task, or queue it."""
        ...

    def poll(self, timeout: float) -> list[Event]:
        """What has happened, at the latest after `timeout` seconds."""
        ...

    def stop(self) -> None:
        """Ask every running task for a checkpoint and its end; `poll` tells of it."""
        ...

    def close(self) -> None:
        """End everything at once."""
        ...
