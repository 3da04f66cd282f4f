"""Random numbers that are the same bytes on every platform and with every version of NumPy and JAX.

NumPy promises the raw output of its bit generators, not what its distributions make of it (NEP 19).
So everything here is a small integer map of the raw 64-bit words of Philox4x64-10 (Salmon et al.,
"Parallel random numbers: as easy as 1, 2, 3", SC 2011), a function of a key and a counter. The key
is a hash of (language, purpose, seed); the counter is the example's number, so that example i of a
seed is the same however many are asked for, and a stream can go on from any place.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate
from typing import Any

import numpy as np
from jaxtyping import Int, UInt64

BLOCK = 4  # words that one value of Philox's counter gives


def whole(name: str, value: Any, low: int, high: int | None = None) -> int:
    """The value as an int.

    Raises:
      ValueError: it is no whole number from low to high.
    """
    wanted = (
        f"a whole number from {low} to {high}" if high is not None else f"one of at least {low}"
    )
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name}: expected {wanted}, got {value!r}") from None
    if isinstance(value, bool) or number < low or (high is not None and number > high):
        raise ValueError(f"{name}: expected {wanted}, got {value!r}")
    return number


def words(
    language: str, purpose: str, seed: int, n: int, per: int, start: int = 0
) -> UInt64[np.ndarray, "n per"]:
    """Random words, `per` of them for each of the examples `start .. start + n - 1` of a seed.

    Raises:
      ValueError: the seed is no integer, n is below 1, or start below 0.
    """
    n, start = whole("n", n, 1), whole("start", start, 0)
    try:
        seed = operator.index(seed)
    except TypeError:
        raise ValueError(f"seed: expected an integer, got {seed!r}") from None
    text = f"activjax.data.languages/{language}/{purpose}/{seed}"
    key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
    blocks = -(-per // BLOCK)
    philox = np.random.Philox(key=key, counter=start * blocks)
    return philox.random_raw(n * blocks * BLOCK).reshape(n, blocks * BLOCK)[:, :per]


def below(u: UInt64[np.ndarray, "*shape"], bound: int) -> Int[np.ndarray, "*shape"]:
    """Integers `0 .. bound - 1`, uniform to within bound / 2^64."""
    return (u % np.uint64(bound)).astype(np.int64)


def edges(weights: Sequence[Fraction | float]) -> UInt64[np.ndarray, " outcomes-1"]:
    """Where the outcomes of given weights part the 64-bit words; exact, whatever the platform."""
    sums = list(accumulate(Fraction(w) for w in weights))
    return np.array([min(int(2**64 * s / sums[-1]), 2**64 - 1) for s in sums[:-1]], np.uint64)


def choose(
    u: UInt64[np.ndarray, "*shape"], edges: UInt64[np.ndarray, " outcomes-1"]
) -> Int[np.ndarray, "*shape"]:
    """Outcomes `0 .. outcomes - 1` with the weights that made `edges`."""
    return np.searchsorted(edges, u, side="right")


def distinct(u: UInt64[np.ndarray, "n 2*k"], bound: int) -> Int[np.ndarray, "n k"]:
    """For each row k different integers `0 .. bound - 1` in random order; two words each.

    Floyd's algorithm (Bentley and Floyd 1987) for which, a sort of random words for their order.
    """
    n, k = u.shape[0], u.shape[1] // 2
    chosen = np.full((n, k), -1, np.int64)
    for i in range(k):
        top = bound - k + i
        pick = below(u[:, i], top + 1)
        taken = (chosen[:, :i] == pick[:, None]).any(axis=1)
        chosen[:, i] = np.where(taken, top, pick)
    return np.take_along_axis(chosen, np.argsort(u[:, k:], axis=1, kind="stable"), axis=1)
