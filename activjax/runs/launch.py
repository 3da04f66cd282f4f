"""Run an experiment from its config to its report, or continue it, or find that it is done."""

from __future__ import annotations

import contextlib
import shutil
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from activjax.runs import _yaml, config as configs, contract, out, sources, store, trackers
from activjax.runs.case import CaseRecord, Job, run_case
from activjax.runs.config import RunConfig
from activjax.runs.errors import ExperimentError, Stopped, StorageError
from activjax.runs.interrupts import Interrupts
from activjax.runs.progress import Progress
from activjax.runs.provenance import Provenance
from activjax.runs.result import Result, Row, to_json
from activjax.runs.store import RunFolder


def run(
    config: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    force: bool = False,
    progress: bool = True,
    hard_exit: bool = False,
    track: str | Sequence[str] | None = None,
) -> RunFolder:
    """Run what a config describes; a run that is done is returned as it is.

    Args:
        config: path of a YAML file, or a mapping with the same keys (then with `name`).
        overrides: `key=value`, as on the command line.
        out: root of all runs; None means the variable ACTIVJAX_RUNS, else `runs`.
        force: throw away what is there and run again.
        progress: show progress on standard error.
        hard_exit: a second Ctrl-C ends the process at once.
        track: names of trackers; None means the variable ACTIVJAX_TRACK.

    Returns:
        The run's folder; `.result()` is the answer.

    Raises:
        ConfigError: the config or the experiment's definition is wrong.
        ExperimentError: the experiment raised; `failed.json` keeps the traceback.
        StorageError: the folder cannot be written or read.
        LockedError: another process works on this run.
        Stopped: a signal ended it; the same call continues.
    """
    tracking = trackers.chosen(track)
    plan = configs.load(config, overrides)
    folder = RunFolder(store.root(out) / plan.name / plan.id)
    if not force and folder.state() == store.DONE:
        _close(folder)
        with trackers.following(folder, tracking, Progress(progress).warn):
            return folder
    folder.create()
    with folder.lock(), Progress(progress) as watch:
        if not force and folder.state() == store.DONE:  # another process was quicker
            return folder
        with Interrupts(watch.say, hard_exit) as interrupts:
            if force:
                folder.clear()
            _describe(plan, folder)
            (folder.path / "failed.json").unlink(missing_ok=True)
            with trackers.following(folder, tracking, watch.warn):
                _execute(plan, folder, watch, interrupts)
    return folder


def _execute(plan: RunConfig, folder: RunFolder, watch: Progress, interrupts: Interrupts) -> None:
    provenance = Provenance(folder, plan)
    provenance.write()
    job = Job(plan, folder, watch, interrupts, provenance)
    with _recording_how_it_ends(job):
        record = _traced(job) if plan.experiment.traced else _main(job)
    folder.write_json("contents.json", {"items": record.contents})
    provenance.write("done")
    folder.report.unlink(missing_ok=True)  # it may tell of an unfinished run
    folder.write_json("result.json", to_json(record.result, record.warnings))
    _close(folder, watch)


def _traced(job: Job) -> CaseRecord:
    experiment, config = job.run.experiment, job.run.config
    cases = experiment.function("cases")
    if cases is None:
        return run_case(job, None, config, 0)
    with contract.running(experiment, "cases"):
        parts = {out.check_name(n, "case"): c for n, c in cases(config).items()}
        if not parts:
            raise ValueError("cases(config) returned no case")
    records: dict[str, CaseRecord] = {}
    end = 0
    for name, part in parts.items():
        records[name] = run_case(job, name, part, end)
        end = records[name].metrics_end
    results = {name: record.result for name, record in records.items()}
    save = _out(job)
    with contract.running(experiment, "combine"):
        combine = experiment.function("combine") or (lambda _, results, __: joined(results))
        result = combine(config, results, save)
        to_json(result)
    warnings = [f"{name}: {w}" for name, record in records.items() for w in record.warnings]
    contents = [item for record in records.values() for item in record.contents]
    return CaseRecord(result, warnings, save.contents + contents, end)


def _main(job: Job) -> CaseRecord:
    save = _out(job)
    with contract.running(job.run.experiment, "main"):
        result = job.run.experiment.module.main(job.run.config, save)
        to_json(result)
    return CaseRecord(result, [], save.contents, 0)


def joined(results: Mapping[str, Result]) -> Result:
    """The result of an experiment with cases and no `combine`: all rows, told apart by case."""
    first = next(iter(results.values()))
    rows = [
        Row(**{**vars(row), "where": {"case": name, **row.where}})
        for name, result in results.items()
        for row in result.summary
    ]
    answer = " ".join(f"{name}: {result.answer}" for name, result in results.items())
    return Result(first.question, answer, tuple(rows))


def write_report(folder: RunFolder) -> Path:
    """Write `report.html`."""
    from activjax.runs import report

    return report.write(folder.path)


def _out(job: Job) -> out.Out:
    seeds = np.asarray(job.run.seeds, np.int64)
    return out.Out(job.folder.path, job.run.config, seeds, say=job.progress.say)


def _describe(plan: RunConfig, folder: RunFolder) -> None:
    """Write the config and the experiment's files, so that the folder explains itself."""
    label = keep_sources(plan.experiment, folder.path)
    store.write_text(folder.path / "config.yaml", _yaml.dump(plan.as_yaml(label)))


def keep_sources(experiment: contract.Experiment, folder: Path) -> str:
    """Copy an experiment's files to `folder/source`; returns what a config there calls it."""
    if not experiment.label.endswith(".py"):
        return experiment.label
    for path in sources.local_files(experiment.path):
        target = folder / "source" / path.relative_to(experiment.path.parent)
        store.write_text(target, path.read_text(encoding="utf-8"))
    return f"source/{experiment.path.name}"


def _close(folder: RunFolder, watch: Progress | None = None) -> None:
    """What comes after `result.json`: a kill in between is made good by the next call."""
    if not folder.report.exists():
        try:
            write_report(folder)
        except Exception as error:  # the numbers are safe; `activjax report` shows the rest
            (watch or Progress()).warn(
                f"the report could not be written: {type(error).__name__}: {error}"
            )
    shutil.rmtree(folder.path / "work", ignore_errors=True)


@contextlib.contextmanager
def _recording_how_it_ends(job: Job) -> Iterator[None]:
    """Keep the fate of an attempt in the folder, as far as the disk lets us."""
    try:
        yield
    except ExperimentError as error:
        text = "".join(traceback.format_exception(error.__cause__ or error))
        with contextlib.suppress(Exception):
            job.folder.write_json("failed.json", {"error": str(error), "traceback": text})
            job.provenance.write("failed")
        raise
    except KeyboardInterrupt:
        with contextlib.suppress(Exception):
            job.provenance.write("stopped")
        kept = "it continues from the last checkpoint"
        again = kept if job.run.experiment.traced else "it starts again (main cannot be resumed)"
        raise Stopped(f"stopped; with the same command {again}", job.interrupts.exit_code) from None
    except (Stopped, StorageError) as error:
        with contextlib.suppress(Exception):
            job.provenance.write("stopped" if isinstance(error, Stopped) else "storage error")
        raise
