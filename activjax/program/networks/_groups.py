"""The groups of elements over which an operation takes the largest or the smallest."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from activjax.program import Equation

#: Operations that choose among elements of one array; True where they take the largest.
EXTREMES = {
    "reduce_max": True,
    "reduce_min": False,
    "reduce_window_max": True,
    "reduce_window_min": False,
    "cummax": True,
    "cummin": False,
}


def groups(eqn: Equation, shape: tuple[int, ...]) -> np.ndarray | None:
    """`[outputs, n]` numbers of elements in C order; groups that are smaller repeat their first.

    Args:
      eqn: one of `EXTREMES`.
      shape: of its operand.

    Returns:
      The groups, outputs in C order; None where a group would be empty.
    """
    name, p = eqn.primitive.name, eqn.params
    number = np.arange(int(np.prod(shape))).reshape(shape)
    if name.startswith("reduce_window"):
        return _windows(number, p)
    if name.startswith("cum"):
        axis, n = p["axis"], shape[p["axis"]]
        rows = np.moveaxis(number, axis, -1)
        first = np.flip(rows, -1) if p["reverse"] else rows
        seen = np.tril(np.ones((n, n), bool))
        table = np.where(seen, first[..., None, :], first[..., None, :1])
        table = np.flip(table, -2) if p["reverse"] else table
        return np.moveaxis(table, -2, axis).reshape(-1, n)
    axes = [a % len(shape) for a in p["axes"]]
    kept = [a for a in range(len(shape)) if a not in axes]
    n = int(np.prod([shape[a] for a in axes]))
    return number.transpose(*kept, *axes).reshape(-1, n) if n else None


def _windows(number: np.ndarray, p: dict[str, Any]) -> np.ndarray | None:
    dims, strides, padding = p["window_dimensions"], p["window_strides"], p["padding"]
    base, dilation = p["base_dilation"], p["window_dilation"]
    padded = []
    for size, step in zip(number.shape, base, strict=True):
        spread = np.full(max((size - 1) * step + 1, 0), -1)
        spread[::step] = np.arange(size)
        padded.append(spread)
    # Along each axis: [output, place in the window] -> element, -1 for padding.
    tables = []
    for spread, size, stride, dil, (low, high) in zip(
        padded, dims, strides, dilation, padding, strict=True
    ):
        line = np.concatenate([np.full(max(low, 0), -1), spread, np.full(max(high, 0), -1)])
        line = line[max(-low, 0) : len(line) - max(-high, 0)]
        outputs = (len(line) - ((size - 1) * dil + 1)) // stride + 1
        starts = np.arange(max(outputs, 0)) * stride
        tables.append(line[starts[:, None] + np.arange(size) * dil])
    out = tuple(len(t) for t in tables)
    columns = []
    for place in itertools.product(*(range(size) for size in dims)):
        along = np.meshgrid(*(t[:, k] for t, k in zip(tables, place, strict=True)), indexing="ij")
        inside = np.all([a >= 0 for a in along], axis=0)
        picked = number[tuple(np.maximum(a, 0) for a in along)]
        columns.append(np.where(inside, picked, -1).ravel())
    table = np.stack(columns, 1) if columns else np.zeros((int(np.prod(out)), 0), int)
    if not table.shape[1] or (table < 0).all(1).any():
        return None
    first = table[np.arange(len(table)), (table >= 0).argmax(1)]
    return np.where(table >= 0, table, first[:, None])
