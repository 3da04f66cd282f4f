"""Whether a task gets on from one time limit to the next."""

from __future__ import annotations

import dataclasses
from typing import Any

from activjax.runs.sweep import tasks

LATE = 3  # time limits in a row without progress, after which a task is given up


@dataclasses.dataclass
class Pace:
    """What is known of a task's progress, from its news.

    Attributes:
        times: time limits in a row between which nothing was reached that had not been before.
    """

    times: int = 0
    _furthest: dict[str, int] = dataclasses.field(default_factory=dict)  # of each training
    _label: str = ""
    _moved: bool = False

    def hear(self, kind: str, data: dict[str, Any]) -> None:
        """Take news of the task into account."""
        if kind == tasks.CELL:
            self._moved = True
        if kind != tasks.STEP:
            return
        step = data["step"]
        self._label = data.get("label", self._label)
        if self._label not in self._furthest:  # where it begins is no progress, that it begins is
            self._moved |= bool(self._furthest)
        elif step > self._furthest[self._label]:
            self._moved = True
        self._furthest[self._label] = max(step, self._furthest.get(self._label, step))

    def limit(self) -> None:
        """A job has met its time limit on it."""
        self.times = 0 if self._moved else self.times + 1
        self._moved = False
