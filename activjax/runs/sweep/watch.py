"""What somebody who watches a sweep sees: a bar over all cells and a line a worker, or a log."""

from __future__ import annotations

import time
from typing import Any

from activjax.runs._numbers import duration
from activjax.runs.sweep import tasks
from activjax.runs.sweep.tasks import Event

_PLAIN_SECONDS = 10.0


class SweepWatch:
    """Progress on standard error.

    Args:
        name: of the sweep.
        show: False shows nothing but warnings.
    """

    def __init__(self, name: str, show: bool = True):
        from rich.console import Console

        self._console = Console(stderr=True)
        self._name, self._show = name, show
        self._bars: Any = None
        self._slots: dict[int, Any] = {}
        self._first: int | None = None
        self._began = self._last = time.monotonic()

    def __enter__(self) -> SweepWatch:
        if self._show and self._console.is_terminal:
            from rich import progress as bar

            self._bars = bar.Progress(
                bar.TextColumn("{task.description}"),
                bar.BarColumn(),
                bar.MofNCompleteColumn(),
                bar.TextColumn("{task.fields[more]}"),
                bar.TimeElapsedColumn(),
                bar.TextColumn("left"),
                bar.TimeRemainingColumn(),
                speed_estimate_period=300,
                console=self._console,
                transient=True,
            )
            self._all = self._bars.add_task(self._name, total=None, more="")
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def event(self, event: Event) -> None:
        """Something was heard of a task."""
        if self._bars is None:
            return
        if event.kind == tasks.STEP:
            bar = self._slot(event.slot)
            label = event.data.get("label", event.task)
            step, steps = event.data["step"], event.data["steps"]
            self._bars.update(
                bar, description=f"  worker {event.slot}: {label}", completed=step, total=steps
            )
        elif event.kind in tasks.ENDS:
            idle = f"  worker {event.slot}: idle"
            self._bars.update(self._slot(event.slot), description=idle, completed=0, total=None)

    def counts(self, done: int, failed: int, total: int) -> None:
        """Cells that have records, failed ones among them."""
        told = f"{failed} failed" if failed else ""
        if self._first is None:
            self._first = done
        if self._bars is not None:
            self._bars.update(self._all, completed=done, total=total, more=told)
        elif self._show and (time.monotonic() - self._last > _PLAIN_SECONDS or done == total):
            self._last = time.monotonic()
            new = done - self._first
            left = ""
            if new and done < total:
                left = f", {duration((self._last - self._began) / new * (total - done))} left"
            self.say(f"{self._name}: {done}/{total} cells{', ' if told else ''}{told}{left}")

    def say(self, text: str) -> None:
        """One line, above the bars if there are any."""
        if self._show:
            self.warn(text)

    def warn(self, text: str) -> None:
        """One line, also when nothing else is shown."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _slot(self, slot: int) -> Any:
        if slot not in self._slots:
            self._slots[slot] = self._bars.add_task(f"  worker {slot}", total=None, more="")
        return self._slots[slot]
