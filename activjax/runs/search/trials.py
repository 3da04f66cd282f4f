"""The trials of a search: what the journal and the records say of each."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from activjax.runs._words import did_you_mean
from activjax.runs.errors import ConfigError
from activjax.runs.result import Row
from activjax.runs.search.journal import Journal
from activjax.runs.search.plan import SearchPlan, trial_key
from activjax.runs.sweep.index import DONE, FAILED, Line
from activjax.runs.sweep.plan import Cell
from activjax.runs.sweep.table import label


@dataclasses.dataclass
class Trial:
    """One trial.

    Attributes:
        number: from 0, which runs at the config's defaults.
        point: dotted key -> value.
        cells: one a seed; none where no config has this point.
        problem: why there are none.
        rungs: index of a rung -> value of the metric.
        passed: rungs that it was let through.
        pruned: the rung that ended it.
        state: how it was told, else None.
        value: the objective, where it is complete.
    """

    number: int
    point: dict[str, Any]
    cells: tuple[Cell, ...]
    problem: str = ""
    rungs: dict[int, float] = dataclasses.field(default_factory=dict)
    passed: set[int] = dataclasses.field(default_factory=set)
    pruned: int | None = None
    state: str | None = None
    value: float | None = None

    @property
    def told(self) -> str:
        """Number and point, in words."""
        return f"trial {self.number} ({words(self.point)})"


def made(plan: SearchPlan, number: int, point: dict[str, Any]) -> Trial:
    """A trial at a point."""
    try:
        return Trial(number, point, plan.cells(point))
    except ConfigError as error:
        return Trial(number, point, (), str(error))


def trials(plan: SearchPlan, journal: Journal) -> list[Trial]:
    """All trials in order."""
    found: list[Trial] = []
    for event in journal.events:
        if "asked" in event:
            found.append(made(plan, event["asked"], event["point"]))
        elif "reported" in event:
            found[event["reported"]].rungs[event["rung"]] = float(event["value"])
        elif "decided" in event:
            trial = found[event["decided"]]
            if event["prune"]:
                trial.pruned = event["rung"]
            else:
                trial.passed.add(event["rung"])
        else:
            trial = found[event["told"]]
            trial.state, trial.value = event["state"], event["value"]
    return found


def words(point: Mapping[str, Any]) -> str:
    """`lr=0.0123, width=32`: short, for people."""
    short = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in point.items()}
    return label("", short).strip(" []")


def distinct(trials: Iterable[Trial]) -> int:
    """How many different points there are."""
    return len({trial_key(trial.point) for trial in trials})


def objective(plan: SearchPlan, trial: Trial, lines: dict[str, Line]) -> Row | None:
    """The objective over the seeds of a trial; None where a cell has failed or has no number.

    Raises:
        ConfigError: the experiment's summary has no such row, or several.
    """
    found = [lines.get(cell.id) for cell in trial.cells]
    if not found or any(line is None or line.state != DONE for line in found):
        return None
    rows = [_row(plan, line) for line in found if line is not None]
    if not all(math.isfinite(row.value) for row in rows):
        return None
    bases = [row.baseline for row in rows if row.baseline is not None]
    return Row.over(
        rows[0].name, [row.value for row in rows], baseline=bases or None,
        baseline_name=rows[0].baseline_name, unit=rows[0].unit,
    )  # fmt: skip


def failure(trial: Trial, lines: dict[str, Line]) -> str:
    """Why a trial has no objective."""
    for cell in trial.cells:
        line = lines.get(cell.id)
        if line is not None and line.state == FAILED:
            return line.message
    return trial.problem or "its objective is not a finite number"


def _row(plan: SearchPlan, line: Line) -> Row:
    settings = plan.settings
    named = [row for row in line.summary if row.name == settings.objective]
    found = [
        row
        for row in named
        if all(k in row.where and row.where[k] == v for k, v in settings.where.items())
    ]
    if len(found) == 1:
        return found[0]
    if not named:
        names = list(dict.fromkeys(row.name for row in line.summary))
        near = did_you_mean(settings.objective, names)
        raise ConfigError(
            f"search.objective: the experiment's summary has no row '{settings.objective}'{near} "
            f"(rows: {', '.join(names)})"
        )
    wheres = "; ".join(json.dumps(dict(row.where)) for row in named[:8])
    raise ConfigError(
        f"search.where: {len(found)} rows '{settings.objective}' have {settings.where or 'no'} "
        f"setting, expected one; the rows have {wheres}"
    )
