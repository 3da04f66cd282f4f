"""Which tokens a search is about: a mask, or what a regular expression matches."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from activjax.codebooks._index._open import Index


def labels(index: Index, query: Any) -> Bool[np.ndarray, " tokens"]:
    """For every token whether it is meant.

    Args:
      index: the index.
      query: bools, one for each token, flat or as a list with an array for each example; or a
        regular expression, str or compiled, for text or bytes. It is matched against the text of
        each example; meant are the tokens that overlap its capture group 1 if it has one, else the
        whole match, by at least a byte. A character split over several tokens is all of them.

    Raises:
      ValueError: a mask that does not fit, an expression that is none, or one without a vocabulary.
    """
    if isinstance(query, (str, bytes, re.Pattern)):
        return _matches(index, _pattern(query))
    return _mask(index, query)


def _mask(index: Index, query: Any) -> np.ndarray:
    n = len(index.tokens)
    if isinstance(query, (list, tuple)) and query and np.ndim(query[0]) > 0:
        lengths, own = [len(row) for row in query], np.diff(index.starts)
        if lengths != own.tolist():
            at = next((i for i, (a, b) in enumerate(zip(lengths, own)) if a != b), len(own))
            raise ValueError(
                f"find: the mask has {len(lengths)} examples, the index {len(own)}; the first that "
                f"differs is example {at} (padding has no entry in either)"
            )
        flat = np.concatenate([np.asarray(row) for row in query])
    else:
        flat = np.asarray(query)
    if flat.dtype != bool or flat.shape != (n,):
        raise ValueError(
            f"find: the mask is {flat.dtype} {list(flat.shape)}, expected bool [{n}], one for each "
            "token of the index, or a regular expression"
        )
    return flat


def _pattern(query: str | bytes | re.Pattern[Any]) -> re.Pattern[Any]:
    try:
        return re.compile(query)
    except re.error as error:
        raise ValueError(f"find: {query!r} is not a regular expression: {error}") from None


def _matches(index: Index, pattern: re.Pattern[Any]) -> np.ndarray:
    if index.vocabulary is None:
        raise ValueError(
            "find: the index has no vocabulary, so there is no text to match; write it with "
            "vocabulary=..., or give a mask"
        )
    group = min(pattern.groups, 1)
    lengths = index.vocabulary.lengths
    found = np.zeros(len(index.tokens), bool)
    for start, stop in zip(index.starts[:-1].tolist(), index.starts[1:].tolist()):
        ids: Int[np.ndarray, " n"] = np.asarray(index.tokens[start:stop])
        raw = index.vocabulary.join(ids)
        spans = _spans(pattern, group, raw)
        if spans is not None:
            found[start:stop] = _overlapping(np.cumsum(lengths[ids]), lengths[ids], spans)
    return found


def _spans(pattern: re.Pattern[Any], group: int, raw: bytes) -> np.ndarray | None:
    """First byte and one past the last of every match that is not empty, `[matches, 2]`."""
    if isinstance(pattern.pattern, bytes):
        spans = [match.span(group) for match in pattern.finditer(raw)]
    else:
        # bytes that are no UTF-8 become one lone surrogate each, so that offsets stay known
        text = raw.decode(errors="surrogateescape")
        spans = [match.span(group) for match in pattern.finditer(text)]
        if spans and len(text) != len(raw):
            begins = _byte_of_character(text)
            # (-1, -1): the group took no part in the match
            spans = [(begins[a], begins[b]) if a >= 0 else (0, 0) for a, b in spans]
    kept = [(a, b) for a, b in spans if a < b]
    return np.array(kept, np.int64) if kept else None


def _byte_of_character(text: str) -> list[int]:
    """Where each character begins in the bytes, and the end."""
    point = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    size = 1 + (point >= 0x80).astype(np.int64) + (point >= 0x800) + (point >= 0x10000)
    size[(point >= 0xDC80) & (point <= 0xDCFF)] = 1
    return [0, *np.cumsum(size).tolist()]


def _overlapping(ends: np.ndarray, lengths: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Which tokens share a byte with a span."""
    first = np.searchsorted(ends, spans[:, 0], side="right")
    last = np.searchsorted(ends - lengths, spans[:, 1], side="left")
    open_spans = np.zeros(len(ends) + 1, np.int64)
    np.add.at(open_spans, first, 1)
    np.add.at(open_spans, last, -1)
    return (np.cumsum(open_spans[:-1]) > 0) & (lengths > 0)
