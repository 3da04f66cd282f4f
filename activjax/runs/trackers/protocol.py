"""What a tracker has to offer, and what it is told of a run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from activjax.runs.result import Row

STOPPED = "stopped"  # the status of a run that may go on later; all others are its record's


@dataclasses.dataclass
class Tracked:
    """A run, a cell of a sweep, or the sweep that cells belong to.

    Attributes:
        id: unique, the same in every process: that of the run, or `<sweep>-<cell>`.
        name: for people.
        experiment: what runs of the same config file have in common.
        folder: of the run or sweep.
        config: dotted key -> text, number or bool; the rest as JSON.
        parent: the sweep of a cell.
        sent: case -> last step that was sent; empty where nothing was.
    """

    id: str
    name: str
    experiment: str
    folder: Path
    config: dict[str, Any]
    parent: Tracked | None = None
    sent: dict[str | None, int] = dataclasses.field(default_factory=dict)


class Tracker(Protocol):
    """One tracker. Called from one thread; may raise anything, is then asked again later."""

    def begin(self, run: Tracked) -> None:
        """Open a run, or the one that an earlier process opened; a parent comes first."""
        ...

    def metrics(
        self, run: Tracked, case: str | None, step: int, values: Mapping[str, float]
    ) -> None:
        """The metrics of one step, steps of a case in ascending order."""
        ...

    def summary(self, run: Tracked, rows: Sequence[Row]) -> None:
        """The numbers of a finished run; `run.config` is complete now."""
        ...

    def figures(self, run: Tracked, files: Mapping[str, Path]) -> None:
        """PNG files by name."""
        ...

    def flush(self) -> None:
        """Send what is waiting; afterwards it counts as sent."""
        ...

    def end(self, run: Tracked, status: str) -> None:
        """The run is `done`, `failed`, `pruned`, or `stopped` for the time being."""
        ...


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested config as dotted keys; what is no text, number or bool becomes JSON."""
    out: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            out.update(flat(value, f"{prefix}{key}."))
        elif isinstance(value, (str, bool, int, float)):
            out[f"{prefix}{key}"] = value
        else:
            out[f"{prefix}{key}"] = json.dumps(value)
    return out


def row_values(rows: Sequence[Row]) -> dict[str, float]:
    """The numbers of a summary by name: `name [setting]`, with its ends, baseline and trials."""
    from activjax.runs.sweep.table import label

    out: dict[str, float] = {}
    for row in rows:
        name, extra = label(row.name, row.where), 2
        while name in out:  # as in a table: equal names are told apart by a number
            name, extra = f"{label(row.name, row.where)} ({extra})", extra + 1
        out[name] = float(row.value)
        for part in ("low", "high", "baseline", "n"):
            if (value := getattr(row, part)) is not None:
                out[f"{name}/{part}"] = float(value)
    return out
