"""What an engine asks of a cluster's scheduler: start jobs, say which are over, end them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol


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
    """What runs jobs on other machines.

    Attributes:
        name: of the engine.
        slots: how many tasks can run at a time.
        most: jobs that may run or wait in its queue.
        pulls: whether a job works on one ticket after another, those that nobody has; else it works
            on the one that it was started for.
        needs: what a job is given; one that was given something else takes none of our tickets.
        ask_seconds: between two questions which jobs are over.
        gather_seconds: jobs are wanted this long, to be started together.
        grace_seconds: until the end of a job that is over is visible here.
    """

    name: str
    slots: int
    most: int
    pulls: bool
    needs: Mapping[str, Any]
    ask_seconds: float
    gather_seconds: float
    grace_seconds: float

    def start(self, tickets: Sequence[str]) -> Sequence[str]:
        """Start as many jobs as there are tickets; returns their names. Raises `EngineError`."""
        ...

    def take_over(self, jobs: Iterable[str]) -> set[str]:
        """Those jobs of a driver that is gone which wait or run: they are ours now."""
        ...

    def gone(self, jobs: Iterable[str]) -> Mapping[str, Gone]:
        """Those that are over, however they ended."""
        ...

    def cancel(self, jobs: Iterable[str]) -> None:
        """End them at once."""
        ...

    def withdraw(self, jobs: Iterable[str]) -> None:
        """End those that have not begun, where jobs pull; the others see that a stop is wanted."""
        ...

    def close(self) -> None:
        """Let go of the scheduler."""
        ...
