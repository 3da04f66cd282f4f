"""One case of a run: train all cells, then `finish`; a finished case is never run again.

What a resume needs lies in `work/<case>/`: checkpoints, what was measured, and, once the case is
finished, `done.json`.
"""

from __future__ import annotations

import dataclasses
import shutil
from typing import Any

import jax
import numpy as np

from activjax.runs import train
from activjax.runs.cells import Cells
from activjax.runs.config import RunConfig
from activjax.runs.errors import Stopped
from activjax.runs.history import MetricsLog, not_finite
from activjax.runs.interrupts import Interrupts
from activjax.runs.out import Out
from activjax.runs.programs import Programs
from activjax.runs.progress import Progress
from activjax.runs.provenance import Provenance
from activjax.runs.result import Result, dumps, from_json, to_json
from activjax.runs.store import RunFolder, write_text


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

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self) | {"result": to_json(self.result)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> CaseRecord:
        """The inverse of `to_json`."""
        return cls(**{**data, "result": from_json(data["result"])})


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
    work = job.folder.path / "work" / (name or "all")
    kept = job.folder.read_json(f"work/{name or 'all'}/done.json")
    if kept is not None:
        return CaseRecord.from_json(kept)
    cells = Cells.of([(config, seed) for seed in job.run.seeds])
    programs = Programs(job.run.experiment, name, config, cells.width)
    log = MetricsLog(job.folder.path / "metrics.jsonl", name, metrics_begin)
    training = train.Training(
        programs, cells, work, log,
        label=name or job.run.name,
        seconds=job.run.checkpoint_seconds,
        watcher=_Watcher(job),
    )  # fmt: skip
    with job.interrupts.deferred():
        trained = training.run()
    job.provenance.compiled(name, cells.width, programs.compile_seconds)
    out = Out(job.folder.path, config, cells.seeds, name, say=job.progress.say)
    hp = jax.tree.map(np.asarray, cells.hp)
    record = finish(programs, hp, trained, out, log.size())
    write_text(work / "done.json", dumps(record.to_json()))
    shutil.rmtree(training.checkpoints, ignore_errors=True)
    shutil.rmtree(training.seen, ignore_errors=True)
    return record


def finish(
    programs: Programs, hp: Any, trained: train.Trained, out: Out, metrics_end: int
) -> CaseRecord:
    """The experiment's own `finish`, on everything that was recorded.

    Args:
        programs: it was trained with.
        hp: traced fields, numpy arrays `[cells]`.
        trained: states, measurements and history of the same cells.
        out: where it saves; its `seeds` are those of the cells.
        metrics_end: where the lines of this case end in the metrics file.

    Raises:
        ExperimentError: it raised, or returned no result.
    """
    out.history, out.measured = trained.history, trained.measured
    with programs.user("finish"):
        result = programs.experiment.module.finish(programs.static, hp, trained.states, out)
        to_json(result)  # complains now, about the experiment
    return CaseRecord(result, not_finite(trained.history, out.seeds), out.contents, metrics_end)


class _Watcher:
    """A run's progress bar and its signals, as `Training` sees them."""

    def __init__(self, job: Job):
        self._job = job
        self.begin, self.end = job.progress.begin, job.progress.end
        self.say, self.warn = job.progress.say, job.progress.warn
        self.update, self.saved = job.progress.update, job.provenance.write

    def stopping(self) -> bool:
        return self._job.interrupts.signal is not None

    def stop_wanted(self, where: str) -> None:
        raise Stopped(
            f"{where}; everything so far is in {self._job.folder.path}\n"
            "the same command continues from there",
            self._job.interrupts.exit_code,
        )
