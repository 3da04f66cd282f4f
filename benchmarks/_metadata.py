"""System calls that a metadata server would see, counted with strace, of each kind of process."""

from __future__ import annotations

import collections
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import _sweeps

#: What ends at the server of a shared file system; a read of a cached page does not.
_KINDS = {
    "open": ("open", "openat", "creat"),
    "stat": ("stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2",
             "readlink", "readlinkat"),
    "rename": ("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"),
    "unlink": ("unlink", "unlinkat", "rmdir"),
    "mkdir": ("mkdir", "mkdirat"),
    "list": ("getdents", "getdents64"),
    "fsync": ("fsync", "fdatasync", "syncfs"),
    "lock": ("flock",),
}  # fmt: skip
_KIND = {call: kind for kind, calls in _KINDS.items() for call in calls}
_CALL = re.compile(r"^(?:\[pid +\d+\] )?(\w+)\((.*)$")
_TRACE = "trace=%file,fsync,fdatasync,syncfs,flock,getdents64"


def count(engine: str, cells: int, width: int) -> dict[str, collections.Counter]:
    """Calls on paths of the runs, of libraries, and of anything else, of each kind of process."""
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        logs = home / "logs"
        logs.mkdir()
        before = ("strace", "-f", "-ff", "-y", "-qq", "-e", _TRACE, "-s", "300", "-o", f"{logs}/t")
        _sweeps.run(home, engine, _sweeps.TRACED, cells, "warm", width=width)  # compiles
        _sweeps.run(home, engine, _sweeps.TRACED, cells, "x", width=width, before=before)
        found: dict[str, collections.Counter] = {}
        roles = _roles(logs)
        for path in logs.iterdir():
            role = roles[path.name.rpartition(".")[2]]
            found.setdefault(role, collections.Counter()).update(_calls(path, home))
    return found


def _roles(logs: Path) -> dict[str, str]:
    """What each traced thread belongs to, from the command line of its process.

    A thread makes no `execve`; it is counted with whoever wrote the first log before it.
    """
    roles, last = {}, "driver"
    for path in sorted(logs.iterdir(), key=lambda p: int(p.name.rpartition(".")[2])):
        with path.open(errors="replace") as file:
            commands = [line for line in file if line.startswith("execve(") and " = 0" in line]
        if commands:
            told = commands[-1]
            words = {"sweep.worker": "worker", "submitit": "supervisor", "activjax.cli": "driver"}
            last = next((role for word, role in words.items() if word in told), "other")
        roles[path.name.rpartition(".")[2]] = last
    return roles


def _calls(path: Path, home: Path) -> Iterable[tuple[str, str]]:
    runs, libraries = str(home / "runs"), ("site-packages", "/lib/python", "activjax/")
    with path.open(errors="replace") as file:
        for line in file:
            found = _CALL.match(line)
            kind = _KIND.get(found.group(1)) if found else None
            if found is None or kind is None:
                continue
            told = found.group(2)
            if runs in told or '"runs' in told:
                where = "cache" if ".compiled" in told else "sweep"
            elif any(word in told for word in libraries):
                where = "libraries"
            else:
                where = "other"
            yield where, kind


def table(engine: str, sizes: tuple[int, int], width: int) -> None:
    """Print the calls of a batch, from the difference of two sizes, and those of a start."""
    if shutil.which("strace") is None:
        print("strace is not installed: left out")
        return
    few, many = (count(engine, size, width) for size in sizes)
    batches = (sizes[1] - sizes[0]) / width
    print(f"\n{engine}, batches of {width}: calls a batch (of a start: of the whole smaller sweep)")
    for role in sorted(set(few) | set(many)):
        a, b = few.get(role, collections.Counter()), many.get(role, collections.Counter())
        each = {key: (b[key] - a[key]) / batches for key in set(a) | set(b)}
        for where in ("sweep", "cache", "libraries"):
            parts = [f"{k} {each[where, k]:.1f}" for k in _KINDS if each.get((where, k), 0) > 0.05]
            whole = sum(n for (w, _), n in each.items() if w == where)
            start = sum(n for (w, _), n in a.items() if w == where)
            print(f"  {role:10s} {where:9s} {whole:8.1f}  ({', '.join(parts)}); start {start}")
