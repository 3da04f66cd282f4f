"""Engines whose tasks run on other machines: everything goes through files of the sweep's folder.

<sweep>/jobs/<engine>/
    tasks/<ticket>.json   a task, with what its worker is told first
    held/<ticket>         who has it: the scheduler's name of a job; only one can make this file
    news/<ticket>.jsonl   what is heard of it on its way
    ends/<ticket>.json    how it ended, by a rename; a job that is over without one has lost it
    jobs/<job>~<kind>     a job that waits or runs; one that ends by itself removes it
    stop                  a stop is wanted, or nobody offers tickets any more
    .lock                 of the driver whose files these are; a second one takes <engine>-2

A scheduler (SLURM, Ray) has only to start jobs, to say which are over, and to cancel them. So a
driver that was killed finds the jobs it had, and a scheduler's object store or database holds
nothing. One listing of `ends/` tells of all tasks, however many run, and one of `held/` who has
what. A ticket's name ends with when it was offered and with its kind: jobs take the oldest first,
and only those whose workers are told the same as their own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from activjax.runs.errors import LockedError
from activjax.runs.result import dumps
from activjax.runs.store import RunFolder, storing, write_text
from activjax.runs.sweep.tasks import Event, Task
from activjax.runs.sweep.worker import Hello

BEGUN = "begun"  # in the news: a machine has taken the ticket; data: host, job
LEFT = "left"  # in the news: it is taken away; data: text, limit (its time was up)
DRIVER = "driver"  # holds the tickets that no job shall take any more


def kind_of(hello: Hello, needs: Mapping[str, Any]) -> str:
    """What tickets must share that one job works on them."""
    told = json.dumps([dataclasses.asdict(hello), dict(needs)], sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:8]


class Spool:
    """The files. Raises `StorageError` where they cannot be written."""

    def __init__(self, path: Path):
        self.path = path

    def create(self) -> None:
        """Make the folders; a stop of before counts no more."""
        with storing(self.path):
            for name in ("tasks", "held", "news", "ends", "jobs"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
            (self.path / "stop").unlink(missing_ok=True)

    def offer(self, hello: Hello, task: Task, kind: str) -> str:
        """Write a task down; returns its ticket."""
        ticket = f"{task.id}~{time.time_ns():016x}-{kind}"
        data = {"hello": dataclasses.asdict(hello), "task": task.to_json()}
        write_text(self._path("tasks", ticket), dumps(data))
        return ticket

    def offered(self, kind: str) -> list[str]:
        """Tickets of a kind that nobody has, the oldest first."""
        mine = {name for name in self._names("tasks") if name.endswith(f"-{kind}")}
        return sorted(mine - self.held(), key=_age)

    def wants(self, ticket: str) -> bool:
        """Whether a ticket's task has still to be done."""
        return self._path("tasks", ticket).exists() and not self._path("ends", ticket).exists()

    def task(self, ticket: str) -> tuple[Hello, Task]:
        """What was written down. Raises `StorageError`."""
        with storing(self._path("tasks", ticket)):
            data = json.loads(self._path("tasks", ticket).read_text(encoding="utf-8"))
        return Hello(**data["hello"]), Task.from_json(data["task"])

    def claim(self, ticket: str, job: str) -> bool:
        """Have a ticket, unless somebody has it. The file appears whole, on every machine at once.

        Args:
            ticket: that was offered.
            job: who wants it; no two processes have one name.
        """
        path = self.path / "held" / ticket
        temporary = path.with_name(f".{job}.{os.getpid()}.{time.time_ns():x}")
        with storing(path):
            temporary.write_text(job, encoding="utf-8")
            try:
                os.link(temporary, path)
            except OSError as error:
                # NFS may tell an error of a link it has made, when an answer was lost
                if temporary.stat().st_nlink == 2:
                    return True
                if not isinstance(error, FileExistsError):
                    raise
                return False
            finally:
                temporary.unlink(missing_ok=True)
        return True

    def release(self, ticket: str) -> None:
        """Have it no more."""
        with storing(self.path):
            (self.path / "held" / ticket).unlink(missing_ok=True)

    def held(self) -> set[str]:
        """The tickets that somebody has."""
        return self._names("held", "")

    def holder(self, ticket: str) -> str:
        """Who has it; "" for nobody."""
        with storing(self.path), contextlib.suppress(FileNotFoundError):
            return (self.path / "held" / ticket).read_text(encoding="utf-8")
        return ""

    def holders(self) -> dict[str, str]:
        """The tickets that are known, with who has them ("": nobody), the oldest first."""
        held = self.held()
        names = sorted(self._names("tasks") | held, key=_age)
        return {ticket: self.holder(ticket) if ticket in held else "" for ticket in names}

    def join(self, job: str, kind: str) -> None:
        """Say that a job waits or runs."""
        with storing(self.path):
            (self.path / "jobs" / f"{job}~{kind}").touch()

    def leave(self, job: str, kind: str) -> None:
        """Say that it has ended, or will at once."""
        with storing(self.path):
            (self.path / "jobs" / f"{job}~{kind}").unlink(missing_ok=True)

    def jobs(self) -> dict[str, str]:
        """The jobs that have not said that they end, with their kinds."""
        split = (name.rpartition("~") for name in self._names("jobs", ""))
        return {job: kind for job, _, kind in split}

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
        return self._names("ends")

    def how(self, ticket: str) -> Event | None:
        """How a ticket's task ended, if that is known here."""
        try:
            said = json.loads(self._path("ends", ticket).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return Event(ticket, said["kind"], said["data"])

    def stop(self) -> None:
        """Ask all tasks for a checkpoint and their end, and jobs without one to end."""
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

    def _names(self, kind: str, suffix: str = ".json") -> set[str]:
        """The files of a folder, without those that are being written."""
        with storing(self.path):
            names = os.listdir(self.path / kind)
        return {n.removesuffix(suffix) for n in names if n.endswith(suffix) and n[0] != "."}

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


def _age(ticket: str) -> str:
    return ticket.rpartition("~")[2]
