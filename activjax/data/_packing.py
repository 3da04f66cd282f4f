"""Documents of any length as rows of one length."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int, Int32


class Packed(NamedTuple):
    """Rows of tokens, and where each came from.

    Attributes:
      tokens: the ids; `end` after each document, and where there is padding.
      segments: which of the row's documents, from 1; 0 is padding. Tokens attend within one
        segment only.
      source: which document of those given, from 0; -1 is padding.
      offset: which of that document's tokens, from 0 (its `end` is at its length); -1 is padding.
    """

    tokens: Int32[np.ndarray, "rows length"]
    segments: Int32[np.ndarray, "rows length"]
    source: Int32[np.ndarray, "rows length"]
    offset: Int32[np.ndarray, "rows length"]


def pack(
    documents: Iterable[Int[np.ndarray, " n"]],
    length: int,
    *,
    end: int,
    policy: Literal["stream", "document"] = "stream",
    drop_tail: bool = False,
) -> Packed:
    """Pack documents into rows; each is followed by `end`, and no token is lost.

    Args:
      documents: the ids of each, without `end`.
      length: tokens a row.
      end: the id that ends a document, `tokenizer.end`.
      policy: "stream" lays the documents end to end and cuts rows from that, so only the last
        row has padding and a document may run on in the next row. "document" cuts no document
        that fits a row together with its `end`: each goes into the first row that has room (first
        fit, in the order given); a longer one fills whole rows, and its rest is placed likewise.
      drop_tail: for "stream": leave out the last row if it is not full.

    Raises:
      ValueError: no documents; a length below 1; ids that are not integers [n] from 0 to
        2^31 - 1, or that contain `end`; `drop_tail` leaves nothing, or is not for that policy.
    """
    rows = [np.asarray(ids) for ids in documents]
    if not rows:
        raise ValueError("pack: there are no documents")
    if length < 1:
        raise ValueError(f"length: expected at least 1 token a row, got {length}")
    if policy not in ("stream", "document"):
        raise ValueError(f"policy: expected 'stream' or 'document', got {policy!r}")
    sizes = np.array([ids.size for ids in rows], np.int64) + 1
    flat = ended(rows, sizes, end)
    source = np.repeat(np.arange(len(rows), dtype=np.int32), sizes)
    offset = _counting(sizes)
    if policy == "stream":
        return _stream(flat, source, offset, length, end, drop_tail)
    if drop_tail:
        raise ValueError("drop_tail: only for policy 'stream', which has one tail")
    return _document(flat, source, offset, sizes, length, end)


def ended(rows: list[np.ndarray], sizes: np.ndarray, end: int) -> Int32[np.ndarray, " total"]:
    """All documents in a row, each with its end."""
    for i, ids in enumerate(rows):
        if ids.ndim != 1 or (ids.size and not np.issubdtype(ids.dtype, np.integer)):
            raise ValueError(
                f"documents: expected integers [n], document {i} is {ids.dtype} {list(ids.shape)}"
            )
    flat = np.full(sizes.sum(), end, np.int64)
    inside = np.ones(len(flat), bool)
    inside[np.cumsum(sizes) - 1] = False
    ids = np.concatenate([r for r in rows if r.size] or [np.zeros(0, np.int64)])
    wrong = np.flatnonzero((ids < 0) | (ids > np.iinfo(np.int32).max) | (ids == end))
    if len(wrong):
        i = int(np.searchsorted(np.cumsum(sizes - 1), wrong[0], side="right"))
        raise ValueError(
            f"documents: document {i} has the id {ids[wrong[0]]}; ids are from 0 to 2^31 - 1, and "
            f"`end` ({end}) is added here"
        )
    flat[inside] = ids
    return flat.astype(np.int32)


def _counting(sizes: Int[np.ndarray, " n"]) -> Int32[np.ndarray, " total"]:
    """0, 1, ... for each size anew."""
    starts = np.cumsum(sizes) - sizes
    return (np.arange(sizes.sum()) - np.repeat(starts, sizes)).astype(np.int32)


def _stream(
    flat: np.ndarray, source: np.ndarray, offset: np.ndarray, length: int, end: int, drop: bool
) -> Packed:
    n = len(flat) // length if drop else -(-len(flat) // length)
    if n == 0:
        raise ValueError(f"drop_tail: {len(flat)} tokens do not fill one row of {length}")

    def cut(values: np.ndarray, padding: int) -> np.ndarray:
        out = np.full(n * length, padding, np.int32)
        kept = min(len(values), n * length)
        out[:kept] = values[:kept]
        return out.reshape(n, length)

    tokens, sources, offsets = cut(flat, end), cut(source, -1), cut(offset, -1)
    segments = np.where(sources < 0, 0, sources - sources[:, :1] + 1)
    return Packed(tokens, segments.astype(np.int32), sources, offsets)


def _document(
    flat: np.ndarray,
    source: np.ndarray,
    offset: np.ndarray,
    sizes: np.ndarray,
    length: int,
    end: int,
) -> Packed:
    count = -(-sizes // length)  # pieces of each document
    pieces = np.full(count.sum(), length, np.int64)
    pieces[np.cumsum(count) - 1] = sizes - (count - 1) * length
    row, column, number = _first_fit(pieces.tolist(), length)
    at = np.repeat(row * length + column, pieces) + _counting(pieces)
    n = int(row.max()) + 1

    def place(values: np.ndarray, padding: int) -> np.ndarray:
        out = np.full(n * length, padding, np.int32)
        out[at] = values
        return out.reshape(n, length)

    segments = np.repeat(number, pieces)
    return Packed(place(flat, end), place(segments, 0), place(source, -1), place(offset, -1))


def _first_fit(sizes: list[int], room: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each size's bin, where in it, and its number there from 1: the first bin that has room.

    A binary tree holds the most room of the bins below each node, so that a size costs the
    logarithm of their number. Johnson et al. 1974.
    """
    leaves = 1 << max(len(sizes) - 1, 1).bit_length()
    tree = [room] * (2 * leaves)
    held = [0] * len(sizes)
    out = []
    for size in sizes:
        node = 1
        while node < leaves:
            node *= 2
            if tree[node] < size:
                node += 1
        which = node - leaves
        held[which] += 1
        out.append((which, room - tree[node], held[which]))
        tree[node] -= size
        while node > 1:
            node //= 2
            left, right = tree[2 * node], tree[2 * node + 1]
            tree[node] = left if left > right else right
    which, start, number = np.array(out, np.int64).T
    return which, start, number
