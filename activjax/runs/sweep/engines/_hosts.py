"""One program over many hosts: every process does every task, and process 0 is the driver.

The processes of a `jax.distributed` job start the same command. Process 0 plans, writes and tells
the others what comes next; all of them run the same batch on one mesh over all devices, each
finishes the cells that lie on its own devices, and all of them save the checkpoints.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

from activjax import hosts
from activjax.runs.errors import EngineError, RunError, Stopped, StorageError
from activjax.runs.sweep import tasks
from activjax.runs.sweep.engines._inline import InlineEngine
from activjax.runs.sweep.engines._options import Options
from activjax.runs.sweep.tasks import Task
from activjax.runs.sweep.worker import Hello, executor, perform

_FINE = (tasks.DONE, tasks.PROBED, tasks.CLAIMED, tasks.PAUSED)


class _Over(StorageError):
    """Why process 0 has ended, in the others: nobody waits for their answer."""


class HostsEngine(InlineEngine):
    """Process 0's side: one task at a time, on all processes.

    Args:
        hello: as for a worker.
        stopping: whether a stop is wanted here; that of any process counts.

    Raises:
        ConfigError: the experiment cannot be loaded any more.
        EngineError: another process cannot work.
        Stopped: from `poll`, when another process was asked to stop.
    """

    name = "hosts"

    def _ready(self, hello: Hello, stopping: Callable[[], bool]) -> Any:
        _said({"hello": dataclasses.asdict(hello)})
        return _ready(hello, self._tell, stopping)

    def _perform(self, task: Task) -> tuple[str, dict[str, Any]]:
        _said({"task": task.to_json()})
        kind, data = _together(self._executor, task)
        if kind == tasks.STOPPED and not (self._stopping or self._asked()):
            raise Stopped("another process was asked to stop; the same command continues", 143)
        return kind, data


@contextlib.contextmanager
def joined(options: Options) -> Iterator[bool]:
    """Within the block the processes are one; yields whether this one leads.

    What goes wrong in one of them is heard in all, so that none waits for ever.

    Raises:
        EngineError: they did not meet, or another process has failed.
    """
    if options.engine != "hosts":
        yield True
        return
    try:
        hosts.start(options.address, options.processes, options.process)
    except hosts.HostsError as error:
        raise EngineError(f"engine {error}") from error
    leads = hosts.index() == 0
    try:
        yield leads
    except hosts.Elsewhere as error:
        raise EngineError(f"engine hosts: {error}") from error
    except _Over:
        raise
    except RunError as error:
        storage = str(error) if isinstance(error, StorageError) else None
        with contextlib.suppress(hosts.Elsewhere):
            hosts.exchange({"end": True, "storage": storage}, error=None if leads else str(error))
        raise
    except BaseException as error:
        hosts.exchange(error=f"{type(error).__name__}: {error}")
        raise
    else:
        if leads:
            _said({"end": True})


def follow(stopping: Callable[[], bool]) -> None:
    """What the processes other than 0 do, until it lets them go.

    Raises:
        EngineError: this process or another cannot work.
        StorageError: the sweep has ended, since the disk refuses, on whichever process.
    """
    work: Any = None
    while "end" not in (told := _said(None)):
        if "hello" in told:
            work = _ready(Hello(**told["hello"]), lambda *_: None, stopping)
        else:
            _together(work, Task.from_json(told["task"]))
    if told.get("storage"):
        raise _Over(told["storage"])


def _said(message: Any) -> Any:
    """What process 0 says, on every process."""
    return hosts.exchange(message)[0]


def _ready(hello: Hello, tell: Any, stopping: Callable[[], bool]) -> Any:
    """This process's executor, once all have theirs."""
    problem, made = None, None
    try:
        made = executor(hello, tell, stopping)
    except RunError as error:
        problem = error
    for process, said in enumerate(hosts.exchange(None if problem is None else str(problem))):
        if problem is not None:
            raise problem
        if said is not None:
            raise EngineError(f"process {process}: {said}")
    return made


def _together(work: Any, task: Task) -> tuple[str, dict[str, Any]]:
    """Do a task on all processes; the same end on each, as far as it is needed there."""
    kind, data = perform(work, task)
    if kind == tasks.ELSEWHERE:  # the other one has said how it ended
        return _other(data["message"])
    fine = kind in _FINE and "error" not in data
    told = data
    if kind == tasks.STORAGE:  # perhaps of this machine alone
        told = {"message": f"{hosts.here()}: {data['message']}"}
    try:
        hosts.exchange(error=None if fine else json.dumps([kind, told]))
    except hosts.Elsewhere as error:
        return _other(str(error))
    return kind, data


def _other(message: str) -> tuple[str, dict[str, Any]]:
    """The end that another process has told of."""
    text = message.partition(": ")[2]
    (kind, data), _ = json.JSONDecoder().raw_decode(text)
    return kind, data
