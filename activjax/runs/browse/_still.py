"""A sweep for a file that needs no server: its table, and curves as far as there is room."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from activjax.runs.browse._packed import embedded, plain
from activjax.runs.browse._sweeps import sweep_data
from activjax.runs.browse._tail import CHUNK, Tail
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.index import Line

_BUCKETS = 64  # of a curve
MOST_READ, MOST_KEPT = 64 * 2**20, 2 * 2**20  # bytes of metrics.jsonl, and of the curves as JSON
_HERE = ("failures", "summary", "warnings", "question", "answer")  # the document says these


def still_data(folder: SweepFolder, lines: Sequence[Line]) -> str:
    """What the page's script needs of a sweep, as JSON that may stand inside a script element.

    Args:
        folder: of the sweep.
        lines: its cells.
    """
    sweep = sweep_data(folder, lines)
    sweep |= {key: type(sweep[key])() for key in _HERE}
    curves, cells = _curves(folder, lines)
    return embedded({"sweep": sweep, "curves": curves, "cells": cells})


def _curves(
    folder: SweepFolder, lines: Sequence[Line]
) -> tuple[dict[str, Any], dict[str, tuple[str, int]]]:
    """The curves of batches, and in which of them, and where there, a cell is."""
    places = _places(folder)
    curves: dict[str, Any] = {}
    cells: dict[str, tuple[str, int]] = {}
    read = kept = 0
    for line in lines:
        batch = str(line.run.get("batch") or "")
        index = places.get((batch, line.id))
        if index is None:
            continue
        if batch not in curves:
            path = folder.path / "batches" / batch / "metrics.jsonl"
            if read > MOST_READ or kept > MOST_KEPT or not path.is_file():
                continue
            tail = Tail(path, _BUCKETS)
            tail.advance()
            while tail.more and read + tail.offset <= MOST_READ:
                tail.advance()
            read += tail.offset + (CHUNK if tail.more else 0)
            answer = tail.answer()
            if tail.more or not answer["series"]:
                continue
            kept += len(json.dumps(answer))
            curves[batch] = answer
        cells[plain(line.id)] = (batch, index)
    return curves, cells


def _places(folder: SweepFolder) -> dict[tuple[str, str], int]:
    """`(batch, cell)` -> the cell's place among the batch's."""
    found: dict[tuple[str, str], int] = {}
    for path in sorted((folder.path / "groups").glob("[!.]*.json")):
        data = folder.read_json(f"groups/{path.name}")
        batches = data.get("batches") if isinstance(data, dict) else None
        for batch in batches if isinstance(batches, list) else ():
            if isinstance(batch, dict) and isinstance(batch.get("cells"), list):
                name = str(batch.get("id"))
                if "/" not in name and not name.startswith("."):
                    found |= {(name, str(cell)): i for i, cell in enumerate(batch["cells"])}
    return found
