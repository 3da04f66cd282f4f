"""Parameters from a checkpoint: each device reads its own share, once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding

from activjax.models._nnx import nested
from activjax.models.published._layout import SAME
from activjax.models.published._plan import Use
from activjax.models.published._shards import Checkpoint

_ALIGNMENT = 64  # an array that begins at a multiple of it is taken by JAX on CPU without a copy
_WORKERS = 4  # reading and turning matrices take a core each


def parameters(
    checkpoint: Checkpoint,
    plan: Iterable[Use],
    config: Any,
    shapes: Mapping[str, Any],
    shardings: Mapping[str, Any],
) -> dict[str, Any]:
    """The parameters, those of one entry after those of another, each straight to its devices.

    Args:
      checkpoint: the arrays.
      plan: which of them are which parameters.
      config: of the model.
      shapes: path -> `jax.ShapeDtypeStruct`.
      shardings: path -> sharding.
    """
    out: dict[tuple[str, ...], Any] = {}
    with ThreadPoolExecutor(min(_WORKERS, os.cpu_count() or 1)) as pool:
        for use in plan:
            leaves = [shapes[path] for path in use.entry.paths]
            where = [shardings[path] for path in use.entry.paths]
            if all(isinstance(sharding, SingleDeviceSharding) for sharding in where):
                held = _whole(checkpoint, use, config, leaves, pool)
                found = [jax.device_put(a, s, may_alias=True) for a, s in zip(held, where)]
            else:
                readers = [_Share(checkpoint, use, i, config, x) for i, x in enumerate(leaves)]
                found = [
                    jax.make_array_from_callback(leaf.shape, sharding, read)
                    for leaf, sharding, read in zip(leaves, where, readers)
                ]
            out |= {tuple(path.split("/")): a for path, a in zip(use.entry.paths, found)}
    return nested(out)


def _whole(
    checkpoint: Checkpoint, use: Use, config: Any, leaves: list[Any], pool: ThreadPoolExecutor
) -> list[np.ndarray]:
    """The parameters of an entry; each of its arrays is read once."""
    out = [_empty(leaf.shape, np.dtype(leaf.dtype)) for leaf in leaves]

    def fill(layer: int, key: str) -> None:
        rows = [array if use.layers is None else array[layer] for array in out]
        if use.entry.layout is SAME and checkpoint.read_into(key, rows[0]):
            return
        parts = use.entry.layout.split(checkpoint.read(key), use.shapes, config)
        for row, part in zip(rows, parts, strict=True):
            _copy(row, part)

    for _ in pool.map(fill, range(len(use.keys)), use.keys):
        pass
    return out


class _Share:
    """A rectangle of a parameter, as a device asks for it: only its pages of the file are read."""

    def __init__(self, checkpoint: Checkpoint, use: Use, part: int, config: Any, leaf: Any):
        self.checkpoint, self.use, self.part = checkpoint, use, part
        self.config, self.leaf = config, leaf
        self.last: tuple[Any, np.ndarray] | None = None  # whole copies on several devices: one read

    def __call__(self, index: Any) -> np.ndarray:
        ranges = [range(n)[s] for s, n in zip(index, self.leaf.shape, strict=True)]
        asked = tuple((r.start, r.stop) for r in ranges)
        if self.last is not None and self.last[0] == asked:
            return self.last[1]
        out = _empty(tuple(map(len, ranges)), np.dtype(self.leaf.dtype))
        if self.use.layers is None:
            self._fill(out, self.use.keys[0], index)
        else:
            for row, layer in enumerate(ranges[0]):
                self._fill(out[row], self.use.keys[layer], index[1:])
        self.last = (asked, out)
        return out

    def _fill(self, out: np.ndarray, key: str, index: tuple[slice, ...]) -> None:
        array = self.checkpoint.array(key)
        parts = self.use.entry.layout.split(array, self.use.shapes, self.config)
        _copy(out, parts[self.part][index])
        self.checkpoint.forget(key)


def _empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    first = -raw.ctypes.data % _ALIGNMENT
    return raw[first : first + size].view(dtype).reshape(shape)


_BLOCK = 512  # rows and columns that the caches hold while a matrix is turned


def _copy(out: np.ndarray, array: np.ndarray) -> None:
    """`out[...] = array`, a turned matrix block by block."""
    if array.ndim != 2 or array.flags.c_contiguous:
        np.copyto(out, array, casting="unsafe")
        return
    for i in range(0, array.shape[0], _BLOCK):
        for j in range(0, array.shape[1], _BLOCK):
            cut = np.s_[i : i + _BLOCK, j : j + _BLOCK]
            np.copyto(out[cut], array[cut], casting="unsafe")
