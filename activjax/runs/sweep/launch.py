"""Start a sweep, continue it, or say what it would be."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from activjax.runs import store, trackers
from activjax.runs.errors import (
    CellsFailed,
    ConfigError,
    ExperimentError,
    Stopped,
    StorageError,
)
from activjax.runs.interrupts import Interrupts
from activjax.runs.result import to_json
from activjax.runs.sweep import about, index, plan as plans
from activjax.runs.sweep.conclude import conclude
from activjax.runs.sweep.drive import Driver
from activjax.runs.sweep.engines import Options, engine, limits
from activjax.runs.sweep.engines._hosts import follow, joined
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.groups import Groups
from activjax.runs.sweep.plan import SweepPlan
from activjax.runs.sweep.watch import SweepWatch


def sweep(
    config: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    exact: bool = False,
    options: Options | None = None,
    progress: bool = True,
    hard_exit: bool = False,
    track: str | Sequence[str] | None = None,
) -> SweepFolder:
    """Run every cell of a sweep that has no record yet.

    Args:
        config: path of a YAML file, or a mapping with the same keys.
        overrides: `key=value`, as on the command line.
        out: root of all runs; None means the variable ACTIVJAX_RUNS, else `runs`.
        exact: every cell in a program of its own, bit-equal to `activjax run` with its seed.
        options: how it is run.
        progress: show progress on standard error.
        hard_exit: a second Ctrl-C ends the process at once.
        track: names of trackers; None means the variable ACTIVJAX_TRACK.

    Returns:
        The sweep's folder.

    Raises:
        ConfigError: the config, an axis or the experiment's definition is wrong.
        CellsFailed: some cells have failed; all others are done.
        ExperimentError: every cell failed, or the experiment's `conclude` raised.
        StorageError: the folder cannot be written or read.
        Stopped: a signal ended it; the same call continues.
    """
    tracking, options = trackers.chosen(track), options or Options()
    with joined(options) as leads:
        plan = plans.load(config, overrides, exact=exact)
        folder = SweepFolder(store.root(out) / plan.name / plan.id)
        if not leads:
            return _follow(folder, hard_exit)
        _describe(plan, folder, options)
        return _run(plan, folder, options, progress, hard_exit, tracking)


def resume(
    path: str | Path,
    *,
    retry_failed: bool = False,
    given: Mapping[str, Any] | None = None,
    progress: bool = True,
    hard_exit: bool = False,
    track: str | Sequence[str] | None = None,
) -> SweepFolder:
    """Run exactly the missing cells of a sweep.

    Args:
        path: the sweep's folder.
        retry_failed: failed cells count as missing: each is run again, by itself.
        given: fields of `Options` that differ from those that it was started with.
        progress, hard_exit, track: as in `sweep`.

    Raises:
        As `sweep`; a `ConfigError` also where the sources have changed since.
    """
    tracking = trackers.chosen(track)
    folder = SweepFolder(path)
    planned = folder.about
    options = Options.resumed(planned["options"]["run"], given)
    with joined(options) as leads:
        plan = plans.load(folder.path / "sweep.yaml", exact=planned["options"]["exact"])
        if plan.id != planned["id"]:
            raise ConfigError(
                f"{folder.path}: the sources of activjax or of the experiment have changed since "
                "this sweep was started, so its cells would not be comparable; start it anew with "
                "`activjax sweep CONFIG`, what is done stays here"
            )
        if not leads:
            return _follow(folder, hard_exit)
        if retry_failed:
            _forget_failures(plan, folder)
        return _run(plan, folder, options, progress, hard_exit, tracking)


def _follow(folder: SweepFolder, hard_exit: bool) -> SweepFolder:
    """A process that does what another one says, until that has done."""
    with Interrupts(lambda _: None, hard_exit, patient=True) as signals, signals.deferred():
        follow(lambda: signals.signal is not None)
    return folder


def _run(
    plan: SweepPlan,
    folder: SweepFolder,
    options: Options,
    progress: bool,
    hard_exit: bool,
    tracking: Sequence[str],
) -> SweepFolder:
    """Everything from the first missing cell to the report."""
    with (
        SweepWatch(plan.name, progress) as watch,
        Interrupts(watch.say, hard_exit) as interrupts,
        about.recorded(plan, folder, options) as record,
        trackers.following(folder, tracking, watch.warn),
        interrupts.deferred(),
    ):
        if plan.merged:
            watch.say(f"{plan.merged} cells are given more than once and are run once")

        def stopping() -> bool:
            return interrupts.signal is not None

        ids = {cell.id for cell in plan.cells}
        if not ids <= index.recorded(folder):
            (folder.path / "result.json").unlink(missing_ok=True)  # it was of fewer cells
            root = folder.path.parent.parent
            with engine(plan, folder, options, root, stopping, watch.say) as running:
                bounds = limits(options, plan)
                Driver(folder, plan, running, bounds, watch, stopping).run()
        if stopping():
            raise Stopped(
                f"stopped with {len(index.recorded(folder))} of {len(ids)} cells done; "
                f"`activjax resume {folder.path}` continues",
                interrupts.exit_code,
            )
        record("done")  # the report tells of it
        failed = _close(plan, folder, watch)
    if failed:
        raise CellsFailed(
            f"{len(failed)} of {len(ids)} cells failed ({failed[0].message}); "
            f"`activjax show {folder.path}` says more, `activjax resume {folder.path} "
            "--retry-failed` runs them again",
            folder,
        )
    return folder


def _close(plan: SweepPlan, folder: SweepFolder, watch: SweepWatch) -> list[index.Line]:
    """What comes after the last record; returns the failed cells."""
    lines = index.rows(folder)
    failed = [line for line in lines if line.state == index.FAILED]
    if not (folder.path / "result.json").exists():
        try:
            result, warnings, contents = conclude(folder, plan, watch.say)
        except ExperimentError as error:
            text = "".join(traceback.format_exception(error.__cause__ or error))
            failure = {"error": str(error), "traceback": text}
            folder.write_json("failed.json", failure)
            raise
        finally:
            (folder.path / "report.html").unlink(missing_ok=True)
        (folder.path / "failed.json").unlink(missing_ok=True)
        folder.write_json("contents.json", {"items": contents})
        folder.write_json("result.json", to_json(result, warnings))
    about.write_report(folder, watch.warn)
    return failed


def _describe(plan: SweepPlan, folder: SweepFolder, options: Options) -> None:
    """Write what was planned, unless it is there; `sweep.json` last."""
    with contextlib.suppress(StorageError):
        if (folder.path / "sweep.json").exists() and folder.about and folder.cells:
            return
    folder.create()
    about.describe(plan, folder, options)


def _forget_failures(plan: SweepPlan, folder: SweepFolder) -> None:
    """Take back the records of failed cells, after new batches stand for them."""
    groups = Groups(folder)
    for group, cells in plan.groups.items():
        records = {cell.id: folder.record(cell.id) for cell in cells}
        failed = [c for c, record in records.items() if record and record["status"] == "failed"]
        if failed:
            groups.again(group, failed)
            with store.storing(folder.path):
                for cell in failed:
                    folder.record_path(cell).unlink(missing_ok=True)
