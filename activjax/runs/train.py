"""Training a batch of cells: a kill at any moment takes it back to its last checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from activjax import hosts
from activjax.runs.cells import Cells
from activjax.runs.errors import RunError, StorageError
from activjax.runs.history import MetricsLog, flatten
from activjax.runs.programs import Programs
from activjax.runs.store import disk_full, storing
from activjax.training import checkpoint, loop


class Watcher(Protocol):
    """Who follows a training: a progress bar, or a worker's pipe to its driver."""

    def begin(self, label: str, steps: int, start: int) -> None:
        """A training of `steps` steps starts at step `start`."""
        ...

    def update(self, step: int, metrics: Mapping[str, np.ndarray]) -> None:
        """`step` steps are done; metrics `[steps, cells, ...]` of the last ones."""
        ...

    def saved(self) -> None:
        """A checkpoint is on the disk."""
        ...

    def say(self, text: str) -> None:
        """One line."""
        ...

    def warn(self, text: str) -> None:
        """One line that must be seen."""
        ...

    def stop_wanted(self, where: str) -> None:
        """Called when nothing would be lost; raises `Stopped` to end the training."""
        ...

    def stopping(self) -> bool:
        """Whether a stop is wanted: then a checkpoint is saved before `stop_wanted`."""
        ...

    def end(self) -> None:
        """The training is over, however it ended."""
        ...


class Paused(RunError):
    """A training has come to the step where it was to wait; a checkpoint has been saved."""

    def __init__(self, step: int):
        super().__init__(f"paused at step {step}")
        self.step = step


@dataclasses.dataclass(frozen=True)
class Trained:
    """The end of a training.

    Attributes:
        states: after the last step, `[cells, ...]`.
        measured: step -> what `measure` returned, numpy arrays with a leading cell axis.
        history: metric -> `[cells, steps, ...]`.
    """

    states: Any
    measured: dict[int, Any]
    history: dict[str, np.ndarray]


class Training:
    """One batch of cells, trained to the end from wherever its folder says that it got to.

    Args:
        programs: for `cells.width` cells.
        cells: the batch.
        work: holds checkpoints and measurements.
        log: where metrics go.
        label: for people.
        seconds: time between two checkpoints.
        watcher: who follows.
        keep_last: also save the last step, however short the time since the checkpoint before.
        until: pause at the end of the chunk that has this step, if there are more after it.
    """

    def __init__(
        self,
        programs: Programs,
        cells: Cells,
        work: Path,
        log: MetricsLog,
        *,
        label: str,
        seconds: float,
        watcher: Watcher,
        keep_last: bool = True,
        until: int | None = None,
    ):
        self.keep_last, self.until = keep_last, until
        self.programs, self.cells, self.log = programs, cells, log
        self.checkpoints, self.seen = work / "checkpoints", work / "measured"
        self.label, self.seconds, self.watcher = label, seconds, watcher
        self.warned: set[str] = set()
        self.unsaved: dict[int, Any] = {}  # measured since the last checkpoint

    def run(self) -> Trained:
        """All steps that are left.

        Raises:
            ExperimentError: the experiment raised.
            StorageError: the folder cannot be written, or all checkpoints are damaged.
            Stopped: the watcher wanted it; a checkpoint has been saved.
            Paused: it has come to `until`; a checkpoint has been saved.
        """
        programs, watcher = self.programs, self.watcher
        start, states, measured, end = self._resume_point()
        if self._pauses(start):
            raise Paused(start)
        self.log.open(end)
        watcher.begin(self.label, programs.steps, start)
        if start and self.until is None:  # from pause to pause it is as planned
            watcher.say(f"{self.label}: continuing from step {start} of {programs.steps}")
        self.saved_at = time.monotonic()
        try:
            if states is None:
                states = programs.init(self.cells)
            training = programs.loop
            hp = programs.placed(self.cells.hp)
            with programs.user("step"):
                done = training.run(states, hp, start=start, on_chunk=self._on_chunk)
            self.log.sync()
        finally:
            self.log.close()
            watcher.end()
        hosts.wait()  # process 0 has written
        history = self.log.read(flatten(done.step_metrics))
        measured |= done.measured
        return Trained(done.state, {step: measured[step] for step in sorted(measured)}, history)

    def _resume_point(self) -> tuple[int, Any, dict[int, Any], int]:
        """(step, states, measured, bytes of metrics) to go on from; (0, None, {}, ...) at first."""
        programs = self.programs
        try:
            found = checkpoint.restore(
                self.checkpoints, programs.states_like, warn=self.watcher.warn
            )
            if found is None:
                return 0, None, {}, self.log.begin
            end, measured = found.meta["metrics_end"], {}
            if hosts.first(self.log.size) < end:
                raise checkpoint.CheckpointError(f"{self.log.path} is shorter than it was")
            needed = {step for step in programs.measure_at if step <= found.step}
            for path, steps in self._saved_measurements():
                if needed.isdisjoint(steps):
                    continue
                like = dict.fromkeys(map(str, steps), programs.measured_like())
                tree, _ = checkpoint.load_tree(path, like)
                for step in needed.intersection(steps):
                    measured[step] = hosts.fetch(tree[str(step)])
                needed -= measured.keys()
            if needed:
                raise checkpoint.CheckpointError(f"{self.seen}: steps {sorted(needed)} are missing")
        except checkpoint.CheckpointError as error:
            hint = "`activjax run ... --force` starts this run again"
            raise StorageError(f"{error}\n{hint}") from error
        return found.step, found.state, measured, end

    def _saved_measurements(self) -> list[tuple[Path, list[int]]]:
        """Where measurements are, and of which steps: between two checkpoints, one folder."""
        found = []
        for name in hosts.first(lambda: checkpoint.names(self.seen)):
            first, last = map(int, name.split("-"))
            steps = [s for s in self.programs.measure_at if first <= s <= last]
            found.append((self.seen / name, steps))
        return found

    def _on_chunk(self, chunk: loop.Chunk) -> None:
        """Between two chunks: write metrics and measurements; checkpoint when it is time."""
        metrics = flatten(chunk.metrics)
        self.log.append(chunk.start, metrics)
        if chunk.measured is not None:
            self.unsaved[chunk.stop] = chunk.measured
        for name, values in metrics.items():
            if name not in self.warned and not np.isfinite(np.asarray(values, np.float64)).all():
                self.warned.add(name)
                self.watcher.warn(f"metric '{name}' is not finite by step {chunk.stop}")
        self.watcher.update(chunk.stop, metrics)
        due = time.monotonic() - self.saved_at >= self.seconds
        votes = hosts.exchange([due, bool(self.watcher.stopping())])
        due, stop = votes[0][0], any(stop for _, stop in votes)
        last = self.keep_last and chunk.stop == self.programs.steps
        pause = self._pauses(chunk.stop)
        if chunk.stop and (due or stop or last or pause):
            self._save(chunk.stop, chunk.state, self.log.sync())
        if stop:
            case = f" (case {self.programs.case})" if self.programs.case else ""
            where = f"stopped after step {chunk.stop} of {self.programs.steps}{case}"
            self.watcher.stop_wanted(where)
        if pause:
            raise Paused(chunk.stop)

    def _pauses(self, step: int) -> bool:
        """Whether a training that has come to a step waits there."""
        return self.until is not None and self.until <= step < self.programs.steps

    def keep(self, states: Any) -> None:
        """Save the states after the last step, unless they are saved. Raises `StorageError`."""
        steps = self.programs.steps
        if steps and steps not in hosts.first(lambda: checkpoint.steps(self.checkpoints)):
            self._save(steps, states, self.log.size())

    def _save(self, step: int, states: Any, metrics_end: int) -> None:
        """A checkpoint, after everything that it stands for is on the disk."""
        if self.unsaved:  # one tree: without a checkpoint behind them they are of no use
            with saving(self.seen):
                named = {str(at): tree for at, tree in self.unsaved.items()}
                path = self.seen / f"{min(self.unsaved)}-{max(self.unsaved)}"
                checkpoint.save_tree(path, named)
            self.unsaved = {}
        with saving(self.checkpoints):
            meta = {"metrics_end": metrics_end}
            checkpoint.save(self.checkpoints, step, states, meta=meta)
        self.saved_at = time.monotonic()
        self.watcher.saved()


@contextlib.contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turn what goes wrong when a checkpoint is written into a `StorageError`."""
    try:
        with storing(path):
            yield
    except checkpoint.CheckpointError as error:
        full = any(word in error.reason for word in checkpoint.DISK_FULL)
        text = (
            disk_full(path, error.reason) if full else f"{error}; see whether the disk is in order"
        )
        raise StorageError(text) from error
