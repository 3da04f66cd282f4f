"""The run folder: atomic writes, the lock, and what state a folder is in.

<root>/<name>/<id>/
    config.yaml         the whole config, reads back to this run (experiment: source/...)
    source/             the experiment's own files
    metrics.jsonl       one line per step and case
    figures/ arrays/    what the experiment saved; contents.json lists it in order
    provenance.json     versions, device, times: everything that may differ between two
                        runs of equal numbers
    result.json         written last; a folder without it is unfinished
    report.html         made from the files above
    failed.json         the traceback of the last attempt, if it raised
    work/               what a resume needs; gone when the run is done
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from activjax import _files
from activjax.runs.errors import LockedError, StorageError
from activjax.runs.result import Result, dumps, from_json

DONE, RUNNING, FAILED, INTERRUPTED = "done", "running", "failed", "interrupted"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LOCK = ".lock"


class Folder:
    """The folder of a run or a sweep, `<root>/<name>/<id>`."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @property
    def id(self) -> str:
        """The 12 hex digits that name it."""
        return self.path.name

    @property
    def name(self) -> str:
        """The name given in the config."""
        return self.path.parent.name

    def read_json(self, name: str) -> Any:
        """A JSON file of the folder; None if it is missing or unreadable."""
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def write_json(self, name: str, data: Any) -> None:
        """Write a JSON file atomically. Raises `StorageError`."""
        write_text(self.path / name, dumps(data))

    def result(self) -> Result | None:
        """The result if there is one, else None."""
        data = self.read_json("result.json")
        return None if data is None else from_json(data)

    def create(self) -> None:
        """Make the folder and see that it can be written, before any work is done.

        Raises:
            StorageError: it cannot.
        """
        with storing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".probe.{os.getpid()}"
            probe.write_bytes(b"?" * 4096)
            probe.unlink()


class RunFolder(Folder):
    """One run's folder, as a path that can be asked for its state."""

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r}, {self.state()})"

    @property
    def report(self) -> Path:
        """Where the report is, or will be."""
        return self.path / "report.html"

    def state(self) -> str:
        """`"done"`, `"running"`, `"failed"` or `"interrupted"` (the same command continues it)."""
        if self.read_json("result.json") is not None:
            return DONE
        if self._locked():
            return RUNNING
        return FAILED if (self.path / "failed.json").exists() else INTERRUPTED

    def clear(self) -> None:
        """Remove everything but the lock."""
        with storing(self.path):
            (self.path / "result.json").unlink(missing_ok=True)  # first: unfinished from here on
            for entry in self.path.iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry)
                elif entry.name != _LOCK:
                    entry.unlink()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder; the lock ends with the process, however it ends.

        Raises:
            LockedError: another process holds it; names its process id.
        """
        with storing(self.path), (self.path / _LOCK).open("a+") as file:
            for attempt in range(5):  # whoever lists runs holds it for an instant
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if attempt == 4:
                        file.seek(0)
                        raise LockedError(
                            f"{self.path}: process {file.read().strip() or '?'} is working on this "
                            "run; wait for it or stop it, or choose another folder with --out DIR"
                        ) from None
                    time.sleep(0.1)
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    def _locked(self) -> bool:
        try:
            with (self.path / _LOCK).open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False


def write_text(path: Path, text: str) -> None:
    """Write a file so that a kill or a power cut leaves the old one or the new one.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _files.whole(path) as file:
            file.write(text)


@contextlib.contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn an `OSError` of the block into a `StorageError` that says what to do."""
    try:
        yield
    except OSError as error:
        raise StorageError(_advice(path, error)) from error


def _advice(path: Path, error: OSError) -> str:
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in _FULL:
        return disk_full(path, reason)
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        block = next((p for p in (path, *path.parents) if p.exists() and not p.is_dir()), path)
        return f"{path}: {block} is a file, expected a folder; choose another one with --out DIR"
    return (
        f"{path}: cannot be written ({reason}); "
        "choose another folder with --out DIR or the variable ACTIVJAX_RUNS"
    )


def disk_full(path: Path, reason: str) -> str:
    """What to say when `path` could not be written for lack of space."""
    return (
        f"{path}: the disk is full ({reason}); free some space and run the same command again: "
        "it continues from the last checkpoint"
    )


def root(out: str | Path | None = None) -> Path:
    """The folder that holds all runs: `out`, else the variable ACTIVJAX_RUNS, else `runs`."""
    return Path(out or os.environ.get("ACTIVJAX_RUNS") or "runs")


def all_runs(folder: Path) -> list[RunFolder]:
    """The runs below a root, newest first."""
    found = [path.parent for path in folder.glob("*/*/config.yaml")]
    return [RunFolder(path) for path in sorted(found, key=_changed, reverse=True)]


def find(run: str, folder: Path) -> RunFolder:
    """The run at a path, or the one under `folder` whose id begins with `run` or that has the name.

    Raises:
        StorageError: none or several.
    """
    if (Path(run) / "config.yaml").is_file():
        return RunFolder(Path(run).resolve())
    return pick(run, all_runs(folder), folder, "runs")


def pick(word: str, runs: Sequence[Any], folder: Path, what: str) -> Any:
    """The one of `runs` whose id begins with `word` or that has the name.

    Raises:
        StorageError: none or several; says which of `what` there are in `folder`.
    """
    found = [r for r in runs if r.id.startswith(word)] or [r for r in runs if r.name == word]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{r.name}/{r.id}" for r in found[:8])
        raise StorageError(f"'{word}' means {len(found)} {what}: {names}; give more of the id")
    from activjax.runs._words import did_you_mean

    near = did_you_mean(word, {r.name for r in runs} | {r.id for r in runs})
    raise StorageError(
        f"no {what.removesuffix('s')} '{word}' in {folder} ({len(runs)} {what} there){near}"
    )


def _changed(path: Path) -> float:
    """When the run last wrote something that matters."""
    names = ("result.json", "provenance.json", "config.yaml")
    return max(((path / n).stat().st_mtime for n in names if (path / n).exists()), default=0.0)
