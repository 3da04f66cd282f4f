"""A worker process: tasks come in on standard input, events go out on a pipe, both JSON lines.

    python -m activjax.runs.sweep.worker FD

It ends when its standard input does, so it cannot outlive its driver by more than a moment.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import faulthandler
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from activjax.runs.errors import ExperimentError, LockedError, RunError, Stopped, StorageError
from activjax.runs.sweep import tasks
from activjax.runs.sweep.tasks import Task

READY, BROKEN = "ready", "broken"
_STEP_SECONDS = 0.2
_GRACE_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1


@dataclasses.dataclass(frozen=True)
class Hello:
    """What a worker is told before its first task.

    Attributes:
        folder: the sweep's.
        experiment: dotted module, or absolute path of a file.
        source: hash of the sources, which must be those that the worker finds.
        checkpoint_seconds, engine, sharded, workers: as in `executor.Settings`.
        cache: root of the shared compilation caches.
        cwd: where the worker is started: `-m` looks for modules there first; "" for here.
    """

    folder: str
    experiment: str
    source: str
    checkpoint_seconds: float
    engine: str
    sharded: bool
    workers: int
    cache: str
    cwd: str = ""


def executor(hello: Hello, tell: Any, stopping: Any) -> Any:
    """An `Executor` for a sweep. Raises `ConfigError` where the sources have changed."""
    from activjax.runs import contract, sources
    from activjax.runs.errors import ConfigError
    from activjax.runs.sweep.executor import Executor, Settings
    from activjax.runs.sweep.folder import SweepFolder

    experiment = contract.load(hello.experiment, None)
    if sources.source_hash(experiment.path) != hello.source:
        raise ConfigError(
            f"the sources of {experiment.label} or of activjax have changed since the sweep was "
            "started; start it again: it becomes another sweep, and what is done stays"
        )
    settings = Settings(
        experiment,
        hello.source,
        hello.checkpoint_seconds,
        hello.engine,
        hello.sharded,
        hello.workers,
    )
    return Executor(SweepFolder(hello.folder), settings, tell, stopping)


def perform(executor: Any, task: Task) -> tuple[str, dict[str, Any]]:
    """Do a task in this process; returns how it ends, never raises."""
    from activjax.hosts import Elsewhere
    from activjax.runs.sweep.batch import Blurred, OutOfMemory, of_memory
    from activjax.runs.train import Paused

    try:
        if task.kind == tasks.PROBE:
            return tasks.PROBED, executor.probe(task)
        executor.run(task)
        return tasks.DONE, {}
    except LockedError:
        return tasks.CLAIMED, {}
    except Stopped as error:
        return tasks.STOPPED, {"message": str(error)}
    except Paused as pause:
        return tasks.PAUSED, {"step": pause.step}
    except StorageError as error:
        return tasks.STORAGE, {"message": str(error)}
    except OutOfMemory as error:
        return tasks.SPLIT, {"reason": "memory", "message": str(error)}
    except Blurred as error:
        traced = traceback.format_exc()
        return tasks.SPLIT, {"reason": "raised", "message": str(error), "traceback": traced}
    except ExperimentError as error:  # of a probe: the batches will tell whose it is
        return tasks.PROBED, {"error": str(error), "memory": of_memory(error)}
    except Elsewhere as error:
        return tasks.ELSEWHERE, {"message": str(error)}
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt):
            return tasks.STOPPED, {"message": "stopped"}
        memory = isinstance(error, MemoryError)
        return tasks.SPLIT, {
            "reason": "memory" if memory else "crash",
            "message": f"{type(error).__name__}: {error}",
            "traceback": traceback.format_exc(),
        }


class _Channel:
    """Events to the driver; news of steps at most a few times a second."""

    def __init__(self, fd: int):
        self._fd, self._lock = fd, threading.Lock()
        self._task, self._step_at = "", 0.0

    def begin(self, task: str) -> None:
        self._task, self._step_at = task, 0.0

    def tell(self, kind: str, data: dict[str, Any]) -> None:
        if kind == tasks.STEP:
            if time.monotonic() - self._step_at < _STEP_SECONDS:
                return
            self._step_at = time.monotonic()
        line = json.dumps({"task": self._task, "kind": kind, "data": data}) + "\n"
        with self._lock:
            rest = line.encode()
            try:
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
            except OSError:  # the driver is gone
                os._exit(1)


def main() -> None:
    """See the module."""
    _die_with_parent()
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # SLURM warns all processes of a job with one
        signal.signal(number, signal.SIG_IGN)
    faulthandler.enable()
    channel = _Channel(int(sys.argv[1]))
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    hello = Hello(**json.loads(lines.get() or "{}"))

    from activjax.runs.interrupts import Interrupts
    from activjax.runs.sweep.compile_cache import CompileCache

    cache = CompileCache(Path(hello.cache))
    with Interrupts(lambda text: print(text, flush=True), True, patient=True) as interrupts:
        try:
            cache.use()
            work = executor(hello, channel.tell, lambda: interrupts.signal is not None)
        except RunError as error:
            channel.tell(BROKEN, {"message": str(error)})
            return
        channel.tell(READY, {})
        with contextlib.suppress(KeyboardInterrupt):
            while line := lines.get():
                task = Task.from_json(json.loads(line))
                channel.begin(task.id)
                cache.fetch()
                with _output_to(Path(hello.folder), task), interrupts.deferred():
                    kind, data = perform(work, task)
                cache.publish()
                channel.tell(kind, data)
                if interrupts.signal is not None:
                    break
    cache.close()


def _read(lines: queue.Queue[str | None]) -> None:
    for line in sys.stdin:
        lines.put(line)
    lines.put(None)  # ends an idle worker
    time.sleep(_GRACE_SECONDS)
    os._exit(1)  # the driver is gone: what is on the disk is whole


@contextlib.contextmanager
def _output_to(folder: Path, task: Task) -> Iterator[None]:
    """What the experiment prints, and a crash's last words, go beside the batch."""
    place = folder / ("batches" if task.kind == tasks.BATCH else "logs")
    try:
        path = place / task.id / "log.txt" if task.kind == tasks.BATCH else place / "probes.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError:  # `perform` will meet it too, and say so
        yield
        return
    kept = [os.dup(1), os.dup(2)]
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in zip((1, 2), kept):
            os.dup2(old, number)
            os.close(old)


def _die_with_parent() -> None:
    with contextlib.suppress(OSError, AttributeError):  # Linux only; elsewhere `_read` sees to it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
