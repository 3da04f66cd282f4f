"""Examples that are the same, or nearly: they belong on one side of a split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from activjax.membership._fit_inputs import group_ids

Ids = Int[np.ndarray, " n"]


def duplicates(x: Any, *, groups: Any = None) -> Ids:
    """Group ids under which equal examples are one group.

    Args:
      x: an array `[n, ...]`, whose rows are equal if all elements are; or a list of texts, str (as
        UTF-8) or bytes, which are equal if they differ in ASCII white space only (runs of it
        are one space, none at the ends).
      groups: `[n]` ids to keep, of documents for example: groups that share an example are one.

    Returns:
      `[n]`, numbered from 0 in order of appearance. For `halves`, `fit_attack`, `check_overlap`
      and the intervals of `evaluate`.

    Raises:
      ValueError: no examples, or groups that do not fit.
    """
    if hasattr(x, "shape"):
        array = np.asarray(x)
        if array.ndim == 0 or len(array) == 0:
            raise ValueError(f"duplicates: x has shape {list(array.shape)}, expected [n, ...]")
        if array.dtype.kind == "f":
            array = array + np.zeros((), array.dtype)  # -0 is 0
        keys: list[Any] = [row.tobytes() for row in np.ascontiguousarray(array)]
    else:
        keys = _normalised(x, "duplicates")
    ids = _numbered(keys)
    if groups is None:
        return ids
    own = _numbered(group_ids(groups, len(ids), "duplicates").tolist())
    # a graph of both kinds of groups, joined where they share an example
    nodes = int(ids.max()) + 1
    joined = _components(ids, nodes + own, nodes + int(own.max()) + 1)
    return _numbered(joined[ids].tolist())


def near_duplicates(texts: Sequence[str | bytes], *, size: int = 8, threshold: float = 0.8) -> Ids:
    """Group ids under which texts that share most of their substrings are one group.

    Two texts are joined if the sets of all their substrings of `size` bytes (after white space is
    normalised; a shorter text is its own only one) have a Jaccard index of at least `threshold`:
    exactly, for all pairs. Groups are transitive: A and C are one where both are near B, even if
    far from each other. Memory grows with the number of pairs that share any substring.

    Args:
      texts: str (as UTF-8) or bytes.
      size: bytes of a substring.
      threshold: in (0, 1].

    Returns:
      `[n]`, numbered from 0 in order of appearance.

    Raises:
      ValueError: no texts, `size` or `threshold` out of range.
    """
    from scipy.sparse import csr_array

    if size < 1:
        raise ValueError(f"near_duplicates: size is {size}, expected at least 1")
    if not 0 < threshold <= 1:
        raise ValueError(f"near_duplicates: threshold is {threshold}, expected one in (0, 1]")
    sets = [
        {t[i : i + size] for i in range(max(len(t) - size + 1, 1))}
        for t in _normalised(texts, "near_duplicates")
    ]
    column = {piece: i for i, piece in enumerate(dict.fromkeys(p for s in sets for p in s))}
    counts = np.array([len(s) for s in sets])
    indices = np.array([column[p] for s in sets for p in s])
    starts = np.concatenate([[0], np.cumsum(counts)])
    has = csr_array((np.ones(len(indices), np.int32), indices, starts), (len(sets), len(column)))
    shared = (has @ has.T).tocoo()
    a, b = shared.coords
    near = shared.data / (counts[a] + counts[b] - shared.data) >= threshold
    return _numbered(_components(a[near], b[near], len(sets)).tolist())


def check_overlap(fit_rows: Any, test_rows: Any, groups: Any) -> None:
    """Refuses a split that has examples of one group on both sides.

    Args:
      fit_rows, test_rows: row numbers.
      groups: `[n]` ids of all examples, as `duplicates` gives.

    Raises:
      ValueError: a row on both sides, or a test example of a group that is fitted on: the first
        such pair is named.
    """
    ids = group_ids(groups, np.size(groups), "check_overlap").tolist()
    fit, test = np.asarray(fit_rows).tolist(), np.asarray(test_rows).tolist()
    for row in (*fit, *test):
        if not 0 <= row < len(ids):
            raise ValueError(f"check_overlap: row {row}, expected 0 .. {len(ids) - 1}")
    twice = set(fit) & set(test)
    if twice:
        raise ValueError(f"check_overlap: example {min(twice)} is in both the fit and the test set")
    first = {ids[row]: row for row in reversed(fit)}
    found = [row for row in test if ids[row] in first]
    if found:
        row = found[0]
        raise ValueError(
            f"check_overlap: test example {row} is of group {ids[row]}, as is example "
            f"{first[ids[row]]} of the fit set ({len(found)} such test examples): split by "
            "`halves(..., groups)`"
        )


def _normalised(texts: Any, what: str) -> list[bytes]:
    if isinstance(texts, (str, bytes)) or len(texts) == 0:
        raise ValueError(f"{what}: expected a list of texts, at least one")
    for i, text in enumerate(texts):
        if not isinstance(text, (str, bytes)):
            raise ValueError(f"{what}: example {i} is {type(text).__name__}, expected str or bytes")
    coded = (text.encode() if isinstance(text, str) else text for text in texts)
    return [b" ".join(text.split()) for text in coded]


def _numbered(keys: Sequence[Any]) -> np.ndarray:
    """Equal keys get equal numbers, from 0 in order of appearance."""
    number: dict[Any, int] = {}
    return np.array([number.setdefault(key, len(number)) for key in keys])


def _components(a: np.ndarray, b: np.ndarray, nodes: int) -> np.ndarray:
    """For each node the number of its connected component; edges go from `a` to `b`."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(a), np.int8), (a, b)), (nodes, nodes))
    return connected_components(graph, directed=False)[1]
