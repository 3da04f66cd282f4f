"""Start a search or continue it, which is the same: the folder says how far it got."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from activjax.runs import store, trackers
from activjax.runs.errors import ConfigError, Stopped
from activjax.runs.interrupts import Interrupts
from activjax.runs.result import to_json
from activjax.runs.search import plan as plans, trials as trials_of
from activjax.runs.search.conclude import conclude
from activjax.runs.search.journal import Journal
from activjax.runs.search.plan import SearchPlan
from activjax.runs.search.rounds import Rounds, Stopping
from activjax.runs.search.study import rebuilt
from activjax.runs.search.trials import Trial
from activjax.runs.sweep import about
from activjax.runs.sweep.engines import Options, engine, limits
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.tasks import Engine, Event
from activjax.runs.sweep.watch import SweepWatch


def search(
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
    """Run the trials of a search that have not been run.

    Args:
        config: path of a YAML file with a `search:` section, or a mapping with the same keys.
        overrides: `key=value`, as on the command line; with more `search.trials` it goes on.
        out: root of all runs; None means the variable ACTIVJAX_RUNS, else `runs`.
        exact: every cell in a program of its own, bit-equal to `activjax run` with its seed.
        options: how it is run.
        progress: show progress on standard error.
        hard_exit: a second Ctrl-C ends the process at once.
        track: names of trackers; None means the variable ACTIVJAX_TRACK.

    Returns:
        The search's folder; `.result()` has the best trial.

    Raises:
        ConfigError: the config, the section or the experiment's definition is wrong.
        ExperimentError: every trial failed.
        StorageError: the folder cannot be written or read.
        LockedError: another process works on this search.
        Stopped: a signal ended it; the same call continues.
    """
    tracking = trackers.chosen(track)
    plan = plans.load(config, overrides, exact=exact)
    folder = SweepFolder(store.root(out) / plan.name / plan.id)
    return _run(plan, folder, options or Options(), progress, hard_exit, tracking)


def resume(
    path: str | Path,
    *,
    given: Mapping[str, Any] | None = None,
    progress: bool = True,
    hard_exit: bool = False,
    track: str | Sequence[str] | None = None,
) -> SweepFolder:
    """Continue a search by its folder.

    Args:
        path: the search's folder.
        given: fields of `Options` that differ from those that it was started with.
        progress, hard_exit, track: as in `search`.

    Raises:
        As `search`; a `ConfigError` also where the sources have changed since.
    """
    tracking = trackers.chosen(track)
    folder = SweepFolder(path)
    planned = folder.about
    options = Options.resumed(planned["options"]["run"], given)
    plan = plans.load(folder.path / "sweep.yaml", exact=planned["options"]["exact"])
    if plan.id != planned["id"]:
        raise ConfigError(
            f"{folder.path}: the sources of activjax or of the experiment have changed since this "
            "search was started; start it anew with `activjax search CONFIG`, this folder stays"
        )
    return _run(plan, folder, options, progress, hard_exit, tracking)


def _run(
    plan: SearchPlan,
    folder: SweepFolder,
    options: Options,
    progress: bool,
    hard_exit: bool,
    tracking: Sequence[str],
) -> SweepFolder:
    """Everything from the first missing trial to the report."""
    if options.engine == "hosts":
        raise ConfigError(
            "engine hosts: a search cannot be one program over many hosts; use local, slurm or ray"
        )
    folder.create()
    with (
        store.RunFolder(folder.path).lock(),
        SweepWatch(plan.name, progress) as watch,
        Interrupts(watch.say, hard_exit) as interrupts,
    ):
        _describe(plan, folder, options, [])
        with (
            about.recorded(plan.sweep(()), folder, options) as record,
            trackers.following(folder, tracking, watch.warn),
            interrupts.deferred(),
        ):
            try:
                found = _trials(plan, folder, options, watch, lambda: interrupts.signal is not None)
            except Stopping:
                told = len(Journal(folder.path).of("told"))
                raise Stopped(
                    f"stopped with {told} of {plan.settings.trials} trials told; "
                    f"`activjax resume {folder.path}` continues",
                    interrupts.exit_code,
                ) from None
            record("done")  # the report tells of it
            _close(plan, folder, found, watch)
    return SweepFolder(folder.path)


def _trials(
    plan: SearchPlan, folder: SweepFolder, options: Options, watch: SweepWatch, stopping: Any
) -> list[Trial]:
    """Round after round, until there are as many trials as were asked for."""
    journal = Journal(folder.path)
    study = rebuilt(plan, journal.events, watch.warn)
    found = trials_of.trials(plan, journal)
    settings = plan.settings
    with contextlib.ExitStack() as stack:
        running: list[Engine] = []

        def started(cells: Any) -> Engine:
            if not running:
                root = folder.path.parent.parent
                made = engine(cells, folder, options, root, stopping, watch.say)
                running.append(stack.enter_context(made))
            return running[0]

        bounds = limits(options, plan.sweep(()))
        rounds = Rounds(plan, folder, started, bounds, _Heard(watch), stopping)
        first = 0
        while first < settings.trials:
            last = min(first + settings.parallel, settings.trials)
            if any(trial.state is None for trial in found[first:last]) or len(found) < last:
                (folder.path / "result.json").unlink(missing_ok=True)  # it was of fewer trials
                for number in range(len(found), last):
                    if stopping():
                        raise Stopping
                    found.append(trials_of.made(plan, number, study.ask(number)))
                    journal.add({"asked": number, "point": found[number].point})
                _describe(plan, folder, options, found)
                rounds.run(found[first:last], study, journal)
            first = last
    return found


class _Heard:
    """What a driver tells: its counts are of one round, which nobody understands."""

    def __init__(self, watch: SweepWatch):
        self.say, self._watch = watch.say, watch

    def event(self, event: Event) -> None:
        self._watch.event(event)

    def counts(self, done: int, failed: int, total: int) -> None:
        pass


def _describe(
    plan: SearchPlan, folder: SweepFolder, options: Options, found: Sequence[Trial]
) -> None:
    """Write what is searched, and the cells of all trials so far."""
    if not found and all((folder.path / n).exists() for n in ("sweep.json", "cells.jsonl")):
        return
    cells = {cell.id: cell for trial in found for cell in trial.cells}
    sweep = plan.sweep(list(cells.values()))
    about.describe(sweep, folder, options, search={"trials": len(found)})


def _close(plan: SearchPlan, folder: SweepFolder, found: list[Trial], watch: SweepWatch) -> None:
    """What comes after the last trial."""
    folder = SweepFolder(folder.path)
    if not (folder.path / "result.json").exists():
        (folder.path / "report.html").unlink(missing_ok=True)
        study = rebuilt(plan, Journal(folder.path).events, lambda text: None)
        result, warnings, contents = conclude(plan, folder, found, study)
        folder.write_json("contents.json", {"items": contents})
        folder.write_json("result.json", to_json(result, warnings))
    about.write_report(folder, watch.warn)
