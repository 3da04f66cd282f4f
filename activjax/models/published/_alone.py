"""One writer of a folder at a time: two would mix their arrays in one file."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from activjax.models.published._safetensors import WeightsError


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder, made if missing, while it is written; the lock ends with the process.

    Raises:
      WeightsError: somebody else is writing there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # file systems without locks
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WeightsError(
                    f"{folder}: another save is writing there: wait for it, or name another folder"
                ) from None
        yield
    finally:
        os.close(held)
