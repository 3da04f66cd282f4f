"""Memory that this machine has free, and that a process holds; known without waiting for jax."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path


def resident(pid: int | None = None) -> int:
    """Bytes of memory that a process holds now; 0 if it is gone."""
    try:
        pages = Path(f"/proc/{pid or os.getpid()}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0 if pid is not None else peak()


def peak() -> int:
    """The most bytes of memory that this process has held."""
    # `getrusage` starts with the peak of the process that started this one
    found = _field("/proc/self/status", "VmHWM:")
    if found is not None:
        return found
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def available() -> int | None:
    """Bytes of memory that are free for programs; None where the system does not tell."""
    return _field("/proc/meminfo", "MemAvailable:")


def _field(path: str, name: str) -> int | None:
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
