"""Documents in overlapping windows: every token scored once, with enough text before it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int32

from activjax.data._packing import ended


class Windows(NamedTuple):
    """Windows over documents, one a row.

    Attributes:
      tokens: the ids; `end` where there is padding.
      segments: 1 for tokens, 0 for padding.
      counted: the tokens that this window scores: over all windows each token of each document,
        but its first, exactly once.
      source: which document, from 0.
    """

    tokens: Int32[np.ndarray, "rows length"]
    segments: Int32[np.ndarray, "rows length"]
    counted: Bool[np.ndarray, "rows length"]
    source: Int32[np.ndarray, " rows"]


def windows(
    documents: Iterable[Int[np.ndarray, " n"]], length: int, stride: int, *, end: int
) -> Windows:
    """Cut each document, followed by `end`, into windows that begin `stride` tokens apart.

    A window scores its last `stride` tokens, so that each has at least `length - stride` tokens
    before it (the first window of a document scores all but the first).

    Args:
      documents: the ids of each, without `end`.
      length: tokens a window.
      stride: from one window's begin to the next, in 1..length-1.
      end: the id that ends a document, `tokenizer.end`.

    Raises:
      ValueError: no documents, ids that `pack` refuses, a length below 2, or a stride outside
        1..length-1.
    """
    if length < 2 or not 1 <= stride < length:
        raise ValueError(
            f"windows: expected length >= 2 and stride in 1..{length - 1}, got {length}, {stride}"
        )
    tokens, segments, counted, source = [], [], [], []
    for number, ids in enumerate(documents):
        ids = np.asarray(ids)
        ids = ended([ids], np.array([ids.size + 1]), end)
        starts = np.arange(0, max(len(ids) - length, 0) + stride, stride)
        at = starts[:, None] + np.arange(length)
        inside = at < len(ids)
        tokens.append(np.where(inside, ids[np.minimum(at, len(ids) - 1)], end))
        segments.append(inside)
        fresh = np.arange(length) >= np.where(starts == 0, 1, length - stride)[:, None]
        counted.append(inside & fresh)
        source.append(np.full(len(starts), number, np.int32))
    if not tokens:
        raise ValueError("windows: there are no documents")
    return Windows(
        np.concatenate(tokens).astype(np.int32),
        np.concatenate(segments).astype(np.int32),
        np.concatenate(counted),
        np.concatenate(source),
    )
