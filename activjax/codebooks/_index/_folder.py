"""The index's folder on disk: which state it is in, and files that are never half-believed.

meta.json              written last, by fsync and rename; lists every file with its bytes
unfinished             there while the folder is being written
tokens.npy             [tokens] int32, padding left out
examples.npy           [examples + 1] int64, where each example begins, and the end
vocabulary.npy         bytes of all tokens of the vocabulary, and vocabulary_offsets.npy
site000/ids.npy        [codebooks, tokens, k], nearest first; `codes` stands for none
site000/similarities.npy   the same shape, float16 or float32
site000/offsets.npy    [codebooks, codes + 1] int64, into `order`
site000/order.npy      [codebooks, tokens * k], token * k + rank, sorted by code, none last
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from activjax import _files

FORMAT, VERSION = "activjax codes", 1
META, MARK, SPILL, VIEW = "meta.json", "unfinished", "spill", "view"
OWN = ("tokens.npy", "examples.npy", "vocabulary.npy", "vocabulary_offsets.npy")


def prepare(path: Path, *, overwrite: bool) -> TextIO:
    """Make the folder, empty but for the mark; what an unfinished index left is removed.

    Returns:
      The mark, locked while it is open: two writers of one folder would spoil each other's files.

    Raises:
      FileExistsError: a finished index, or something else, is there, or another writer.
    """
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path}: is a file, expected a folder to write the index into")
    if path.is_dir() and any(path.iterdir()):
        meta = read_meta(path)
        own = meta is not None and meta.get("format") == FORMAT
        if own and not overwrite:
            raise FileExistsError(
                f"{path}: holds a finished index; open it with open_index, or replace it with "
                "overwrite=True"
            )
        if not own and not (path / MARK).is_file():
            raise FileExistsError(
                f"{path}: is not empty and not an index; choose a folder of its own"
            )
    path.mkdir(parents=True, exist_ok=True)
    mark = (path / MARK).open("w")
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        mark.close()
        raise FileExistsError(
            f"{path}: another index is being written here; wait for it, or choose another folder"
        ) from None
    mark.write("an index of codes is being written here, or was when it stopped\n")
    mark.flush()
    (path / META).unlink(missing_ok=True)  # from here on it is unfinished
    for name in OWN:
        (path / name).unlink(missing_ok=True)
    for folder in (path / SPILL, path / VIEW, *path.glob("site[0-9][0-9][0-9]*")):
        if folder.is_dir():
            shutil.rmtree(folder)
    return mark


def finish(path: Path, meta: dict[str, Any]) -> None:
    """Write `meta.json`, with the size of every file beside it; from then on the index is one."""
    shutil.rmtree(path / SPILL)
    files = {name: os.path.getsize(path / name) for name in names(path, len(meta["sites"]))}
    for name in files:
        _files.settle(path / name)
    write_json(path / META, {"format": FORMAT, "version": VERSION, **meta, "files": files})
    (path / MARK).unlink()


def names(path: Path, sites: int) -> list[str]:
    """The files of a whole index, `meta.json` left out."""
    kinds = ("ids", "similarities", "offsets", "order")
    parts = [f"site{i:03d}/{kind}.npy" for i in range(sites) for kind in kinds]
    return [name for name in OWN if (path / name).exists()] + parts


def write_json(path: Path, data: Any) -> None:
    """Write a JSON file so that a kill leaves the old one or the new one."""
    with _files.whole(path) as file:
        json.dump(data, file, indent=1)
        file.write("\n")


def read_meta(path: Path) -> dict[str, Any] | None:
    """What `meta.json` says; None where there is none that can be read."""
    with contextlib.suppress(OSError, ValueError):
        meta = json.loads((path / META).read_text(encoding="utf-8"))
        return meta if isinstance(meta, dict) else None
    return None


def checked_meta(path: Path) -> dict[str, Any]:
    """The `meta.json` of a finished index whose files have the sizes that it says.

    Raises:
      FileNotFoundError: no such folder.
      ValueError: unfinished, damaged, of another version, or not an index.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder; expected one that IndexWriter wrote")
    meta = read_meta(path)
    if meta is None:
        if (path / MARK).is_file():
            raise ValueError(
                f"{path}: this index is unfinished (its writing goes on, or was stopped); write it "
                "again, which replaces it"
            )
        what = "damaged: cannot be read" if (path / META).exists() else "missing"
        raise ValueError(f"{path}: not an index of codes ({META} is {what})")
    if meta.get("format") != FORMAT:
        raise ValueError(f"{path}: not an index of codes ({META} is of something else)")
    if meta.get("version") != VERSION:
        raise ValueError(
            f"{path}: an index of version {meta.get('version')}, expected {VERSION}; write it again"
        )
    files = meta.get("files")
    if not isinstance(files, dict):
        raise ValueError(f"{path}: damaged, {META} lists no files; write the index again")
    for name, size in files.items():
        file = path / name
        found = file.stat().st_size if file.is_file() else None
        if found != size:
            state = "missing" if found is None else f"{found} bytes long, expected {size}"
            raise ValueError(f"{path}: damaged, {name} is {state}; write the index again")
    return meta


def create(path: Path, shape: tuple[int, ...], dtype: Any) -> np.memmap:
    """A new .npy file to fill through memory.

    Raises:
      OSError: the disk is full; a write through memory could not say so.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    return array


def load(path: Path, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array of the index, mapped into memory.

    Raises:
      ValueError: it is not the array that `meta.json` speaks of.
    """
    try:
        array = np.load(path / name, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: damaged, {name}: {error}; write the index again") from error
    if array.shape != shape or array.dtype != np.dtype(dtype):
        raise ValueError(
            f"{path}: damaged, {name} is {array.dtype} {list(array.shape)}, expected "
            f"{np.dtype(dtype)} {list(shape)}; write the index again"
        )
    return array
