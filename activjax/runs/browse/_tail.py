"""`metrics.jsonl` read as it grows, thinned so that a file of any length is a few thousand points.

Neighbouring steps share a bucket, of which the least, the greatest and the last value of every cell
are kept: a spike of one step is never lost. When there are too many buckets, pairs become one.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np

from activjax.runs.browse._packed import plain

BUCKETS = 1000  # two points each
CHUNK = 8 * 2**20  # bytes read in one go: about half a second
_SERIES = 96  # metrics times cases
_CELLS = 64
_SEEN = 64  # bytes before the offset, by which a file that was cut back is told


class Tail:
    """What is known of one file.

    Args:
        path: of the file.
        buckets: most of them, for each metric of each case.
    """

    def __init__(self, path: Path, buckets: int = BUCKETS):
        self.path, self._buckets = path, buckets
        self._lock = threading.Lock()
        self.generation = 0
        self._restart()

    def _restart(self) -> None:
        self.offset, self._before, self.more = 0, b"", False
        self.series: dict[tuple[str, str], _Series] = {}

    def advance(self, limit: int = CHUNK) -> None:
        """Read what is new, at most `limit` bytes of it; whole lines only."""
        with self._lock:
            try:
                with self.path.open("rb") as file:
                    self._advance(file, limit)
            except OSError:
                if self.offset:
                    self._begin_again()

    def _advance(self, file: Any, limit: int) -> None:
        size = file.seek(0, 2)
        file.seek(max(self.offset - len(self._before), 0))
        if self.offset > size or file.read(len(self._before)) != self._before:
            self._begin_again()  # cut back to a checkpoint, or another file
        file.seek(self.offset)
        data = file.read(limit)
        end = data.rfind(b"\n") + 1
        if not end and len(data) == limit:
            end = len(data)  # a line longer than that is none of ours
        lines, ends, at = data[:end].splitlines(keepends=True), [], self.offset
        for line in lines:
            at += len(line)
            ends.append(at)
        self._take(lines, ends)
        self.offset += end
        self._before = (self._before + data[:end])[-_SEEN:]
        self.more = self.offset < size and bool(end)

    def _begin_again(self) -> None:
        self.generation += 1
        self._restart()

    def _take(self, lines: list[bytes], ends: list[int]) -> None:
        found: dict[tuple[str, str], tuple[list[int], list[np.ndarray], list[int]]] = {}
        for line, end in zip(lines, ends):
            try:
                data = json.loads(line)
                case, step = str(data["case"] or ""), int(data["step"])
                for name, cells in data["metrics"].items():
                    values = np.asarray(cells, np.float64)  # "NaN" and "Infinity" become numbers
                    if not (values.ndim and values.size):
                        continue
                    if values.ndim > 1:
                        values = values.reshape(len(values), -1).mean(axis=1)
                    steps, rows, places = found.setdefault((case, str(name)), ([], [], []))
                    values = values[:_CELLS]
                    if values.shape == (rows[0] if rows else values).shape:
                        steps.append(step)
                        rows.append(values)
                        places.append(end)
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
                continue
        for key, (steps, rows, places) in found.items():
            if key not in self.series and len(self.series) < _SERIES:
                self.series[key] = _Series(len(rows[0]))
            if key in self.series and self.series[key].cells == len(rows[0]):
                self.series[key].extend(np.asarray(steps, np.float64), np.stack(rows),
                                        np.asarray(places), self._buckets)  # fmt: skip

    def answer(self, since: str = "", cell: int | None = None) -> dict[str, Any]:
        """What has changed since an answer, as plain JSON values.

        Args:
            since: the `token` of that answer; empty for everything.
            cell: only this one of the cells.

        Returns:
            `token`; `reset`, whether what was known is void; `more`, whether the file has more that
            is not read yet; and `series`: `case`, `metric`, `start` (the first bucket that is given
            here), `step` of each bucket, `lo`, `hi` (left out where each bucket is one step) and
            `last`, lists over the cells; `to`, the last step.
        """
        with self._lock:
            generation, _, offset = since.partition(":")
            known = int(offset) if offset.isdecimal() else 0
            reset = generation != str(self.generation)
            if reset:
                known = 0
            series = [s.answer(case, name, known, cell) for (case, name), s in self.series.items()]
            return {
                "token": f"{self.generation}:{self.offset}",
                "reset": reset,
                "more": self.more,
                "bytes": self.offset,
                "series": [s for s in series if s is not None],
            }


class _Series:
    """One metric of one case: `[buckets, cells]` arrays."""

    def __init__(self, cells: int):
        self.cells, self.count, self.width, self.merged = cells, 0, 1, 0
        self.step, self.end = np.zeros(0), np.zeros(0, np.int64)
        self.low = self.high = np.zeros((0, cells))
        self.last, self.at = np.full(cells, np.nan), 0

    def extend(self, steps: np.ndarray, rows: np.ndarray, ends: np.ndarray, most: int) -> None:
        """Add the values `rows [lines, cells]` of some steps; `ends`: where their lines end."""
        bucket = (self.count + np.arange(len(steps))) // self.width
        starts = np.flatnonzero(np.diff(bucket, prepend=-1))
        stops = np.append(starts[1:], len(steps)) - 1
        low, high = (f.reduceat(rows, starts, axis=0) for f in (np.fmin, np.fmax))
        first, end = steps[starts], ends[stops]
        if bucket[0] < len(self.step):  # the last bucket was not full
            low[0], high[0] = np.fmin(low[0], self.low[-1]), np.fmax(high[0], self.high[-1])
            first[0] = self.step[-1]
            self._cut(len(self.step) - 1)
        self.step, self.end = np.append(self.step, first), np.append(self.end, end)
        self.low, self.high = np.vstack([self.low, low]), np.vstack([self.high, high])
        self.count, self.last = self.count + len(steps), rows[-1]
        self.at = int(steps[-1])
        while len(self.step) > most:
            pairs = np.arange(0, len(self.step), 2)
            self.low, self.high = (
                f.reduceat(x, pairs, axis=0) for f, x in ((np.fmin, self.low), (np.fmax, self.high))
            )
            self.step = self.step[pairs]
            self.end = np.append(self.end[1::2], self.end[-1:])[: len(pairs)]
            self.width, self.merged = 2 * self.width, int(ends[-1])

    def _cut(self, count: int) -> None:
        self.step, self.end = self.step[:count], self.end[:count]
        self.low, self.high = self.low[:count], self.high[:count]

    def answer(self, case: str, name: str, known: int, cell: int | None) -> dict[str, Any] | None:
        """The buckets that have changed since the file had `known` bytes; None if none has."""
        start = 0 if known < self.merged else int(np.searchsorted(self.end, known, "right"))
        if start == len(self.step):
            return None
        pick = slice(None) if cell is None else slice(cell, cell + 1)
        out = {
            "case": plain(case), "metric": plain(name), "start": start, "width": self.width,
            "to": self.at,
            "step": self.step[start:].astype(int).tolist(),
            "lo": _listed(self.low[start:, pick]), "last": plain(self.last[pick].tolist()),
        }  # fmt: skip
        return out | ({"hi": _listed(self.high[start:, pick])} if self.width > 1 else {})


def _listed(values: np.ndarray) -> list[list[Any]]:
    """`[cells][buckets]`, rounded."""
    return plain(values.T.tolist())
