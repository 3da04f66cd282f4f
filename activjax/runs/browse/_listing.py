"""All runs and sweeps of a root as one table.

The first look opens no file: names, times and states come from the folders. Answers, settings and
numbers are read after that, as many as a fraction of a second allows, and kept until their file
changes.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

from activjax.runs.browse import _live, _paths
from activjax.runs.browse._details import flat_yaml
from activjax.runs.browse._packed import pack
from activjax.runs.browse._sweeps import RUNNING, UNFINISHED, summary
from activjax.runs.errors import RunError
from activjax.runs.store import DONE, FAILED, INTERRUPTED, RunFolder
from activjax.runs.sweep._formats import Column
from activjax.runs.sweep.table import _column, compact, label

_SECONDS = 1.0  # of reading for one answer
_SETTINGS, _NUMBERS = 12, 10  # columns
_REST = 2.0  # seconds after which a folder's time tells of every change
_LONGEST = 160  # characters of an answer
_NAMES = ("result.json", "provenance.json", "config.yaml", "cells", "sweep.json")
_NOT_SETTINGS = ("experiment", "name", "seeds")


class Listing:
    """The table of a root, with what has been read so far.

    Args:
        root: the folder of all runs, resolved.
        count_of: `(name, id) -> (done, failed, pruned, total)` of a sweep.
    """

    def __init__(self, root: Path, count_of: Any):
        self._root, self._count_of = root, count_of
        self._facts: dict[tuple[str, str], tuple[Any, dict[str, Any]]] = {}
        self._seen: dict[tuple[str, str], tuple[int, Any]] = {}
        self._last: tuple[Any, dict[str, Any]] = (None, {})

    def answer(self, *, read: bool = True) -> dict[str, Any]:
        """The table as plain JSON values; `complete`, whether all has been read.

        Args:
            read: False opens no file.
        """
        entries = self._entries()
        until = time.monotonic() + (_SECONDS if read else 0.0)
        waiting = 0
        rows = []
        for when, sweep, name, short, marks in entries:
            key = (name, short)
            known = self._facts.get(key)
            if known is None or known[0] != marks:
                if time.monotonic() < until:
                    known = (marks, self._read(sweep, name, short))
                    self._facts[key] = known
                else:
                    waiting += 1
            facts = known[1] if known is not None else {}
            state = self._state(sweep, name, short, marks, facts)
            rows.append((when, sweep, name, short, state, facts))
        mark = [(*row[:5], id(row[5])) for row in rows]
        if waiting or self._last[0] != mark:
            about = {"kind": "list", "root": str(self._root), "cells": len(rows)}
            about |= {"complete": not waiting, "waiting": waiting}
            self._last = (mark, about | {"columns": pack(_columns(rows))})
        return self._last[1]

    def _entries(self) -> list[tuple[float, bool, str, str, Any]]:
        found = []
        for name, link, _ in _folders(self._root):
            for id, also, when in _folders(self._root / name):
                if (link or also) and _paths.inside(self._root, [name, id]) is None:
                    continue
                marks = self._marks(name, id, when)
                sweep = bool(marks[4][0])
                if not (sweep or marks[2][0]):
                    continue
                found.append((max(mark[0] for mark in marks) / 1e9, sweep, name, id, marks))
        return sorted(found, key=lambda entry: (-entry[0], entry[2], entry[3]))

    def _marks(self, name: str, id: str, when: int) -> tuple[tuple[int, int], ...]:
        """Time and size of the files that matter.

        All of them are written by rename, which changes the folder too: files of one that has been
        at rest are not looked at again, but for a sweep's records.
        """
        path = f"{self._root}/{name}/{id}/"
        before = self._seen.get((name, id))
        if before is not None and before[0] == when and time.time() - when / 1e9 > _REST:
            marks = before[1]
            if not marks[4][0]:
                return marks
            return (*marks[:3], _paths.stamp(path + _NAMES[3])[:2], marks[4])
        marks = tuple(_paths.stamp(path + file)[:2] for file in _NAMES)
        self._seen[name, id] = (when, marks)
        return marks

    def _state(self, sweep: bool, name: str, id: str, marks: Any, facts: dict[str, Any]) -> str:
        if sweep:
            if marks[0][0] and facts.get("missing", 0) == 0:
                return DONE
            return RUNNING if _live.is_running(self._root, [name, id]) else UNFINISHED
        if marks[0][0]:
            return DONE
        path = self._root / name / id
        if RunFolder(path)._locked():
            return RUNNING
        return FAILED if (path / "failed.json").exists() else INTERRUPTED

    def _read(self, sweep: bool, name: str, id: str) -> dict[str, Any]:
        """What is kept of one run or sweep."""
        place = f"{self._root}/{name}/{id}/"
        result = _paths.parsed(_paths.bytes_of(place + "result.json"))
        result = result if isinstance(result, dict) else {}
        facts: dict[str, Any] = {"answer": str(result.get("answer") or "")[:_LONGEST]}
        if sweep:
            try:
                done, failed, pruned, total = self._count_of(name, id)
            except (RunError, OSError, ValueError, TypeError, KeyError, AttributeError):
                return facts | {"answer": "this sweep cannot be read"}
            return facts | {"done": done, "failed": failed, "pruned": pruned, "total": total,
                            "missing": total - done - failed - pruned}  # fmt: skip
        if not result:
            failed = _paths.parsed(_paths.bytes_of(place + "failed.json"))
            text = str(failed.get("error") or "") if isinstance(failed, dict) else ""
            facts["answer"] = text.rpartition("\n")[2][:_LONGEST]
        text = _paths.bytes_of(place + "config.yaml") or b""
        config = flat_yaml(text.decode("utf-8", "replace"))
        facts["experiment"] = str(config.get("experiment") or "")
        facts["config"] = {k: v for k, v in config.items() if k not in _NOT_SETTINGS}
        numbers: dict[tuple[str, str], Any] = {}
        for row in summary(result.get("summary")):
            where = row.get("where")
            named = label(row["name"], where if isinstance(where, dict) else {})
            value = row.get("value")
            if isinstance(value, (int, float, str)):
                numbers.setdefault((named, str(row.get("unit") or "")), _number(value))
        facts["numbers"] = numbers
        return facts


def _folders(path: Path) -> list[tuple[str, bool, int]]:
    """The folders in a folder, whether each is a link, and when it changed."""
    try:
        with os.scandir(path) as entries:
            return [
                (e.name, e.is_symlink(), e.stat().st_mtime_ns)
                for e in entries
                if _paths.plain(e.name) and e.is_dir()
            ]
    except OSError:
        return []


def _columns(rows: list[tuple]) -> list[Column]:
    whens, sweeps, names, ids, states, facts = (list(c) for c in zip(*rows)) if rows else [[]] * 6
    table = [
        _column("state", "state", states, "", ""),
        _column("kind", "what", ["sweep" if s else "run" for s in sweeps], "", ""),
        _column("name", "name", names, "", ""),
        _column("id", "record", ids, "", ""),
        _column("changed", "time", [int(when) for when in whens], "", ""),
        _column("cells", "total", [f.get("total") for f in facts], "", ""),
        _column("done", "done", [f.get("done") for f in facts], "", ""),
        _column("failed", "failed", [f.get("failed") for f in facts], "", ""),
        _column("pruned", "pruned", [f.get("pruned") for f in facts], "", ""),
        _column("answer", "error", [f.get("answer") or None for f in facts], "", ""),
        _column("experiment", "cell", [f.get("experiment") or None for f in facts], "", ""),
    ]
    numbers = Counter(key for f in facts for key in f.get("numbers", ()))
    for key, _ in numbers.most_common(_NUMBERS):
        values = [f.get("numbers", {}).get(key) for f in facts]
        table.append(_column(key[0], "value", values, key[1], ""))
    for key in _varying([f.get("config", {}) for f in facts]):
        values = [f.get("config", {}).get(key) for f in facts]
        table.append(_column(key, "axis", values, "", ""))
    taken = Counter(column.name for column in table)
    return [c for c in table if taken[c.name] == 1 or c.role not in ("axis", "value")]


def _varying(configs: list[dict[str, Any]]) -> list[str]:
    """The settings that differ most often from the commonest value, at most `_SETTINGS`."""
    values: dict[str, Counter] = {}
    for config in configs:
        for key, value in config.items():
            values.setdefault(key, Counter())[compact(value)] += 1
    spread = {k: sum(c.values()) - c.most_common(1)[0][1] for k, c in values.items()}
    ranked = sorted((k for k, n in spread.items() if n), key=lambda k: -spread[k])
    return ranked[:_SETTINGS]


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
