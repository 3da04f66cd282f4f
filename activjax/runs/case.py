"""One case of an experiment under the traced contract: train all cells, then `finish`.

What a resume needs lies in `work/<case>/`: checkpoints, what was measured, and, once the case is
finished, `done.json`, after which it is never run again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import operator
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from activjax.runs import contract, fields
from activjax.runs.cells import Cells
from activjax.runs.config import RunConfig
from activjax.runs.errors import Stopped, StorageError
from activjax.runs.history import MetricsLog, flatten, not_finite
from activjax.runs.interrupts import Interrupts
from activjax.runs.out import Out
from activjax.runs.progress import Progress
from activjax.runs.provenance import Provenance
from activjax.runs.result import Result, dumps, from_json, to_json
from activjax.runs.store import RunFolder, disk_full, storing, write_text
from activjax.training import checkpoint, loop

DEFAULT_CHUNK = 100


@dataclasses.dataclass(frozen=True)
class Job:
    """A run on its way: what is run, where, and who watches."""

    run: RunConfig
    folder: RunFolder
    progress: Progress
    interrupts: Interrupts
    provenance: Provenance


@dataclasses.dataclass(frozen=True)
class CaseRecord:
    """A finished case, as it is kept in `done.json`."""

    result: Result
    warnings: list[str]
    contents: list[dict[str, Any]]
    metrics_end: int


def run_case(job: Job, name: str | None, config: Any, metrics_begin: int) -> CaseRecord:
    """Run a case, or continue it, or read its record if it is finished.

    Args:
        job: the run.
        name: of the case; None where the experiment has no cases.
        config: the case's `Config`.
        metrics_begin: where its lines begin in `metrics.jsonl`.

    Raises:
        ExperimentError: the experiment raised.
        StorageError: the folder cannot be written, or all checkpoints are damaged.
        Stopped: a signal came; a checkpoint has been saved.
    """
    return _Case(job, name, config, metrics_begin).run()


class _Case:
    def __init__(self, job: Job, name: str | None, config: Any, metrics_begin: int):
        self.job, self.name, self.config = job, name, config
        self.experiment = job.run.experiment
        self.work = job.folder.path / "work" / (name or "all")
        self.checkpoints, self.seen = self.work / "checkpoints", self.work / "measured"
        self.log = MetricsLog(job.folder.path / "metrics.jsonl", name, metrics_begin)
        self.warned: set[str] = set()

    def run(self) -> CaseRecord:
        kept = self.job.folder.read_json(f"work/{self.name or 'all'}/done.json")
        if kept is not None:
            return CaseRecord(**{**kept, "result": from_json(kept["result"])})
        self.setup()
        states, measured = self.train()
        record = self.finish(states, measured)
        kept = dataclasses.asdict(record) | {"result": to_json(record.result)}
        write_text(self.work / "done.json", dumps(kept))
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        shutil.rmtree(self.seen, ignore_errors=True)
        return record

    def setup(self) -> None:
        """Everything before the first step that needs no arrays of states."""
        with self.user("setup"):
            self.static = self.function("setup")(fields.hide_traced(self.config))
            self.steps, self.chunk, self.measure_at = self.schedule()
        self.cells = Cells.of([(self.config, seed) for seed in self.job.run.seeds])
        self.step = self.cells.over(self.function("step"), self.static)
        self.init = jax.jit(self.cells.init(self.function("init"), self.static))
        measure = self.experiment.function("measure")
        self.measure = None if measure is None else self.cells.over(measure, self.static)
        with self.user("init"):
            self.states_like = jax.eval_shape(self.init)

    def schedule(self) -> tuple[int, int, tuple[int, ...]]:
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
        if bool(at) != (self.experiment.function("measure") is not None):
            raise TypeError(
                "measure(static, hp, state) and static.measure_at go together: only one is there"
            )
        return steps, chunk, at

    def train(self) -> tuple[Any, dict[int, Any]]:
        """All steps that are left; returns the final states and everything measured."""
        start, states, measured, end = self.resume_point()
        self.log.open(end)
        label = self.name or self.job.run.name
        self.job.progress.begin(label, self.steps, start)
        if start:
            self.job.progress.say(f"{label}: continuing from step {start} of {self.steps}")
        self.start, self.saved_at = start, time.monotonic()
        try:
            if states is None:
                with self.user("init"):
                    states = self.init()
            with self.job.interrupts.deferred(), self.user("step"):
                done = loop.run(
                    self.step,
                    states,
                    steps=self.steps,
                    chunk=self.chunk,
                    start=start,
                    measure=self.measure,
                    measure_at=self.measure_at,
                    on_chunk=self.on_chunk,
                )
                self.metrics_like = flatten(done.step_metrics)
                self.log.sync()
        finally:
            self.log.close()
            self.job.progress.end()
        self.job.provenance.compiled(self.name, self.cells.width, done.compile_seconds)
        return done.state, {**measured, **done.measured}

    def resume_point(self) -> tuple[int, Any, dict[int, Any], int]:
        """(step, states, measured, bytes of metrics) to go on from; (0, None, {}, ...) at first."""
        fresh = (0, None, {}, self.log.begin)
        try:
            found = checkpoint.restore(
                self.checkpoints, self.states_like, warn=self.job.progress.warn
            )
            if found is None:
                return fresh
            end, measured = found.meta["metrics_end"], {}
            if self.log.size() < end:
                raise checkpoint.CheckpointError(f"{self.log.path} is shorter than it was")
            for step in (s for s in self.measure_at if s <= found.step):
                assert self.measure is not None
                with self.user("measure"):
                    like = jax.eval_shape(self.measure, self.states_like)
                tree, _ = checkpoint.load_tree(self.seen / str(step), like)
                measured[step] = jax.tree.map(loop.to_host, tree)
        except checkpoint.CheckpointError as error:
            hint = "`activjax run ... --force` starts this run again"
            raise StorageError(f"{error}\n{hint}") from error
        return found.step, found.state, measured, end

    def on_chunk(self, chunk: loop.Chunk) -> None:
        """Between two chunks: write metrics and measurements; checkpoint when it is time."""
        metrics = flatten(chunk.metrics)
        self.log.append(chunk.start, metrics)
        if chunk.measured is not None:
            with saving(self.seen):
                checkpoint.save_tree(self.seen / str(chunk.stop), chunk.measured)
        for name, values in metrics.items():
            if name not in self.warned and not np.isfinite(np.asarray(values, np.float64)).all():
                self.warned.add(name)
                self.job.progress.warn(f"metric '{name}' is not finite by step {chunk.stop}")
        self.job.progress.update(chunk.stop, metrics)
        signal = self.job.interrupts.signal
        due = time.monotonic() - self.saved_at >= self.job.run.checkpoint_seconds
        if chunk.stop and (due or signal or chunk.stop == self.steps):
            self.save(chunk)
        if signal:
            where = f"stopped after step {chunk.stop} of {self.steps}"
            where += f" (case {self.name})" if self.name else ""
            raise Stopped(
                f"{where}; everything so far is in {self.job.folder.path}\n"
                "the same command continues from there",
                self.job.interrupts.exit_code,
            )

    def save(self, chunk: loop.Chunk) -> None:
        """A checkpoint, after everything that it stands for is on the disk."""
        meta = {"metrics_end": self.log.sync()}
        with saving(self.checkpoints):
            checkpoint.save(self.checkpoints, chunk.stop, chunk.state, meta=meta)
        self.job.provenance.write()
        self.saved_at = time.monotonic()

    def finish(self, states: Any, measured: dict[int, Any]) -> CaseRecord:
        """The experiment's own `finish`, on everything that was recorded."""
        history = self.log.read(self.metrics_like)
        out = Out(
            self.job.folder.path,
            self.config,
            self.cells.seeds,
            self.name,
            history,
            {step: measured[step] for step in sorted(measured)},
            say=self.job.progress.say,
        )
        hp = jax.tree.map(np.asarray, self.cells.hp)
        with self.user("finish"):
            result = self.function("finish")(self.static, hp, states, out)
            to_json(result)  # complains now, about the experiment
        warnings = not_finite(history, self.cells.seeds)
        return CaseRecord(result, warnings, out.contents, self.log.size())

    def function(self, name: str) -> Any:
        return getattr(self.experiment.module, name)

    def user(self, name: str) -> contextlib.AbstractContextManager[None]:
        """For blocks that run the experiment's code."""
        return contract.running(self.experiment, f"{name}(case {self.name})" if self.name else name)


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
