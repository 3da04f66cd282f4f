"""How much one driver can take: looks at a spool, events, records; its scheduler does nothing."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from activjax.runs.result import Result, Row
from activjax.runs.sweep import drive, groups, index, tasks
from activjax.runs.sweep.engines._spool import SpoolEngine
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.records import CellTask, Writer, done
from activjax.runs.sweep.tasks import Event, Task
from activjax.runs.sweep.worker import Hello


class Nothing:
    """A scheduler that starts nothing: whoever measures plays the machines."""

    name = "none"
    pulls, needs = True, {}
    ask_seconds, gather_seconds, grace_seconds = 1e9, 0.0, 0.0

    def __init__(self, slots: int):
        self.slots, self.most = slots, 2 * slots

    def start(self, tickets: Sequence[str]) -> Sequence[str]:
        return [str(i) for i in range(len(tickets))]

    def take_over(self, jobs: Iterable[str]) -> set[str]:
        return set()

    def gone(self, jobs: Iterable[str]) -> Mapping[str, Any]:
        return {}

    def cancel(self, jobs: Iterable[str]) -> None: ...

    def withdraw(self, jobs: Iterable[str]) -> None: ...

    def close(self) -> None: ...


def _cell(i: int) -> CellTask:
    return CellTask(f"c{i:07d}", "g", i, {"lr": 0.1 + i}, {"lr": 0.1 + i, "steps": 100})


def _task(i: int) -> Task:
    cell = _cell(i)
    return Task(f"g-{i}", tasks.BATCH, (cell,), 1, owes=(cell.id,))


def looks() -> None:
    """One look with many tickets: quiet, with ten ends, and everything at once."""
    print("\nthe driver's look: tickets; ms to offer one, to claim one, of a quiet look, "
          "of an end in a look")  # fmt: skip
    for count in (100, 1000, 10_000):
        with tempfile.TemporaryDirectory() as scratch:
            hello = Hello(scratch, "e.py", "0", 60.0, "none", False, 1, scratch)
            engine = SpoolEngine(hello, lambda _, n=count: Nothing(n), lambda _: None)
            begin = time.perf_counter()
            for i in range(count):
                engine.submit(_task(i))
            offered = (time.perf_counter() - begin) / count
            engine._start_jobs()
            begin = time.perf_counter()
            for i, ticket in enumerate(engine.spool.offered(engine._kind)):
                assert engine.spool.claim(ticket, str(i))
            claimed = (time.perf_counter() - begin) / count
            engine._look()
            assert len(engine._tickets) == count
            for ticket in engine._tickets:
                for kind in ("begun", tasks.CELL):
                    engine.spool.tell(ticket, Event("", kind, {"cell": "c", "status": "done"}))
            quiet = []
            for _ in range(20):
                begin = time.perf_counter()
                engine._look()
                quiet.append(time.perf_counter() - begin)
            ending = list(engine._tickets)[: count // 2]
            for ticket in ending:
                engine.spool.end(ticket, Event("", tasks.DONE))
            begin = time.perf_counter()
            found = engine._look()
            ends = (time.perf_counter() - begin) / len(ending)
            assert sum(event.kind == tasks.DONE for event in found) == len(ending)
            print(
                f"  {count:6d}   {offered * 1e3:7.2f}   {claimed * 1e3:7.2f}   "
                f"{np.median(quiet) * 1e3:7.2f}   "
                f"{ends * 1e3:7.3f}",
                flush=True,
            )


class _Watch:
    def event(self, event: Event) -> None: ...

    def counts(self, done: int, failed: int, total: int) -> None: ...

    def say(self, text: str) -> None: ...


class _Machine:
    """An engine that ends every task at its next poll."""

    name = "none"

    def __init__(self, slots: int, news: int):
        self.slots, self._news, self._given = slots, news, []

    def submit(self, task: Task) -> None:
        self._given.append(task)

    def poll(self, timeout: float) -> list[Event]:
        given, self._given = self._given, []
        told = [
            event
            for task in given
            for event in (
                *(Event(task.id, tasks.STEP, {"step": i, "steps": 9}) for i in range(self._news)),
                Event(task.id, tasks.CELL, {"cell": "c", "status": "done"}),
                Event(task.id, tasks.DONE),
            )
        ]
        return told

    def stop(self) -> None: ...


def events(cells: int = 20_000, news: int = 8) -> None:
    """Events a second of the driver's own loop, tasks of one cell."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = SweepFolder(Path(scratch))
        mine = [_cell(i) for i in range(cells)]
        (folder.path / "cells.jsonl").write_text(
            "\n".join(json.dumps({"id": c.id, "group": "g", "seed": c.seed, "point": c.point})
                      for c in mine)
        )  # fmt: skip
        probe = {"width": 1, "devices": 1, "bytes": None, "budget": None, "compile_seconds": 0.0}
        groups.Groups(folder).lay_out("g", [c.id for c in mine], probe)
        plan: Any = SimpleNamespace(
            groups={"g": mine}, cells=mine, source="0", experiment=SimpleNamespace(traced=True)
        )
        kept, drive._plain = drive._plain, lambda plan, cell: cell  # configs are plain already
        try:
            driver = drive.Driver(folder, plan, _Machine(1000, news), drive.Limits(None, None, 1),
                                  _Watch())  # fmt: skip
            begin = time.perf_counter()
            driver.run()
            taken = time.perf_counter() - begin
        finally:
            drive._plain = kept
    rate = cells * (news + 2) / taken
    print(f"\nthe driver's loop: {cells} tasks with {news + 2} events each in {taken:.2f} s: "
          f"{cells / taken:,.0f} tasks, {rate:,.0f} events a second")  # fmt: skip


def records(count: int = 4000) -> None:
    """Records a second of one writer, their bytes, and the index over them."""
    with tempfile.TemporaryDirectory() as scratch:
        for width in (1, 16, 64):
            folder = SweepFolder(Path(scratch) / f"w{width}")
            folder.path.mkdir()
            writer = Writer(folder)
            begin = time.perf_counter()
            for i in range(0, 512, width):
                for k in range(width):
                    writer.add(_record(i + k))
                writer.flush()
            taken = time.perf_counter() - begin
            size = np.mean([p.stat().st_size for p in (folder.path / "cells").glob("*.json")])
            print(f"  records, {width:2d} at a time: {512 / taken:7,.0f} a second, "
                  f"{size:.0f} bytes each")  # fmt: skip
    _index(records_of=count)


def _record(i: int) -> dict[str, Any]:
    rows = (Row.over("loss", [0.5 + i]), Row.over("accuracy", [0.9]))
    run = {"engine": "slurm", "batch": "g-1", "width": 16, "devices": 1, "seconds": 1.0,
           "compile_seconds": 0.1, "attempts": 1, "host": "node0001", "job": "slurm 123_4",
           "log": "batches/g-1/log.txt", "peak_memory_mb": 500.0,
           "started": "2026-01-01T00:00:00+00:00"}  # fmt: skip
    return done(_cell(i), "0" * 12, Result("?", "!", rows), [], [], run)


def _index(records_of: int) -> None:
    """The index over many records: made new, and brought up to date after one more."""
    for count in (records_of, 10 * records_of):
        with tempfile.TemporaryDirectory() as scratch:
            folder = SweepFolder(Path(scratch))
            (folder.path / "cells").mkdir()
            lines = []
            for i in range(count):
                cell = _cell(i)
                text = json.dumps(_record(i))
                (folder.path / "cells" / f"{cell.id}.json").write_text(text)
                lines.append(json.dumps({"id": cell.id, "group": "g", "seed": i, "point": {}}))
            (folder.path / "cells.jsonl").write_text("\n".join(lines))
            taken = []
            for _ in range(2):
                begin = time.perf_counter()
                index.rows(folder)
                taken.append(time.perf_counter() - begin)
                os.utime(folder.path / "cells" / f"{_cell(0).id}.json")
            print(f"  index of {count} records: new {taken[0]:.2f} s "
                  f"({count / taken[0]:,.0f} a second), one more {taken[1]:.2f} s")  # fmt: skip
