"""MLflow: one run for each cell below one of the sweep."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from activjax.runs.result import Row
from activjax.runs.trackers._mlflow_store import opened
from activjax.runs.trackers.protocol import STOPPED, Tracked, row_values

_TAG = "activjax.id"
_MOST = 1000  # metrics of one request
_MOST_PARAMS = 100
_LONGEST = 6000  # of a parameter


def make(place: Path) -> MLflow:
    """The adapter; `place` holds database and figures where MLFLOW_TRACKING_URI is not set."""
    return MLflow(place)


class MLflow:
    """Logs by MLflow's client, never by its global run, which may be the user's."""

    def __init__(self, place: Path):
        self._client, self._artifacts = opened(place.absolute())
        self._runs: dict[str, str] = {}
        self._seen: dict[tuple[str, str], int] = {}  # of an earlier process: (run, metric) -> step
        self._old: set[str] = set()
        self._waiting: dict[str, list[Any]] = {}

    def begin(self, run: Tracked) -> None:
        """Open the run with its tag, or make it."""
        experiment = self._client.get_experiment_by_name(run.experiment)
        number = (
            experiment.experiment_id if experiment
            else self._client.create_experiment(run.experiment, self._artifacts)
        )  # fmt: skip
        found = self._client.search_runs([number], f"tags.`{_TAG}` = '{run.id}'", max_results=1)
        if found:
            self._runs[run.id] = found[0].info.run_id
            self._old.add(run.id)
            self._client.update_run(self._runs[run.id], status="RUNNING")
        else:
            tags = {_TAG: run.id, "activjax.folder": str(run.folder.absolute())}
            if run.parent is not None:
                tags["mlflow.parentRunId"] = self._runs[run.parent.id]
            made = self._client.create_run(number, tags=tags, run_name=run.name)
            self._runs[run.id] = made.info.run_id
        self._params(run)

    def metrics(
        self, run: Tracked, case: str | None, step: int, values: Mapping[str, float]
    ) -> None:
        """Kept until `flush`, which sends many at once."""
        from mlflow.entities import Metric  # pyright: ignore

        for name, value in values.items():
            key = _key(f"{case}/{name}" if case else name)
            if step > self._last(run, key):
                now = int(time.time() * 1000)
                self._waiting.setdefault(run.id, []).append(Metric(key, value, now, step))

    def summary(self, run: Tracked, rows: Sequence[Row]) -> None:
        """Metrics `summary/...` without steps, and the complete parameters."""
        from mlflow.entities import Metric  # pyright: ignore

        self._params(run)
        now = int(time.time() * 1000)
        found = [Metric(_key(f"summary/{k}"), v, now, 0) for k, v in row_values(rows).items()]
        self._waiting.setdefault(run.id, []).extend(found)

    def figures(self, run: Tracked, files: Mapping[str, Path]) -> None:
        """Artifacts below `figures`."""
        for name, path in files.items():
            folder = f"figures/{name}".rpartition("/")[0]
            self._client.log_artifact(self._runs[run.id], str(path), folder)

    def flush(self) -> None:
        """Send what is waiting."""
        waiting, self._waiting = self._waiting, {}
        for run, found in waiting.items():
            for i in range(0, len(found), _MOST):
                self._client.log_batch(self._runs[run], metrics=found[i : i + _MOST])

    def end(self, run: Tracked, status: str) -> None:
        """Say how it ended."""
        words = {"done": "FINISHED", "failed": "FAILED", "pruned": "KILLED", STOPPED: "KILLED"}
        self._client.set_tag(self._runs[run.id], "activjax.status", status)
        self._client.set_terminated(self._runs[run.id], words.get(status, "FINISHED"))

    def _params(self, run: Tracked) -> None:
        from mlflow.entities import Param  # pyright: ignore

        found = [Param(_key(k), str(v)[:_LONGEST]) for k, v in run.config.items()]
        for i in range(0, len(found), _MOST_PARAMS):
            self._client.log_batch(self._runs[run.id], params=found[i : i + _MOST_PARAMS])

    def _last(self, run: Tracked, key: str) -> int:
        """The last step that an earlier process sent, noted or not."""
        if run.id not in self._old:
            return 0
        if (run.id, key) not in self._seen:
            history = self._client.get_metric_history(self._runs[run.id], key)
            self._seen[run.id, key] = max((metric.step for metric in history), default=0)
        return self._seen[run.id, key]


def _key(name: str) -> str:
    """A name as MLflow allows it."""
    return re.sub(r"[^\w\-. :/]", "_", name)[:250]
