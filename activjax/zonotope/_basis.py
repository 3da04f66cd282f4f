"""Coordinates in which an arrangement has small entries, and its direct summands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from activjax.zonotope._integers import largest, narrowed, primitive, widened


@dataclass(frozen=True)
class Basis:
    """An arrangement in coordinates in which some of its rows are unit vectors.

    Attributes:
        rows: `[N, rank]`, each a positive multiple of a row of `lines @ map`, gcd 1.
        map: `[r, rank]` integers: the point `p` of these coordinates is `map @ p` of the old ones.
        summands: the connected components of the matroid, `[N_i, rank_i]`: rows and columns of
            `rows` outside of which these rows and columns are 0.
    """

    rows: np.ndarray
    map: np.ndarray
    summands: list[np.ndarray]


def basis(lines: np.ndarray) -> Basis:
    """Row reduction (of columns) without fractions, shortest rows first.

    Rows of a totally unimodular arrangement, as that of a graph, become 0, 1 and -1 again after
    any change of basis; those in general position grow to determinants of rank r.
    """
    n, r = lines.shape
    both = np.concatenate([widened(lines), np.eye(r, dtype=np.int64).astype(object)])
    free = np.ones(r, bool)
    # Python's sort: sums of absolute values may be of any size
    for i in sorted(range(n), key=np.abs(both[:n]).sum(axis=1).__getitem__):
        candidates = np.flatnonzero(free & (both[i] != 0))
        if not candidates.size:
            continue
        c = candidates[np.abs(both[i, candidates]).argmin()]
        free[c] = False
        others = np.flatnonzero(both[i] != 0)
        others = others[others != c]
        new = both[:, others] * both[i, c] - both[:, c, None] * both[i, others]
        both[:, others] = new // np.gcd.reduce(new, axis=0)
        if not free.any():
            break
    both = both[:, ~free]
    rows = both[:n] // np.maximum(np.gcd.reduce(both[:n], axis=1), 1)[:, None]
    return Basis(narrowed(rows), narrowed(both[n:]), _summands(narrowed(rows)))


def smaller(lines: np.ndarray, found: Basis) -> bool:
    """Whether the entries of an arrangement are smaller in that basis than as given."""
    return largest(found.rows) < largest(primitive(lines))


def _summands(rows: np.ndarray) -> list[np.ndarray]:
    support = rows != 0
    patterns = np.unique(support, axis=0)
    found = []
    columns = np.ones(rows.shape[1], bool)
    while columns.any():
        part = np.zeros_like(columns)
        part[columns.argmax()] = True
        while True:  # the columns that share a row with it, and so on
            larger = patterns[(patterns & part).any(axis=1)].any(axis=0)
            if (larger == part).all():
                break
            part = larger
        columns &= ~part
        found.append(rows[support[:, part].any(axis=1)][:, part])
    return found
