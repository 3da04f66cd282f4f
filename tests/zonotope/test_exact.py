"""The exact enumeration: every cell once, with a witness whose signs hold exactly."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import linprog

from activjax.zonotope import _climb, _exact, _groups, _restrictions, _walls
from activjax.zonotope._exact import enumerate_exact
from activjax.zonotope._groups import grouped_rows, grouped_words
from activjax.zonotope._integers import dyadic, floats, primitive, restricted
from activjax.zonotope._signs import certified_signs
from tests.zonotope import arrangements as known
from tests.zonotope.test_counting import random_lines


def words(signs):
    """The set of sign words, as Python integers."""
    return {int("".join("01"[int(b)] for b in row), 2) for row in signs}


def check(lines, signs, witnesses, sample=200):
    """Words are different, the first row positive, and signs at witnesses right, in fractions."""
    assert signs.dtype == bool
    assert signs.shape == (len(witnesses), len(lines))
    assert witnesses.shape == (len(signs), lines.shape[1])
    assert signs[:, 0].all()
    assert len(words(signs)) == len(signs)
    exact = [[Fraction(v) for v in row] for row in lines.tolist()]
    for i in np.random.default_rng(0).permutation(len(signs))[:sample]:
        point = [Fraction(v) for v in witnesses[i].tolist()]
        values = [sum(a * p for a, p in zip(row, point)) for row in exact]
        assert all(values)
        assert [v > 0 for v in values] == signs[i].tolist()


def brute_force(lines):
    """Words of full-dimensional cells by one linear program for each of the 2^(N - 1) patterns."""
    found = set()
    n, r = lines.shape
    for rest in itertools.product((False, True), repeat=n - 1):
        s = np.where([True, *rest], 1, -1)
        rows = np.column_stack([-s[:, None] * lines, np.ones(n)])
        bounds = [(-1, 1)] * r + [(None, 1)]
        best = linprog([0] * r + [-1], A_ub=rows, b_ub=np.zeros(n), bounds=bounds)
        assert best.status == 0
        if -best.fun > 1e-7:
            found.add(int("".join("01"[int(b > 0)] for b in s), 2))
    return found


@pytest.mark.parametrize("name", known.KNOWN)
def test_known_arrangements(name):
    lines, count = known.KNOWN[name]
    signs, witnesses = enumerate_exact(lines)
    assert 2 * len(signs) == count
    assert witnesses.dtype == np.float64
    check(lines, signs, witnesses)


@pytest.mark.parametrize("seed", range(30))
def test_brute_force(seed):
    lines = random_lines(seed)
    lines = lines[:8]
    signs, witnesses = enumerate_exact(lines)
    check(lines, signs, witnesses)
    assert words(signs) == brute_force(lines)


@pytest.mark.parametrize("name", ["resonance-4", "threshold-3", "B3", "K33", "generic-12-4"])
def test_the_same_arrangement(name):
    lines, _ = known.KNOWN[name]
    signs, _ = enumerate_exact(lines)
    random = np.random.default_rng(1)
    n, r = lines.shape
    order, flips = random.permutation(n), random.choice([False, True], n)
    expected = signs[:, order] ^ flips
    expected = words(expected ^ ~expected[:, :1])

    def same(lines):
        lines = lines[order] * np.where(flips, -1, 1)[:, None]
        found, witnesses = enumerate_exact(lines)
        check(lines, found, witnesses, 20)
        assert words(found) == expected

    same(lines)
    same(lines * random.integers(1, 10**8, (n, 1)))
    same(lines @ known.unimodular(r, 1))
    same(lines @ known.unimodular(r, 2, 300))
    same(lines.astype(object) * np.array([7 ** (30 * i) for i in range(r)], object))
    same(np.column_stack([lines, lines[:, 0] - lines[:, 1]]))


def test_integers_throughout(monkeypatch):
    expected = {k: words(enumerate_exact(known.KNOWN[k][0])[0]) for k in ("D4", "resonance-4")}
    monkeypatch.setattr(_walls, "_MARGIN", np.inf)
    monkeypatch.setattr(
        _exact, "_as_given", lambda lines, points, *_: points.whole(np.arange(len(points.near)))
    )
    for name, found in expected.items():
        lines, _ = known.KNOWN[name]
        signs, witnesses = enumerate_exact(lines)
        assert witnesses.dtype == object
        assert all(type(v) is int for v in witnesses.flat)
        check(lines, signs, witnesses, 50)
        assert words(signs) == found


def test_parts_change_nothing(monkeypatch):
    expected = words(enumerate_exact(known.resonance(4))[0])
    monkeypatch.setattr(_restrictions, "_AT_ONCE", 100)
    monkeypatch.setattr(_climb, "_AT_ONCE", 100)
    monkeypatch.setattr(_walls, "_AT_ONCE", 100)
    assert words(enumerate_exact(known.resonance(4))[0]) == expected


def test_few_lines():
    for lines in ([[3]], [[-3]], [[0, -2, 0]], [[1, 2], [2, 1]], [[0, 1], [1, 0], [1, 1], [-1, 1]]):
        lines = np.array(lines)
        signs, witnesses = enumerate_exact(lines)
        assert len(signs) == len(lines)  # half the cells, in dimension 2 and below
        check(lines, signs, witnesses)
    with pytest.raises(ValueError, match="parallel"):
        enumerate_exact(np.array([[1, 2], [0, 1], [-2, -4]]))


def test_many_lines():
    for n, d in ((300, 2), (63, 3), (64, 3), (65, 3), (130, 3), (9, 9), (9, 12), (40, 4)):
        lines = known.generic(n, d, bound=10**5)
        signs, witnesses = enumerate_exact(lines)
        assert 2 * len(signs) == known.generic_count(n, d)
        check(lines, signs, witnesses, 20)


def test_nearly_degenerate_floats():
    # A generic set and one more line, which misses the common plane of two by 1e-13.
    random = np.random.default_rng(0)
    rows = random.normal(size=(11, 4))
    near = np.vstack([rows, rows[0] + rows[1] + 1e-13 * random.normal(size=4)])
    signs, witnesses = enumerate_exact(dyadic(near))
    assert 2 * len(signs) == known.generic_count(12, 4)
    check(dyadic(near), signs, witnesses, 50)
    exactly = np.vstack([dyadic_together(rows[:2]), dyadic(rows[2:])])
    exactly = np.vstack([exactly, exactly[0] + exactly[1]])
    signs, witnesses = enumerate_exact(exactly)
    assert 2 * len(signs) < known.generic_count(12, 4)
    check(exactly, signs, witnesses, 50)


@pytest.mark.parametrize("size", [1e-9, 1e-12, 1e-14, 1e-15])
def test_perturbation(size):
    # Every point where many planes meet falls apart into cells of about that size.
    lines = known.resonance(4)
    lines = dyadic(lines + size * np.random.default_rng(0).normal(size=lines.shape))
    signs, witnesses = enumerate_exact(lines)
    assert 2 * len(signs) == known.generic_count(15, 4)
    check(lines, signs, witnesses)


def dyadic_together(rows):
    """Rows times one power of 2."""
    return dyadic(rows.reshape(1, -1)).reshape(rows.shape)


def test_cells_thinner_than_floats():
    # Slopes that differ by 2^-200: no float64 point is between the lines with the unit vectors.
    top = 2**200
    lines = np.array([[top, top + 1, 0], [top, top, 1], [top + 1, top, 1], [0, 1, 0]], object)
    lines = np.vstack([lines, lines[:1] + lines[1:2]])
    signs, witnesses = enumerate_exact(lines)
    assert witnesses.dtype == object
    check(lines, signs, witnesses)


def test_a_limit_stops_the_enumeration():
    lines = known.resonance(4)
    assert len(enumerate_exact(lines, limit=370)[0]) == 185
    with pytest.raises(ValueError, match="370 cells, more than the limit of 369"):
        enumerate_exact(lines, limit=369)
    with pytest.raises(ValueError, match="limit of 1000"):
        enumerate_exact(known.generic(40, 30), limit=1000)


def test_failures_are_not_silent(monkeypatch):
    climb = _exact.climb

    def wrong(*args):
        points = climb(*args)
        if points is not None:
            points.near[-1] = points.near[0]  # a cell twice, another not at all
        return points

    monkeypatch.setattr(_exact, "climb", wrong)
    with pytest.raises(AssertionError, match="internal error"):
        enumerate_exact(known.type_b(3))


def test_certified_signs():
    tiny = 2.0**-60
    rows = np.array([[1, -1], [2**62 + 1, -(2**62)], [2**62, -(2**62) + 1]])
    points = np.array([[1.0, 1.0], [1.0, 1 + 2.0**-52], [tiny, 1.0]]) / np.sqrt([[2], [2], [1]])
    points[0] = points[0, 0]
    assert certified_signs(rows, points) is None  # 1 - 1
    signs = certified_signs(rows[1:], points)
    exact = [[sum(Fraction(int(a)) * Fraction(p) for a, p in zip(row, point)) for row in rows[1:]]
             for point in points.tolist()]  # fmt: skip
    assert signs is not None
    assert signs.tolist() == [[v > 0 for v in values] for values in exact]
    assert signs[0].tolist() == [True, True]  # off by 2^-62 of the terms
    huge = np.array([[10**400 + 1, -(10**400)], [-(10**400), 10**400 + 1]], object)
    assert certified_signs(huge, points[:1]).tolist() == [[True, True]]
    assert certified_signs(huge, np.array([[1, 1], [1, 2]], object)).tolist()[1] == [False, True]
    assert certified_signs(huge, np.array([[10**400, 10**400 + 1]], object)) is None


def test_integer_rows():
    rows = np.array([[2**62, -(2**62)], [-6, 9], [0, -5], [2**63 - 1, 1 - 2**63]])
    assert primitive(rows).tolist() == [[1, -1], [2, -3], [0, 1], [1, -1]]
    assert primitive(rows.astype(object) * 7**50).dtype == np.int64
    assert primitive(np.array([[-(2**63), 2**62]])).tolist() == [[2, -1]]
    assert primitive(np.array([[-7], [2]], object)).tolist() == [[1], [1]]
    random = np.random.default_rng(0)
    for bits in (3, 10, 30, 31, 32, 62, 80):
        a, h = ([[int(v) for v in row] for row in random.integers(-(2**62), 2**62, (50, 3))]
                for _ in range(2))  # fmt: skip
        a, h = (np.array(v, object) // 2 ** max(0, 62 - bits) * 2 ** max(0, bits - 62)
                for v in (a, h))  # fmt: skip
        a[0], h[:, 2] = 3 * h[0], np.where(h[:, 2] == 0, 1, h[:, 2])
        form = restricted(a, h)
        assert not form[0].any()
        if bits <= 62:
            np.testing.assert_array_equal(restricted(a.astype(np.int64), h.astype(np.int64)), form)
    scaled = floats(np.array([[3, -1], [2**60 + 1, 5], [-(10**400), 1]], object))
    assert ((np.abs(scaled).max(axis=1) >= 0.5) & (np.abs(scaled).max(axis=1) <= 1)).all()
    points = random.normal(size=(20, 3)) * 2.0 ** random.integers(-40, 40, (20, 3))
    points[3, 1] = 0
    for point, whole in zip(points, dyadic(points)):
        ratio = {Fraction(int(w)) / Fraction(p) for p, w in zip(point, whole) if p}
        assert len(ratio) == 1
        assert whole[point == 0].tolist() == [0] * int((point == 0).sum())


def test_groups_of_equal_rows(monkeypatch):
    random = np.random.default_rng(0)
    for scale in (1, 10**6, 10**17, 10**40):
        rows = random.integers(-2, 3, (500, 4)).astype(object) * scale
        rows = rows.astype(np.int64) if scale < 10**18 else rows
        first, of = grouped_rows(rows)
        assert len(first) == len({tuple(row) for row in rows.tolist()})
        assert (rows[first[of]] == rows).all()
    ends = np.array([-(2**63), -(2**62), 0, 2**63 - 1])
    for values in (np.arange(3), ends, np.append(np.arange(-3, 3), ends[1])):
        some = random.choice(values, (500, 5))
        first, of = grouped_rows(some)
        assert (some[first[of]] == some).all()
        assert [*map(tuple, some[first].tolist())] == sorted({*map(tuple, some.tolist())})
    # Hashes that collide are noticed, and drawn again.
    pairs = random.integers(0, 9, (300, 2)).astype(np.uint64)
    hashed, calls = _groups.hashed, []

    def poor(words, draw):
        calls.append(1)
        return hashed(words, draw) % np.uint64(3 if len(calls) < 4 else 2**63)

    monkeypatch.setattr(_groups, "hashed", poor)
    first, of = grouped_words(pairs)
    assert len(calls) == 4
    assert len(first) == len(np.unique(pairs, axis=0))
    monkeypatch.setattr(_groups, "hashed", lambda words, draw: hashed(words, draw) % np.uint64(3))
    with pytest.raises(AssertionError, match="hashes"):
        grouped_words(pairs)
