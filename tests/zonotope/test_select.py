"""The polynomial selection: real vertices, and zero loss for any labels."""

from fractions import Fraction

import numpy as np
import pytest

from activjax import patterns
from activjax.zonotope._select import interpolating, select_vertices, selection
from activjax.zonotope._solve import network, solve


def with_bias(n, d, seed=0):
    X = np.random.default_rng(seed).normal(size=(n, d))
    X[:, -1] = 1
    return X


def labels(n, seed=1):
    return np.random.default_rng(seed).normal(size=n)


def assert_vertices(X, chosen):
    """Each pattern is that of its witness, in rational arithmetic."""
    rows = [[Fraction(v) for v in row] for row in X.tolist()]
    for active, w in zip(chosen.active, chosen.witnesses.tolist(), strict=True):
        w = [Fraction(v) for v in w]
        for on, row in zip(active, rows, strict=True):
            value = sum(a * b for a, b in zip(w, row, strict=True))
            assert (value > 0) == on
            assert value != 0 or not any(row)


def assert_interpolates(X, y):
    chosen = selection(X)
    assert_vertices(X, chosen)
    codes, signs = select_vertices(X)
    np.testing.assert_array_equal(patterns.unpack(codes)[::2], chosen.active)
    np.testing.assert_array_equal(patterns.unpack(codes)[1::2], chosen.active)
    weights = interpolating(X, y, chosen)
    error = network(X, weights, signs) - y
    assert np.sqrt(np.sum(error**2) / np.sum(y**2)) <= 1e-10
    return len(signs)


@pytest.mark.parametrize(("n", "d"), [(101, 8), (24, 6), (7, 3), (3, 5), (1, 1), (30, 2)])
def test_any_labels_in_general_position_with_twice_the_least_units(n, d):
    assert assert_interpolates(with_bias(n, d), labels(n)) == 2 * -(-n // min(n, d))


def test_solve_reaches_zero_loss():
    X, y = with_bias(101, 8), labels(101)
    codes, signs = select_vertices(X)
    assert len(signs) == 26
    fit = solve(X, y, codes, signs)
    assert fit.converged
    assert fit.loss <= 1e-7 * np.sum(y**2)
    assert fit.violation == 0


def test_the_network_keeps_to_its_patterns():
    X, y = with_bias(40, 4), labels(40)
    chosen = selection(X)
    value = interpolating(X, y, chosen) @ X.T
    active = np.repeat(chosen.active, 2, axis=0)
    assert ((2.0 * active - 1) * value >= -1e-12 * np.abs(value).max()).all()


def test_examples_on_a_ray_count_once():
    X, y = with_bias(40, 3), labels(40)
    X[20:] = 2.0 * X[:20]
    y[20:] = 2.0 * y[:20]
    X[5] = X[25] = 0
    y[5] = y[25] = 0
    assert assert_interpolates(X, y) == 2 * 7  # 19 rays


def test_dependent_examples_take_more_units():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 3, size=(60, 3)), np.ones(60)]).astype(float)
    y = (X @ [3.0, 1.0, -1.0, 0.5]) ** 2  # equal for equal examples
    units = assert_interpolates(X, y)
    assert units >= 2 * -(-len(np.unique(X, axis=0)) // 4)


def test_rank_counts_not_columns():
    X = with_bias(50, 6)
    X[:, 2] = X[:, 1] + X[:, 0]
    X[:, 3] = 0
    assert assert_interpolates(X, labels(50)) == 2 * 13


def test_column_scales_do_not_matter():
    X = with_bias(60, 5) * [1e-8, 1e8, 1.0, 1e3, 1e-3]
    assert assert_interpolates(X, labels(60)) == 24


@pytest.mark.parametrize("kind", ["a positive column", "a negative column", "no column"])
def test_without_a_column_of_ones(kind):
    X = np.random.default_rng(0).normal(size=(40, 4))
    if kind == "no column":
        X[:, 0] = 0.5 + np.abs(X[:, 0])
        X = X @ np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
        assert not ((X > 0).all(axis=0) | (X < 0).all(axis=0)).any()
    else:
        X[:, 1] = np.abs(X[:, 1]) * (1 if kind == "a positive column" else -1)
    assert assert_interpolates(X, labels(40)) == 20


def test_no_direction_is_an_error_that_says_what_to_do():
    X = np.random.default_rng(0).normal(size=(40, 3))
    with pytest.raises(ValueError, match="append a column of ones"):
        select_vertices(X)
    with pytest.raises(ValueError, match="append a column of ones"):
        select_vertices([[1.0, 2.0], [-1.0, -2.0]])
    with pytest.raises(ValueError, match="all rows of X are 0"):
        select_vertices(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="NaN or infinite"):
        select_vertices([[np.nan, 1.0]])


def test_examples_that_differ_by_rounding_are_refused_not_guessed():
    X = with_bias(30, 3)
    X[15:, 0] = np.nextafter(X[:15, 0], 9)
    X[15:, 1] = X[:15, 1]
    with pytest.raises(ValueError, match="round X"):
        selection(X)


def test_it_is_the_same_every_time():
    X = with_bias(33, 4)
    one, two = selection(X), selection(X)
    np.testing.assert_array_equal(one.active, two.active)
    np.testing.assert_array_equal(one.witnesses, two.witnesses)
