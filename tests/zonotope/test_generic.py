"""The parts of the sweep: coordinates, subsets, and the error bound against exact arithmetic."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from activjax.zonotope import _levels
from activjax.zonotope._coordinates import adjugate_of, coordinates
from activjax.zonotope._exact_line import Degenerate, exact_line, independent
from activjax.zonotope._generic import sweep, tableau
from activjax.zonotope._rows import rows_of
from activjax.zonotope._words import pack, row_bits, unpack


def data(kind, n, d, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    if kind == "ill-conditioned":
        X = X @ np.diag(10.0 ** np.linspace(0, -9, d)) @ rng.normal(size=(d, d))
    if kind == "clustered":
        X = 1 + 1e-6 * X
    if kind == "integer":
        X = np.round(X * 100)
    return X


def exact_rows(where):
    """The rows of the coordinates before they were rounded, as fractions."""
    adjugate, determinant = adjugate_of(where.functionals)
    units = [1 << 53] * (len(adjugate) - 1)
    units.append(1 << max(int(v).bit_length() for v in where.lines[-1]))
    exact = where.lines @ (adjugate if determinant > 0 else -adjugate) * np.array(units, object)
    out = []
    for row, near in zip(exact, where.rows, strict=True):
        k = int(np.argmax(np.abs(near)))
        ratio = Fraction(int(row[k])) / Fraction(near[k])
        power = round(math.log2(ratio.numerator) - math.log2(ratio.denominator))
        scale = Fraction(2) ** power
        out.append([Fraction(int(v)) / scale for v in row])
    return out


@pytest.mark.parametrize("kind", ["gaussian", "ill-conditioned", "clustered", "integer"])
@pytest.mark.parametrize(("n", "d"), [(9, 2), (9, 4), (10, 6)])
def test_the_error_bound_holds(kind, n, d):
    where = coordinates(rows_of(data(kind, n, d)).lines)
    truth = exact_rows(where)
    u = Fraction(1, 2**53)
    for row, near in zip(truth, where.rows, strict=True):
        assert sum(v * v for v in row) <= 1
        for v, f in zip(row, near, strict=True):
            assert abs(v - Fraction(f)) <= u * abs(v)
    eye = [[Fraction(int(i == j)) for j in range(d)] for i in range(d)]
    extended = truth[:-1] + eye + [[-v for v in row] for row in eye[:-1]]
    assert len(extended) == len(_levels.extended(where.rows))
    worst = 0.0
    for level in _levels.levels(n - 1, d)[:-1]:
        planes = _levels.subsets(0, level.n_lines, level.size - 1, n - 1)[:8]
        gamma, alpha, beta, error = tableau(_levels.extended(where.rows), n - 1, level, planes)
        for b, index in enumerate(_levels.basis_index(level, planes)):
            inverse = inverse_of([extended[i] for i in index])
            for j in range(n - 1):
                c = [sum(x * inverse[k][i] for k, x in enumerate(truth[j])) for i in range(d)]
                found = [*gamma[:, b, j], *[None] * len(level.base), alpha[b, j], beta[b, j]]
                for exact, near in zip(c, found, strict=True):
                    if near is not None:
                        worst = max(worst, abs(float(exact - Fraction(near))) / error[b])
    assert worst <= 1
    assert worst > 1e-4  # neither so wide that it says nothing


def inverse_of(matrix):
    r = len(matrix)
    rows = [[*row, *(Fraction(int(i == j)) for j in range(r))] for i, row in enumerate(matrix)]
    for c in range(r):
        pivot = next(i for i in range(c, r) if rows[i][c])
        rows[c], rows[pivot] = rows[pivot], rows[c]
        rows[c] = [v / rows[c][c] for v in rows[c]]
        for i in range(r):
            if i != c:
                rows[i] = [v - rows[i][c] * t for v, t in zip(rows[i], rows[c], strict=True)]
    return [row[r:] for row in rows]


@pytest.mark.parametrize("kind", ["gaussian", "ill-conditioned", "clustered", "integer"])
def test_lines_in_integers_say_what_float64_says(kind):
    where = coordinates(rows_of(data(kind, 9, 4)).lines)
    for level in _levels.levels(8, 4)[:-1]:
        planes = _levels.subsets(0, level.n_lines, level.size - 1, 8)
        gamma, alpha, beta, error = tableau(_levels.extended(where.rows), 8, level, planes)
        for b in range(len(planes)):
            order, beta_sign, gamma_sign = exact_line(where, level, planes[b])
            clear = np.abs(beta[b]) > error[b]
            np.testing.assert_array_equal(np.sign(beta[b])[clear], beta_sign[clear])
            clear = np.abs(gamma[:, b]) > error[b]
            np.testing.assert_array_equal(np.sign(gamma[:, b])[clear], gamma_sign[clear])
            t = -alpha[b] / beta[b]
            np.testing.assert_array_equal(order, sorted(order, key=t.__getitem__))


def test_cells_do_not_depend_on_the_directions_drawn():
    rows = rows_of(data("gaussian", 15, 4))
    bits = row_bits(rows)
    sets = []
    for seed in range(3):
        words = np.concatenate([p.words for p in sweep(coordinates(rows.lines, seed), bits)])
        sets.append({row.tobytes() for row in np.concatenate([words, words ^ bits.all])})
    assert sets[0] == sets[1] == sets[2]


def test_a_coincidence_ends_the_sweep():
    X = data("integer", 9, 3)
    X[7] = X[2] - 2 * X[4]
    rows = rows_of(X)
    with pytest.raises(Degenerate):
        list(sweep(coordinates(rows.lines), row_bits(rows)))


@pytest.mark.parametrize(("n", "size"), [(6, 0), (6, 1), (7, 3), (5, 5), (9, 4)])
def test_subsets_come_in_colexicographic_order(n, size):
    found = _levels.subsets(0, math.comb(n, size), size, n)
    expected = sorted(itertools.combinations(range(n), size), key=lambda s: s[::-1])
    np.testing.assert_array_equal(found, np.array(expected).reshape(len(expected), size))
    np.testing.assert_array_equal(_levels.subsets(1, len(found), size, n), found[1:])


def test_the_adjugate():
    rng = np.random.default_rng(0)
    for r in range(1, 6):
        A = rng.integers(-9, 10, (r, r)).astype(object)
        adjugate, determinant = adjugate_of(A)
        assert determinant == round(np.linalg.det(A.astype(float)))
        np.testing.assert_array_equal(A @ adjugate, determinant * np.eye(r, dtype=int))
    singular = np.array([[1, 2, 3], [2, 4, 6], [0, 1, 1]], object)
    assert adjugate_of(singular)[1] == 0
    assert not independent(list(singular))
    assert independent(list(singular[1:]))


@pytest.mark.parametrize("n", [1, 7, 8, 31, 32, 33, 63, 64, 65, 200])
def test_words_and_bits(n):
    bits = np.random.default_rng(n).integers(0, 2, (5, n)).astype(bool)
    words = pack(bits)
    assert words.shape == (5, -(-n // 64))
    np.testing.assert_array_equal(unpack(words, n), bits)
    for i in range(n):
        np.testing.assert_array_equal(
            words[:, i // 64] >> np.uint64(i % 64) & np.uint64(1), bits[:, i]
        )
