"""Multipliers that cancel exactly, and the verdicts of linear programs that rest on them."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from activjax.fit import linear_program
from activjax.fit._exact import cancelled


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_finds_the_exact_vector_that_rounding_hides(seed):
    rng = np.random.default_rng(seed)
    r = int(rng.integers(2, 7))
    truth = rng.integers(1, 9, r) / rng.integers(1, 9)
    rows = rng.normal(size=(r, r - 1))
    rows = np.round(rows * 64)  # whole numbers
    rows[-1] = -(np.round(truth[:-1] * 840) @ rows[:-1])
    weights = np.append(np.round(truth[:-1] * 840), 1.0)
    noisy = weights / 7 * (1 + 1e-15 * rng.normal(size=r))
    found = cancelled(rows, noisy, np.ones(r, bool))
    for column in rows.T.tolist():
        assert sum(w * Fraction(v) for w, v in zip(found, column)) == 0
    np.testing.assert_allclose([float(w) for w in found], weights / 7, rtol=1e-9)


def test_gives_the_weights_back_where_there_is_no_such_vector():
    rows, weights = np.array([[1.0], [1.0]]), np.array([1e-17, 1.0])
    assert cancelled(rows, weights, np.array([True, True])) == [Fraction(1e-17), 1]
    assert cancelled(rows, weights, np.array([False, True])) == [-1, 1]
    big = np.ones((300, 300))
    assert cancelled(big, np.ones(300), np.ones(300, bool)) == [1] * 300
    assert cancelled(rows[:0], weights[:0], np.ones(0, bool)) == []


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_certificates_of_free_variables_are_exact(seed):
    """Infeasible by construction: a combination of the constraints reads `0 <= -1`."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 6)), int(rng.integers(2, 7))
    A = rng.integers(-9, 10, (m, n)).astype(float)
    weights = rng.integers(1, 6, m - 1)
    A[-1] = -weights @ A[:-1]
    b = rng.integers(-9, 10, m).astype(float)
    b[-1] = -weights @ b[:-1] - 1
    found = linear_program(np.ones(n), A / 3, b)  # thirds do not cancel in float64
    whole = linear_program(np.ones(n), A, b)
    assert whole.status == "infeasible"
    proof = whole.certificate
    assert proof.exact
    assert min(proof.multipliers) >= 0
    for column in A.T.tolist():
        assert sum(w * Fraction(v) for w, v in zip(proof.multipliers, column)) == 0
    assert sum(w * Fraction(v) for w, v in zip(proof.multipliers, b.tolist())) < 0
    np.testing.assert_allclose([float(w) for w in proof.multipliers], proof.ub, atol=1e-9)
    if found.status == "infeasible" and found.certificate.exact:
        for column in (A / 3).T.tolist():
            assert sum(w * Fraction(v) for w, v in zip(found.certificate.multipliers, column)) == 0


def test_an_unbounded_problem_that_presolve_takes_for_infeasible():
    # SciPy 1.17: "infeasible" with presolve and "unbounded" without; x = (4, -3, 14/3, -3, 7/3)
    # is feasible and (0, 0, 1, 0, -1) a ray.
    c = [2.0, 5, -3, 5, 3]
    A = [[-2.0, 1, 0, -3, 3], [-3, 1, 1, 0, 4], [-5, -3, -4, 4, -2], [-3, -5, -4, 1, 3]]
    b = [5.0, -1, 1, -5]
    inf = np.inf
    found = linear_program(
        c, A, b, lower=[-3, -3, -inf, -3, -inf], upper=[4, 4, inf, 4, 4]
    )  # the upper bound of the last variable is 4: it falls for ever
    assert found.status == "unbounded"
    assert (np.array(A) @ found.x <= np.array(b) + 1e-6).all()
    assert (np.array(A) @ found.ray <= 1e-9).all()
    assert np.array(c) @ found.ray == pytest.approx(-6)
