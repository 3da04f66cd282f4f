"""Batches that wait for a place: what was begun comes first, then what takes longest.

Longest first keeps the end of a sweep even: the last batches are short ones. A guess that is off by
a factor of three is enough (`benchmarks/makespan.py`).
"""

from __future__ import annotations

import heapq

from activjax.runs.sweep.tasks import Task


class Ready:
    """Tasks in the order in which they are to be started."""

    def __init__(self) -> None:
        self._heap: list[tuple[bool, float, int, Task]] = []
        self._ids: set[str] = set()
        self._count = 0

    def __len__(self) -> int:
        return len(self._heap)

    def __contains__(self, task: str) -> bool:
        return task in self._ids

    def put(self, task: Task, expected: float = 0.0, *, begun: bool = False) -> None:
        """Add a task.

        Args:
            task: with an id that is not there.
            expected: how long it takes compared with others; equal ones keep their order.
            begun: it goes on from a checkpoint, before all that has not begun.
        """
        self._count += 1
        self._ids.add(task.id)
        heapq.heappush(self._heap, (not begun, -expected, self._count, task))

    def take(self) -> Task:
        """The next one; it is there no more."""
        task = heapq.heappop(self._heap)[-1]
        self._ids.remove(task.id)
        return task
