"""`trials.jsonl`: what a search has asked, seen and decided, in order; the search is its replay.

{"asked": 3, "point": {"lr": 0.01}, "cells": ["...", "..."]}    or "problem": "..." for "cells"
{"reported": 3, "rung": 0, "value": 0.7}
{"decided": 3, "rung": 0, "prune": false}
{"told": 3, "state": "complete", "value": 0.93}                 or "failed", "pruned"
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from activjax.runs.store import storing

FILE = "trials.jsonl"
COMPLETE, FAILED, PRUNED = "complete", "failed", "pruned"


class Journal:
    """The events of a search's folder.

    Args:
        folder: of the search.

    Attributes:
        events: in order.

    Raises:
        StorageError: the file cannot be read.
    """

    def __init__(self, folder: Path):
        self._path = folder / FILE
        self.events: list[dict[str, Any]] = []
        with storing(self._path):
            if self._path.exists():
                whole = self._path.read_bytes()
                kept = whole[: whole.rfind(b"\n") + 1]  # a kill may have torn the last line
                self.events = [json.loads(line) for line in kept.splitlines()]
                if len(kept) < len(whole):
                    with self._path.open("r+b") as file:
                        file.truncate(len(kept))

    def add(self, event: dict[str, Any]) -> None:
        """Append an event; it is on the disk when this returns. Raises `StorageError`."""
        with storing(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.events.append(event)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The events of one kind."""
        return [event for event in self.events if kind in event]
