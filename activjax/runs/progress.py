"""What somebody who watches a run sees: a bar with the time left, or plain lines in a log."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

_PLAIN_SECONDS = 10.0


class Progress:
    """Progress on standard error.

    Args:
        show: False shows nothing but warnings.
    """

    def __init__(self, show: bool = True):
        from rich.console import Console

        self._console = Console(stderr=True)
        self._show = show
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def say(self, text: str) -> None:
        """One line, above the bar if there is one."""
        if self._show:
            self.warn(text)

    def warn(self, text: str) -> None:
        """One line, also when nothing else is shown."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def begin(self, label: str, steps: int, start: int) -> None:
        """A program of `steps` steps starts at step `start`."""
        self.end()
        self._label, self._steps = label, steps
        self._first, self._began, self._last = start, time.monotonic(), time.monotonic()
        if self._show and self._console.is_terminal:
            from rich import progress as bar

            self._bar = bar.Progress(
                bar.TextColumn("{task.description}"),
                bar.BarColumn(),
                bar.MofNCompleteColumn(),
                bar.TextColumn("{task.fields[metrics]}"),
                bar.TimeElapsedColumn(),
                bar.TextColumn("left"),
                bar.TimeRemainingColumn(elapsed_when_finished=False),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task(label, total=steps, completed=start, metrics="")
            self._bar.start()

    def update(self, step: int, metrics: Mapping[str, np.ndarray]) -> None:
        """`step` steps are done; metrics `[steps, cells, ...]` of the last ones."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step, metrics=_brief(metrics))
        elif self._show and (time.monotonic() - self._last > _PLAIN_SECONDS or step == self._steps):
            self._last = time.monotonic()
            done = step - self._first
            told = ""
            if done:  # before the first step there is nothing to tell the time left from
                left = (self._last - self._began) / done * (self._steps - step)
                told = f"  {_brief(metrics)}  {_clock(left)} left"
            self.say(f"{self._label}: step {step}/{self._steps}{told}")

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _brief(metrics: Mapping[str, np.ndarray]) -> str:
    """The last value of the first scalar metrics, averaged over cells."""
    parts = []
    for name, values in metrics.items():
        if values.ndim == 2 and len(values):
            parts.append(f"{name} {np.asarray(values[-1], np.float64).mean():.4g}")
    return "  ".join(parts[:3])


def _clock(seconds: float) -> str:
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
