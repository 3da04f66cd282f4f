"""What a review found: each input here gave a wrong answer, a crash, or took far too much."""

import pickle
from fractions import Fraction
from typing import Any

import jax
import numpy as np
import pytest

from activjax import patterns, zonotope
from activjax.zonotope import _generic, _levels
from activjax.zonotope._coordinates import coordinates
from activjax.zonotope._rows import independent_columns, rows_of
from activjax.zonotope._simplex import in_cone
from activjax.zonotope._words import row_bits

from . import arrangements as known


def words(cells):
    bits = np.asarray(patterns.unpack(cells.codes))
    out = {row.tobytes() for row in bits}
    assert len(out) == len(bits), "a pattern came twice"
    return out


def gaussian(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def test_numpy_integers_among_fractions_do_not_wrap_around():
    mixed = np.array([[np.int64(2**62), Fraction(1, 3)], [1, 1], [1, -1]], object)
    plain = np.array([[2**62, Fraction(1, 3)], [1, 1], [1, -1]], object)
    assert words(zonotope.cells(mixed)) == words(zonotope.cells(plain))
    points = zonotope.vertices(
        np.array([[np.int64(2**62), 1], [np.int64(2**62), 2]], object)
    ).points
    assert sorted(points.tolist()) == [[0, 0], [2**62, 1], [2**62, 2], [2**63, 3]]


@pytest.mark.parametrize("X", [[[2**63 + 1, -1], [2**63, -1]], [[2**53 + 1, -1], [2**53, -1.0]]])
def test_lists_of_large_integers_are_not_rounded(X):
    assert zonotope.count(X) == len(zonotope.cells(X)) == 4


def test_int64_and_uint64_to_their_limits():
    for X in (
        np.array([[-(2**63), 1], [-(2**63) + 1, 1], [2**63 - 1, 1]]),
        np.array([[2**64 - 1, 1], [2**64 - 2, 1], [2**63, 1]], np.uint64),
    ):
        exact = zonotope.cells(X, method="exact")
        assert words(zonotope.cells(X, method="generic")) == words(exact)
        assert len(exact) == 6


@pytest.mark.parametrize("bits", [62, 63, 64])
def test_a_last_row_of_any_size(bits):
    """NumPy takes `[2^53, 2^63]` for floats, and scaled the coordinates with them."""
    X = np.array([[1, 0, 3], [0, 1, 5], [2**bits - 1, 3, 1]], object)
    assert zonotope.cells(X).certificate == "generic-certified"


@pytest.mark.parametrize("method", ["generic", "jax"])
def test_lines_that_differ_by_less_than_floats_can_tell_are_in_general_position(method):
    """Their first coordinate underflows; it was taken for a coincidence."""
    X = np.array([[1.0, 1e-310], [1.0, 2e-310], [1.0, 5e-324], [1.0, 0.0]])
    X = np.array([[Fraction(v) * 2**1000 if j == 0 else Fraction(v) for j, v in enumerate(row)]
                  for row in X], object)  # fmt: skip
    found = zonotope.cells(X, method=method)
    assert words(found) == words(zonotope.cells(X, method="exact"))
    assert len(found) == 8


def test_what_is_no_matrix_of_numbers():
    with pytest.raises(TypeError, match="masked"):
        zonotope.cells(np.ma.array(gaussian(4, 2), mask=np.eye(4, 2) > 0))
    with pytest.raises(TypeError, match="expected real numbers"):
        zonotope.count(np.zeros((2, 2), "V4"))


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda X: X[::-1][::-1], lambda X: X.copy()])
def test_the_layout_in_memory_does_not_matter(layout):
    X = gaussian(9, 3)
    wide = np.repeat(X, 2, axis=1)[:, ::2]
    assert (
        words(zonotope.cells(layout(X))) == words(zonotope.cells(wide)) == words(zonotope.cells(X))
    )


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint64, np.int64])
def test_witnesses_by_indices_of_any_integer_type(dtype):
    found = zonotope.cells(gaussian(20, 3))
    np.testing.assert_array_equal(found.witness(np.array([3], dtype)), found.witness([3]))
    assert found.witness([]).shape == (0, 3)
    for bad in ([-1], [True], [0.0], [[1]]):
        with pytest.raises(IndexError):
            found.witness(bad)


@pytest.mark.parametrize("budget", [float("inf"), float("nan"), "1GB", [1], 0, 1.5, True])
@pytest.mark.parametrize(
    "call", [zonotope.cells, lambda X, budget: next(zonotope.stream(X, budget=budget))]
)
def test_budgets_that_are_none(call, budget):
    with pytest.raises(ValueError, match=r"budget is .*, expected a positive number of bytes"):
        call(gaussian(5, 2), budget=budget)


def test_a_budget_may_be_a_whole_float():
    whole: Any = 1e6
    X = gaussian(20, 3)
    assert sum(codes.n for codes, _ in zonotope.stream(X, budget=whole)) == 382
    assert len(zonotope.cells(X, budget=382 * 4)) == 382  # to the byte
    with pytest.raises(ValueError, match="the budget is 1,527"):
        zonotope.cells(X, budget=382 * 4 - 1)


@pytest.mark.parametrize("n", [None, "a", 1.5, True])
def test_numbers_of_gates_that_are_none(n):
    with pytest.raises(ValueError, match="expected a positive number of gates"):
        zonotope.sample(gaussian(4, 2), jax.random.key(0), n)
    with pytest.raises(ValueError, match=r"a single key, got keys of shape \(2,\)"):
        zonotope.sample(gaussian(4, 2), jax.random.split(jax.random.key(0)), 3)


def test_samples_with_other_keys_compile_nothing(compilations):
    X = gaussian(70, 3)
    zonotope.sample(X, jax.random.key(0), 1000)
    with compilations() as seen:
        zonotope.sample(X, jax.random.key(1), 1000)
    assert not seen
    found = zonotope.sample(X, jax.random.key(1), 1000)
    active = np.asarray(patterns.unpack(found.codes))
    np.testing.assert_array_equal(X @ found.gates.T > 0, active.T)
    assert found.counts.sum() == 1000
    draws = np.asarray(jax.random.normal(jax.random.key(1), (1000, 3), np.float32))
    places = [np.flatnonzero((draws == gate).all(axis=1))[0] for gate in found.gates]
    assert places == sorted(places)  # in the order of the first draws


def test_cells_and_streams_of_other_sizes_compile_nothing(compilations):
    """`jnp.asarray` compiles a program for each shape, so for each part of a stream."""
    with compilations() as seen:
        zonotope.cells(gaussian(23, 3))
        assert len(list(zonotope.stream(gaussian(21, 4), budget=20_000))) > 3
    assert not seen


def test_concrete_data_inside_jit():
    X = gaussian(6, 3)
    found = jax.jit(lambda w: w * zonotope.vertices(X).points.shape[0])(2)
    assert found == 2 * len(zonotope.cells(X))
    found = jax.jit(lambda w: w * zonotope.cells(X, method="jax").codes.n)(2)
    assert found == 2 * len(zonotope.cells(X))


def test_results_can_be_compared_hashed_and_pickled():
    X = gaussian(9, 3)
    for call in (
        zonotope.cells,
        zonotope.vertices,
        lambda X: zonotope.sample(X, jax.random.key(0), 9),
    ):
        assert call(X) != call(X)
        assert len({call(X), call(X)}) == 2
    for found in (zonotope.cells(X), zonotope.cells(known.braid(4))):
        again = pickle.loads(pickle.dumps(found))
        assert words(again) == words(found)
        np.testing.assert_array_equal(again.witnesses, found.witnesses)


def test_chunks_are_measured_with_the_words_of_all_rows(monkeypatch):
    """With 400 duplicates of each row, chunks of lines took 400 times their size."""
    rows = rows_of(np.repeat(gaussian(30, 4), 400, axis=0))
    seen, inner = [], _generic.sweep_lines

    def spy(where, extended, level, planes, bits):
        part = inner(where, extended, level, planes, bits)
        seen.append(len(planes) * 29 * bits.flips.shape[1] * 8)
        return part

    monkeypatch.setattr(_generic, "sweep_lines", spy)
    cells = sum(len(p.words) for p in _generic.sweep(coordinates(rows.lines), row_bits(rows)))
    assert cells == _levels.n_cells(29, 4)
    assert max(seen) <= _generic.CHUNK


def test_independent_columns():
    rng = np.random.default_rng(0)
    for r, d, big in [(1, 1, 3), (3, 5, 3), (5, 5, 10**30), (2, 9, 2**31 - 1), (6, 4, 10**6)]:
        A = (
            rng.integers(-4, 5, (12, r)).astype(object)
            * big
            @ rng.integers(-4, 5, (r, d)).astype(object)
        )
        A[:, d // 2] = 0
        found = independent_columns([tuple(row) for row in A.tolist()])
        near = (A / max(int(np.abs(A).max()), 1)).astype(float)
        assert len(found) == np.linalg.matrix_rank(near) == np.linalg.matrix_rank(near[:, found])
    primes = [2147483647, 2147483629, 2147483587]  # the rank is 2, but modulo these it is 1
    assert independent_columns([(1, 1), (1, 1 + int(np.prod(np.array(primes, object))))]) == [0, 1]


def test_data_with_hundreds_of_columns_that_depend():
    """Elimination of one row after another in integers took hours."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (150, 120)) * (rng.random((150, 120)) < 0.1)
    X[:, 80:100] = X[:, :20] + X[:, 20:40]
    X[:, 100:] = 0
    found = rows_of(X / 256)
    assert found.columns.tolist() == list(range(80))


def test_cones_in_integers():
    from scipy.optimize import nnls

    rng = np.random.default_rng(0)
    answers = []
    for _ in range(100):
        d, m = int(rng.integers(1, 6)), int(rng.integers(1, 10))
        A, t = rng.integers(-3, 4, (m, d)), rng.integers(-3, 4, d)
        answers.append(in_cone(t.astype(object), A.astype(object)))
        assert answers[-1] == (nnls(A.T.astype(float), t.astype(float))[1] < 1e-9)
    assert 20 < sum(answers) < 80
