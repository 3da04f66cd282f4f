"""The local engine: worker processes that may die at any moment without anything being lost.

No pool: every worker is watched by itself, is replaced when it dies, and the task it had is told
as lost. A worker takes one task after another, so that starting and compiling are paid once.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from activjax.runs import memory
from activjax.runs.errors import EngineError
from activjax.runs.sweep import tasks
from activjax.runs.sweep.tasks import Event, Task
from activjax.runs.sweep.worker import BROKEN, READY, Hello

_LOOK_SECONDS = 0.25  # between two looks at memory and time
_STARTS = 3  # deaths before the first task after which no more workers are started
_TAIL_LINES = 40
_CLOSE_SECONDS = 2.0


@dataclasses.dataclass
class _Worker:
    slot: int
    process: subprocess.Popen
    events: int  # the reading end of its pipe
    buffer: bytes = b""
    ready: bool = False
    task: Task | None = None
    deadline: float = float("inf")
    finishing: str | None = None
    condemned: str | None = None  # why we kill it


class LocalEngine:
    """Worker processes on this machine, each on cores of its own.

    Args:
        hello: what every worker is told first.
        cores: for each worker the cores it may use; empty for all.
        log: begins the names of the workers' logs in the sweep's `logs/`.

    Raises:
        EngineError: from `poll`, when workers die before their first task.
    """

    name = "local"

    def __init__(self, hello: Hello, cores: list[set[int]], log: str = "worker"):
        self._hello, self._cores, self._log = hello, cores, log
        self.slots = len(cores)
        self._workers: dict[int, _Worker] = {}
        self._waiting: collections.deque[Task] = collections.deque()
        self._selector = selectors.DefaultSelector()
        self._looked = 0.0
        self._stillborn = 0
        self._stopping = False

    def submit(self, task: Task) -> None:
        """Queue a task; it starts when a worker is free."""
        self._waiting.append(task)

    def poll(self, timeout: float) -> list[Event]:
        """What has happened. Raises `EngineError`."""
        self._assign()
        found: list[Event] = []
        for key, _ in self._selector.select(min(timeout, _LOOK_SECONDS)):
            found += self._hear(key.data)
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self._looked = time.monotonic()
            self._enforce()
        if self._stopping:
            found += [Event(task.id, tasks.STOPPED) for task in self._waiting]
            self._waiting.clear()
        return found

    def stop(self) -> None:
        """Ask every worker for a checkpoint and its end."""
        for worker in self._workers.values():
            _signal(worker, signal.SIGTERM)
        self._stopping = True

    def wait(self, seconds: float) -> None:
        """Until all workers have ended, at most so long; after `stop`, also in a signal handler."""
        until = time.monotonic() + seconds
        for worker in list(self._workers.values()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, until - time.monotonic()))

    def close(self) -> None:
        """End idle workers, kill all others."""
        for worker in self._workers.values():
            assert worker.process.stdin is not None
            with contextlib.suppress(OSError):
                worker.process.stdin.close()
        for worker in list(self._workers.values()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                if worker.ready and worker.task is None:
                    worker.process.wait(_CLOSE_SECONDS)
            _signal(worker, signal.SIGKILL)
            worker.process.wait()
            self._forget(worker)
        self._selector.close()

    def _assign(self) -> None:
        idle = [w for w in self._workers.values() if w.ready and w.task is None]
        while self._waiting and idle and not self._stopping:
            worker, task = idle.pop(0), self._waiting.popleft()
            worker.task, worker.finishing, worker.condemned = task, None, None
            worker.deadline = _deadline(task, len(task.cells))
            self._send(worker, task.to_json())
        starting = sum(not w.ready for w in self._workers.values())
        free = [slot for slot in range(self.slots) if slot not in self._workers]
        while free and len(self._waiting) > starting and not self._stopping:
            self._start(free.pop(0))
            starting += 1

    def _start(self, slot: int) -> None:
        reading, writing = os.pipe()
        log_path = self._log_of(slot)
        log_path.parent.mkdir(parents=True, exist_ok=True)
        cores = self._cores[slot]
        environment = dict(os.environ)
        if cores:
            environment["OMP_NUM_THREADS"] = str(len(cores))
        command = [sys.executable, "-m", "activjax.runs.sweep.worker", str(writing)]
        before = os.sched_getaffinity(0) if cores else set()
        cwd = self._hello.cwd if os.path.isdir(self._hello.cwd) else None
        with log_path.open("ab") as log:
            try:
                if cores:  # inherited, so that no library sees more cores even for a moment
                    os.sched_setaffinity(0, cores)
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment,
                    pass_fds=(writing,), start_new_session=True, cwd=cwd,
                )  # fmt: skip
            finally:
                if cores:
                    os.sched_setaffinity(0, before)
        os.close(writing)
        worker = self._workers[slot] = _Worker(slot, process, reading)
        self._selector.register(reading, selectors.EVENT_READ, worker)
        self._send(worker, dataclasses.asdict(self._hello))

    def _log_of(self, slot: int) -> Path:
        return Path(self._hello.folder) / "logs" / f"{self._log}-{slot}.txt"

    def _send(self, worker: _Worker, data: dict[str, Any]) -> None:
        assert worker.process.stdin is not None
        with contextlib.suppress(OSError):  # it has died: its pipe will say so
            worker.process.stdin.write(json.dumps(data).encode() + b"\n")
            worker.process.stdin.flush()

    def _hear(self, worker: _Worker) -> list[Event]:
        data = os.read(worker.events, 1 << 16)
        if not data:
            return self._bury(worker)
        *lines, worker.buffer = (worker.buffer + data).split(b"\n")
        return [event for line in lines for event in self._event(worker, json.loads(line))]

    def _event(self, worker: _Worker, said: dict[str, Any]) -> list[Event]:
        kind, data, task = said["kind"], said["data"], worker.task
        if kind == READY:
            worker.ready = True
            self._stillborn = 0
            return []
        if kind == BROKEN:
            raise EngineError(data["message"])
        if task is None:
            return []
        if kind == tasks.FINISHING:
            if data["cell"] != worker.finishing:  # None: all of them are trained again, a next case
                worker.deadline = _deadline(task, 1 if data["cell"] else len(task.cells))
            worker.finishing = data["cell"]
        if kind in tasks.ENDS:
            worker.task, worker.deadline = None, float("inf")
        return [Event(task.id, kind, data, worker.slot)]

    def _enforce(self) -> None:
        """Kill what takes too long or too much."""
        for worker in self._workers.values():
            task = worker.task
            if task is None or worker.condemned:
                continue
            if time.monotonic() > worker.deadline:
                worker.condemned = "time"
            elif task.memory_mb and memory.resident(worker.process.pid) > task.memory_mb * 2**20:
                worker.condemned = "memory"
            if worker.condemned:
                _signal(worker, signal.SIGKILL)

    def _bury(self, worker: _Worker) -> list[Event]:
        code = worker.process.wait()
        self._forget(worker)
        task = worker.task
        if task is None:
            if not worker.ready and not self._stopping:
                self._stillborn += 1
                if self._stillborn >= _STARTS:
                    told = tail(self._log_of(worker.slot))
                    raise EngineError(f"workers end before their first task:\n{told}")
            return []
        reason = worker.condemned or "crash"
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        message = {
            "time": f"took more than {task.seconds:g} s a cell" if task.seconds else "",
            "memory": f"its process held more than {task.memory_mb or 0:g} MB",
            "crash": f"its process died ({ended})",
        }[reason]
        log = Path(self._hello.folder) / "batches" / task.id / "log.txt"
        data = {
            "reason": reason, "message": message, "finishing": worker.finishing,
            "traceback": tail(log) or None,
        }  # fmt: skip
        return [Event(task.id, tasks.LOST, data, worker.slot)]

    def _forget(self, worker: _Worker) -> None:
        self._selector.unregister(worker.events)
        os.close(worker.events)
        if worker.process.stdin is not None:
            with contextlib.suppress(OSError):
                worker.process.stdin.close()
        self._workers.pop(worker.slot, None)


def cores() -> int:
    """How many cores this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def cores_for(workers: int) -> list[set[int]]:
    """The cores of each of `workers` processes: disjoint where there are enough of them."""
    if not hasattr(os, "sched_getaffinity"):
        return [set() for _ in range(workers)]
    mine = sorted(os.sched_getaffinity(0))
    if workers > len(mine):
        return [{mine[i % len(mine)]} for i in range(workers)]
    share = len(mine) // workers
    return [set(mine[i * share : (i + 1) * share]) for i in range(workers)]


def tail(path: Path) -> str:
    """The last lines of a log; empty if there is none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-_TAIL_LINES:])


def _deadline(task: Task, cells: int) -> float:
    return time.monotonic() + task.seconds * cells if task.seconds else float("inf")


def _signal(worker: _Worker, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        worker.process.send_signal(number)
