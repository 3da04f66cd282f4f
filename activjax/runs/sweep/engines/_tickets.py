"""Engines whose tasks run on other machines: everything goes through files of the sweep's folder.

<sweep>/jobs/<engine>/
    tasks/<ticket>.json   a task, with what its worker is told first
    news/<ticket>.jsonl   what is heard of it on its way
    ends/<ticket>.json    how it ended, by a rename; a job that is over without one is lost
    held/<ticket>         the scheduler's name for it
    stop                  a stop is wanted
    .lock                 of the driver whose files these are; a second one takes <engine>-2

A scheduler (SLURM, Ray) has only to start jobs, to say which are over, and to cancel them. So a
driver that was killed finds the jobs it had, and a scheduler's object store or database holds
nothing. One listing of `ends/` tells of all tasks, however many run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from activjax.runs.errors import LockedError
from activjax.runs.result import dumps
from activjax.runs.store import RunFolder, storing, write_text
from activjax.runs.sweep.tasks import Event, Task
from activjax.runs.sweep.worker import Hello

BEGUN = "begun"  # in the news: a machine has taken the ticket; data: host, job


class Spool:
    """The files. Raises `StorageError` where they cannot be written."""

    def __init__(self, path: Path):
        self.path = path

    def create(self) -> None:
        """Make the folders; a stop of before counts no more."""
        with storing(self.path):
            for name in ("tasks", "news", "ends", "held"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
            (self.path / "stop").unlink(missing_ok=True)

    def offer(self, hello: Hello, task: Task) -> str:
        """Write a task down; returns its ticket."""
        ticket = f"{task.id}~{time.time_ns():x}"
        data = {"hello": dataclasses.asdict(hello), "task": task.to_json()}
        write_text(self._path("tasks", ticket), dumps(data))
        return ticket

    def wants(self, ticket: str) -> bool:
        """Whether a ticket's task has still to be done."""
        return self._path("tasks", ticket).exists() and not self._path("ends", ticket).exists()

    def task(self, ticket: str) -> tuple[Hello, Task]:
        """What was written down. Raises `StorageError`."""
        with storing(self._path("tasks", ticket)):
            data = json.loads(self._path("tasks", ticket).read_text(encoding="utf-8"))
        return Hello(**data["hello"]), Task.from_json(data["task"])

    def hold(self, held: Mapping[str, str]) -> None:
        """Keep the scheduler's names."""
        with storing(self.path):
            for ticket, job in held.items():
                (self.path / "held" / ticket).write_text(job, encoding="utf-8")

    def unended(self) -> dict[str, str]:
        """The tickets of which no end is known, with their jobs' names; "" where it is not known
        whether one was started.
        """
        with storing(self.path):
            names = {n[:-5] for n in os.listdir(self.path / "tasks") if n[0] != "."} - self.ended()
            held = names & set(os.listdir(self.path / "held"))
            return {
                n: (self.path / "held" / n).read_text(encoding="utf-8") if n in held else ""
                for n in names
            }

    def tell(self, ticket: str, event: Event) -> None:
        """Append to the news."""
        line = json.dumps({"kind": event.kind, "data": event.data}) + "\n"
        with storing(self.path):
            path = self._path("news", ticket, ".jsonl")
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(handle, line.encode())
            finally:
                os.close(handle)

    def news(self, ticket: str, since: int) -> tuple[list[Event], int]:
        """What was told after the first `since` bytes, and how many there are now."""
        try:
            with self._path("news", ticket, ".jsonl").open("rb") as file:
                file.seek(since)
                whole = file.read().rpartition(b"\n")[0]
        except OSError:
            return [], since
        if not whole:
            return [], since
        said = [json.loads(line) for line in whole.splitlines()]
        return [Event(ticket, s["kind"], s["data"]) for s in said], since + len(whole) + 1

    def end(self, ticket: str, event: Event) -> None:
        """Say how a task ended."""
        data = {"kind": event.kind, "data": event.data}
        write_text(self._path("ends", ticket), dumps(data))

    def ended(self) -> set[str]:
        """The tickets whose ends are known."""
        with storing(self.path):
            names = os.listdir(self.path / "ends")
        return {name[:-5] for name in names if name.endswith(".json") and name[0] != "."}

    def how(self, ticket: str) -> Event | None:
        """How a ticket's task ended, if that is known here."""
        try:
            said = json.loads(self._path("ends", ticket).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return Event(ticket, said["kind"], said["data"])

    def stop(self) -> None:
        """Ask all tasks for a checkpoint and their end."""
        write_text(self.path / "stop", "")

    def stopping(self) -> bool:
        """Whether they are asked."""
        return (self.path / "stop").exists()

    def forget(self, ticket: str) -> None:
        """Remove what nobody needs once the driver knows the end, last what says so."""
        with storing(self.path):
            for path in (
                self._path("tasks", ticket), self._path("news", ticket, ".jsonl"),
                self.path / "held" / ticket, self._path("ends", ticket),
            ):  # fmt: skip
                path.unlink(missing_ok=True)

    def _path(self, kind: str, ticket: str, suffix: str = ".json") -> Path:
        return self.path / kind / f"{ticket}{suffix}"


def own(folder: Path, engine: str, held: contextlib.ExitStack) -> Spool:
    """The first of the engine's spools that no living driver has; `held` keeps it."""
    for number in itertools.count(1):
        path = folder / (engine if number == 1 else f"{engine}-{number}")
        with storing(path):
            path.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(LockedError):
            held.enter_context(RunFolder(path).lock())
            return Spool(path)
    raise AssertionError
