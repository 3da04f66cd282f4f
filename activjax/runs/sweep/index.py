"""The cells of a sweep with what their records say, read through an index that can be rebuilt.

The records are the truth. `index.sqlite` spares reading those that have not changed since: an entry
counts only if it was made from the record that is there now. Without an index, or where it cannot
be written, the records are read instead.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from activjax.runs.result import Row, from_json
from activjax.runs.store import storing
from activjax.runs.sweep._index_file import Entry, load, save
from activjax.runs.sweep.folder import SweepFolder, damaged

DONE, FAILED, PRUNED, MISSING = "done", "failed", "pruned", "missing"


@dataclasses.dataclass(frozen=True)
class Line:
    """One cell and what is known of it.

    Attributes:
        id, group, seed, point: as in `cells.jsonl`.
        state: `"done"`, `"failed"`, `"pruned"` (by a search) or `"missing"` (no record, or one
            that cannot be read).
        kept: what the index keeps of the record, as JSON; the properties read it.
    """

    id: str
    group: str
    seed: int
    point: Mapping[str, Any]
    state: str
    kept: str = "{}"

    @functools.cached_property
    def _data(self) -> dict[str, Any]:
        return json.loads(self.kept)

    @functools.cached_property
    def summary(self) -> tuple[Row, ...]:
        """The cell's numbers; none unless it is done."""
        return _rows(self._data.get("summary", ()))

    @property
    def warnings(self) -> list[str]:
        """What the cell's run warned of."""
        return self._data.get("warnings", [])

    @property
    def figures(self) -> int:
        """How many files of its own the cell saved."""
        return self._data.get("files", 0)

    @property
    def error(self) -> dict[str, Any]:
        """`kind`, `message` and `checkpoint` of a failed cell, else empty; no traceback."""
        return self._data.get("error", {})

    @property
    def pruned(self) -> dict[str, Any]:
        """`step`, `metric`, `value` and `why` of a cell that a search gave up, else empty."""
        return self._data.get("pruned", {})

    @property
    def message(self) -> str:
        """The message of a failed cell, else empty."""
        return str(self.error.get("message") or "")

    @property
    def run(self) -> dict[str, Any]:
        """Engine, batch, times: what may differ between two equal sweeps."""
        return self._data.get("run", {})


def rows(folder: SweepFolder, known: dict[str, Entry] | None = None) -> list[Line]:
    """Every cell of the sweep, in its order, with what its record says.

    Brings the index up to date, where the folder can be written: only records that are new or
    changed are parsed. Records of cells that the sweep does not have are ignored.

    Args:
        folder: of the sweep.
        known: an index in memory, empty at first; it is brought up to date in place of the file,
            and nothing is written.

    Raises:
        StorageError: `cells.jsonl` or the folder of the records cannot be read.
    """
    cells, stamps, path = _cells(folder), _stamps(folder), folder.path / "index.sqlite"
    # sqlite would make a file that is not there
    before = known or (load(path) if stamps and path.is_file() else {})
    entries: dict[str, Entry] = {}
    fresh = False
    for cell in cells:
        stamp = stamps.get(cell["id"])
        if stamp is None:
            continue
        entry = before.get(cell["id"])
        if entry is None or entry.stamp != stamp:
            entry = _read(folder, cell["id"], stamp)
            fresh = fresh or entry is not None
        if entry is not None:
            entries[cell["id"]] = entry
    if known is not None:
        known.clear()
        known.update(entries)
    elif fresh:
        save(path, entries)
    none = Entry((0, 0, 0), MISSING, "{}")
    lines = []
    for cell in cells:
        entry = entries.get(cell["id"], none)
        lines.append(Line(cell["id"], cell.get("group", ""), cell["seed"], cell["point"],
                          entry.state, entry.kept))  # fmt: skip
    return lines


def recorded(folder: SweepFolder) -> set[str]:
    """The cells whose records can be read. Raises `StorageError`."""
    return {line.id for line in rows(folder) if line.state != MISSING}


def counts(lines: Sequence[Line]) -> dict[str, int]:
    """How many cells are `done`, `failed` and `missing`, and `pruned` if there are any."""
    states = [line.state for line in lines]
    always = (DONE, FAILED, MISSING)
    return {s: states.count(s) for s in (*always, PRUNED) if s in always or s in states}


def error_text(line: Line) -> str:
    """Kind and message of a failed cell, in one line."""
    kind, message = str(line.error.get("kind") or ""), " ".join(line.message.split())
    return f"{kind}: {message}" if kind not in ("", "raised") else message


def failures(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """The failed cells by what went wrong, the commonest first."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        if line.state == FAILED:
            found.setdefault(error_text(line), []).append(line)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def question(folder: SweepFolder, lines: Sequence[Line]) -> str:
    """The question of the first cell that is done: a sweep without a result has none of its own."""
    first = next((line for line in lines if line.state == DONE), None)
    record = folder.record(first.id) if first else None
    return str(record.get("question", "")) if isinstance(record, dict) else ""


def _cells(folder: SweepFolder) -> list[dict[str, Any]]:
    try:
        cells = folder.cells
        if all(isinstance(c["id"], str) and isinstance(c["point"], dict) for c in cells):
            [c["seed"] for c in cells]  # raises where there is none
            return cells
        problem = "a line is not a cell"
    except (KeyError, TypeError) as error:
        problem = f"{type(error).__name__}: {error}"
    raise damaged(folder.path / "cells.jsonl", problem)


def _stamps(folder: SweepFolder) -> dict[str, tuple[int, int, int]]:
    """Time, size and inode of every record; the inode tells two writes of one instant apart."""
    stamps, path = {}, folder.path / "cells"
    with storing(path), contextlib.suppress(FileNotFoundError), os.scandir(path) as found:
        for file in found:
            name = file.name
            if name.endswith(".json") and name[0] != ".":
                with contextlib.suppress(OSError):  # gone since, or a link to nowhere
                    stat = file.stat()
                    stamps[name[:-5]] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return stamps


def _read(folder: SweepFolder, cell: str, stamp: tuple[int, int, int]) -> Entry | None:
    """What is kept of a record; None if it is torn or not a record."""
    try:
        record = json.loads(folder.record_path(cell).read_bytes())
        state, run = record["status"], dict(record.get("run") or {})
        if state == DONE:
            summary = list(record["summary"])
            _rows(summary)  # raises if they are not rows
            files = [item for item in record.get("contents") or () if item.get("file")]
            warnings = [str(text) for text in record.get("warnings") or ()]
            kept = {"summary": summary, "warnings": warnings, "files": len(files), "run": run}
        elif state == FAILED:
            error = {k: v for k, v in dict(record["error"]).items() if k != "traceback"}
            kept = {"error": error, "run": run}
        elif state == PRUNED:
            kept = {"pruned": dict(record["pruned"]), "run": run}
        else:
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return Entry(stamp, state, json.dumps(kept, separators=(",", ":")))


def _rows(summary: Any) -> tuple[Row, ...]:
    rows = from_json({"question": "", "answer": "", "summary": summary}).summary
    for row in rows:
        numbers = (row.value, row.n, row.low or 0, row.high or 0, row.baseline or 0)
        if not all(isinstance(x, (int, float)) for x in numbers):
            raise TypeError("a number is something else")
        if not (isinstance(row.name, str) and isinstance(row.where, Mapping)):
            raise TypeError("not a row")
    return rows
