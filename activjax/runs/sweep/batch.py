"""One batch of cells on its way: one training for all, then every cell by itself."""

from __future__ import annotations

import datetime
import socket
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from activjax import hosts
from activjax.runs import contract, memory, store
from activjax.runs.case import CaseRecord, finish
from activjax.runs.cells import Cells
from activjax.runs.errors import ExperimentError, RunError, Stopped
from activjax.runs.history import MetricsLog
from activjax.runs.launch import joined
from activjax.runs.out import Out
from activjax.runs.programs import Programs
from activjax.runs.result import dumps, to_json
from activjax.runs.sweep import records
from activjax.runs.sweep.records import CellTask
from activjax.runs.sweep.tasks import CELL, FINISHING, SAY, STEP, Task
from activjax.runs.train import Trained, Training

if TYPE_CHECKING:
    from activjax.runs.sweep.executor import Executor


class Blurred(Exception):
    """A batch of several cells went wrong in a way that cannot be blamed on one of them."""


class OutOfMemory(Blurred):
    """The same, for want of memory."""


class Batch:
    """One batch on its way."""

    def __init__(self, executor: Executor, task: Task, path: Path, done: set[str]):
        self.executor, self.task, self.path = executor, task, path
        self.folder, self.settings = executor.folder, executor.settings
        self.todo = [cell for cell in task.cells if cell.id in task.owes and cell.id not in done]
        self.writer = records.Writer(self.folder, self._kept)
        self.failed = False
        self.begin, self.compiled = time.monotonic(), 0.0
        self.started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.devices, self.memory = 1, memory.resident()

    def traced(self) -> None:
        """Train case by case; then `finish`, and `combine` where there are cases."""
        executor, cells = self.executor, self.task.cells
        try:
            configs = [executor.config(cell) for cell in cells]
            parts = executor.parts(configs)
        except ExperimentError as error:
            return self._blame(error, None, shared=True)
        found: dict[str, dict[str | None, CaseRecord]] = {cell.id: {} for cell in cells}
        end = 0
        for case in parts[0]:
            work = self.path / "work" / (case or "all")
            kept = hosts.first(lambda work=work: store.Folder(work).read_json("done.json"))
            if kept is None:
                configs_of = [part[case] for part in parts]
                try:
                    group = cells[0].group
                    programs = executor.compiled(group, case, configs_of[0], self.task.width)
                except ExperimentError as error:
                    return self._blame(error, None, shared=True)
                try:
                    kept = self._train(case, configs_of, work, end, *programs)
                except ExperimentError as error:
                    return self._blame(error, work)
                if case is not None:
                    text = dumps(kept)
                    hosts.first(lambda work=work, text=text: store.write_text(
                        work / "done.json", text))  # fmt: skip
            end = kept["metrics_end"]
            if case is None:  # every cell has its record, from the process that has the cell
                self.todo = []
            for cell, record in kept["cells"].items():
                if "error" in record:
                    self.todo = [c for c in self.todo if c.id != cell]
                else:
                    found[cell][case] = CaseRecord.from_json(record)
        for i, (cell, config) in enumerate(zip(cells, configs)):
            if cell in self.todo and i % hosts.count() == hosts.index():
                self._conclude(cell, config, found[cell.id])
        return None

    def _train(
        self,
        case: str | None,
        configs: list[Any],
        work: Path,
        begin: int,
        programs: Programs,
        paid: float,
    ) -> dict[str, Any]:
        """Train the batch in one case and finish its cells, as it is kept in `done.json`."""
        task = self.task
        self.devices = programs.devices
        places = [*range(len(task.cells))]
        places += [0] * (task.width - len(places))  # the last batch of a group may have gaps
        cells = Cells.of([(configs[i], task.cells[i].seed) for i in places])
        log = MetricsLog(self.path / "metrics.jsonl", case, begin)
        label = f"{task.id} {case}" if case else task.id
        # a short training is done again where a process dies, but not where that is to be expected
        wary = task.attempt > 1 or task.seconds is not None or task.memory_mb is not None
        training = Training(
            programs, cells, work, log,
            label=label,
            seconds=self.settings.checkpoint_seconds,
            watcher=_Watcher(self),
            keep_last=wary,
            until=task.until,
        )  # fmt: skip
        trained = training.run()
        self.compiled += programs.compile_seconds - paid
        self.memory = max(self.memory, memory.resident())
        hp = jax.tree.map(np.asarray, cells.hp)
        kept: dict[str, Any] = {}
        for i, (cell, config) in enumerate(zip(task.cells, configs)):
            if cell not in self.todo or not programs.mine(i):
                continue
            if self.executor.stopping():
                self.writer.flush()
                raise Stopped("stopped while cells were finished", 143)
            self.executor.tell(FINISHING, {"cell": cell.id})
            out = self._out(cell, config, case)
            one = Trained(
                programs.cell(trained.states, i),
                jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], trained.measured),
                {name: values[i : i + 1] for name, values in trained.history.items()},
            )
            try:
                hp_i = jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], hp)
                record = finish(programs, hp_i, one, out, log.size())
            except ExperimentError as error:
                if hosts.count() == 1:
                    training.keep(trained.states)
                self._fail(cell, records.RAISED, error, work)
                kept[cell.id] = {"error": str(error)}
                continue
            if case is None:  # nothing to combine: on the disk as soon as may be
                self._record(cell, record)
            else:
                kept[cell.id] = record.to_json()
        merged = {k: v for of_one in hosts.exchange(kept) for k, v in of_one.items()}
        if hosts.count() > 1 and any("error" in record for record in merged.values()):
            training.keep(trained.states)  # by all processes at once
        end = hosts.first(log.size)
        return {"metrics_end": end, "cells": {} if case is None else merged}

    def _conclude(self, cell: CellTask, config: Any, found: dict[str | None, CaseRecord]) -> None:
        """`combine` the cases of a cell."""
        experiment = self.settings.experiment
        out = self._out(cell, config, None)
        results = {name: record.result for name, record in found.items()}
        self.executor.tell(FINISHING, {"cell": cell.id})
        try:
            with contract.running(experiment, "combine"):
                combine = experiment.function("combine") or (lambda _, r, __: joined(r))
                result = combine(config, results, out)
                to_json(result)
        except ExperimentError as error:
            return self._fail(cell, records.RAISED, error, None)
        warnings = [f"{name}: {w}" for name, record in found.items() for w in record.warnings]
        contents = [item for record in found.values() for item in record.contents]
        return self._record(cell, CaseRecord(result, warnings, out.contents + contents, 0))

    def plain(self) -> None:
        """`main` of every cell."""
        experiment = self.settings.experiment
        for cell in self.todo:
            self.executor.tell(FINISHING, {"cell": cell.id})
            problem, kept = None, None
            try:
                config = self.executor.config(cell)
                out = self._out(cell, config, None)
                out.writes = hosts.index() == 0
                with contract.running(experiment, "main"):
                    result = experiment.module.main(config, out)
                    to_json(result)
                kept = CaseRecord(result, [], out.contents, 0)
            except ExperimentError as error:
                problem = error
            said = hosts.exchange(None if problem is None else str(problem))
            for process, told in enumerate(said):  # one that has failed took part in no more
                if told is not None and problem is None:
                    problem = ExperimentError(f"process {process}: {told}")
            if problem is not None:
                self._fail(cell, records.RAISED, problem, None)
            elif kept is not None:
                self._record(cell, kept)

    def _out(self, cell: CellTask, config: Any, case: str | None) -> Out:
        """Where the cell's own code saves."""
        folder = self.folder.path / "cells" / cell.id
        seeds = np.asarray([cell.seed], np.int64)
        return Out(folder, config, seeds, case, say=self._say)

    def _record(self, cell: CellTask, kept: CaseRecord) -> None:
        record = records.done(
            cell, self.settings.source, kept.result, kept.warnings, kept.contents, self._run()
        )
        self._add(cell, record)

    def _add(self, cell: CellTask, record: dict[str, Any]) -> None:
        """A cell's one record."""
        self.todo = [c for c in self.todo if c is not cell]
        if not self.settings.experiment.traced and hosts.index():
            return  # all processes ran its `main`; process 0 records it
        self.writer.add(record)

    def _kept(self, record: dict[str, Any]) -> None:
        """Only now: the driver takes it for progress that no crash undoes."""
        self.executor.tell(CELL, {"cell": record["id"], "status": record["status"]})

    def _fail(self, cell: CellTask, kind: str, error: ExperimentError, work: Path | None) -> None:
        saved = work and work / "checkpoints"
        kept = saved.relative_to(self.folder.path).as_posix() if saved and saved.exists() else None
        record = records.failed(
            cell,
            self.settings.source,
            kind=kind,
            message=str(error).strip().splitlines()[-1],
            traceback="".join(traceback.format_exception(error.__cause__ or error)),
            checkpoint=kept,
            run=self._run(),
        )
        self.failed = True
        self._add(cell, record)

    def _blame(self, error: ExperimentError, work: Path | None, *, shared: bool = False) -> None:
        """Fail the cells that an error in the batch's program belongs to.

        Args:
            error: what was raised.
            work: has the last checkpoint.
            shared: it does not depend on the values of traced fields.

        Raises:
            Blurred: it may be one of several.
        """
        memory = of_memory(error)
        # of many processes perhaps only this one: the driver hears of it and fails the cell
        if hosts.count() > 1 or (len(self.task.cells) > 1 and (memory or not shared)):
            raise (OutOfMemory if memory else Blurred)(str(error)) from error
        cells, self.todo, self.failed = self.todo, [], True
        for cell in cells:
            self._fail(cell, records.MEMORY if memory else records.RAISED, error, work)

    def _run(self) -> dict[str, Any]:
        """How a cell was run: everything in a record that may vary while its numbers do not."""
        seconds = time.monotonic() - self.begin
        return {
            "engine": self.settings.engine,
            "batch": self.task.id,
            "width": self.task.width,
            "devices": self.devices,
            "seconds": round(seconds / len(self.task.cells), 4),
            "compile_seconds": round(self.compiled, 4),
            "attempts": self.task.attempt,
            "host": socket.gethostname(),
            "job": self.task.job,
            "log": f"batches/{self.task.id}/log.txt",
            "peak_memory_mb": round(self.memory / 2**20, 1),
            "started": self.started,
        }

    def _say(self, text: str) -> None:
        self.executor.tell(SAY, {"text": text})


class _Watcher:
    """What `Training` reports, passed on to the driver."""

    def __init__(self, batch: Batch):
        self._executor, self.say = batch.executor, batch._say
        self.warn = self.say

    def begin(self, label: str, steps: int, start: int) -> None:
        self._steps = steps
        self._executor.tell(FINISHING, {"cell": None})
        self._executor.tell(STEP, {"label": label, "step": start, "steps": steps})

    def update(self, step: int, metrics: Any) -> None:
        self._executor.tell(STEP, {"step": step, "steps": self._steps})

    def saved(self) -> None:
        pass

    def stopping(self) -> bool:
        return self._executor.stopping()

    def stop_wanted(self, where: str) -> None:
        raise Stopped(where, 143)

    def end(self) -> None:
        pass


def of_memory(error: RunError) -> bool:
    """Whether an error is for want of memory."""
    return "RESOURCE_EXHAUSTED" in str(error) or isinstance(error.__cause__, MemoryError)
