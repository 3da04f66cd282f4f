"""SLURM, by submitit: jobs are elements of arrays, and each works on one ticket after another."""

from __future__ import annotations

import contextlib
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
from activjax.runs.sweep.engines._job import LEAVE_SECONDS, Job, submitit
from activjax.runs.sweep.engines._options import Options
from activjax.runs.sweep.engines._scheduler import Gone
from activjax.runs.sweep.engines._tickets import Spool

_SLOTS, _MINUTES = 64, 240
_SACCT_SECONDS = 30.0  # between two questions to the accounting, one for all jobs
_ARRAY = 1000  # elements of an array; SLURM's MaxArraySize is 1001 unless the cluster says more
_TIMEOUTS = 1000  # a job that meets its time limit is queued again: its checkpoints make progress

#: Of the states in which a job is over, those that are somebody's fault.
_FAULTS = {"OUT_OF_MEMORY": "memory", "TIMEOUT": "time"}
_TAKEN = ("PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REVOKED", "REQUEUED", "REQUEUE_HOLD")


class Slurm:
    """The scheduler.

    Args:
        options: `address` is None or `"local"`: submitit's stand-in on this machine.
        spool: of the engine; jobs and logs are in its `submitit/`.

    Raises:
        EngineError: no submitit, no SLURM, or a resource that it does not know.
    """

    name = "slurm"
    pulls = True

    def __init__(self, options: Options, spool: Spool):
        library = submitit()
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
        self.most = self.slots  # they live on
        self.needs: Mapping[str, Any] = dict(options.resources)
        self.ask_seconds = 0.5 if self._local else 15.0
        self.gather_seconds = 0.2 if self._local else 5.0
        self.grace_seconds = 0.5 if self._local else 60.0
        logging.getLogger("submitit").setLevel(logging.ERROR)  # "job has requeued" and the like
        folder = spool.path / "submitit"
        kind = "local" if self._local else "slurm"
        self._executor = library.AutoExecutor(
            folder, cluster=kind, **{f"{kind}_max_num_timeout": _TIMEOUTS}
        )
        local, cluster = library.local.local.LocalJob, library.slurm.slurm.SlurmJob
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
        self._minutes = given.pop("minutes", _MINUTES)
        found: dict[str, Any] = {
            "name": "activjax",
            "timeout_min": self._minutes,
            "cpus_per_task": int(given.pop("cpus", 1)),
            "slurm_signal_delay_s": LEAVE_SECONDS,
            "slurm_array_parallelism": self.slots,
        }
        if gpus := given.pop("gpus", 0):
            found["gpus_per_node"] = int(gpus)
        if memory := given.pop("memory_gb", None):
            found["mem_gb"] = memory
        if "setup" in given:  # a line of shell before the job, such as `module load cuda`
            given["setup"] = [str(given["setup"])]
        return {**found, **{f"slurm_{k}": v for k, v in given.items()}}

    def start(self, tickets: Sequence[str]) -> Sequence[str]:
        """Submit as many jobs as there are tickets, as one array."""
        kind = tickets[0].rpartition("-")[2]
        linger = Job.local_linger_seconds if self._local else Job.linger_seconds
        job = Job(str(self._spool.path), kind, self._minutes, linger)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = [
                    one
                    for i in range(0, len(tickets), _ARRAY)
                    for one in self._executor.submit_array([job] * len(tickets[i : i + _ARRAY]))
                ]
        except Exception as error:
            last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise EngineError(
                f"engine slurm: the jobs could not be submitted: {last[0]}; what is done is safe, "
                "the same command goes on"
            ) from error
        self._jobs |= {job.job_id: job for job in made}
        return [job.job_id for job in made]

    def take_over(self, jobs: Iterable[str]) -> set[str]:
        """Jobs outlive their driver."""
        found = {name: self._job(name) for name in jobs}
        if found and not self._local:
            next(iter(found.values())).watcher.update()  # one question for all of them
        return {name for name, job in found.items() if self._alive(job)}

    def _job(self, name: str) -> Any:
        """One that was started here, or by a driver before."""
        if name not in self._jobs:
            self._jobs[name] = self._job_class(self._folder, name)
        return self._jobs[name]

    def _alive(self, job: Any) -> bool:
        if not self._local:
            return not job.watcher.is_done(job.job_id, mode="cache")
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{job.job_id}/cmdline").read_bytes()
            return b"submitit" in command
        return False

    def gone(self, jobs: Iterable[str]) -> Mapping[str, Gone]:
        """Those that are over."""
        found, known = {}, {name: self._job(name) for name in jobs}
        if known and not self._local and time.monotonic() - self._asked > _SACCT_SECONDS:
            self._asked = time.monotonic()  # by itself submitit asks every ten minutes in the end
            next(iter(known.values())).watcher.update()
        for name, job in known.items():
            if not self._local:
                state = job.watcher.get_state(name, mode="cache").split(" ")[0]
                over = state in _TAKEN or job.watcher.is_done(name, mode="cache")
            elif job._process is None:  # of the driver before
                over, state = not self._alive(job), "FINISHED"
            else:
                over, state = job.done(), job.state
            if over:
                found[name] = self._why(job, state)
        return found

    def _why(self, job: Any, state: str) -> Gone:
        log = job.paths.stderr.relative_to(self._spool.path.parents[1])
        reason = "" if state in _TAKEN else _FAULTS.get(state, "crash")
        return Gone(reason, f"job {job.job_id} ended ({state.lower()}); its log is {log}")

    def cancel(self, jobs: Iterable[str]) -> None:
        """`scancel` of all of them."""
        if not self._local:
            return _scancel(list(jobs))
        for name in jobs:
            with contextlib.suppress(Exception):
                _kill_tasks(int(name))

    def withdraw(self, jobs: Iterable[str]) -> None:
        """`scancel` of those that are pending."""
        if not self._local:
            _scancel(list(jobs), "--state=PENDING")

    def close(self) -> None:
        """Jobs are the cluster's; nothing is held here."""


def _scancel(names: list[str], *how: str) -> None:
    for i in range(0, len(names), _ARRAY):  # one question, not one for each
        with contextlib.suppress(OSError):
            subprocess.run(["scancel", *how, *names[i : i + _ARRAY]], capture_output=True)


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
