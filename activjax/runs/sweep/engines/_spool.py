"""Engines whose tasks run on other machines: the driver's side of the files of `_tickets`."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from activjax.runs.errors import EngineError, StorageError
from activjax.runs.sweep import tasks
from activjax.runs.sweep.engines._crew import Crew
from activjax.runs.sweep.engines._mounts import warning
from activjax.runs.sweep.engines._pace import LATE, Pace
from activjax.runs.sweep.engines._scheduler import Gone, Scheduler
from activjax.runs.sweep.engines._tickets import BEGUN, DRIVER, LEFT, Spool, kind_of, own
from activjax.runs.sweep.tasks import Event, Task
from activjax.runs.sweep.worker import BROKEN, Hello

_FILES = 32  # news that one look opens, so that the metadata server is asked little
_LOOK_SECONDS = 0.25
_RETRY_SECONDS = 30.0  # after the scheduler has refused jobs while others run


@dataclasses.dataclass
class _Ticket:
    task: Task
    job: str  # the name of the one that has it
    begun: bool = False
    read: int = 0  # bytes of its news


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
        self._hello, self._kind = hello, kind_of(hello, self._scheduler.needs)
        self._waiting: dict[str, Task] = {}  # offered, and nobody has them
        self._tickets: dict[str, _Ticket] = {}  # jobs have them
        self._orphans: dict[str, _Ticket] = {}  # of the driver before, until they are submitted
        self._crew = Crew(self._scheduler, self.spool, self._kind)
        self._paces: dict[str, Pace] = collections.defaultdict(Pace)  # of tasks
        self._wanted: float | None = None  # since when more jobs are
        self._again = 0.0
        self._at = 0  # whose news are read next
        self._stopping, self._say = False, say
        if told := warning(folder):
            say(told)
        self._take_over()

    def submit(self, task: Task) -> None:
        """Offer a task, or go on with the job that a driver before had for it."""
        for ticket, orphan in self._orphans.items():
            same = dataclasses.replace(orphan.task, attempt=task.attempt)
            if same == task:
                del self._orphans[ticket]
                self._tickets[ticket] = _Ticket(task, orphan.job)
                return
        self._waiting[self.spool.offer(self._hello, task, self._kind)] = task

    def poll(self, timeout: float) -> list[Event]:
        """What has happened. Raises `EngineError` and `StorageError`."""
        until = time.monotonic() + timeout
        while True:
            self._start_jobs()
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
        """End everything that is still there at once; jobs without a task end by themselves."""
        try:
            with contextlib.suppress(StorageError):
                self.spool.stop()
                self._see_taken()
            busy = self._busy()
            if busy:
                self._scheduler.cancel(sorted(busy))
            if idle := self._crew.names() - busy:
                self._scheduler.withdraw(sorted(idle))
        finally:
            self._scheduler.close()
            self._held.close()

    def _take_over(self) -> None:
        """Go on with the jobs of the driver before, and take back what none of them has."""
        jobs, holders = self.spool.jobs(), self.spool.holders()
        alive = self._scheduler.take_over({*jobs, *holders.values()} - {"", DRIVER})
        for ticket, job in holders.items():
            if not job and not self.spool.claim(ticket, DRIVER):
                job = self.spool.holder(ticket)  # taken just now
            if job in alive and self.spool.wants(ticket):
                try:
                    self._orphans[ticket] = _Ticket(self.spool.task(ticket)[1], job)
                    continue
                except (StorageError, ValueError, KeyError, TypeError):  # of other sources
                    self._scheduler.cancel([job])
                    alive.discard(job)
            self.spool.forget(ticket)
        busy = self._busy()
        for job in sorted(alive):
            if job in busy or jobs.get(job) == self._kind:
                self._crew.add(job, jobs.get(job, ""))
        if idle := alive - self._crew.names():  # they would take none of our tickets
            self._scheduler.cancel(sorted(idle))
        for job in set(jobs) - self._crew.names():
            self.spool.leave(job, jobs[job])
        if count := len(self._crew):
            self._say(f"{self.name}: going on with {count} jobs of a driver that has ended")

    def _busy(self) -> set[str]:
        """The jobs that have a ticket."""
        return {ticket.job for ticket in (*self._tickets.values(), *self._orphans.values())}

    def _start_jobs(self) -> None:
        """Start jobs for the tickets that those there are will not take at once."""
        now, tickets, idle = time.monotonic(), list(self._waiting), not self._crew
        count = 0
        if tickets and not self._stopping and (now >= self._again or idle):
            free = len(self._crew.idle(self._busy()))
            count = min(len(tickets) - free, self._scheduler.most - len(self._crew))
        if count <= 0:
            self._wanted = None
            return
        self._wanted = self._wanted or now
        if self._crew and now - self._wanted < self._scheduler.gather_seconds:
            return
        self._wanted = None
        try:
            names = self._crew.start(tickets[:count])
        except EngineError as error:
            if not self._crew:
                raise
            # its limit of jobs, or it is being started anew: what runs goes on
            self._again = now + _RETRY_SECONDS
            self._say(f"{error}; tried again in {_RETRY_SECONDS:g} s")
            return
        if not self._scheduler.pulls:
            for ticket, name in zip(tickets, names):
                self.spool.claim(ticket, name)
                self._tickets[ticket] = _Ticket(self._waiting.pop(ticket), name)

    def _look(self) -> list[Event]:
        found = []
        if self._stopping:
            found += self._take_back()
        self._see_taken()
        if self._tickets:
            for ticket in self.spool.ended() & set(self._tickets):
                found += self._ended(ticket)
            found += self._read_news()
        return [*found, *self._over()]

    def _see_taken(self) -> None:
        if self._scheduler.pulls and self._waiting:
            for ticket in self.spool.held() & set(self._waiting):
                self._taken(ticket)

    def _taken(self, ticket: str) -> None:
        """A job has taken a ticket."""
        name = self.spool.holder(ticket)
        if not name:  # listed, and not readable yet
            return
        self._crew.add(name)  # its driver may have been killed before it could keep the name
        self._tickets[ticket] = _Ticket(self._waiting.pop(ticket), name)

    def _take_back(self) -> list[Event]:
        """Tasks that no machine has taken are not worth waiting for."""
        found = []
        for ticket in list(self._waiting):
            if self.spool.claim(ticket, DRIVER):
                found.append(Event(self._waiting.pop(ticket).id, tasks.STOPPED))
                self.spool.forget(ticket)
            else:
                self._taken(ticket)
        found += self._read_news(every=True)  # says which have begun
        if self._scheduler.pulls:
            self._crew.withdraw()
            return found
        idle = [ticket for ticket, had in self._tickets.items() if not had.begun]
        if idle:
            self._scheduler.cancel([self._tickets[ticket].job for ticket in idle])
        for ticket in idle:
            found.append(Event(self._drop(ticket).task.id, tasks.STOPPED))
        return found

    def _ended(self, ticket: str) -> list[Event]:
        end = self.spool.how(ticket)
        if end is None:  # listed, and not readable yet
            return []
        if end.kind == BROKEN:
            raise EngineError(end.data["message"])
        news, slot = self._news_of(ticket), self._crew.slot(self._tickets[ticket].job)
        task = self._drop(ticket).task
        if end.kind != tasks.STOPPED:
            self._paces.pop(task.id, None)
        return [*news, Event(task.id, end.kind, end.data, slot)]

    def _drop(self, ticket: str) -> _Ticket:
        had = self._tickets.pop(ticket)
        self.spool.forget(ticket)
        if not self._scheduler.pulls:
            self._crew.forget(had.job)
        return had

    def _read_news(self, every: bool = False) -> list[Event]:
        tickets = list(self._tickets)
        if not every and len(tickets) > _FILES:  # some at a time, in turn
            begin = self._at % len(tickets)
            self._at = begin + _FILES
            tickets = (tickets + tickets)[begin : begin + _FILES]
        found = [event for ticket in tickets for event in self._news_of(ticket)]
        for ticket in tickets:
            had = self._tickets[ticket]
            if self._paces[had.task.id].times >= LATE:
                self._scheduler.cancel([had.job])  # it has been queued again
                self.spool.leave(had.job, self._kind)
                found.append(self._late(ticket))
                self._crew.forget(had.job)
        return found

    def _news_of(self, ticket: str) -> list[Event]:
        had, found = self._tickets[ticket], []
        pace, slot = self._paces[had.task.id], self._crew.slot(had.job)
        said, had.read = self.spool.news(ticket, had.read)
        if said:
            had.begun = True
            self._crew.heard(had.job)
        for kind, data in ((event.kind, event.data) for event in said):
            pace.hear(kind, data)
            if kind == LEFT:
                if data["limit"]:
                    pace.limit()
                found.append(Event(had.task.id, tasks.SAY, {"text": data["text"]}, slot))
            elif kind != BEGUN:
                found.append(Event(had.task.id, kind, data, slot))
        return found

    def _over(self) -> list[Event]:
        """What becomes of the tickets of jobs that are over."""
        found = []
        for name, job in self._crew.over().items():
            gone = job.gone
            assert gone is not None
            for ticket in [t for t, had in self._tickets.items() if had.job == name]:
                if self.spool.how(ticket) is not None:
                    found += self._ended(ticket)
                else:
                    found += [*self._news_of(ticket), self._lost(ticket, gone)]
            for ticket in [t for t, had in self._orphans.items() if had.job == name]:
                del self._orphans[ticket]
                self.spool.forget(ticket)
            self._crew.bury(name, job)
        return found

    def _lost(self, ticket: str, gone: Gone) -> Event:
        """What becomes of a ticket whose job is over."""
        had = self._tickets[ticket]
        task, slot = had.task, self._crew.slot(had.job)
        if gone.reason == "time":  # without a warning, or too late to be queued again
            self._paces[task.id].limit()
            if self._paces[task.id].times >= LATE:
                return self._late(ticket)
        self._drop(ticket)
        if gone.reason in ("", "time") or (self._stopping and gone.reason == "crash"):
            return Event(task.id, tasks.STOPPED, {"message": gone.message}, slot)
        return _lost(task, gone.reason, gone.message, slot)

    def _late(self, ticket: str) -> Event:
        """Give up a task that no time limit lets get any further."""
        slot = self._crew.slot(self._tickets[ticket].job)
        task = self._drop(ticket).task
        self._paces.pop(task.id, None)
        message = (
            f"its job met the time limit {LATE} times and got no further: give it more with "
            "`--resources minutes=...`, or let it save more often"
        )
        return _lost(task, "time", message, slot)


def _lost(task: Task, reason: str, message: str, slot: int) -> Event:
    data = {"reason": reason, "message": message, "finishing": None, "traceback": None}
    return Event(task.id, tasks.LOST, data, slot)
