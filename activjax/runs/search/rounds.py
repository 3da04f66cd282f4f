"""One round of a search: trials that were asked together, trained from rung to rung and told.

Nothing is told before the whole round is over, in the order of the trials. So what the sampler
knows does not depend on which worker was faster, and a killed search continues as it would have.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from activjax.runs._words import did_you_mean
from activjax.runs.errors import ConfigError
from activjax.runs.result import strict
from activjax.runs.search import journal as journals
from activjax.runs.search.groups import SearchGroups
from activjax.runs.search.journal import Journal
from activjax.runs.search.plan import SearchPlan
from activjax.runs.search.study import Study
from activjax.runs.search.trials import Trial, failure, objective
from activjax.runs.sweep import index, records
from activjax.runs.sweep.drive import Driver, Limits, _plain
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.tasks import Engine

_END = 2**62  # a step that no training comes to: the last leg of those that pause


class Stopping(Exception):
    """A stop is wanted; everything so far is on the disk."""


class Rounds:
    """Runs rounds.

    Args:
        plan: of the search.
        folder: its folder, with all trials' cells in `cells.jsonl`.
        engine: called with a plan when something has to be trained.
        limits: for every cell.
        watch: who watches.
        stopping: whether a stop is wanted.
    """

    def __init__(
        self,
        plan: SearchPlan,
        folder: SweepFolder,
        engine: Callable[[Any], Engine],
        limits: Limits,
        watch: Any,
        stopping: Callable[[], bool],
    ):
        self.plan, self.folder, self.engine, self.limits = plan, folder, engine, limits
        if plan.settings.prune:  # a batch is of one trial: what is compiled first is what is used
            width = min(limits.width, len(plan.seeds))
            self.limits = dataclasses.replace(limits, width=width)
        self.watch, self.stopping = watch, stopping

    def run(self, trials: Sequence[Trial], study: Study, journal: Journal) -> None:
        """Train the trials that have not been told, prune them at the rungs, tell all of them.

        Raises:
            ConfigError: the objective or the metric does not exist.
            StorageError: the disk refuses.
            Stopping: a stop is wanted.
        """
        prune = self.plan.settings.prune
        # a point that comes twice in a round is trained once
        first = {trial.cells[0].id: trial.number for trial in reversed(trials) if trial.cells}
        open_trials = [trial for trial in trials if trial.state is None and trial.cells
                       and first[trial.cells[0].id] == trial.number]  # fmt: skip
        for rung, step in enumerate(prune.at if prune else ()):
            live = [t for t in open_trials if t.pruned is None and rung not in t.passed]
            if live:
                self._drive(live, trials, step)
                self._compare(live, rung, step, study, journal)
        live = [trial for trial in open_trials if trial.pruned is None]
        for trial in open_trials:  # also those whose records a kill has kept from being written
            if trial.pruned is not None:
                self._give_up(trial, "")
        self._drive(live, trials, _END if prune else None)
        lines = self._lines()
        for trial in trials:
            if trial.state is None:
                self._tell(trial, lines, study, journal)

    def _drive(self, live: Sequence[Trial], trials: Sequence[Trial], until: int | None) -> None:
        """Train cells up to a step, or to the end."""
        cells = [cell for trial in live for cell in trial.cells]
        plan = self.plan.sweep(cells)
        lines = self._lines()
        if all(lines[cell.id].state != index.MISSING for cell in cells):
            return
        each = [[cell.id for cell in trial.cells] for trial in trials]
        parts = each if self.plan.settings.prune else [[c for part in each for c in part]]
        groups = SearchGroups(self.folder, parts)
        for group, found in plan.groups.items():
            groups.extend(group, [cell.id for cell in found])
        driver = Driver(
            self.folder, plan, self.engine(plan), self.limits, self.watch, self.stopping,
            groups=groups, until=until,
        )  # fmt: skip
        driver.run()
        if self.stopping():
            raise Stopping

    def _compare(
        self, live: Sequence[Trial], rung: int, step: int, study: Study, journal: Journal
    ) -> None:
        """Report every trial's metric at a rung, then decide on each."""
        lines = self._lines()
        for trial in live:
            states = [lines[cell.id].state for cell in trial.cells]
            if index.FAILED in states:
                self._give_up(trial, "another seed of this trial failed")
            elif rung not in trial.rungs and index.MISSING in states:
                values = [self._metric(cell.group, cell.id, step) for cell in trial.cells]
                trial.rungs[rung] = float(np.mean(values))
                value = strict(trial.rungs[rung])
                journal.add({"reported": trial.number, "rung": rung, "value": value})
                study.report(trial.number, rung, trial.rungs[rung])
        for trial in live:
            if rung not in trial.rungs:  # over before this step
                continue
            prune = study.prunes(trial.number, trial.rungs[rung])
            journal.add({"decided": trial.number, "rung": rung, "prune": prune,
                         "value": strict(trial.rungs[rung])})  # fmt: skip
            if prune:
                trial.pruned = rung
                self.watch.say(f"{trial.told}: pruned at step {step}, {self._told(trial, rung)}")
            else:
                trial.passed.add(rung)

    def _told(self, trial: Trial, rung: int) -> str:
        prune = self.plan.settings.prune
        assert prune is not None
        return f"{prune.metric} {trial.rungs[rung]:.4g}"

    def _metric(self, group: str, cell: str, step: int) -> float:
        """The metric of a cell at a step, from the file of its batch."""
        prune = self.plan.settings.prune
        found = SearchGroups(self.folder, ()).read(group)
        assert prune is not None
        assert found is not None
        (batch,) = [batch for batch in found.batches if cell in batch.owes]
        path = self.folder.path / "batches" / batch.id / "metrics.jsonl"
        with path.open("rb") as file:
            for text in file:
                line = json.loads(text)
                if line["step"] == step:
                    break
            else:
                raise ConfigError(f"{path}: step {step} is missing")
        if prune.metric not in line["metrics"]:
            near = did_you_mean(prune.metric, line["metrics"])
            raise ConfigError(
                f"search.prune.metric: the training has no metric '{prune.metric}'{near} "
                f"(metrics: {', '.join(line['metrics'])})"
            )
        value = line["metrics"][prune.metric][batch.cells.index(cell)]
        if isinstance(value, list):
            raise ConfigError(
                f"search.prune.metric: '{prune.metric}' is an array, expected one number a step"
            )
        return float(value)

    def _give_up(self, trial: Trial, why: str) -> None:
        """Give the cells of a trial that goes no further their records."""
        prune = self.plan.settings.prune
        assert prune is not None
        writer = records.Writer(self.folder)
        lines = self._lines()
        for cell in trial.cells:
            if lines[cell.id].state == index.MISSING:
                rung = trial.pruned
                record = records.pruned(
                    _plain(self.plan.sweep(trial.cells), cell),
                    self.plan.source,
                    step=None if rung is None else prune.at[rung],
                    metric=prune.metric,
                    value=None if rung is None else trial.rungs[rung],
                    why=why or prune.rule,
                )
                writer.add(record)
        writer.flush()
        for group in {cell.group for cell in trial.cells}:
            found = SearchGroups(self.folder, ()).read(group)
            ids = {cell.id for cell in trial.cells}
            for batch in found.batches if found else ():
                if ids.issuperset(batch.owes) and not why:  # nobody continues from there
                    work = self.folder.path / "batches" / batch.id / "work"
                    shutil.rmtree(work, ignore_errors=True)

    def _tell(
        self, trial: Trial, lines: dict[str, index.Line], study: Study, journal: Journal
    ) -> None:
        row = objective(self.plan, trial, lines)
        if any(lines[cell.id].state == index.PRUNED for cell in trial.cells) and not any(
            lines[cell.id].state == index.FAILED for cell in trial.cells
        ):
            trial.state = journals.PRUNED
        elif row is None:
            trial.state = journals.FAILED
            self.watch.say(f"{trial.told}: failed: {failure(trial, lines)}")
        else:
            trial.state, trial.value = journals.COMPLETE, row.value
            self.watch.say(f"{trial.told}: {row.name} {row.value:.4g}")
        journal.add({"told": trial.number, "state": trial.state, "value": trial.value})
        study.tell(trial.number, trial.state, trial.value)

    def _lines(self) -> dict[str, index.Line]:
        return {line.id: line for line in index.rows(SweepFolder(self.folder.path))}
