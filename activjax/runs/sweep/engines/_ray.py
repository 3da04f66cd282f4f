"""Ray: every task is a Ray task; its object store holds nothing of ours."""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from activjax.runs.errors import EngineError
from activjax.runs.sweep.engines._options import Options
from activjax.runs.sweep.engines._scheduler import Gone
from activjax.runs.sweep.engines._station import Station
from activjax.runs.sweep.engines._tickets import Spool

_STATIONS: list[Station] = []  # of this process of Ray's: its worker keeps its compiled programs


def work(spool: str, ticket: str) -> str:
    """What Ray runs. Returns the kind of the task's end."""
    if not _STATIONS:
        ray: Any = importlib.import_module("ray")
        _STATIONS.append(Station(f"ray {ray.get_runtime_context().get_node_id()[:8]}"))
    return _STATIONS[0].work(spool, ticket)


class Ray:
    """The scheduler.

    Args:
        options: `address` of a running cluster (`HOST:PORT`, `ray://HOST:PORT`, `auto`), or None:
            the variable RAY_ADDRESS, else a cluster of this machine, which ends with the sweep.
        spool: of the engine.

    Raises:
        EngineError: no ray, no cluster there, or none of its machines has the resources.
    """

    name = "ray"
    pulls = False  # its workers live on by themselves
    needs: Mapping[str, Any] = {}  # no job outlives its driver
    ask_seconds = 0.2
    gather_seconds = 0.0
    grace_seconds = 5.0

    def __init__(self, options: Options, spool: Spool):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        _use_token(options.address)
        try:
            self._ray: Any = importlib.import_module("ray")
        except ImportError:
            raise EngineError('engine ray: ray is missing: pip install "activjax[ray]"') from None
        self._spool = spool
        self._mine = not self._ray.is_initialized()
        if self._mine:
            self._connect(options.address)
        self._refs: dict[str, Any] = {}
        needs = _needs(options.resources)
        self.slots = options.workers or self._fit(needs)
        self.most = 2 * self.slots
        # a task that dies is the driver's to judge: it knows whether there was progress
        self._work = self._ray.remote(work).options(max_retries=0, **needs)

    def _connect(self, address: str | None) -> None:
        running = address or os.environ.get("RAY_ADDRESS")
        try:
            _answers(running or "")
            with _signals_kept():
                self._ray.init(
                    address=running or "local",  # Ray would join whatever ran here last
                    include_dashboard=None if running else False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
        except Exception as error:
            where = running or "this machine"
            last = str(error).strip().splitlines() or [type(error).__name__]
            raise EngineError(
                f"engine ray: no cluster at {where} ({last[0]}): start one with "
                "`ray start --head --port=6379` and give `--address HOST:6379`, or leave "
                "--address out for a cluster of this machine alone"
            ) from error

    def _fit(self, needs: Mapping[str, Any]) -> int:
        """How many tasks the cluster can hold now."""
        there = self._ray.cluster_resources()
        wanted = {"CPU": needs["num_cpus"], "GPU": needs["num_gpus"], **needs["resources"]}
        if "memory" in needs:
            wanted["memory"] = needs["memory"]
        places = [math.floor(there.get(k, 0) / n) for k, n in wanted.items() if n]
        fit = min(places, default=1)
        if fit < 1:
            asked = ", ".join(f"{k}={n:g}" for k, n in wanted.items() if n)
            have = ", ".join(f"{k}={n:g}" for k, n in sorted(there.items()) if ":" not in k)
            raise EngineError(
                f"engine ray: no machine of the cluster can hold one task ({asked}; there are "
                f"{have}): ask for less with --resources, or give --workers if it will grow"
            )
        return fit

    def start(self, tickets: Sequence[str]) -> Sequence[str]:
        """One Ray task for each ticket."""
        refs = [self._work.remote(str(self._spool.path), ticket) for ticket in tickets]
        self._refs |= {ref.hex(): ref for ref in refs}
        return [ref.hex() for ref in refs]

    def take_over(self, jobs: Iterable[str]) -> set[str]:
        """None: Ray ends the tasks of a driver that is gone."""
        return set()

    def gone(self, jobs: Iterable[str]) -> Mapping[str, Gone]:
        """Those that are over, with what Ray says of them."""
        refs = {self._refs[job]: job for job in jobs}
        if not refs:
            return {}
        try:
            over, _ = self._ray.wait(list(refs), num_returns=len(refs), timeout=0)
        except Exception as error:
            raise EngineError(
                f"engine ray: the cluster does not answer any more ({type(error).__name__}); what "
                "is done is safe, the same command goes on"
            ) from error
        found = {}
        for ref in over:
            try:
                self._ray.get(ref)
                found[refs[ref]] = Gone("crash", "its Ray task ended without a word")
            except self._ray.exceptions.LocalRayletDiedError as error:  # nothing starts here now
                raise EngineError(
                    "engine ray: this machine's part of the cluster has ended; what is done is "
                    "safe, the same command goes on"
                ) from error
            except Exception as error:
                found[refs[ref]] = self._why(error)
        return found

    def _why(self, error: Exception) -> Gone:
        errors = self._ray.exceptions
        text = (str(error).strip().splitlines() or [""])[0][:200]
        if isinstance(error, errors.OutOfMemoryError):
            return Gone("memory", f"Ray ended its process for want of memory: {text}")
        taken = isinstance(error, (errors.NodeDiedError, errors.TaskCancelledError))
        return Gone("" if taken else "crash", f"its Ray worker ended: {text}")

    def cancel(self, jobs: Iterable[str]) -> None:
        """End them, running or not."""
        for job in jobs:
            with contextlib.suppress(Exception):
                self._ray.cancel(self._refs[job], force=True)

    def withdraw(self, jobs: Iterable[str]) -> None:
        """Every job of Ray's has a ticket: nothing to do."""

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        self._refs.clear()
        if self._mine:
            with contextlib.suppress(Exception):
                self._ray.shutdown()


def _use_token(address: str | None) -> None:
    """Show a running cluster the token that `ray start` has found on this machine.

    Ray does that for clusters it starts, not for those it joins; one without tokens ignores it.
    """
    running = address or os.environ.get("RAY_ADDRESS")
    given = "RAY_AUTH_MODE" in os.environ or "ray" in sys.modules
    if running and not given and (Path.home() / ".ray" / "auth_token").is_file():
        os.environ["RAY_AUTH_MODE"] = "token"


def _answers(address: str) -> None:
    """Whether anybody listens there: `ray.init` asks for two minutes, and then ends the process."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10.0).close()


def _needs(resources: Mapping[str, Any]) -> dict[str, Any]:
    """A task's resources in Ray's words. Raises `EngineError`."""
    given = dict(resources)
    if "minutes" in given:
        raise EngineError(
            "engine ray: resources: minutes: Ray has no time limit; use --cell-seconds"
        )
    found: dict[str, Any] = {
        "num_cpus": given.pop("cpus", 1), "num_gpus": given.pop("gpus", 0),
    }  # fmt: skip
    if memory := given.pop("memory_gb", None):
        found["memory"] = int(memory * 2**30)
    odd = [name for name, value in given.items() if isinstance(value, str)]
    if odd:
        raise EngineError(
            f"engine ray: resources: {odd[0]}: expected an amount of a resource that the cluster "
            f"defines, got '{given[odd[0]]}'"
        )
    return {**found, "resources": given}


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """`ray.init` takes SIGTERM for itself, which is how a sweep is asked to stop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
