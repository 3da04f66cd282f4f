"""SLURM, by submitit: every task is an element of a job array."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import shutil
import signal
import subprocess
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from activjax.runs.errors import EngineError
from activjax.runs.sweep.engines._options import Options
from activjax.runs.sweep.engines._spool import Gone
from activjax.runs.sweep.engines._station import Station
from activjax.runs.sweep.engines._tickets import Spool

_SLOTS, _MINUTES = 64, 240
_LEAVE_SECONDS = 60  # between the signal and the end; the checkpoint must be saved within
_SACCT_SECONDS = 30.0  # between two questions to the accounting, one for all jobs
_ARRAY = 1000  # elements of an array; SLURM's MaxArraySize is 1001 unless the cluster says more
_TIMEOUTS = 1000  # a job that meets its time limit is queued again: its checkpoints make progress

#: Of the states in which a job is over, those that are somebody's fault.
_FAULTS = {"OUT_OF_MEMORY": "memory"}
_TAKEN = ("PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REVOKED", "REQUEUED", "REQUEUE_HOLD", "TIMEOUT")


class Job:
    """What an element of the array runs. Before the machine is taken away it saves and is queued
    again, which submitit does after `checkpoint`.
    """

    def __init__(self, spool: str, ticket: str):
        self.spool, self.ticket = spool, ticket
        self._station: Station | None = None

    def __call__(self) -> str:
        """The kind of the task's end."""
        where = _submitit().JobEnvironment()
        self._station = Station(f"{where.cluster} {where.job_id}")
        try:
            return self._station.work(self.spool, self.ticket)
        finally:
            self._station.close()

    def checkpoint(self) -> Any:
        """Called by submitit when the time is up or the machine is wanted."""
        if not Spool(Path(self.spool)).wants(self.ticket):
            return None  # it has just ended: nothing to queue again
        if self._station is not None:
            self._station.leave(self.spool, self.ticket, 0.9 * _LEAVE_SECONDS)
        return _submitit().helpers.DelayedSubmission(Job(self.spool, self.ticket))


class Slurm:
    """The scheduler.

    Args:
        options: `address` is None or `"local"`: submitit's stand-in on this machine.
        spool: of the engine; jobs and logs are in its `submitit/`.

    Raises:
        EngineError: no submitit, no SLURM, or a resource that it does not know.
    """

    name = "slurm"

    def __init__(self, options: Options, spool: Spool):
        submitit = _submitit()
        self._local = options.address == "local"
        if options.address not in (None, "local"):
            raise EngineError(
                f"engine slurm: address '{options.address}': it has none; run this command on a "
                "login node of the cluster, or give `--address local` to try it on this machine"
            )
        if not self._local and shutil.which("sbatch") is None:
            raise EngineError(
                "engine slurm: there is no `sbatch` here: run this command on a login node of the "
                "cluster, or give `--address local` to try the same jobs on this machine"
            )
        self._spool = spool
        self.slots = options.workers or (os.cpu_count() or 1 if self._local else _SLOTS)
        self.most = self.slots if self._local else 2 * self.slots  # a queue that is never empty
        self.ask_seconds = 0.5 if self._local else 15.0
        self.gather_seconds = 0.2 if self._local else 5.0
        self.grace_seconds = 0.5 if self._local else 60.0
        logging.getLogger("submitit").setLevel(logging.ERROR)  # "job has requeued" and the like
        folder = spool.path / "submitit"
        kind = "local" if self._local else "slurm"
        self._executor = submitit.AutoExecutor(
            folder, cluster=kind, **{f"{kind}_max_num_timeout": _TIMEOUTS}
        )
        local, cluster = submitit.local.local.LocalJob, submitit.slurm.slurm.SlurmJob
        self._job_class = local if self._local else cluster
        self._folder = folder
        self._jobs: dict[str, Any] = {}
        self._asked = 0.0
        try:
            self._executor.update_parameters(**self._parameters(options))
        except (NameError, TypeError, ValueError) as error:  # submitit names those there are
            raise EngineError(f"engine slurm: resources: {error}") from None

    def _parameters(self, options: Options) -> dict[str, Any]:
        given = dict(options.resources)
        found: dict[str, Any] = {
            "name": "activjax",
            "timeout_min": given.pop("minutes", _MINUTES),
            "cpus_per_task": int(given.pop("cpus", 1)),
            "slurm_signal_delay_s": _LEAVE_SECONDS,
            "slurm_array_parallelism": self.slots,
        }
        if gpus := given.pop("gpus", 0):
            found["gpus_per_node"] = int(gpus)
        if memory := given.pop("memory_gb", None):
            found["mem_gb"] = memory
        if "setup" in given:  # a line of shell before the job, such as `module load cuda`
            given["setup"] = [str(given["setup"])]
        return {**found, **{f"slurm_{k}": v for k, v in given.items()}}

    def start(self, tickets: Sequence[str]) -> Mapping[str, str]:
        """Submit the tickets as one job array."""
        jobs = [Job(str(self._spool.path), ticket) for ticket in tickets]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = [
                    job
                    for i in range(0, len(jobs), _ARRAY)
                    for job in self._executor.submit_array(jobs[i : i + _ARRAY])
                ]
        except Exception as error:
            last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise EngineError(
                f"engine slurm: the jobs could not be submitted: {last[0]}; what is done is safe, "
                "the same command goes on"
            ) from error
        self._jobs |= dict(zip(tickets, made))
        return {ticket: job.job_id for ticket, job in zip(tickets, made)}

    def take_over(self, jobs: Mapping[str, str]) -> set[str]:
        """Jobs outlive their driver."""
        found = {t: self._job_class(self._folder, name) for t, name in jobs.items()}
        if found and not self._local:
            next(iter(found.values())).watcher.update()  # one question for all of them
        alive = {t: job for t, job in found.items() if self._alive(job)}
        self._jobs |= alive
        return set(alive)

    def _alive(self, job: Any) -> bool:
        if not self._local:
            return not job.watcher.is_done(job.job_id, mode="cache")
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{job.job_id}/cmdline").read_bytes()
            return b"submitit" in command
        return False

    def gone(self, tickets: Iterable[str]) -> Mapping[str, Gone]:
        """Those that are over."""
        found, tickets = {}, list(tickets)
        if tickets and not self._local and time.monotonic() - self._asked > _SACCT_SECONDS:
            self._asked = time.monotonic()  # by itself submitit asks every ten minutes in the end
            self._jobs[tickets[0]].watcher.update()
        for ticket in tickets:
            job = self._jobs[ticket]
            if not self._local:
                state = job.watcher.get_state(job.job_id, mode="cache").split(" ")[0]
                over = state in _TAKEN or job.watcher.is_done(job.job_id, mode="cache")
            elif job._process is None:  # of the driver before
                over, state = not self._alive(job), "FINISHED"
            else:
                over, state = job.done(), job.state
            if over:
                found[ticket] = self._why(job, state)
        return found

    def _why(self, job: Any, state: str) -> Gone:
        log = job.paths.stderr.relative_to(self._spool.path.parents[1])
        reason = "" if state in _TAKEN else _FAULTS.get(state, "crash")
        return Gone(reason, f"job {job.job_id} ended ({state.lower()}); its log is {log}")

    def cancel(self, tickets: Iterable[str]) -> None:
        """`scancel` of all of them."""
        names = [self._jobs[t].job_id for t in tickets if t in self._jobs]
        if self._local:
            for name in names:
                with contextlib.suppress(Exception):
                    _kill_tasks(int(name))
            return
        for i in range(0, len(names), _ARRAY):  # one question, not one for each
            with contextlib.suppress(OSError):
                subprocess.run(["scancel", *names[i : i + _ARRAY]], capture_output=True)

    def close(self) -> None:
        """Jobs are the cluster's; nothing is held here."""


def _kill_tasks(controller: int) -> None:
    """Kill what a job's controller runs; it ends with it, quietly, and the worker, too."""
    until = time.monotonic() + 2.0
    while time.monotonic() < until:  # its first moments have no task yet
        tasks = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
        if tasks:
            for task in tasks:
                os.kill(int(task), signal.SIGKILL)
            return
        time.sleep(0.02)


def _submitit() -> Any:
    try:
        return importlib.import_module("submitit")
    except ImportError:
        raise EngineError(
            'engine slurm: submitit is missing: pip install "activjax[slurm]"'
        ) from None
