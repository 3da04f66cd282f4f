"""Engines whose tasks run on other machines: the driver's side of the files of `_tickets`."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from activjax.runs.errors import EngineError, StorageError
from activjax.runs.sweep import tasks
from activjax.runs.sweep.engines._mounts import warning
from activjax.runs.sweep.engines._tickets import BEGUN, Spool, own
from activjax.runs.sweep.tasks import Event, Task
from activjax.runs.sweep.worker import BROKEN, Hello

_FILES = 32  # news that one look opens, so that the metadata server is asked little
_LOOK_SECONDS = 0.25
_RETRY_SECONDS = 30.0  # after the scheduler has refused jobs while others run
_STARTS = 3  # jobs that end before they begin, in a row, after which no more are started


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
        with contextlib.ExitStack() as held:
            self.spool = own(folder / "jobs", hello.engine, held)
            self.spool.create()
            self._scheduler = scheduler(self.spool)
            self._held = held.pop_all()
        self.name, self.slots = self._scheduler.name, self._scheduler.slots
        self._hello = hello
        self._jobs: dict[str, _Job] = {}
        self._waiting: list[tuple[str, Task]] = []
        self._since = self._asked = 0.0
        self._at = 0  # whose news are read next
        self._free = collections.deque(range(2 * self.slots))
        self._stopping, self._stillborn, self._again, self._say = False, 0, 0.0, say
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
            self._held.close()

    def _take_over(self, say: Callable[[str], object]) -> dict[str, Task]:
        jobs = self.spool.unended()
        ours = self._scheduler.take_over({ticket: job for ticket, job in jobs.items() if job})
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
        now = time.monotonic()
        due = now - self._since >= self._scheduler.gather_seconds
        idle = not self._jobs
        if now < self._again and not idle:
            return
        if self._waiting and not self._stopping and (due or idle or len(self._waiting) >= 1000):
            room = max(0, self._scheduler.most - len(self._jobs))
            waiting, self._waiting = self._waiting[:room], self._waiting[room:]
            if not waiting:
                return
            try:
                held = self._scheduler.start([ticket for ticket, _ in waiting])
            except EngineError as error:
                if idle:
                    raise
                # its limit of jobs, or it is being started anew: what runs goes on
                self._waiting, self._again = waiting + self._waiting, now + _RETRY_SECONDS
                self._say(f"{error}; tried again in {_RETRY_SECONDS:g} s")
                return
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
        for ticket, _ in self._waiting:
            self.spool.forget(ticket)
        self._waiting = []
        found += self._read_news(every=True)  # says which have begun
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
            begin = self._at % len(tickets)
            self._at = begin + _FILES
            tickets = (tickets + tickets)[begin : begin + _FILES]
        return [event for t in tickets for event in self._news_of(t, self._jobs[t])]

    def _news_of(self, ticket: str, job: _Job) -> list[Event]:
        said, job.read = self.spool.news(ticket, job.read)
        if said:
            job.begun, self._stillborn = True, 0
        known = [event for event in said if event.kind != BEGUN]
        return [Event(job.task.id, event.kind, event.data, job.slot) for event in known]

    def _ask(self) -> list[Event]:
        """Find the jobs that are over and have not said how they ended."""
        now = time.monotonic()
        if now - self._asked < self._scheduler.ask_seconds:
            return []
        self._asked = now
        gone = self._scheduler.gone(list(self._jobs))
        for ticket, job in self._jobs.items():
            job.gone = gone.get(ticket)  # a job may be queued again
            job.over = None if job.gone is None else job.over or now
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
        if job.gone.reason == "crash" and not job.begun:
            self._stillborn += 1
            if self._stillborn >= _STARTS:  # not the task's fault: none gets so far
                raise EngineError(
                    f"engine {self.name}: {_STARTS} jobs ended before they began, the last one: "
                    f"{job.gone.message}; what is done is safe, the same command goes on"
                )
        if not job.gone.reason:
            return Event(job.task.id, tasks.STOPPED, {"message": job.gone.message}, job.slot)
        data = {
            "reason": job.gone.reason, "message": job.gone.message, "finishing": None,
            "traceback": None,
        }  # fmt: skip
        return Event(job.task.id, tasks.LOST, data, job.slot)
