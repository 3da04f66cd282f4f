"""Files that are whole or not there, whatever is killed or loses power while they are written."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def whole(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    r"""A file that takes its name at the end of the block, when all of it is on the disk.

    Where the block raises, or is killed, what had the name before keeps it.

    Args:
        path: of the file; its folder is there.
        mode: `"w"` for UTF-8 text whose lines end with `\n`, or `"wb"`.

    Raises:
        OSError: it cannot be written.
    """
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "\n")
    # processes of several machines may write it at once, and have equal numbers
    unique = f"{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(f".{path.name}.{unique}.tmp")
    try:
        with temporary.open(mode, encoding=encoding, newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    settle(path.parent)


def settle(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk. Raises `OSError`."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
