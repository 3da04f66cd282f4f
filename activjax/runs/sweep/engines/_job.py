"""What a job of SLURM runs: one ticket after another, with one worker, until none is left."""

from __future__ import annotations

import importlib
import os
import random
import time
from pathlib import Path
from typing import Any

from activjax.runs.errors import EngineError
from activjax.runs.sweep import tasks
from activjax.runs.sweep.engines._station import Station
from activjax.runs.sweep.engines._tickets import Spool
from activjax.runs.sweep.worker import BROKEN

LEAVE_SECONDS = 60  # between the signal and the end; the checkpoint must be saved within


class Job:
    """What an element of an array runs. Before the machine is taken away it saves the ticket it
    works on and is queued again, which submitit does after `checkpoint`.

    Args:
        spool: path of the spool.
        kind: of the tickets that it takes.
        minutes: its time limit, where SLURM does not say when it ends.
        linger: seconds it waits for a ticket before it ends.
        ticket: that it had when it was queued again.
    """

    #: Longer than a client of NFS believes a listing (30 to 60 s); less where files are local.
    linger_seconds, local_linger_seconds = 90.0, 2.0

    def __init__(self, spool: str, kind: str, minutes: float, linger: float, ticket: str = ""):
        self.spool, self.kind, self.minutes, self.linger = spool, kind, minutes, linger
        self.ticket = ticket
        self._station: Station | None = None
        self._began = time.time()

    def __call__(self) -> int:
        """How many tickets it has worked on."""
        self._began = time.time()
        where, spool, done = submitit().JobEnvironment(), Spool(Path(self.spool)), 0
        spool.join(where.job_id, self.kind)
        if not _has(spool, self.ticket, where.job_id):
            again = "SLURM_RESTART_COUNT" in os.environ  # by SLURM, which cannot say with what
            known = sorted(spool.held()) if again else []
            self.ticket = next((t for t in known if _has(spool, t, where.job_id)), "")
        self._station = Station(f"{where.cluster} {where.job_id}")
        try:
            while self.ticket or (self._has_time(done) and self._take(spool, where.job_id)):
                end = self._station.work(self.spool, self.ticket)
                self.ticket, done = "", done + 1
                if end in (BROKEN, tasks.STORAGE):  # the next one would fare no better
                    break
        finally:
            self._station.close()
        spool.leave(where.job_id, self.kind)
        return done

    def checkpoint(self) -> Any:
        """Called by submitit when the time is up or the machine is wanted."""
        job, spool = submitit().JobEnvironment().job_id, Spool(Path(self.spool))
        if self._station is not None:
            if not _has(spool, self.ticket, job):  # between two tickets: nothing to queue again
                spool.leave(job, self.kind)
                return None
            left = self._left()
            limit = left <= 2 * LEAVE_SECONDS  # SLURM may signal that much earlier
            seconds = max(1.0, 0.8 * min(LEAVE_SECONDS, left))
            self._station.leave(self.spool, self.ticket, seconds, limit)
        again = Job(self.spool, self.kind, self.minutes, self.linger, self.ticket)
        return submitit().helpers.DelayedSubmission(again)

    def _take(self, spool: Spool, job: str) -> bool:
        """Have the oldest ticket that nobody has; False where there has been none for long."""
        until, pause = time.monotonic() + self.linger, self.linger / 100
        while not spool.stopping():
            for ticket in spool.offered(self.kind):
                self.ticket = ticket  # before it is ours: a signal may come right after
                if spool.claim(ticket, job):
                    if spool.wants(ticket):
                        return True
                    spool.release(ticket)  # the driver had just taken it back
            self.ticket = ""
            if time.monotonic() > until:
                break
            time.sleep(pause * random.uniform(0.5, 1.5))  # many jobs may wait at once
            pause = min(1.3 * pause, self.linger / 20)
        return False

    def _has_time(self, done: int) -> bool:
        """Whether to begin another ticket, where SLURM says when the job ends."""
        known = "SLURM_JOB_END_TIME" in os.environ
        return not (done and known and self._left() < 2 * LEAVE_SECONDS)

    def _left(self) -> float:
        """Seconds until the time limit."""
        end = os.environ.get("SLURM_JOB_END_TIME")
        return (float(end) if end else self._began + 60 * self.minutes) - time.time()


def _has(spool: Spool, ticket: str, job: str) -> bool:
    """Whether a job has a ticket whose task has still to be done."""
    return bool(ticket) and spool.holder(ticket) == job and spool.wants(ticket)


def submitit() -> Any:
    """The library. Raises `EngineError` where it is missing."""
    try:
        return importlib.import_module("submitit")
    except ImportError:
        raise EngineError(
            'engine slurm: submitit is missing: pip install "activjax[slurm]"'
        ) from None
