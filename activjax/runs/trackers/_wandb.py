"""Weights & Biases: offline unless WANDB_MODE says otherwise; a sweep is a group.

`wandb sync <tracked/wandb>/wandb/offline-run-*` sends it later.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from activjax.runs.result import Row
from activjax.runs.trackers.protocol import Tracked, row_values

_CODES = {"done": 0, "pruned": 0}


def make(place: Path) -> Wandb:
    """The adapter; `place` holds its files."""
    return Wandb(place)


class Wandb:
    """Logs by run objects of its own, never by the global run, which may be the user's."""

    def __init__(self, place: Path):
        self._place = place.absolute()
        # its error reports, caches and settings would leave the machine or the folder
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        for name in ("cache", "config", "data"):
            os.environ.setdefault(f"WANDB_{name.upper()}_DIR", str(self._place / "own" / name))
        import wandb  # pyright: ignore

        self._wandb = wandb
        self._runs: dict[str, Any] = {}

    def begin(self, run: Tracked) -> None:
        """Open the run with its id."""
        settings = self._wandb.Settings(
            console="off", silent=True, disable_git=True, disable_code=True,
            x_disable_stats=True, x_disable_machine_info=True, x_save_requirements=False,
        )  # fmt: skip
        self._runs[run.id] = self._wandb.init(
            mode=None if os.environ.get("WANDB_MODE") else "offline",  # type: ignore[arg-type]
            dir=str(self._place), id=run.id, name=run.name, config=run.config,
            project=os.environ.get("WANDB_PROJECT") or run.experiment,
            group=(run.parent or run).id, job_type="cell" if run.parent else "run",
            resume="allow", reinit="create_new", settings=settings,
        )  # fmt: skip
        self._runs[run.id].define_metric("*", step_metric="step")

    def metrics(
        self, run: Tracked, case: str | None, step: int, values: Mapping[str, float]
    ) -> None:
        """Against `step`, since the steps of every case begin anew."""
        named = {f"{case}/{name}" if case else name: value for name, value in values.items()}
        self._runs[run.id].log({**named, "step": step})

    def summary(self, run: Tracked, rows: Sequence[Row]) -> None:
        """Into the run's summary."""
        made = self._runs[run.id]
        made.config.update(run.config, allow_val_change=True)
        for name, value in row_values(rows).items():
            made.summary[f"summary/{name}"] = value

    def figures(self, run: Tracked, files: Mapping[str, Path]) -> None:
        """Images below `figures/`."""
        images = {f"figures/{k}": self._wandb.Image(str(path)) for k, path in files.items()}
        self._runs[run.id].log(images)

    def flush(self) -> None:
        """Its service process has everything already."""

    def end(self, run: Tracked, status: str) -> None:
        """Close its file."""
        made = self._runs.pop(run.id)
        made.summary["status"] = status
        made.finish(exit_code=_CODES.get(status, 1))
