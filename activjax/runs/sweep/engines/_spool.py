"""Engines whose tasks run on other machines: everything goes through files of the sweep's folder.

<sweep>/jobs/<engine>/
    tasks/<ticket>.json   a task, with what its worker is told first
    news/<ticket>.jsonl   what is heard of it on its way
    ends/<ticket>.json    how it ended, by a rename; a job that is over without one is lost
    held/<ticket>         the scheduler's name for it
    stop                  a stop is wanted

A scheduler (SLURM, Ray) has only to start jobs, to say which are over, and to cancel them. So a
driver that was killed finds the jobs it had, and a scheduler's object store or database holds
nothing. One listing of `ends/` tells of all tasks, however many run.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from activjax.runs.errors import EngineError, StorageError
from activjax.runs.result import dumps
from activjax.runs.store import storing, write_text
from activjax.runs.sweep import tasks
from activjax.runs.sweep.engines._mounts import warning
from activjax.runs.sweep.tasks import Event, Task
from activjax.runs.sweep.worker import BROKEN, Hello

BEGUN = "begun"  # in the news: a machine has taken the ticket; data: host, job
_FILES = 32  # news that one look opens, so that the metadata server is asked little
_LOOK_SECONDS = 0.25


@dataclasses.dataclass(frozen=True)
class Gone:
    """A job that the scheduler says is over.

    Attributes:
        reason: `"crash"`, `"time"`, `"memory"`, or `""` where the machine was taken away: that is
            nobody's fault, the task is started again.
        message: in the scheduler's words.
    """

    reason: str
    message: str


class Scheduler(Protocol):
    """What runs tickets on other machines.

    Attributes:
        name: of the engine.
        slots: how many tasks can run at a time.
        most: jobs that may be started or waiting in its queue.
        ask_seconds: between two questions which jobs are over.
        gather_seconds: tickets are kept this long, to be started together.
        grace_seconds: until the end of a job that is over is visible here.
    """

    name: str
    slots: int
    most: int
    ask_seconds: float
    gather_seconds: float
    grace_seconds: float

    def start(self, tickets: Sequence[str]) -> Mapping[str, str]:
        """Start a job for each ticket; returns ticket -> its name. Raises `EngineError`."""
        ...

    def take_over(self, jobs: Mapping[str, str]) -> set[str]:
        """The tickets of a driver that is gone whose jobs wait or run: they are ours now."""
        ...

    def gone(self, tickets: Iterable[str]) -> Mapping[str, Gone]:
        """Those whose jobs are over, however they ended."""
        ...

    def cancel(self, tickets: Iterable[str]) -> None:
        """End their jobs at once."""
        ...

    def close(self) -> None:
        """Let go of the scheduler."""
        ...


class Spool:
    """The files. Raises `StorageError` where they cannot be written."""

    def __init__(self, path: Path):
        self.path = path

    def create(self) -> None:
        """Make the folders; a stop of before counts no more."""
        with storing(self.path):
            for name in ("tasks", "news", "ends", "held"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
            (self.path / "stop").unlink(missing_ok=True)

    def offer(self, hello: Hello, task: Task) -> str:
        """Write a task down; returns its ticket."""
        ticket = f"{task.id}~{time.time_ns():x}"
        data = {"hello": dataclasses.asdict(hello), "task": task.to_json()}
        write_text(self._path("tasks", ticket), dumps(data))
        return ticket

    def wants(self, ticket: str) -> bool:
        """Whether a ticket's task has still to be done."""
        return self._path("tasks", ticket).exists() and not self._path("ends", ticket).exists()

    def task(self, ticket: str) -> tuple[Hello, Task]:
        """What was written down. Raises `StorageError`."""
        with storing(self._path("tasks", ticket)):
            data = json.loads(self._path("tasks", ticket).read_text(encoding="utf-8"))
        return Hello(**data["hello"]), Task.from_json(data["task"])

    def hold(self, held: Mapping[str, str]) -> None:
        """Keep the scheduler's names."""
        with storing(self.path):
            for ticket, job in held.items():
                (self.path / "held" / ticket).write_text(job, encoding="utf-8")

    def unended(self) -> dict[str, str]:
        """The tickets that were started and of which no end is known, with their jobs' names."""
        with storing(self.path):
            names = set(os.listdir(self.path / "held")) - self.ended()
            return {n: (self.path / "held" / n).read_text(encoding="utf-8") for n in names}

    def tell(self, ticket: str, event: Event) -> None:
        """Append to the news."""
        line = json.dumps({"kind": event.kind, "data": event.data}) + "\n"
        with storing(self.path):
            path = self._path("news", ticket, ".jsonl")
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(handle, line.encode())
            finally:
                os.close(handle)

    def news(self, ticket: str, since: int) -> tuple[list[Event], int]:
        """What was told after the first `since` bytes, and how many there are now."""
        try:
            with self._path("news", ticket, ".jsonl").open("rb") as file:
                file.seek(since)
                whole = file.read().rpartition(b"\n")[0]
        except OSError:
            return [], since
        if not whole:
            return [], since
        said = [json.loads(line) for line in whole.splitlines()]
        return [Event(ticket, s["kind"], s["data"]) for s in said], since + len(whole) + 1

    def end(self, ticket: str, event: Event) -> None:
        """Say how a task ended."""
        data = {"kind": event.kind, "data": event.data}
        write_text(self._path("ends", ticket), dumps(data))

    def ended(self) -> set[str]:
        """The tickets whose ends are known."""
        with storing(self.path):
            names = os.listdir(self.path / "ends")
        return {name[:-5] for name in names if name.endswith(".json") and name[0] != "."}

    def how(self, ticket: str) -> Event | None:
        """How a ticket's task ended, if that is known here."""
        try:
            said = json.loads(self._path("ends", ticket).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return Event(ticket, said["kind"], said["data"])

    def stop(self) -> None:
        """Ask all tasks for a checkpoint and their end."""
        write_text(self.path / "stop", "")

    def stopping(self) -> bool:
        """Whether they are asked."""
        return (self.path / "stop").exists()

    def forget(self, ticket: str) -> None:
        """Remove what nobody needs once the driver knows the end, last what says so."""
        with storing(self.path):
            for path in (
                self._path("tasks", ticket), self._path("news", ticket, ".jsonl"),
                self.path / "held" / ticket, self._path("ends", ticket),
            ):  # fmt: skip
                path.unlink(missing_ok=True)

    def _path(self, kind: str, ticket: str, suffix: str = ".json") -> Path:
        return self.path / kind / f"{ticket}{suffix}"


@dataclasses.dataclass
class _Job:
    task: Task
    slot: int
    begun: bool = False
    read: int = 0  # bytes of its news
    over: float | None = None  # since when the scheduler says so
    gone: Gone | None = None


class SpoolEngine:
    """Hands tasks to a scheduler's machines through files.

    Args:
        hello: what every worker is told first.
        scheduler: made from the spool's files.
        say: called with a line that somebody should see.

    Raises:
        EngineError: the scheduler cannot be reached.
    """

    def __init__(
        self, hello: Hello, scheduler: Callable[[Spool], Scheduler], say: Callable[[str], object]
    ):
        folder = Path(hello.folder)
        self.spool = Spool(folder / "jobs" / hello.engine)
        self.spool.create()
        self._scheduler = scheduler(self.spool)
        self.name, self.slots = self._scheduler.name, self._scheduler.slots
        self._hello = hello
        self._jobs: dict[str, _Job] = {}
        self._waiting: list[tuple[str, Task]] = []
        self._since = self._asked = self._at = 0.0
        self._free = collections.deque(range(2 * self.slots))
        self._stopping = False
        if told := warning(folder):
            say(told)
        self._orphans = self._take_over(say)

    def submit(self, task: Task) -> None:
        """Start a task, or go on with the job that a driver before had for it."""
        for ticket, orphan in self._orphans.items():
            same = dataclasses.replace(orphan, attempt=task.attempt)
            if same == task:
                del self._orphans[ticket]
                self._jobs[ticket] = _Job(task, self._slot())
                return
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append((self.spool.offer(self._hello, task), task))

    def poll(self, timeout: float) -> list[Event]:
        """What has happened. Raises `EngineError` and `StorageError`."""
        until = time.monotonic() + timeout
        while True:
            self._start_waiting()
            found = self._look()
            left = until - time.monotonic()
            if found or left <= 0:
                return found
            time.sleep(min(_LOOK_SECONDS, left))

    def stop(self) -> None:
        """Ask running tasks for a checkpoint; take back those that have not begun."""
        self._stopping = True
        self.spool.stop()

    def close(self) -> None:
        """End everything that is still there at once."""
        try:
            if self._jobs or self._orphans:
                self._scheduler.cancel([*self._jobs, *self._orphans])
        finally:
            self._scheduler.close()

    def _take_over(self, say: Callable[[str], object]) -> dict[str, Task]:
        jobs = self.spool.unended()
        ours = self._scheduler.take_over(jobs)
        found = {}
        for ticket in sorted(ours):
            try:
                found[ticket] = self.spool.task(ticket)[1]
            except (StorageError, ValueError, KeyError, TypeError):  # of other sources
                self._scheduler.cancel([ticket])
        for ticket in set(jobs) - ours:
            self.spool.forget(ticket)
        if found:
            say(f"{self.name}: going on with {len(found)} jobs of a driver that has ended")
        return found

    def _slot(self) -> int:
        return self._free.popleft() if self._free else 0

    def _start_waiting(self) -> None:
        due = time.monotonic() - self._since >= self._scheduler.gather_seconds
        idle = not self._jobs
        if self._waiting and not self._stopping and (due or idle or len(self._waiting) >= 1000):
            room = max(0, self._scheduler.most - len(self._jobs))
            waiting, self._waiting = self._waiting[:room], self._waiting[room:]
            if not waiting:
                return
            held = self._scheduler.start([ticket for ticket, _ in waiting])
            self.spool.hold(held)
            self._jobs |= {ticket: _Job(task, self._slot()) for ticket, task in waiting}

    def _look(self) -> list[Event]:
        found = []
        if self._stopping:
            found += self._take_back()
        if self._jobs:
            for ticket in self.spool.ended() & set(self._jobs):
                found += self._ended(ticket)
            found += self._read_news()
            found += self._ask()
        return found

    def _take_back(self) -> list[Event]:
        """Tasks that no machine has taken are not worth waiting for."""
        found = [Event(task.id, tasks.STOPPED) for _, task in self._waiting]
        self._waiting = []
        self._read_news(every=True)
        idle = [ticket for ticket, job in self._jobs.items() if not job.begun]
        if idle:
            self._scheduler.cancel(idle)
        for ticket in idle:
            found.append(Event(self._drop(ticket).task.id, tasks.STOPPED))
        return found

    def _ended(self, ticket: str) -> list[Event]:
        end = self.spool.how(ticket)
        if end is None:  # listed, and not readable yet
            return []
        if end.kind == BROKEN:
            raise EngineError(end.data["message"])
        job = self._jobs[ticket]
        news = self._news_of(ticket, job)
        self._drop(ticket)
        return [*news, Event(job.task.id, end.kind, end.data, job.slot)]

    def _drop(self, ticket: str) -> _Job:
        job = self._jobs.pop(ticket)
        self._free.append(job.slot)
        self.spool.forget(ticket)
        return job

    def _read_news(self, every: bool = False) -> list[Event]:
        tickets = list(self._jobs)
        if not every and len(tickets) > _FILES:  # some at a time, in turn
            begin = int(self._at) % len(tickets)
            self._at = begin + _FILES
            tickets = (tickets + tickets)[begin : begin + _FILES]
        return [event for t in tickets for event in self._news_of(t, self._jobs[t])]

    def _news_of(self, ticket: str, job: _Job) -> list[Event]:
        said, job.read = self.spool.news(ticket, job.read)
        job.begun = job.begun or bool(said)
        known = [event for event in said if event.kind != BEGUN]
        return [Event(job.task.id, event.kind, event.data, job.slot) for event in known]

    def _ask(self) -> list[Event]:
        """Find the jobs that are over and have not said how they ended."""
        now = time.monotonic()
        if now - self._asked < self._scheduler.ask_seconds:
            return []
        self._asked = now
        for ticket, gone in self._scheduler.gone(list(self._jobs)).items():
            job = self._jobs[ticket]
            job.over, job.gone = job.over or now, gone
        found = []
        for ticket, job in list(self._jobs.items()):
            if job.over is None or now - job.over < self._scheduler.grace_seconds:
                continue
            if self.spool.how(ticket) is not None:
                found += self._ended(ticket)
            else:
                found += [*self._news_of(ticket, job), self._lost(ticket, job)]
        return found

    def _lost(self, ticket: str, job: _Job) -> Event:
        self._drop(ticket)
        assert job.gone is not None
        if not job.gone.reason:
            return Event(job.task.id, tasks.STOPPED, {"message": job.gone.message}, job.slot)
        data = {
            "reason": job.gone.reason, "message": job.gone.message, "finishing": None,
            "traceback": None,
        }  # fmt: skip
        return Event(job.task.id, tasks.LOST, data, job.slot)
