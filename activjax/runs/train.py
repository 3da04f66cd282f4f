"""Training the cells of one case under the traced contract: programs, checkpoints, measurements.

`Programs` is what depends on shapes alone and is made once; `Training` is one batch of cells on
its way, which a kill at any moment takes back to its last checkpoint and no further.
"""

from __future__ import annotations

import contextlib
import dataclasses
import operator
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from activjax.runs import cells as cells_of, contract, fields
from activjax.runs.cells import Cells
from activjax.runs.contract import Experiment
from activjax.runs.errors import StorageError
from activjax.runs.history import MetricsLog, flatten
from activjax.runs.store import disk_full, storing
from activjax.training import checkpoint, loop

DEFAULT_CHUNK = 100


class Programs:
    """The compiled programs of one case for batches of `width` cells.

    Args:
        experiment: the experiment.
        case: its name; None where the experiment has no cases.
        config: the case's `Config`; its traced fields are not looked at.
        width: cells of a batch.
        sharded: spread them over the local devices.

    Attributes:
        static: what `setup` returned.
        steps, chunk, measure_at: its schedule.
        devices: how many devices share the cells.

    Raises:
        ExperimentError: `setup` or `init` raised, or `static` is not what the contract asks for.
    """

    def __init__(
        self,
        experiment: Experiment,
        case: str | None,
        config: Any,
        width: int,
        *,
        sharded: bool = False,
    ):
        self.experiment, self.case, self.width = experiment, case, width
        with self.user("setup"):
            self.static = self._function("setup")(fields.hide_traced(config))
            self.steps, self.chunk, self.measure_at = self._schedule()
        self.mesh = cells_of.mesh_for(width) if sharded else None
        self.devices = 1 if self.mesh is None else self.mesh.size
        of_one = Cells.of([(config, 0)])
        widened = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((width, *leaf.shape[1:]), leaf.dtype),
            (of_one.hp, of_one.keys),
        )
        self._hp_like, keys_like = self.placed(widened)
        self._init = jax.jit(self._over("init"))
        with self.user("init"):
            like = jax.eval_shape(self._init, self._hp_like, keys_like)
        self.states_like = self.placed(like)
        self._loop: loop.Loop | None = None

    def user(self, name: str) -> contextlib.AbstractContextManager[None]:
        """For blocks that run the experiment's code."""
        named = f"{name}(case {self.case})" if self.case else name
        return contract.running(self.experiment, named)

    def init(self, cells: Cells) -> Any:
        """The states before the first step. Raises `ExperimentError`."""
        with self.user("init"):
            return self._init(*self.placed((cells.hp, cells.keys)))

    def placed(self, tree: Any) -> Any:
        """Arrays with a leading cell axis, where the programs expect them."""
        return cells_of.place(tree, self.mesh)

    def cell(self, states: Any, i: int) -> Any:
        """The states of the `i`-th cell alone, with a leading axis of one."""
        if self.mesh is not None:  # taken from the device that has it, not gathered from all
            share = self.width // self.devices
            device, i = divmod(i, share)
            device = self.mesh.devices.ravel()[device]
            states = jax.tree.map(
                lambda leaf: next(s.data for s in leaf.addressable_shards if s.device == device),
                states,
            )
        return _one(states, i)

    @property
    def loop(self) -> loop.Loop:
        """The training loop, compiled when it is first asked for. Raises `ExperimentError`."""
        if self._loop is None:
            measure = None if self._measure is None else self._over("measure")
            with self.user("step"):
                made = loop.Loop(
                    self._over("step"),
                    self.states_like,
                    steps=self.steps,
                    chunk=self.chunk,
                    args=(self._hp_like,),
                    measure=measure,
                    measure_at=self.measure_at,
                )
                flatten(made.program.metrics_like)  # complains now, about the experiment
            self._loop = made
        return self._loop

    def memory(self) -> int | None:
        """Bytes that the compiled programs need on each device. Raises `ExperimentError`."""
        training = self.loop
        with self.user("measure"):
            return training.memory()

    @property
    def compile_seconds(self) -> float:
        """Time spent tracing and compiling so far."""
        return self._loop.compile_seconds if self._loop else 0.0

    def measured_like(self) -> Any:
        """The abstract result of `measure` on all cells."""
        with self.user("measure"):
            return jax.eval_shape(self._over("measure"), self._hp_like, self.states_like)

    @property
    def _measure(self) -> Any:
        return self.experiment.function("measure")

    def _function(self, name: str) -> Any:
        return getattr(self.experiment.module, name)

    def _over(self, name: str) -> Any:
        return cells_of.over(self._function(name), self.static, self.mesh)

    def _schedule(self) -> tuple[int, int, tuple[int, ...]]:
        """`steps`, `chunk` and `measure_at` of what `setup` returned, checked."""
        if not hasattr(self.static, "steps"):
            raise TypeError("what setup returns must have an attribute steps: int")
        steps = operator.index(self.static.steps)
        chunk = operator.index(getattr(self.static, "chunk", min(max(steps, 1), DEFAULT_CHUNK)))
        at = tuple(sorted({operator.index(s) for s in getattr(self.static, "measure_at", ())}))
        if steps < 0 or chunk < 1 or (at and not 0 <= at[0] <= at[-1] <= steps):
            raise ValueError(
                "static must have steps >= 0, chunk >= 1 and measure_at within 0..steps; "
                f"got steps={steps}, chunk={chunk}, measure_at={at}"
            )
        if bool(at) != (self._measure is not None):
            raise TypeError(
                "measure(static, hp, state) and static.measure_at go together: only one is there"
            )
        return steps, chunk, at


@jax.jit
def _one(states: Any, i: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, i, 1), states)


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
    ):
        self.keep_last = keep_last
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
        """
        programs, watcher = self.programs, self.watcher
        start, states, measured, end = self._resume_point()
        self.log.open(end)
        watcher.begin(self.label, programs.steps, start)
        if start:
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
            if self.log.size() < end:
                raise checkpoint.CheckpointError(f"{self.log.path} is shorter than it was")
            needed = {step for step in programs.measure_at if step <= found.step}
            for path, steps in self._saved_measurements():
                if needed.isdisjoint(steps):
                    continue
                like = dict.fromkeys(map(str, steps), programs.measured_like())
                tree, _ = checkpoint.load_tree(path, like)
                for step in needed.intersection(steps):
                    measured[step] = jax.tree.map(loop.to_host, tree[str(step)])
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
        for manifest in sorted(self.seen.glob("[0-9]*/manifest.json")):
            first, last = map(int, manifest.parent.name.split("-"))
            steps = [s for s in self.programs.measure_at if first <= s <= last]
            found.append((manifest.parent, steps))
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
        stop = self.watcher.stopping()
        last = self.keep_last and chunk.stop == self.programs.steps
        if chunk.stop and (due or stop or last):
            self._save(chunk.stop, chunk.state, self.log.sync())
        if stop:
            case = f" (case {self.programs.case})" if self.programs.case else ""
            where = f"stopped after step {chunk.stop} of {self.programs.steps}{case}"
            self.watcher.stop_wanted(where)

    def keep(self, states: Any) -> None:
        """Save the states after the last step, unless they are saved. Raises `StorageError`."""
        steps = self.programs.steps
        if steps and steps not in checkpoint.steps(self.checkpoints):
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
        reason = str(error).rpartition(": ")[2]
        full = any(word in reason for word in checkpoint.DISK_FULL)
        text = disk_full(path, reason) if full else f"{error}; see whether the disk is in order"
        raise StorageError(text) from error
