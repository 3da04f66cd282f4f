"""Probes and batches in this process, one at a time, with the programs of the last groups kept."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable
from typing import Any

import jax

from activjax import hosts
from activjax.runs import contract, schema, store
from activjax.runs.cells import Cells
from activjax.runs.contract import Experiment
from activjax.runs.errors import ExperimentError
from activjax.runs.out import check_name
from activjax.runs.programs import Programs
from activjax.runs.sweep import width
from activjax.runs.sweep.batch import Batch
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.records import CellTask
from activjax.runs.sweep.tasks import Task

Tell = Callable[[str, dict[str, Any]], None]

_KEPT = 4  # groups whose programs are kept


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is the same for all batches of a sweep.

    Attributes:
        experiment: the loaded experiment.
        source: hash of the sources.
        checkpoint_seconds: between checkpoints.
        engine: its name, for the records.
        sharded: spread batches over the local devices.
        workers: processes that share this machine.
    """

    experiment: Experiment
    source: str
    checkpoint_seconds: float
    engine: str
    sharded: bool
    workers: int = 1


class Executor:
    """Runs probes and batches, one at a time; programs of the last groups are kept.

    Args:
        folder: the sweep's.
        settings: of the sweep.
        tell: called with the kind and the data of everything that is heard of a task on its way.
        stopping: whether a stop is wanted.
    """

    def __init__(
        self,
        folder: SweepFolder,
        settings: Settings,
        tell: Tell,
        stopping: Callable[[], bool] = lambda: False,
    ):
        self.folder, self.settings, self.tell, self.stopping = folder, settings, tell, stopping
        self._programs: dict[tuple, Programs] = {}

    def probe(self, task: Task) -> dict[str, Any]:
        """How wide batches of a group may be. Raises `ExperimentError`."""
        (cell,) = task.cells
        config = self.config(cell)
        if not self.settings.experiment.traced:
            return dataclasses.asdict(width.SINGLE)
        parts = self.parts([config])[0]
        budgets = hosts.exchange(width.budget(task.memory_mb, self.settings.workers))
        budget = min((b for b in budgets if b is not None), default=None)
        devices = len(jax.local_devices()) * hosts.count() if self.settings.sharded else 1

        def make(cells: int) -> list[Programs]:
            return [self.compiled(cell.group, n, c, cells)[0] for n, c in parts.items()]

        found, programs = width.probe(
            make, task.count, task.width, budget, devices, unit=hosts.count()
        )
        if task.timing:
            cells = Cells.of([(config, cell.seed)] * found.width)
            found = width.timed(found, programs, cells, task.timing)
        return dataclasses.asdict(found)

    def run(self, task: Task) -> None:
        """Give every cell of the batch a record.

        Raises:
            Blurred: something went wrong that only smaller batches can blame on a cell.
            LockedError: another process has the batch.
            StorageError: the disk refuses.
            Stopped: a stop was wanted; a checkpoint has been saved.
        """
        place = store.RunFolder(self.folder.path / "batches" / task.id)
        with contextlib.ExitStack() as claim:

            def begin() -> list[str]:
                place.create()
                claim.enter_context(place.lock())
                return [cell for cell in task.owes if self.folder.record(cell) is not None]

            done = set(hosts.first(begin))
            if done.issuperset(task.owes):
                return
            batch = Batch(self, task, place.path, done)
            if self.settings.experiment.traced:
                batch.traced()
            else:
                batch.plain()
            batch.writer.flush()
            failed = batch.failed or any(self._failed(cell) for cell in done)
            if not any(hosts.exchange(failed)) and hosts.index() == 0:
                shutil.rmtree(place.path / "work", ignore_errors=True)

    def _failed(self, cell: str) -> bool:
        return (self.folder.record(cell) or {}).get("status") == "failed"

    def config(self, cell: CellTask) -> Any:
        """The instance of `Config` of a cell. Raises `ExperimentError`."""
        config, problems = schema.read(self.settings.experiment.Config, cell.config)
        if problems:
            raise ExperimentError(
                f"cell {cell.id}: its config cannot be read any more: {problems[0].message}"
            )
        return config

    def parts(self, configs: list[Any]) -> list[dict[str | None, Any]]:
        """The cases of every config, which must have the same names."""
        experiment = self.settings.experiment
        cases = experiment.function("cases")
        if cases is None:
            return [{None: config} for config in configs]
        with contract.running(experiment, "cases"):
            parts = [{check_name(n, "case"): c for n, c in cases(config).items()}
                     for config in configs]  # fmt: skip
            if not parts[0]:
                raise ValueError("cases(config) returned no case")
            if any(list(part) != list(parts[0]) for part in parts):
                raise ValueError("cases(config) must not depend on traced fields")
        return parts  # type: ignore[return-value]

    def compiled(
        self, group: str, case: str | None, config: Any, cells: int
    ) -> tuple[Programs, float]:
        """The programs of a group, case and width, and how much of their compilation is paid."""
        key = (group, case, cells)
        if key in self._programs:
            return self._programs[key], self._programs[key].compile_seconds
        groups = list(dict.fromkeys(k[0] for k in self._programs))
        if group not in groups and len(groups) >= _KEPT:
            self._programs = {k: p for k, p in self._programs.items() if k[0] != groups[0]}
        made = Programs(
            self.settings.experiment, case, config, cells, sharded=self.settings.sharded
        )
        made.loop  # noqa: B018  compiles now: what goes wrong there is not one cell's fault
        self._programs[key] = made
        return made, 0.0
