"""The engine without processes: tasks run where the driver is. For notebooks and debuggers."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

from activjax.runs.sweep import tasks
from activjax.runs.sweep.tasks import Event, Task
from activjax.runs.sweep.worker import Hello, executor, perform


class InlineEngine:
    """One task at a time in this process; no limits of time and memory.

    Args:
        hello: as for a worker.
        stopping: whether a stop is wanted.

    Raises:
        ConfigError: the experiment cannot be loaded any more.
    """

    name = "inline"
    slots = 1

    def __init__(self, hello: Hello, stopping: Callable[[], bool] = lambda: False):
        self._waiting: collections.deque[Task] = collections.deque()
        self._events: list[Event] = []
        self._task = ""
        self._stopping, self._asked = False, stopping
        self._executor = self._ready(hello, lambda: self._stopping or stopping())

    def submit(self, task: Task) -> None:
        """Queue a task; `poll` runs it."""
        self._waiting.append(task)

    def poll(self, timeout: float) -> list[Event]:
        """Run the next task; everything that was heard of it."""
        if self._waiting:
            task = self._waiting.popleft()
            if self._stopping or self._asked():
                return [Event(task.id, tasks.STOPPED)]
            self._task = task.id
            self._tell(*self._perform(task))
        events, self._events = self._events, []
        return events

    def stop(self) -> None:
        """Stop at the next safe point."""
        self._stopping = True

    def close(self) -> None:
        """Nothing is left behind."""

    def _ready(self, hello: Hello, stopping: Callable[[], bool]) -> Any:
        return executor(hello, self._tell, stopping)

    def _perform(self, task: Task) -> tuple[str, dict[str, Any]]:
        return perform(self._executor, task)

    def _tell(self, kind: str, data: dict[str, Any]) -> None:
        self._events.append(Event(self._task, kind, data))
