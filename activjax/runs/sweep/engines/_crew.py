"""The jobs that a driver knows: those it has started, and those it has found."""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Sequence

from activjax.runs.errors import EngineError
from activjax.runs.sweep.engines._scheduler import Gone, Scheduler
from activjax.runs.sweep.engines._tickets import Spool

_STARTS = 3  # jobs that end before they begin, in a row, after which no more are started


@dataclasses.dataclass
class Job:
    """What is known of one.

    Attributes:
        slot: the place that its events come from.
        kind: of the tickets that it takes.
        heard: whether it has begun any.
        over: since when the scheduler says that it is.
        gone: why, then.
    """

    slot: int
    kind: str
    heard: bool = False
    over: float | None = None
    gone: Gone | None = None


class Crew:
    """Jobs that wait or run.

    Args:
        scheduler: whose jobs they are.
        spool: where they say that they end.
        kind: of the tickets that are offered.
    """

    def __init__(self, scheduler: Scheduler, spool: Spool, kind: str):
        self._scheduler, self._spool, self._kind = scheduler, spool, kind
        self._jobs: dict[str, Job] = {}
        self._free = collections.deque(range(2 * scheduler.slots))
        self._asked, self._stillborn = 0.0, 0
        self.withdrawn = False

    def __len__(self) -> int:
        return len(self._jobs)

    def names(self) -> set[str]:
        """Of all of them."""
        return set(self._jobs)

    def add(self, name: str, kind: str | None = None) -> None:
        """One more, of the kind that is offered unless another is given."""
        if name not in self._jobs:
            slot = self._free.popleft() if self._free else 0
            self._jobs[name] = Job(slot, self._kind if kind is None else kind)

    def start(self, tickets: Sequence[str]) -> Sequence[str]:
        """As many as there are tickets; returns their names. Raises `EngineError`."""
        names = self._scheduler.start(tickets)
        for name in names:
            self.add(name)
            if self._scheduler.pulls:
                self._spool.join(name, self._kind)
        return names

    def forget(self, name: str) -> None:
        """It is no more."""
        had = self._jobs.pop(name, None)
        if had is not None:
            self._free.append(had.slot)

    def slot(self, name: str) -> int:
        """The place that its events come from."""
        return self._jobs[name].slot if name in self._jobs else 0

    def heard(self, name: str) -> None:
        """It has begun a ticket."""
        self._stillborn = 0
        if name in self._jobs:
            self._jobs[name].heard = True

    def idle(self, busy: set[str]) -> set[str]:
        """Those that will take the next tickets; the ones that have ended by themselves go."""
        found = {n for n, job in self._jobs.items() if job.kind == self._kind} - busy
        if not (self._scheduler.pulls and found):
            return set()
        for name in found - set(self._spool.jobs()):
            self.forget(name)
            found.discard(name)
        return found

    def withdraw(self) -> None:
        """End those that have not begun."""
        if self._jobs and not self.withdrawn:
            self.withdrawn = True
            self._scheduler.withdraw(sorted(self._jobs))

    def over(self) -> dict[str, Job]:
        """Those that are over for so long that everything they did is visible here."""
        now = time.monotonic()
        if not self._jobs or now - self._asked < self._scheduler.ask_seconds:
            return {}
        self._asked = now
        gone = self._scheduler.gone(list(self._jobs))
        found = {}
        for name, job in self._jobs.items():
            job.gone = gone.get(name)  # a job may be queued again
            job.over = None if job.gone is None else job.over or now
            if job.gone and job.over and now - job.over >= self._scheduler.grace_seconds:
                found[name] = job
        return found

    def bury(self, name: str, job: Job) -> None:
        """It is over. Raises `EngineError` where none gets as far as a ticket."""
        well = False
        if self._scheduler.pulls:
            well = name not in self._spool.jobs()
            self._spool.leave(name, job.kind)
        self.forget(name)
        assert job.gone is not None
        if job.gone.reason != "crash" or job.heard or well or self.withdrawn:
            return
        self._stillborn += 1
        if self._stillborn >= _STARTS:  # not the task's fault: none gets so far
            raise EngineError(
                f"engine {self._scheduler.name}: {_STARTS} jobs ended before they began, the last "
                f"one: {job.gone.message}; what is done is safe, the same command goes on"
            )
