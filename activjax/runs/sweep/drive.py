"""The driver: hands batches to an engine until every cell has a record, whatever dies meanwhile.

It keeps nothing that the folder does not have. What is to be done follows from the records and the
groups' batches alone, so a driver can be killed at any moment, and several can work together.
"""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Callable
from typing import Any, Protocol

from activjax.runs import schema
from activjax.runs.config import data_hash
from activjax.runs.errors import StorageError
from activjax.runs.store import RUNNING, RunFolder
from activjax.runs.sweep import index, records, tasks
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.groups import Batch, Group, Groups
from activjax.runs.sweep.plan import Cell, SweepPlan
from activjax.runs.sweep.ready import Ready
from activjax.runs.sweep.records import CellTask
from activjax.runs.sweep.tasks import Engine, Event, Task
from activjax.runs.sweep.width import SINGLE, even

_DEATHS = 3  # of a process at one place of a batch, before the batch is to blame
_TIMING_SECONDS = 0.05  # of a group's steps, to know which take longest
_AGAIN_SECONDS = 1.0  # until we look again at what another driver has claimed


class Watch(Protocol):
    """Who watches a sweep."""

    def event(self, event: Event) -> None:
        """Something was heard of a task."""
        ...

    def counts(self, done: int, failed: int, total: int) -> None:
        """Cells that have records."""
        ...

    def say(self, text: str) -> None:
        """One line."""
        ...


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a cell may take.

    Attributes:
        seconds: for one cell, compilation included; None without a limit.
        memory_mb: of a worker's process; None without a limit.
        width: the most cells of a program.
    """

    seconds: float | None
    memory_mb: float | None
    width: int


class Driver:
    """Runs the missing cells of a sweep.

    Args:
        folder: its folder.
        plan: its cells.
        engine: where they run.
        limits: for every cell.
        watch: who watches.
        stopping: whether a stop is wanted.
        groups: the folder's, where batches are laid out in another way.
        until: the step at which trainings pause; a paused batch counts as done.
    """

    def __init__(
        self,
        folder: SweepFolder,
        plan: SweepPlan,
        engine: Engine,
        limits: Limits,
        watch: Watch,
        stopping: Callable[[], bool] = lambda: False,
        *,
        groups: Groups | None = None,
        until: int | None = None,
    ):
        self.folder, self.plan, self.engine, self.limits = folder, plan, engine, limits
        self.watch, self.stopping = watch, stopping
        self.groups, self.until = groups or Groups(folder), until
        self.paused: set[str] = set()
        self.cells = {group: {c.id: c for c in cells} for group, cells in plan.groups.items()}
        self.all = {cell.id for cell in plan.cells}
        self.recorded = index.recorded(folder)
        self.failed = 0
        missing = [g for g, cells in self.cells.items() if not self.recorded.issuperset(cells)]
        missing.sort(key=lambda g: -max(cell.cost for cell in plan.groups[g]))
        self.to_probe = collections.deque(missing)
        self.ready = Ready()
        self.guessed = plan.experiment.function("cost") is not None
        # else every group is timed before the first batch, where their order can matter
        several = plan.experiment.traced and len(self.cells) > 1 and engine.slots > 1
        self.timing = _TIMING_SECONDS if several and not self.guessed else 0.0
        self.running: dict[str, Task] = {}
        self.parked: dict[str, tuple[float, str]] = {}  # claimed elsewhere: when to look, group
        self.reached: dict[str, tuple[int, int]] = {}  # task -> (furthest step, deaths there)
        self.writer = records.Writer(folder)
        self.storage: str | None = None
        self.asked_to_stop = False

    def run(self) -> None:
        """Until every cell has a record, or a stop is wanted.

        Raises:
            StorageError: the disk refuses; what was reported as done is safe.
            EngineError: the engine cannot work.
        """
        self._count()
        while self.running or ((self.ready or self.to_probe or self.parked) and not self._ending()):
            if self._ending() and not self.asked_to_stop:
                self.asked_to_stop = True
                self.engine.stop()
            self._unpark()
            self._feed()
            for event in self.engine.poll(0.25):
                self._heard(event)
        if self.storage is not None:
            raise StorageError(self.storage)

    def _ending(self) -> bool:
        """Whether no more tasks are started."""
        return self.storage is not None or self.stopping()

    def _feed(self) -> None:
        """Keep the engine's places filled, and one task for each in reserve."""
        while len(self.running) < 2 * self.engine.slots and not self._ending():
            task = self._next()
            if task is None:
                return
            self.running[task.id] = task
            self.engine.submit(task)

    def _next(self) -> Task | None:
        """The next batch; before the first batch of a group, its probe."""
        while self.to_probe and (self.timing or not self.ready):
            group = self.to_probe.popleft()
            found = self.groups.read(group)
            if found is None and not self.plan.experiment.traced:
                single = dataclasses.asdict(SINGLE)
                found = self.groups.lay_out(group, list(self.cells[group]), single)
            if found is None:
                slots = self.engine.slots
                return probe_task(self.plan, group, self.limits, slots, timing=self.timing)
            self._enqueue(found)
        return self.ready.take() if self.ready else None

    def _enqueue(self, group: Group) -> None:
        """Make tasks of the group's batches that have cells without a record."""
        known = (self.ready, self.running, self.paused, self.parked)
        cells = self.cells[group.id]
        seconds = group.probe.get("cell_seconds") or 0.0
        for batch in group.batches:
            mine = cells.keys() >= set(batch.cells)  # a search drives some cells
            new = not any(batch.id in ids for ids in known)
            if mine and new and not self.recorded.issuperset(batch.owes):
                guess = sum(cells[cell].cost for cell in batch.cells)
                expected = guess if self.guessed else seconds * batch.width
                self.ready.put(self._task(group.id, batch), expected)

    def _task(self, group: str, batch: Batch) -> Task:
        cells = tuple(_plain(self.plan, self.cells[group][cell]) for cell in batch.cells)
        return Task(
            batch.id, tasks.BATCH, cells, batch.width, owes=batch.owes,
            seconds=self.limits.seconds, memory_mb=self.limits.memory_mb, until=self.until,
        )  # fmt: skip

    def _unpark(self) -> None:
        """Look again at the groups of which another driver had a batch."""
        now = time.monotonic()
        due = {batch: group for batch, (at, group) in self.parked.items() if at <= now}
        if not due:
            return
        for batch, group in due.items():  # a task that only meets a claim can be a whole job
            del self.parked[batch]
            if RunFolder(self.folder.path / "batches" / batch).state() == RUNNING:
                self.parked[batch] = (now + _AGAIN_SECONDS, group)
        self.recorded = index.recorded(self.folder)
        for group in dict.fromkeys(due.values()):
            self._refresh(group)
        self._count()

    def _refresh(self, group: str) -> None:
        found = self.groups.read(group)
        if found is not None:
            self._enqueue(found)

    def _heard(self, event: Event) -> None:
        """Act on an event."""
        task = self.running.get(event.task)
        if task is None:
            return
        self.watch.event(event)
        if event.kind == tasks.SAY:
            self.watch.say(f"{task.id}: {event.data['text']}")
        elif event.kind == tasks.STEP:
            self._progressed(task.id, event.data["step"])
        elif event.kind == tasks.CELL:
            self.failed += event.data["status"] == "failed"
            self._progressed(task.id, None)
        elif event.kind in tasks.ENDS:
            del self.running[task.id]
            getattr(self, f"_after_{event.kind}")(task, task.cells[0].group, event.data)

    def _progressed(self, task: str, step: int | None) -> None:
        furthest, _ = self.reached.get(task, (-1, 0))
        if step is None or step > furthest:
            self.reached[task] = (furthest if step is None else step, 0)

    def _after_done(self, task: Task, group: str, data: dict[str, Any]) -> None:
        self.recorded |= set(task.owes)
        self._count()

    def _after_probed(self, task: Task, group: str, data: dict[str, Any]) -> None:
        if "error" in data:  # the batches will meet it too, and keep it with the cells
            width = even(task.count, 1 if data.get("memory") else task.width)
            data = {"width": width, "error": data["error"]}
        self._enqueue(self.groups.lay_out(group, list(self.cells[group]), data))

    def _after_claimed(self, task: Task, group: str, data: dict[str, Any]) -> None:
        self.parked[task.id] = (time.monotonic() + _AGAIN_SECONDS, group)

    def _after_stopped(self, task: Task, group: str, data: dict[str, Any]) -> None:
        if not self._ending():  # somebody has stopped the worker alone
            self.ready.put(task, begun=True)

    def _after_paused(self, task: Task, group: str, data: dict[str, Any]) -> None:
        self.paused.add(task.id)

    def _after_storage(self, task: Task, group: str, data: dict[str, Any]) -> None:
        self.storage = data["message"]

    def _after_split(self, task: Task, group: str, data: dict[str, Any]) -> None:
        if task.kind == tasks.PROBE:  # the batches will tell whose it is
            memory = data["reason"] == records.MEMORY
            return self._after_probed(task, group, {"error": data["message"], "memory": memory})
        if len(task.cells) == 1:
            return self._fail(task, task.cells[0].id, data)
        self.watch.say(f"{task.id}: {data['message'].splitlines()[-1]}; trying in smaller batches")
        return self._enqueue(
            self.groups.split(group, task.id, halve=data["reason"] == records.MEMORY)
        )

    def _after_lost(self, task: Task, group: str, data: dict[str, Any]) -> None:
        furthest, deaths = self.reached.get(task.id, (-1, 0))
        self.reached[task.id] = (furthest, deaths + 1)
        if data["reason"] == records.CRASH and deaths + 1 < _DEATHS:
            self.watch.say(f"{task.id}: {data['message']}; trying again")
            again = dataclasses.replace(task, attempt=task.attempt + 1)
            return self.ready.put(again, begun=True)
        if data["finishing"] is not None:
            self._fail(task, data["finishing"], data)
            return self._refresh(group)
        return self._after_split(task, group, data)

    def _fail(self, task: Task, cell: str, data: dict[str, Any]) -> None:
        """Give a cell the record that its process could not write any more."""
        (found,) = [c for c in task.cells if c.id == cell]
        work = self.folder.path / "batches" / task.id
        saved = next(iter(sorted(work.glob("work/*/checkpoints"))), None)
        record = records.failed(
            found,
            self.plan.source,
            kind=data["reason"],
            message=(data["message"].strip().splitlines() or [""])[-1],
            traceback=data.get("traceback"),
            checkpoint=saved and saved.relative_to(self.folder.path).as_posix(),
            run={"engine": self.engine.name, "batch": task.id, "width": task.width,
                 "attempts": task.attempt},
        )  # fmt: skip
        try:
            self.writer.add(record)
            self.writer.flush()
        except StorageError as error:
            self.storage = str(error)
            return
        self.recorded.add(cell)
        self.failed += 1
        self.watch.event(Event(task.id, tasks.CELL, {"cell": cell, "status": "failed"}))
        self._count()

    def _count(self) -> None:
        """Tell how far the sweep is."""
        self.watch.counts(len(self.recorded), self.failed, len(self.all))


def probe_task(
    plan: SweepPlan, group: str, limits: Limits, slots: int, *, timing: float = 0.0
) -> Task:
    """The question how wide the batches of a group may be."""
    cells = plan.groups[group]
    # a sweep that would fit into fewer programs than there are places is spread over all
    most = min(limits.width, max(1, -(-len(plan.cells) // slots)))
    return Task(
        group, tasks.PROBE, (_plain(plan, cells[0]),), most, len(cells),
        seconds=limits.seconds and limits.seconds * most, memory_mb=limits.memory_mb, timing=timing,
    )  # fmt: skip


def _plain(plan: SweepPlan, cell: Cell) -> CellTask:
    data = data_hash(plan.experiment, cell.config)
    return CellTask(cell.id, cell.group, cell.seed, cell.point, schema.plain(cell.config), data)
