"""What the page shows of one sweep: its cells as columns, its answer, its failures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from activjax.runs.browse._packed import pack, plain
from activjax.runs.store import RunFolder
from activjax.runs.sweep._formats import Column
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.index import DONE, MISSING, Line, counts, failures, question
from activjax.runs.sweep.table import columns

MOST_CELLS = 50_000
MOST_NUMBERS = 600_000  # keeps an answer at a few megabytes
_GROUPS = 50  # different errors
_ROWS = 400  # of the summary
RUNNING, UNFINISHED = "running", "unfinished"


def sweep_data(folder: SweepFolder, lines: Sequence[Line]) -> dict[str, Any]:
    """Everything but the cells' own pages, as plain JSON values.

    Args:
        folder: of the sweep.
        lines: its cells, as `index.rows` reads them.
    """
    about, run = folder.about, RunFolder(folder.path)
    axes = list(about.get("axes") or ())
    shown = list(lines[:MOST_CELLS])
    table = worth_showing(shown, axes)
    kept = table[: max(MOST_NUMBERS // max(len(shown), 1), 4)]
    count = counts(lines)
    result = run.read_json("result.json")
    result = result if isinstance(result, dict) else {}
    provenance = run.read_json("provenance.json")
    provenance = provenance if isinstance(provenance, dict) else {}
    finished = bool(result) and not count[MISSING]
    return {
        "kind": "sweep",
        "name": plain(str(about.get("name") or folder.path.parent.name)),
        "id": plain(str(about.get("id") or folder.path.name)),
        "state": DONE if finished else UNFINISHED,
        "total": len(lines),
        "counts": count,
        "seeds": len(about.get("seeds") or ()),
        "axes": plain([key for key in axes if isinstance(key, str)]),
        "cells": len(shown),
        "columns": pack(kept),
        "left_out": [plain(column.name) for column in table[len(kept) :]],
        "question": plain(str(result.get("question") or question(folder, lines))),
        "answer": plain(str(result.get("answer") or "")),
        "warnings": texts(result.get("warnings")),
        "summary": summary(result.get("summary")),
        "failures": _failures(folder, lines),
        "wall": plain(provenance.get("wall_seconds")),
    }


def worth_showing(lines: Sequence[Line], axes: Sequence[str]) -> list[Column]:
    """The columns in which anything stands, and the files that cells saved."""
    kept = [
        column
        for column in columns(lines, axes)
        if any(v is not None for v in column.values)
        and not (column.name == "warnings" and not any(column.values))
    ]
    files = [line.figures or None for line in lines]
    return [*kept, Column("files", "integer", "files", files)] if any(files) else kept


def summary(rows: Any) -> list[dict[str, Any]]:
    """The rows of a result; numbers that are not finite are text, what is no row is left out."""
    found = []
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and isinstance(row.get("name"), str):
            flags = row.get("flag")
            whole = {**row, **(flags if isinstance(flags, dict) else {})}
            whole.pop("flag", None)
            found.append(plain(whole))
    return found[:_ROWS]


def texts(items: Any) -> list[str]:
    """Warnings, as text."""
    return [plain(str(item)) for item in items] if isinstance(items, list) else []


def _failures(folder: SweepFolder, lines: Sequence[Line]) -> list[dict[str, Any]]:
    found = []
    for text, cells in list(failures(lines).items())[:_GROUPS]:
        record = folder.record(cells[0].id)
        error = record.get("error") if isinstance(record, dict) else None
        trace = error.get("traceback") if isinstance(error, dict) else None
        found.append({
            "text": plain(text[:2000]),
            "count": len(cells),
            "cells": [plain(line.id) for line in cells[:40]],
            "traceback": plain(str(trace)[-20_000:]) if trace else None,
            "checkpoint": plain(str(cells[0].error.get("checkpoint") or "")),
        })  # fmt: skip
    return found
