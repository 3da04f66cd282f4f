"""Counts without enumeration, against counts by other means."""

import itertools
from math import comb, factorial

import numpy as np
import pytest

from activjax.zonotope import _count, _restrictions
from activjax.zonotope._count import betti
from tests.zonotope import arrangements as known


def random_lines(seed, values=(-1, 0, 1, 2)):
    """Small degenerate integer rows, nonzero and pairwise not parallel, maybe rank-deficient."""
    random = np.random.default_rng(seed)
    r = int(random.integers(2, 5))
    kept = []
    for row in random.choice(values, (int(random.integers(r, 9)), r)):
        if row.any() and all(np.linalg.matrix_rank([row, other]) == 2 for other in kept):
            kept.append(row)
    return np.array(kept)


def whitney(lines):
    """Betti numbers by Whitney's theorem: chi(t) = sum of (-1)^|B| t^(r - rank B) over sets B."""
    n, r = lines.shape
    total = [0] * (r + 1)
    for size in range(n + 1):
        for subset in itertools.combinations(range(n), size):
            rank = np.linalg.matrix_rank(lines[list(subset)]) if subset else 0
            total[rank] += (-1) ** (size - rank)
    return tuple(total)


def acyclic_orientations(edges, n):
    count = 0
    for flips in itertools.product((False, True), repeat=len(edges)):
        arcs = [e[::-1] if flip else e for e, flip in zip(edges, flips)]
        left = set(range(n))
        while sinks := left - {i for i, j in arcs if i in left and j in left}:
            left -= sinks
        count += not left
    return count


@pytest.mark.parametrize("name", known.KNOWN)
def test_known_counts(name):
    lines, count = known.KNOWN[name]
    numbers = betti(lines)
    assert sum(numbers) == count
    assert len(numbers) == lines.shape[1] + 1
    assert numbers[:2] == (1, len(lines))
    assert sum((-1) ** i * b for i, b in enumerate(numbers)) == 0  # 1 + t divides the polynomial
    assert all(type(b) is int for b in numbers)


def test_large_known_counts():
    assert sum(betti(known.resonance(6))) == 1_066_044
    assert sum(betti(known.resonance(7))) == 347_326_352
    assert sum(betti(known.threshold(5))) == 94_572
    assert sum(betti(known.generic(60, 4))) == 68_560
    assert sum(betti(known.generic(30, 5))) == 55_682
    assert sum(betti(known.generic(9, 12))) == 2**9
    assert sum(betti(known.generic(50, 2))) == 100
    assert sum(betti(known.cycle(70))) == 2**70 - 2


def test_polynomials():
    stirling = [1]  # of the first kind, unsigned: prod (1 + i t)
    for n in range(1, 7):
        stirling = [a + (n - 1) * b for a, b in zip([*stirling, 0], [0, *stirling])]
        if n > 1:
            assert betti(known.braid(n)) == (*stirling[:n], 0)
    # B_n: prod (1 + (2 i - 1) t)
    assert betti(known.type_b(4)) == (1, 16, 86, 176, 105)
    numbers = betti(known.generic(9, 4))
    assert numbers[:4] == tuple(comb(9, i) for i in range(4))


@pytest.mark.parametrize("seed", range(25))
def test_whitney_numbers(seed):
    lines = random_lines(seed)
    assert betti(lines) == whitney(lines)


@pytest.mark.parametrize("seed", range(8))
def test_acyclic_orientations(seed):
    random = np.random.default_rng(seed)
    edges = [e for e in itertools.combinations(range(6), 2) if random.random() < 0.6]
    assert sum(betti(known.graphic(edges, 6))) == acyclic_orientations(edges, 6)


@pytest.mark.parametrize("name", ["resonance-4", "threshold-4", "D4", "K33", "ternary-3"])
def test_the_same_arrangement(name):
    lines, _ = known.KNOWN[name]
    expected = betti(lines)
    random = np.random.default_rng(0)
    n, r = lines.shape
    signs = random.choice([-1, 1], (n, 1))
    assert betti((lines * signs)[random.permutation(n)][:, random.permutation(r)]) == expected
    assert betti(lines * random.integers(1, 10**8, (n, 1))) == expected
    assert betti(lines @ known.unimodular(r, 1)) == expected
    assert betti(lines @ known.unimodular(r, 2, 400)) == expected
    stretched = lines.astype(object) * np.array([7 ** (30 * i) for i in range(r)], object)
    assert betti(stretched) == expected
    wide = np.column_stack([lines, lines[:, 0] - lines[:, 1]])
    assert betti(wide) == (*expected, 0)


@pytest.mark.parametrize("bits", [29, 30, 31, 32, 52, 53, 62, 63, 64, 100])
def test_sizes_of_integers(bits):
    # Three planes through a line, whose entries go up to 2^bits, and others in general position.
    top = 2**bits - 1
    u, v = np.array([top, 1, -top], object), np.array([1, top, top - 1], object)
    w, x = np.array([top - 2, -top, 3], object), np.array([5, top - 3, -top], object)
    for lines, expected in (
        ([u, v, u + v, w, x], (1, 5, 9, 5)),
        ([u, v, u - 2 * v, 3 * u + v, w], (1, 5, 7, 3)),
        ([u, v, w, x, w + x, u - x], (1, 6, 13, 8)),
    ):
        rows = np.array(lines, object)
        assert betti(rows) == expected == betti(-rows)
        if abs(rows).max() < 2**63:
            assert betti(rows.astype(np.int64)) == expected


def test_direct_sums_are_products():
    assert betti(np.eye(100, dtype=np.int64)) == tuple(comb(100, i) for i in range(101))
    a, b = known.resonance(4), known.braid(4)
    both = np.zeros((len(a) + len(b), 8), np.int64)
    both[: len(a), :4], both[len(a) :, 4:] = a, b
    mixed = both[np.random.default_rng(0).permutation(len(both))] @ known.unimodular(8, 0, 60)
    assert sum(betti(mixed)) == 370 * factorial(4)


def test_few_lines():
    assert betti(np.array([[3]])) == (1, 1)
    assert betti(np.array([[0, -2, 0]])) == (1, 1, 0, 0)
    assert betti(np.array([[-(2**63), 1], [2**63 - 1, -(2**63)], [1, 0]])) == (1, 3, 2)
    assert betti(np.array([[1, 2], [2, 1]])) == (1, 2, 1)
    assert betti(np.zeros((0, 3), np.int64)) == (1, 0, 0, 0)


def test_parts_and_merging_change_nothing(monkeypatch):
    expected = betti(known.resonance(5))
    monkeypatch.setattr(_restrictions, "_AT_ONCE", 1000)
    assert betti(known.resonance(5)) == expected
    monkeypatch.setattr(_count, "_HELD", 100)
    assert betti(known.resonance(5)) == expected
    monkeypatch.setattr(_restrictions, "_TABLE", 0)
    assert betti(known.resonance(5)) == expected
    huge = known.resonance(4).astype(object) * np.array([7 ** (30 * i) for i in range(4)], object)
    assert betti(huge) == betti(known.resonance(4))


def test_a_limit_stops_the_count():
    lines = known.resonance(5)
    assert sum(betti(lines, limit=11292)) == 11292
    for limit in (1, 100, 11291):
        with pytest.raises(ValueError, match=f"more than the limit of {limit}"):
            betti(lines, limit=limit)
    with pytest.raises(ValueError, match="limit of 1000000"):
        betti(known.generic(1000, 40, bound=3), limit=10**6)  # does not take forever


def test_parallel_rows_are_refused():
    with pytest.raises(ValueError, match="parallel"):
        betti(np.array([[1, 2], [0, 1], [-2, -4]]))
