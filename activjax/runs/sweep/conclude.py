"""The sweep's own answer: what the experiment makes of all cells, or a table of their means."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from activjax.runs import contract
from activjax.runs.errors import ExperimentError
from activjax.runs.out import Out
from activjax.runs.result import Result, Row, to_json
from activjax.runs.sweep import index, table
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.plan import SweepPlan


@dataclasses.dataclass(frozen=True)
class CellResult:
    """A cell that is done, as `conclude(cells, out)` of an experiment is given it.

    Attributes:
        id: 12 hex digits.
        seed: its seed.
        point: dotted key -> value, what the sweep sets.
        config: the instance of `Config`.
        summary: its rows.
        folder: where its figures and arrays are.
    """

    id: str
    seed: int
    point: dict[str, Any]
    config: Any
    summary: tuple[Row, ...]
    folder: Path

    def row(self, name: str, **where: Any) -> Row:
        """The one row of this name whose setting has these values.

        Raises:
            KeyError: none or several; names those there are.
        """
        found = [
            row
            for row in self.summary
            if row.name == name and all(row.where.get(k) == v for k, v in where.items())
        ]
        if len(found) == 1:
            return found[0]
        names = ", ".join(dict.fromkeys(row.name for row in self.summary))
        raise KeyError(f"cell {self.id}: {len(found)} rows '{name}' {where or ''} (there: {names})")

    def value(self, name: str, **where: Any) -> float:
        """The value of `row(name, **where)`."""
        return self.row(name, **where).value

    def load(self, name: str) -> np.ndarray:
        """An array that the cell saved. Raises `FileNotFoundError`."""
        return Out(self.folder, self.config, np.asarray([self.seed])).load(name)


def conclude(folder: SweepFolder, plan: SweepPlan, say: Any) -> tuple[Result, list[str], list]:
    """What the whole sweep found.

    Returns:
        The result, warnings, and what was saved on the way, as in `contents.json`.

    Raises:
        ExperimentError: every cell failed, or the experiment's `conclude` raised.
        StorageError: the folder cannot be read.
    """
    lines = index.rows(folder)
    rows, warnings = table.aggregate(lines)
    done = {line.id: line for line in lines if line.state == "done"}
    if not done:
        messages = "; ".join(list(index.failures(lines))[:3])
        raise ExperimentError(f"{plan.experiment.label}: every cell failed: {messages}")
    question = index.question(folder, lines)
    own = plan.experiment.function("conclude")
    if own is None:
        return Result(question, _told(plan, len(done)), tuple(rows)), warnings, []
    cells = [
        CellResult(c.id, c.seed, c.point, c.config, tuple(done[c.id].summary),
                   folder.path / "cells" / c.id)
        for c in plan.cells if c.id in done
    ]  # fmt: skip
    out = Out(folder.path, None, np.asarray(plan.seeds, np.int64), say=say)
    with contract.running(plan.experiment, "conclude"):
        result = own(cells, out)
        to_json(result)
    return result, warnings, out.contents


def _told(plan: SweepPlan, done: int) -> str:
    axes = [f"{key} ({len(values)} values)" for key, values in plan.axes().items()]
    over = f" over {', '.join(axes)}" if axes else ""
    return f"{done} cells{over}, {len(plan.seeds)} seeds each."
