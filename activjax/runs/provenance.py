"""`provenance.json`: how a run came about. Everything that may vary while its numbers do not."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

from activjax.runs import memory
from activjax.runs.config import RunConfig
from activjax.runs.store import RunFolder

_PACKAGES = ("activjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


class Provenance:
    """The record of one run, carried on from attempt to attempt."""

    def __init__(self, folder: RunFolder, run: RunConfig):
        self._folder = folder
        before = folder.read_json("provenance.json") or {}
        self._begin = time.monotonic()
        self._wall = float(before.get("wall_seconds", 0.0))
        self._peak = float(before.get("peak_memory_mb", 0.0))
        # until it says otherwise, an attempt was killed
        self._attempt = {"started": _now(), "seconds": 0.0, "ended": "killed"}
        attempts = [*before.get("attempts", []), self._attempt]
        self.data: dict[str, Any] = {
            "id": run.id,
            "name": run.name,
            "experiment": run.experiment.label,
            "seeds": list(run.seeds),
            "source_hash": run.source,
            **surroundings(run.experiment.path),
            "device": device(),
            "wall_seconds": self._wall,
            "compile_seconds": float(before.get("compile_seconds", 0.0)),
            "peak_memory_mb": self._peak,
            "resumed": len(attempts) - 1,
            "width": before.get("width", {}),
            "attempts": attempts,
        }

    def compiled(self, case: str | None, width: int, seconds: float) -> None:
        """Note the number of cells of a case's program and the time to compile it."""
        self.data["width"][case or "all"] = width
        self.data["compile_seconds"] = round(self.data["compile_seconds"] + seconds, 3)

    def write(self, ended: str = "killed") -> None:
        """Bring times and memory up to date and write the file. Raises `StorageError`."""
        seconds = time.monotonic() - self._begin
        self._attempt.update(seconds=round(seconds, 3), ended=ended)
        self.data["wall_seconds"] = round(self._wall + seconds, 3)
        self.data["peak_memory_mb"] = round(max(self._peak, memory.peak() / 2**20), 1)
        self._folder.write_json("provenance.json", self.data)


def surroundings(experiment: Path) -> dict[str, Any]:
    """Repository, interpreter, system and versions; wakes no device."""
    return {
        "git": git_state(experiment.parent),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "jax_variables": {k: v for k, v in sorted(os.environ.items()) if k.startswith("JAX_")},
    }


def versions() -> dict[str, str]:
    """Installed versions of what the numbers depend on."""
    import activjax

    found = {"activjax": activjax.__version__}
    for name in _PACKAGES[1:]:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def device() -> dict[str, Any]:
    """Platform, kind and number of the devices that JAX sees."""
    import jax

    devices = jax.devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "count": len(devices),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit and whether there are uncommitted changes; None outside a repository."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout

    try:
        commit = git("rev-parse", "HEAD").strip()
        return {"commit": commit, "dirty": bool(git("status", "--porcelain").strip())}
    except (OSError, subprocess.SubprocessError):
        return None


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
