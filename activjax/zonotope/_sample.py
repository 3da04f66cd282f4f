"""Activation patterns found by drawing gates at random."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from activjax.patterns import Codes
from activjax.zonotope._cells import codes_of
from activjax.zonotope._groups import grouped_words
from activjax.zonotope._rows import rows_of
from activjax.zonotope._signs import exact_signs
from activjax.zonotope._words import narrow, pack, row_bits

_ROWS = 1 << 14  # gates at a time


@dataclass(frozen=True, eq=False)
class Sample:
    """Distinct patterns of Gaussian gates, and how many there may be besides.

    Attributes:
        codes: the patterns, words `[k, ceil(n / 32)]`, in the order of their first draws.
        gates: `[k, d]` float64, the gate that found each first: a witness.
        counts: `[k]`, how often each was drawn.
        draws: how many gates were drawn, without those on a hyperplane.
        coverage: the share of weight space (under the Gaussian) in the cells found, estimated as
            1 - the share of draws whose pattern came once (Good, "The population frequencies of
            species", 1953). Small cells can be many: it is not the share of cells.
        total: a lower bound of the number of cells, estimated from the patterns drawn once and
            twice (Chao, "Nonparametric estimation of the number of classes", 1984, bias-corrected).
    """

    codes: Codes
    gates: np.ndarray
    counts: np.ndarray
    draws: int
    coverage: float
    total: float

    def __len__(self) -> int:
        return self.codes.n


def sample(X: Any, key: Key[Array, ""], n: int) -> Sample:
    """Patterns of `n` Gaussian gates, the distinct ones.

    Every pattern is one of a full-dimensional cell: signs are settled in exact arithmetic. What
    was not drawn stays unknown; `cells` finds all.

    Args:
        X: `[n_examples, d]` real numbers, examples in rows.
        key: a random key.
        n: how many gates to draw.

    Returns:
        Sample.

    Raises:
        ValueError: no matrix, NaN, or `n < 1`.
        TypeError: entries that are not real numbers, or an old-style key.
    """
    rows = rows_of(X, "sample: X")
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 1:
        raise ValueError(f"sample: n is {n!r}, expected a positive number of gates")
    if not jax.numpy.issubdtype(getattr(key, "dtype", np.float32), jax.dtypes.prng_key):
        raise TypeError("sample: expected a typed key, as jax.random.key(0) makes them")
    if key.shape:
        raise ValueError(f"sample: expected a single key, got keys of shape {key.shape}")
    bits, words, kept = row_bits(rows), [], []
    gates = np.asarray(jax.random.normal(key, (int(n), rows.given.shape[1]), np.float32))
    gates, forms = gates.astype(np.float64), rows.forms
    for i in range(0, len(gates), _ROWS):
        signs = exact_signs(forms, gates[i : i + _ROWS])
        inside = ((signs != 0) | (rows.of < 0)).all(axis=1)
        words.append(pack(signs[inside] > 0))
        kept.append(gates[i : i + _ROWS][inside])
    packed, gates = np.concatenate(words), np.concatenate(kept)
    group = grouped_words(packed)[1]  # on the host: nothing is compiled for a number of gates
    first, counts = np.unique(group, return_index=True, return_counts=True)[1:]
    order = np.argsort(first)
    first, counts = first[order], counts[order]
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    return Sample(
        codes=codes_of(narrow(packed[first], bits.n), bits),
        gates=gates[first],
        counts=counts,
        draws=len(gates),
        coverage=1 - once / len(gates) if len(gates) else 0.0,
        total=len(counts) + once * (once - 1) / (2 * (twice + 1)),
    )
