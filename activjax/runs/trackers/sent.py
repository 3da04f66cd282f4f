"""What a tracker has been sent: a journal in `tracked/<tracker>/` that a later process goes by."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = "sent.jsonl"


class Sent:
    """The journal of one tracker on one folder.

    Args:
        place: the tracker's folder; made if it is not there.

    Attributes:
        steps: run -> case -> last step sent.
        ended: run -> (stamp of the record that was sent, its status).
    """

    def __init__(self, place: Path):
        place.mkdir(parents=True, exist_ok=True)
        self._path, self._lock_path = place / FILE, place / ".lock"
        self.steps: dict[str, dict[str | None, int]] = {}
        self.ended: dict[str, tuple[str, str]] = {}

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Hold the journal and read it; False where another process holds it."""
        with self._lock_path.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            self._read()
            with self._path.open("a", encoding="utf-8") as self._file:
                yield True

    def step(self, run: str, case: str | None, step: int) -> None:
        """Note that everything up to a step has been sent."""
        self.steps.setdefault(run, {})[case] = step
        self._note({"run": run, "case": case, "step": step})

    def end(self, run: str, stamp: str, status: str) -> None:
        """Note that the record with this stamp has been sent."""
        self.ended[run] = (stamp, status)
        self._note({"run": run, "stamp": stamp, "status": status})

    def _note(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def _read(self) -> None:
        if not self._path.exists():
            return
        whole = self._path.read_bytes()
        kept = whole[: whole.rfind(b"\n") + 1]  # a kill may have torn the last line
        for text in kept.splitlines():
            line = json.loads(text)
            if "stamp" in line:
                self.ended[line["run"]] = (line["stamp"], line["status"])
            else:
                self.steps.setdefault(line["run"], {})[line["case"]] = line["step"]
        if len(kept) < len(whole):
            with self._path.open("r+b") as file:
                file.truncate(len(kept))
