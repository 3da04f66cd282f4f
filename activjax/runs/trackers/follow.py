"""A tracker follows a folder: a thread reads what was appended and passes it on."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from activjax.runs.errors import StorageError
from activjax.runs.store import Folder, storing
from activjax.runs.trackers import choose
from activjax.runs.trackers.feed import RunFeed, Source, SweepFeed, feed, read_line
from activjax.runs.trackers.protocol import STOPPED, Tracked, Tracker
from activjax.runs.trackers.sent import Sent

_LOOK_SECONDS = 1.0
_END_SECONDS = 10.0  # that a run waits for its trackers when it is over
_FAILURES = 3  # in a row, after which a tracker is switched off
_LINES = 500  # of one file between two notes of what was sent

Make = Callable[[str, Path], Tracker]


@contextlib.contextmanager
def following(
    folder: Folder,
    names: Sequence[str],
    warn: Callable[[str], object],
    *,
    make: Make | None = None,
    wait: float | None = _END_SECONDS,
) -> Iterator[None]:
    """Trackers follow a folder during the block, and are given a moment when it ends.

    Args:
        folder: of a run or a sweep.
        names: as `chosen` returned them.
        warn: shows one line; called from several threads.
        make: makes the adapters; None means those of this package.
        wait: seconds that a tracker has for what is left at the end; None for ever.
    """
    followers = [Follower(folder, name, warn, make or choose.make) for name in names]
    for follower in followers:
        follower.thread.start()
    try:
        yield
    finally:
        for follower in followers:
            follower.ending.set()
        until = None if wait is None else time.monotonic() + wait
        for follower in followers:
            follower.thread.join(None if until is None else max(0.0, until - time.monotonic()))
            if follower.thread.is_alive():
                follower.told = True  # whatever it runs into later, it was left behind
                warn(
                    f"tracker {follower.name}: not done {wait:g} s after the end, left behind; "
                    f"last sent: {follower.last}; {follower.advice}"
                )


def export(folder: Folder, names: Sequence[str], warn: Callable[[str], object]) -> bool:
    """Send what a folder has and the trackers have not; returns whether all went well."""
    said: list[str] = []

    def both(text: str) -> None:
        said.append(text)
        warn(text)

    with following(folder, names, both, wait=None):
        pass
    return not said


class Follower:
    """One tracker on one folder, in a thread of its own.

    Attributes:
        thread: to be started; ends some time after `ending` is set.
        last: what was sent last, for people.
        told: whether somebody has heard that something is wrong.
    """

    def __init__(self, folder: Folder, name: str, warn: Callable[[str], object], make: Make):
        self.folder, self.name, self._warn, self._make = folder, name, warn, make
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._main, daemon=True, name=f"tracker {name}")
        self.last, self.told, self._failures = "nothing", False, 0
        self._offsets: dict[Path, int] = {}
        self._begun: dict[str, Tracked] = {}
        self.advice = f"`activjax track {folder.path} --track {name}` sends what is missing"

    def _main(self) -> None:
        place = self.folder.path / "tracked" / self.name
        try:
            with storing(place):
                self._sent = Sent(place)
            with self._sent.alone() as alone:
                if not alone:
                    raise StorageError("another process sends what this folder has")
                self._loop(place)
        except Exception as error:
            self._failed(error)

    def _loop(self, place: Path) -> None:
        tracker: Tracker | None = None
        while True:
            last = self.ending.is_set()  # before looking: what is there now, is seen
            try:
                if tracker is None:
                    tracker, self._feed = self._make(self.name, place), feed(self.folder)
                self._pass(tracker, self._feed)
                if last:
                    return self._close(tracker)
                self._failures = 0
            except Exception as error:
                # anew, by what has been noted: nobody knows what the adapter still holds
                tracker, self._offsets, self._begun = None, {}, {}
                self._failures += 1
                self._failed(error)
                if self._failures == _FAILURES:
                    return None
            self.ending.wait(0.05 if last else _LOOK_SECONDS)

    def _failed(self, error: Exception) -> None:
        if not self.told:
            self.told = True
            text = " ".join(str(error).split())[:300]
            self._warn(
                f"tracker {self.name}: {type(error).__name__}: {text} "
                f"(the run goes on; {_FAILURES} failures in a row switch the tracker off; "
                f"{self.advice})"
            )

    def _pass(self, tracker: Tracker, found: RunFeed | SweepFeed) -> None:
        """Send everything that is new."""
        # records before metrics: what a finished run has appended is then seen in the same pass
        outcomes = list(found.outcomes(self._sent.ended))
        renewed = {outcome.run for outcome in outcomes}
        for source in found.sources(self._sent.ended.keys() - renewed):
            while self._metrics(tracker, found, source):
                pass
        for outcome in outcomes:
            run = self._begin(tracker, found.run(outcome.run))
            run.config = outcome.config or run.config
            tracker.summary(run, outcome.rows)
            if outcome.figures:
                tracker.figures(run, outcome.figures)
            tracker.flush()
            tracker.end(run, outcome.status)
            self._sent.end(run.id, outcome.stamp, outcome.status)
            self._begun.pop(run.id, None)
            self.last = f"the record of {run.name}"

    def _begin(self, tracker: Tracker, run: Tracked) -> Tracked:
        if run.id not in self._begun:
            if run.parent is not None:
                self._begin(tracker, run.parent)
            run.sent = self._sent.steps.get(run.id, {})
            tracker.begin(run)
            self._begun[run.id] = run
        return run

    def _metrics(self, tracker: Tracker, found: RunFeed | SweepFeed, source: Source) -> bool:
        """Send some lines of a file; whether there may be more."""
        lines, end = self._lines(source.path)
        reached: dict[tuple[str, str | None], int] = {}
        for text in lines:
            case, step, values = read_line(text, source)
            for name, numbers in values.items():
                before = self._sent.steps.get(name, {}).get(case, 0)
                if step > before and numbers:
                    run = self._begin(tracker, found.run(name))
                    tracker.metrics(run, case, step, numbers)
                    reached[name, case] = step
        if reached:
            tracker.flush()
            for (name, case), step in reached.items():
                self._sent.step(name, case, step)
                self.last = f"step {step} of {found.run(name).name}"
        self._offsets[source.path] = end
        return len(lines) == _LINES

    def _lines(self, path: Path) -> tuple[list[bytes], int]:
        """Whole lines that come next, and where they end; a file that was cut is read anew."""
        offset = self._offsets.get(path, 0)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return [], 0
        if size < offset:  # cut back to a checkpoint: what comes again has been sent
            offset = 0
        if size == offset:
            return [], offset
        lines = []
        with path.open("rb") as file:
            file.seek(max(offset - 1, 0))
            if offset and file.read(1) != b"\n":
                file.seek(0)
                offset = 0
            while len(lines) < _LINES and (line := file.readline()).endswith(b"\n"):
                lines.append(line)
                offset += len(line)
        return lines, offset

    def _close(self, tracker: Tracker) -> None:
        """End what was begun and goes on some other time."""
        for run in reversed(self._begun.values()):
            tracker.end(run, self._sent.ended.get(run.id, ("", STOPPED))[1])
        self._begun.clear()
