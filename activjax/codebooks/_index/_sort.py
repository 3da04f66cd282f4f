"""From what was chosen for every token to the tokens of every code, in bounded memory."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Int64

#: Numbers held at once: of a chunk of 2^21, its order and its places take 50 MB.
CHUNK = 1 << 21


def release(array: np.ndarray) -> None:
    """Take an array's pages out of this process's memory; the file that it maps keeps them."""
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    if base is not None:
        base.madvise(mmap.MADV_DONTNEED)


def transpose(raw: Path, out: np.ndarray, chunk: int = CHUNK) -> None:
    """Copies `[tokens, codebooks, k]` of a raw file into `out`, `[codebooks, tokens, k]`."""
    codebooks, tokens, k = out.shape
    rows = max(1, chunk // (codebooks * k))
    with raw.open("rb") as file:
        for start in range(0, tokens, rows):
            stop = min(start + rows, tokens)
            read = np.fromfile(file, out.dtype, (stop - start) * codebooks * k)
            out[:, start:stop] = read.reshape(stop - start, codebooks, k).swapaxes(0, 1)
            release(out)


def count(ids: Int[np.ndarray, " n"], codes: int, chunk: int = CHUNK) -> Int64[np.ndarray, " c"]:
    """How often each of `codes` values occurs."""
    total = np.zeros(codes, np.int64)
    for _, part in _chunks(ids, chunk):
        total += np.bincount(part, minlength=codes)
    return total


def sort(
    ids: Int[np.ndarray, " n"],
    counts: Int64[np.ndarray, " c"],
    out: Int[np.ndarray, " n"],
    chunk: int = CHUNK,
) -> None:
    """The places of each code in `ids`, ascending: a counting sort, one chunk after another."""
    free = np.cumsum(counts) - counts  # where the next place of each code goes
    for start, part in _chunks(ids, chunk):
        order = np.argsort(part, kind="stable")
        if len(part) == len(ids):
            out[:] = order
            return
        here = np.bincount(part, minlength=len(free))
        # the i-th of a code in this chunk goes i places after the code's first free one
        shift = free - (np.cumsum(here) - here)
        out[shift[part[order]] + np.arange(len(part))] = start + order
        free += here
        release(out)


def has_repeats(ids: Int[np.ndarray, "n k"], codes: int, chunk: int = CHUNK) -> bool:
    """Whether a token has one code twice, as an override can make it; `codes` is none."""
    rows = max(1, chunk // ids.shape[1])
    for start in range(0, len(ids), rows):
        part = np.sort(ids[start : start + rows], axis=1)
        if ((part[:, 1:] == part[:, :-1]) & (part[:, 1:] != codes)).any():
            return True
        release(ids)
    return False


def _chunks(ids: Any, chunk: int) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(ids), chunk):
        yield start, np.array(ids[start : start + chunk])
        release(ids)
