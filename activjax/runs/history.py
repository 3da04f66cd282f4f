"""`metrics.jsonl`: one line per step and case, exact to the bit, cut back to a checkpoint.

    {"case": "w8", "step": 12, "metrics": {"loss": [0.25, 0.5], "layer/norm": [...]}}

A metric is a list over cells. Numbers that are not finite are the texts "NaN", "Infinity" and
"-Infinity", so that every line is strict JSON.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from activjax import hosts
from activjax.runs.result import strict
from activjax.runs.store import storing


def flatten(metrics: Any) -> dict[str, Any]:
    """A nested dict of arrays as one dict with `/`-names.

    Raises:
        TypeError: not a dict, or a metric that is not real numbers.
    """
    if not isinstance(metrics, dict):
        raise TypeError(
            f"step must return (state, metrics) with metrics a dict, got {type(metrics).__name__}"
        )
    flat = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(metrics):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if not (jax.numpy.issubdtype(leaf.dtype, np.number) or leaf.dtype == bool):
            raise TypeError(f"metric {name} must hold numbers, got {leaf.dtype}")
        if jax.numpy.issubdtype(leaf.dtype, np.complexfloating):
            raise TypeError(f"metric {name} is complex; record its real and imaginary parts")
        flat[name] = leaf
    return flat


class MetricsLog:
    """The lines of one case, at the end of the run's file."""

    def __init__(self, path: Path, case: str | None, begin: int):
        self.path, self.case, self.begin = path, case, begin
        self._file: Any = None

    def size(self) -> int:
        """Bytes in the file now."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def open(self, end: int) -> None:
        """Cut the file to `end` bytes and append from there."""
        if hosts.index():  # where one program runs on many hosts, process 0 writes
            return
        with storing(self.path):
            self._file = self.path.open("ab")
            self._file.truncate(end)

    def append(self, start: int, metrics: dict[str, np.ndarray]) -> None:
        """Write the metrics `[steps, cells, ...]` of the steps after `start`."""
        if self._file is None:
            return
        count = len(next(iter(metrics.values()), ()))
        columns = {name: _encode(values) for name, values in metrics.items()}
        lines = []
        for i in range(count):
            row = {name: values[i] for name, values in columns.items()}
            line = {"case": self.case, "step": start + i + 1, "metrics": row}
            lines.append(json.dumps(line, allow_nan=False, separators=(",", ":")) + "\n")
        with storing(self.path):
            self._file.write("".join(lines).encode())
            self._file.flush()

    def sync(self) -> int:
        """Make what was written durable; returns the size of the file."""
        if self._file is None:
            return 0
        with storing(self.path):
            os.fsync(self._file.fileno())
            return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with storing(self.path):
                self._file.close()

    def read(self, like: dict[str, Any]) -> dict[str, np.ndarray]:
        """The case's metrics as `[cells, steps, ...]` arrays.

        Args:
            like: metric -> abstract `[cells, ...]` array of one step, for dtypes and empty runs.
        """
        rows: dict[str, list] = {name: [] for name in like}
        if self.path.exists():
            with storing(self.path), self.path.open("rb") as file:
                file.seek(self.begin)
                for line in file:
                    metrics = json.loads(line)["metrics"]
                    for name, values in rows.items():
                        values.append(_decode(metrics[name]))
        history = {}
        for name, leaf in like.items():
            array = np.asarray(rows[name], _wide(leaf.dtype)).astype(leaf.dtype)
            history[name] = np.moveaxis(array.reshape(len(rows[name]), *leaf.shape), 0, 1)
        return history


def not_finite(history: dict[str, np.ndarray], seeds: np.ndarray) -> list[str]:
    """One sentence for every metric that is somewhere not finite: since which step, which seeds."""
    said = []
    for name, values in history.items():
        bad = ~np.isfinite(values.astype(_wide(values.dtype)))
        bad = np.any(bad, axis=tuple(range(2, bad.ndim)))  # [cells, steps]
        if bad.any():
            step = int(np.argmax(np.any(bad, axis=0))) + 1
            which = ", ".join(str(s) for s in seeds[np.any(bad, axis=1)])
            said.append(f"metric '{name}' is not finite, first at step {step} (seeds {which})")
    return said


def _wide(dtype: Any) -> type:
    """The widest type of the kind: everything converts to it, and JSON to it, exactly."""
    if jax.numpy.issubdtype(dtype, np.floating):
        return np.float64
    if np.dtype(dtype).kind == "b":
        return np.bool_
    return np.uint64 if jax.numpy.issubdtype(dtype, np.unsignedinteger) else np.int64


def _encode(values: np.ndarray) -> list:
    exact = values.astype(_wide(values.dtype))
    return exact.tolist() if np.isfinite(exact).all() else strict(exact.tolist())


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(v) for v in value]
    return float(value) if isinstance(value, str) else value
