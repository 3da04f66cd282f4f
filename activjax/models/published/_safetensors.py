"""The safetensors format: arrays read where they lie, and written.

A file is eight bytes (the length of a header), a JSON header (name -> dtype, shape, first byte and
the one past the last) and the bytes of the arrays, little-endian, in C order. Nothing in it is ever
executed. Everything that the header says is checked against the file before an array is made.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

#: A header as long as this holds half a million arrays; the reference library refuses longer ones.
_LONGEST_HEADER = 100_000_000
_MOST_AXES = 64  # of numpy
_ALIGNED = 8  # the arrays begin at a multiple of this
_ABOUT = "__metadata__"

_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(jnp.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(bool),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class WeightsError(ValueError):
    """A file of weights that is damaged, hostile, or not what its model needs."""


@dataclass(frozen=True)
class Stored:
    """An array in a file: its type, its shape, and its bytes."""

    dtype: str
    shape: tuple[int, ...]
    first: int
    stop: int


class TensorFile:
    """A safetensors file, open for reading: the header is read and checked, no array is.

    Attributes:
      path: the file.
      tensors: name -> what is stored.
    """

    def __init__(self, path: Path):
        self.path = path
        size = path.stat().st_size
        with open(path, "rb") as file:
            head = file.read(8)
            length = int.from_bytes(head, "little")
            if len(head) < 8 or length > min(_LONGEST_HEADER, size - 8):
                raise WeightsError(
                    f"{path}: not a safetensors file, or one that is cut off: it has {size} bytes "
                    f"and its header is said to take {length}"
                )
            self.tensors = _checked(path, file.read(length), size - 8 - length)
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._start = 8 + length

    def array(self, name: str) -> np.ndarray:
        """A view of an array in the file; its pages are read when they are touched.

        Raises:
          WeightsError: a dtype that numpy does not know.
        """
        stored = self.tensors[name]
        if stored.dtype not in _DTYPES:
            raise WeightsError(
                f"{self.path}: {name} has dtype {stored.dtype}, expected one of {sorted(_DTYPES)}"
            )
        dtype = _DTYPES[stored.dtype]
        flat = np.frombuffer(
            self._map, dtype, math.prod(stored.shape), offset=self._start + stored.first
        )
        return flat.reshape(stored.shape)

    def read_into(self, name: str, out: np.ndarray) -> bool:
        """Read an array straight into another; False where it has another dtype."""
        stored = self.tensors[name]
        if _DTYPES.get(stored.dtype) != out.dtype:
            return False
        rest = out.reshape(-1).view(np.uint8).data
        with open(self.path, "rb", buffering=0) as file:  # of its own: threads read side by side
            file.seek(self._start + stored.first)
            while len(rest):  # the system reads two gigabytes at a time
                count = file.readinto(rest)
                if not count:
                    raise WeightsError(f"{self.path}: {name} is cut off: did the file change?")
                rest = rest[count:]
        return True

    def read(self, name: str) -> np.ndarray:
        """An array in memory; for all of it faster than a view, whose pages come one by one."""
        stored = self.tensors[name]
        out = np.empty(stored.shape, _DTYPES[stored.dtype])
        self.read_into(name, out)
        return out

    def forget(self, name: str) -> None:
        """Let the system drop the pages of an array: reading a model takes its memory once."""
        stored, page = self.tensors[name], mmap.ALLOCATIONGRANULARITY
        first = -(-(self._start + stored.first) // page) * page
        length = (self._start + stored.stop) // page * page - first
        if length > 0 and hasattr(self._map, "madvise"):
            self._map.madvise(mmap.MADV_DONTNEED, first, length)


def _checked(path: Path, header: bytes, room: int) -> dict[str, Stored]:
    """What a header says, if it says it of `room` bytes without gaps or overlaps."""
    try:
        about = json.loads(header, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: its header is not JSON: {error}") from None
    if not isinstance(about, dict):
        raise WeightsError(f"{path}: its header is a {type(about).__name__}, expected an object")
    about.pop(_ABOUT, None)
    out = {name: _stored(path, name, entry) for name, entry in about.items()}
    end = 0
    for name, stored in sorted(out.items(), key=lambda item: (item[1].first, item[1].stop)):
        if stored.first != end:
            raise WeightsError(
                f"{path}: {name} begins at byte {stored.first}, expected {end}: arrays overlap or "
                "leave a gap"
            )
        end = stored.stop
    if end != room:
        kind = "is cut off" if end > room else "has bytes that belong to no array"
        raise WeightsError(
            f"{path}: the file {kind}: its arrays take {end} bytes, there are {room}; download or "
            "copy it again"
        )
    return out


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"{twice!r} is there twice")
    return out


def _stored(path: Path, name: str, entry: Any) -> Stored:
    def whole(values: Any) -> bool:
        if not isinstance(values, list) or len(values) > _MOST_AXES:
            return False
        return all(type(v) is int and 0 <= v < 2**63 for v in values)

    try:
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (TypeError, KeyError):
        raise WeightsError(
            f"{path}: {name}: expected dtype, shape and data_offsets, got {str(entry)[:80]}"
        ) from None
    if not isinstance(dtype, str) or not whole(shape) or not whole(offsets) or len(offsets) != 2:
        raise WeightsError(f"{path}: {name}: no array is {str(entry)[:120]}")
    first, stop = offsets
    if first > stop:
        raise WeightsError(f"{path}: {name}: begins at byte {first} and ends at {stop}")
    if dtype in _DTYPES and (wanted := math.prod(shape) * _DTYPES[dtype].itemsize) != stop - first:
        raise WeightsError(
            f"{path}: {name}: {dtype} {shape} takes {wanted} bytes, it has {stop - first}"
        )
    return Stored(dtype, tuple(shape), first, stop)


def write(path: Path, shapes: Mapping[str, Any], arrays: Iterable[np.ndarray]) -> None:
    """Write a file, one array in memory at a time, down to the disk.

    Args:
      path: the file.
      shapes: name -> anything with a shape and a dtype.
      arrays: the arrays, in the order of `shapes`.
    """
    if sys.byteorder != "little":
        raise WeightsError("safetensors files are little-endian, this machine is not")
    end, header = 0, {}
    for name, leaf in shapes.items():
        dtype, first = np.dtype(leaf.dtype), end
        if dtype not in _NAMES:
            raise WeightsError(f"{name}: {dtype} cannot be written to a safetensors file")
        end += math.prod(leaf.shape) * dtype.itemsize
        header[name] = {
            "dtype": _NAMES[dtype],
            "shape": list(leaf.shape),
            "data_offsets": [first, end],
        }
    # what the reference library asks for before it loads a file into PyTorch
    text = json.dumps({_ABOUT: {"format": "pt"}, **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for array in arrays:
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        file.flush()
        os.fsync(file.fileno())
