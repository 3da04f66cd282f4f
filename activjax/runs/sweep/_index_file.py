"""`index.sqlite`: what is kept of every record of a sweep, so that it need not be read again.

The file is never changed in place but replaced as a whole by rename: a reader sees an old or a new
one, a kill leaves the old one, of two writers the last one wins. An entry is believed if its
checksum holds; whatever else is wrong with the file, it is as if there were none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import time
import urllib.parse
import zlib
from pathlib import Path

_SCHEMA = 1
_TABLE = """CREATE TABLE records (id TEXT PRIMARY KEY, mtime INTEGER, size INTEGER, inode INTEGER,
    state TEXT, kept TEXT, checksum INTEGER) WITHOUT ROWID"""
_STALE = 600.0  # seconds after which an unfinished index is garbage


@dataclasses.dataclass(frozen=True)
class Entry:
    """What the index holds of one record.

    Attributes:
        stamp: time, size and inode of the record; the inode tells two writes of one instant apart.
        state: `"done"` or `"failed"`.
        kept: JSON.
    """

    stamp: tuple[int, int, int]
    state: str
    kept: str


def load(path: Path) -> dict[str, Entry]:
    """The entries of the index that can be believed; none if there is no index or it is damaged."""
    try:
        import sqlite3
    except ImportError:  # a Python without it
        return {}
    # immutable: no locks and no journals, as nobody changes the file in place
    address = f"file:{urllib.parse.quote(os.path.abspath(path))}?mode=ro&immutable=1"
    try:
        with contextlib.closing(sqlite3.connect(address, uri=True)) as base:
            if base.execute("PRAGMA user_version").fetchone()[0] != _SCHEMA:
                return {}
            found = base.execute("SELECT * FROM records").fetchall()
        return {
            cell: Entry((mtime, size, inode), state, kept)
            for cell, mtime, size, inode, state, kept, checksum in found
            if _checksum(cell, state, kept) == checksum
        }
    except (sqlite3.Error, OSError, ValueError, TypeError, OverflowError, MemoryError):
        return {}


def save(path: Path, entries: dict[str, Entry]) -> None:
    """Replace the index; without one where it cannot be written."""
    try:
        import sqlite3
    except ImportError:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    lines = [
        (cell, *entry.stamp, entry.state, entry.kept, _checksum(cell, entry.state, entry.kept))
        for cell, entry in sorted(entries.items())
    ]
    try:
        for old in path.parent.glob(f".{path.name}.*"):  # of processes that were killed
            if time.time() - old.stat().st_mtime > _STALE:
                old.unlink()
        with contextlib.closing(sqlite3.connect(temporary, isolation_level=None)) as base:
            base.execute("PRAGMA journal_mode = OFF")
            base.execute("PRAGMA synchronous = OFF")
            base.execute("BEGIN")
            base.execute(_TABLE)
            base.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)", lines)
            base.execute(f"PRAGMA user_version = {_SCHEMA}")
            base.execute("COMMIT")
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (sqlite3.Error, OSError, OverflowError):
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _checksum(cell: str, state: str, kept: str) -> int:
    return zlib.crc32(f"{cell} {state} {kept}".encode())
