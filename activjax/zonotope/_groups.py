"""Groups of equal things by 64-bit keys: exact, because whoever groups by a hash then compares.

A hash only decides how long grouping takes. Every member is compared with the representative of
its group; where two differ the keys are drawn again.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

COLLIDED = "internal error: hashes of different things agreed whatever was drawn"

_TRIES = 8
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)  # splitmix64's


def draws() -> Iterator[np.random.Generator]:
    """Generators to draw hashes from, one for each try."""
    return map(np.random.default_rng, range(_TRIES))


def scrambled(x: np.ndarray) -> np.ndarray:
    """uint64 -> uint64, a bijection that mixes all bits (the finaliser of splitmix64)."""
    x = (x ^ (x >> np.uint64(30))) * _M1
    x = (x ^ (x >> np.uint64(27))) * _M2
    return x ^ (x >> np.uint64(31))


def hashed(words: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """`[n]` uint64 hashes of `[n, w]` rows of uint64."""
    key = np.zeros(len(words), np.uint64)
    for column in words.T:
        key = scrambled(key + (column ^ draw.integers(0, 2**64, dtype=np.uint64)))
    return key


def grouped(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Groups equal keys.

    Args:
        keys: `[n]` int64 or uint64, not negative.

    Returns:
        `[g]`, the index of one member of each group, in the order of the keys; `[n]`, the group
        that each key belongs to.
    """
    n = len(keys)
    if n == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    top = int(keys.max())
    if top <= 4 * n + 2**12:  # a table is several times faster than a sort
        keys = keys.astype(np.int64, copy=False)
        member = np.full(top + 1, -1)
        member[keys] = np.arange(n)
        used = np.flatnonzero(member >= 0)
        number = np.zeros(top + 1, np.int64)
        number[used] = np.arange(len(used))
        return member[used], number[keys]
    order = np.argsort(keys)
    ordered = keys[order]
    new = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    of = np.empty(n, np.int64)
    of[order] = np.cumsum(new) - 1
    return order[new], of


def grouped_words(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `grouped`, of `[n, w]` rows of uint64; the order is arbitrary unless w = 1."""
    if words.shape[1] == 1:
        return grouped(words[:, 0])
    for draw in draws():
        first, of = grouped(hashed(words, draw))
        if (words[first[of]] == words).all():
            return first, of
    raise AssertionError(COLLIDED)


def grouped_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `grouped`, of `[n, r]` rows of int64 or Python integers.

    The order of int64 rows is lexicographic: restrictions of sorted rows then have many rows in
    common (see `_restrictions`). That of Python integers is arbitrary.
    """
    if rows.dtype != object:
        words = _packed(rows)
        first, of = grouped_words(words)
        if words.shape[1] == 1:
            return first, of
        order = np.lexsort(words[first].T[::-1])
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return first[order], rank[of]
    for draw in draws():
        residues = rows % int(draw.integers(2**62, 2**63))
        first, of = grouped(hashed(residues.astype(np.uint64), draw))
        if (rows[first[of]] == rows).all():
            return first, of
    raise AssertionError(COLLIDED)


def _packed(rows: np.ndarray) -> np.ndarray:
    """`[n, words]` uint64 in the same order as the rows, several columns to a word."""
    words = [np.zeros(len(rows), np.uint64)]
    span = 1
    for column in rows.T if len(rows) else ():
        least = int(column.min())
        base = int(column.max()) - least + 1
        digits = column.astype(np.uint64) - np.uint64(least % 2**64)  # both modulo 2^64
        if span * base > 2**64:
            words.append(digits)
            span = base
        else:
            words[-1] = words[-1] * np.uint64(base % 2**64) + digits
            span *= base
    return np.stack(words, axis=1)
