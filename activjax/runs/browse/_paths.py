"""Which files of the root a request may name: whatever leads outside is as if it were not there."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_LONGEST = 255  # bytes of a file's name


def plain(part: str) -> bool:
    """Whether a text can be the name of one file that is not hidden."""
    return (
        bool(part)
        and part[0] != "."
        and not any(c in "/\\:" or ord(c) < 32 or ord(c) == 127 for c in part)
        and part.isprintable()
        and len(part.encode("utf-8", "surrogatepass")) <= _LONGEST
    )


def inside(root: Path, parts: Sequence[str]) -> Path | None:
    """The file or folder that the parts of a path name, all links followed.

    Args:
        root: the folder of all runs, resolved.
        parts: names, decoded.

    Returns:
        None where it is not below the root, hidden, or not there.
    """
    if not parts or not all(map(plain, parts)):
        return None
    try:
        path = root.joinpath(*parts).resolve(strict=True)
        below = path.relative_to(root).parts
    except (OSError, ValueError, RuntimeError):
        return None
    return path if below and not any(part.startswith(".") for part in below) else None


def read(root: Path, parts: Sequence[str], *, last: int | None = None) -> bytes | None:
    """The bytes of a regular file inside the root; None where there is none.

    Args:
        root: the folder of all runs, resolved.
        parts: names, decoded.
        last: at most so many bytes, from the end.
    """
    path = inside(root, parts)
    return None if path is None else bytes_of(path, last=last)


def bytes_of(path: str | Path, *, last: int | None = None) -> bytes | None:
    """The bytes of a regular file that is no link, in a folder that is inside the root."""
    try:
        # a pipe must not hold the request, nor a link put there since lead outside
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return None
            if last is not None:
                file.seek(max(os.fstat(handle).st_size - last, 0))
            return file.read(-1 if last is None else last)
    except OSError:
        return None


def read_json(root: Path, parts: Sequence[str]) -> Any:
    """A JSON file inside the root; None if it is missing or unreadable."""
    return parsed(read(root, parts))


def parsed(data: bytes | None) -> Any:
    """JSON; None if it is none."""
    try:
        return None if data is None else json.loads(data)
    except (ValueError, RecursionError):
        return None


def stamp(path: str | Path) -> tuple[int, int, int]:
    """What changes when a file does; zeros where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def leaks(root: Path, folder: Path) -> bool:
    """Whether an entry of a folder is a link that leads outside the root."""
    try:
        with os.scandir(folder) as entries:
            links = [entry.path for entry in entries if entry.is_symlink()]
    except OSError:
        return False
    return any(not Path(link).resolve().is_relative_to(root) for link in links)
