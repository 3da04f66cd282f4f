"""Where a ticket is worked on: a worker process that may die without its job, and its supervisor.

The supervisor is this process: the job of a scheduler. It is the local engine with one place, so a
crash, a hang or too much memory ends the same way everywhere, and it never imports JAX.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from activjax.runs.errors import EngineError
from activjax.runs.sweep import tasks
from activjax.runs.sweep.engines._local import LocalEngine
from activjax.runs.sweep.engines._tickets import BEGUN, LEFT, Spool
from activjax.runs.sweep.tasks import Event
from activjax.runs.sweep.worker import BROKEN, Hello

_STEP_SECONDS = 2.0  # between two news of steps: the file system is shared
_STOP_SECONDS = 1.0
_VISIBLE = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "TPU_VISIBLE_CHIPS")


class Station:
    """Works on tickets, one at a time, and keeps its worker for the next one.

    Args:
        job: what the scheduler calls the job; entered in the records.
    """

    def __init__(self, job: str):
        self._job = job
        self._engine: LocalEngine | None = None
        self._of: Any = None

    def work(self, path: str, ticket: str) -> str:
        """Do a ticket's task.

        Args:
            path: of the spool.
            ticket: in it.

        Returns:
            The kind of its end, which the spool has.
        """
        spool = Spool(Path(path))
        if not spool.wants(ticket):  # a job that was queued again after its end
            return tasks.DONE
        hello, task = spool.task(ticket)
        if spool.stopping():
            return self._end(spool, ticket, Event(task.id, tasks.STOPPED))
        spool.tell(ticket, Event(task.id, BEGUN, {"host": socket.gethostname(), "job": self._job}))
        engine = self._ready(hello)
        engine.submit(dataclasses.replace(task, job=self._job))
        looked, told = time.monotonic(), 0.0
        while True:
            now = time.monotonic()
            if now - looked > _STOP_SECONDS:
                looked = now
                if spool.stopping():
                    engine.stop()
            try:
                heard = engine.poll(0.25)
            except EngineError as error:
                self.close()
                return self._end(
                    spool,
                    ticket,
                    Event(task.id, BROKEN, {"message": f"on {socket.gethostname()}: {error}"}),
                )
            for event in heard:
                if event.kind in tasks.ENDS:
                    if event.kind == tasks.STOPPED:  # its worker has ended, too
                        self.close()
                    return self._end(spool, ticket, event)
                if event.kind == tasks.STEP and now - told < _STEP_SECONDS:
                    continue
                if event.kind == tasks.STEP:
                    told = now
                spool.tell(ticket, event)

    def leave(self, spool: str, ticket: str, seconds: float, limit: bool) -> None:
        """The machine is taken away: save a checkpoint, as far as the time allows.

        Args:
            spool: its path.
            ticket: that is worked on.
            seconds: that it may take.
            limit: whether it is because the job's time is up.
        """
        with contextlib.suppress(Exception):
            text = f"{socket.gethostname()} is taken away; a checkpoint is saved"
            Spool(Path(spool)).tell(ticket, Event("", LEFT, {"text": text, "limit": limit}))
        if self._engine is not None:
            self._engine.stop()
            self._engine.wait(seconds)

    def close(self) -> None:
        """End the worker."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def _ready(self, hello: Hello) -> LocalEngine:
        wanted = (json.dumps(dataclasses.asdict(hello)), *map(os.environ.get, _VISIBLE))
        if self._engine is None or self._of != wanted:
            self.close()
            name = f"{socket.gethostname()}-{os.getpid()}"
            self._engine, self._of = LocalEngine(hello, [set()], log=name), wanted
        return self._engine

    def _end(self, spool: Spool, ticket: str, event: Event) -> str:
        spool.end(ticket, event)
        return event.kind
