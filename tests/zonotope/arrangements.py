"""Known central arrangements, as integer matrices whose rows are normals, and their counts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from math import comb, factorial

import numpy as np


def resonance(n: int) -> np.ndarray:
    """`[2^n - 1, n]`: every nonzero 0/1 vector."""
    return np.array(list(itertools.product((0, 1), repeat=n)), np.int64)[1:]


def threshold(n: int) -> np.ndarray:
    """`[2^n, n + 1]`: {1} x {-1, 1}^n; cells are threshold functions of n variables."""
    return np.array([(1, *s) for s in itertools.product((-1, 1), repeat=n)], np.int64)


def graphic(edges: Iterable[tuple[int, int]], n: int | None = None) -> np.ndarray:
    """`[edges, n]`: e_i - e_j per edge; cells are acyclic orientations, rank n - components."""
    edges = list(edges)
    n = 1 + max(max(e) for e in edges) if n is None else n
    rows = np.zeros((len(edges), n), np.int64)
    for row, (i, j) in zip(rows, edges, strict=True):
        row[i], row[j] = 1, -1
    return rows


def braid(n: int) -> np.ndarray:
    """`[n (n - 1) / 2, n]`: e_i - e_j of n points; n! cells, rank n - 1."""
    return graphic(itertools.combinations(range(n), 2), n)


def type_d(n: int) -> np.ndarray:
    """`[n (n - 1), n]`: e_i - e_j and e_i + e_j; 2^(n - 1) n! cells."""
    return np.concatenate([braid(n), np.abs(braid(n))])


def type_b(n: int) -> np.ndarray:
    """`[n^2, n]`: those of D and the unit vectors; 2^n n! cells."""
    return np.concatenate([type_d(n), np.eye(n, dtype=np.int64)])


def ternary(n: int) -> np.ndarray:
    """`[(3^n - 1) / 2, n]`: every vector of {-1, 0, 1}^n but 0, one of each pair of opposites."""
    rows = np.array(list(itertools.product((-1, 0, 1), repeat=n)), np.int64)
    return rows[len(rows) // 2 + 1 :]


def cycle(n: int) -> np.ndarray:
    """The graphic arrangement of the n-cycle: 2^n - 2 cells."""
    return graphic([(i, (i + 1) % n) for i in range(n)], n)


def bipartite(m: int, n: int) -> np.ndarray:
    """The graphic arrangement of the complete bipartite graph K_{m,n}."""
    return graphic([(i, m + j) for i in range(m) for j in range(n)], m + n)


def generic(N: int, d: int, seed: int = 0, bound: int = 10**6) -> np.ndarray:
    """`[N, d]`: random integers below `bound`, in general position for all that is likely."""
    return np.random.default_rng(seed).integers(-bound, bound, (N, d), endpoint=True)


def generic_count(N: int, d: int) -> int:
    """Cells of N hyperplanes through 0 in general position in R^d."""
    return 2 * sum(comb(N - 1, i) for i in range(d))


def full_rank(rows: np.ndarray) -> np.ndarray:
    """The same arrangement in coordinates of the row space: a maximal set of free columns kept."""
    kept: list[int] = []
    for column in range(rows.shape[1]):
        if np.linalg.matrix_rank(rows[:, [*kept, column]].astype(float)) > len(kept):
            kept.append(column)
    return rows[:, kept]


def unimodular(d: int, seed: int = 0, steps: int = 20) -> np.ndarray:
    """`[d, d]` integers of determinant 1 or -1: random elementary column operations.

    Python integers where there are more than 40 steps: entries grow without bound.
    """
    random = np.random.default_rng(seed)
    basis = np.eye(d, dtype=np.int64)[random.permutation(d)].astype(object)
    for _ in range(steps if d > 1 else 0):
        i, j = random.choice(d, 2, replace=False)
        basis[:, i] += int(random.choice([-1, 1])) * basis[:, j]
    return basis if steps > 40 else basis.astype(np.int64)


KNOWN: dict[str, tuple[np.ndarray, int]] = {
    **{f"resonance-{n}": (resonance(n), c) for n, c in ((2, 6), (3, 32), (4, 370), (5, 11292))},
    **{f"threshold-{n}": (threshold(n), c) for n, c in ((2, 14), (3, 104), (4, 1882))},
    **{f"braid-{n}": (braid(n), factorial(n)) for n in (4, 5, 6)},
    "B3": (type_b(3), 48),
    "B4": (type_b(4), 384),
    "D4": (type_d(4), 192),
    "ternary-3": (ternary(3), 96),
    "K33": (bipartite(3, 3), 230),
    "C6": (cycle(6), 62),
    "zonotope": (np.array([(1, 0), (0, 1), (1, 1)]), 6),
    "generic-12-4": (generic(12, 4), generic_count(12, 4)),
    "boolean-7": (np.eye(7, dtype=np.int64), 2**7),
}
"""Name -> rows (distinct, not always of full column rank) and the number of cells."""
