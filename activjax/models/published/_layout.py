"""How an array lies in a file, and how in the parameters: one layer at a time, both ways.

A layout has three functions: `split(array, shapes, config)` makes the parameters of one array of a
file, as views where it can; `join(arrays, config)` is its inverse; `shape(shapes, config)` is the
shape that the file must have. Shapes are those of the parameters, of one layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """See the module."""

    split: Callable[[np.ndarray, Sequence[Shape], Any], Sequence[np.ndarray]]
    join: Callable[[Sequence[np.ndarray], Any], np.ndarray]
    shape: Callable[[Sequence[Shape], Any], Shape]


@dataclass(frozen=True)
class Entry:
    """One array of a file.

    Attributes:
      key: its name; `{}` is the number of the layer.
      paths: the parameters that it holds.
      layout: how.
      tied: the array is there only if the config is tied (True) or is not (False); None: in both.
    """

    key: str
    paths: tuple[str, ...]
    layout: Layout
    tied: bool | None = None


def _pieces(array: np.ndarray, sizes: Sequence[int], axis: int) -> list[np.ndarray]:
    return np.split(array, list(accumulate(sizes))[:-1], axis=axis)


#: As it is.
SAME = Layout(lambda a, s, c: [a], lambda arrays, c: arrays[0], lambda s, c: s[0])

#: A `[d_out, d_in]` matrix; kernels are `[d_in, d_out]`.
TURNED = Layout(lambda a, s, c: [a.T], lambda arrays, c: arrays[0].T, lambda s, c: s[0][::-1])

#: Several kernels or biases side by side in their last axis.
BESIDE = Layout(
    lambda a, s, c: _pieces(a, [shape[-1] for shape in s], -1),
    lambda arrays, c: np.concatenate(arrays, axis=-1),
    lambda s, c: (*s[0][:-1], sum(shape[-1] for shape in s)),
)

#: Several `[d_out, d_in]` matrices one above the other.
STACKED = Layout(
    lambda a, s, c: [p.T for p in _pieces(a, [shape[-1] for shape in s], 0)],
    lambda arrays, c: np.concatenate([p.T for p in arrays]),
    lambda s, c: (sum(shape[-1] for shape in s), *s[0][:-1]),
)


def _of_heads(array: np.ndarray, shapes: Sequence[Shape], config: Any) -> list[np.ndarray]:
    apart = array.reshape(config.heads, len(shapes), config.head_size, *array.shape[1:])
    return [apart[:, i].reshape(-1, *array.shape[1:]).T for i in range(len(shapes))]


def _to_heads(arrays: Sequence[np.ndarray], config: Any) -> np.ndarray:
    rest = arrays[0].T.shape[1:]
    apart = [p.T.reshape(config.heads, config.head_size, *rest) for p in arrays]
    return np.stack(apart, axis=1).reshape(-1, *rest)


#: Queries, keys and values of each head together, head after head (GPT-NeoX).
BY_HEAD = Layout(_of_heads, _to_heads, STACKED.shape)


def plain(key: str, path: str) -> Entry:
    """An array that is a parameter."""
    return Entry(key, (path,), SAME)


def linear(key: str, path: str) -> tuple[Entry, Entry]:
    """A linear layer: `key.weight` `[d_out, d_in]` and, if the model has it, `key.bias`."""
    weight = Entry(f"{key}.weight", (f"{path}/kernel",), TURNED)
    return weight, plain(f"{key}.bias", f"{path}/bias")


def conv1d(key: str, *paths: str) -> tuple[Entry, Entry]:
    """GPT-2's linear layer, `[d_in, d_out]`: one, or several side by side."""
    return (
        Entry(f"{key}.weight", tuple(f"{p}/kernel" for p in paths), BESIDE),
        Entry(f"{key}.bias", tuple(f"{p}/bias" for p in paths), BESIDE),
    )


def by_head(key: str, *paths: str) -> tuple[Entry, Entry]:
    """Queries, keys and values interleaved by head (GPT-NeoX)."""
    return (
        Entry(f"{key}.weight", tuple(f"{p}/kernel" for p in paths), BY_HEAD),
        Entry(f"{key}.bias", tuple(f"{p}/bias" for p in paths), BY_HEAD),
    )


def norm(key: str, path: str) -> tuple[Entry, Entry]:
    """A norm: `key.weight` and, if the model has it, `key.bias`."""
    return plain(f"{key}.weight", f"{path}/scale"), plain(f"{key}.bias", f"{path}/bias")
