"""Linear programs: optimal with duals, infeasible with a certificate, unbounded with a ray."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from activjax.fit import linear_program

SLOP = 1e-7  # of HiGHS's feasibility tolerances (1e-7 each), for problems of entries up to 10


def feasible(x, A, b, E, e, low, high):
    return (
        (A @ x <= b + SLOP * 10).all()
        and np.allclose(E @ x, e, atol=SLOP * 10)
        and (x >= low - SLOP).all()
        and (x <= high + SLOP).all()
    )


def test_by_hand():
    # max x + y, x + 2y <= 4, 3x + y <= 6: the corner (8/5, 6/5), multipliers (2/5, 1/5).
    found = linear_program([-1, -1], [[1, 2], [3, 1]], [4, 6], lower=0)
    assert found.status == "optimal"
    np.testing.assert_allclose(found.x, [1.6, 1.2], atol=SLOP)
    np.testing.assert_allclose(found.dual_ub, [0.4, 0.2], atol=SLOP)
    assert found.value == pytest.approx(-2.8)
    assert found.dual_value == pytest.approx(-2.8)
    free = linear_program([1.0], A_eq=[[2.0]], b_eq=[-6.0])  # variables are free by default
    np.testing.assert_allclose(free.x, [-3])
    np.testing.assert_allclose(free.dual_eq, [-0.5])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_status_proves_itself(seed):
    rng = np.random.default_rng(seed)
    n, m, k = rng.integers(1, 5), rng.integers(0, 6), rng.integers(0, 3)
    whole = lambda *size: rng.integers(-5, 6, size).astype(float)  # noqa: E731
    c, A, b, E, e = whole(n), whole(m, n), whole(m), whole(k, n), whole(k)
    low = np.where(rng.random(n) < 0.5, -np.inf, -3.0)
    high = np.where(rng.random(n) < 0.5, np.inf, 4.0)
    found = linear_program(c, A, b, E, e, lower=low, upper=high)
    if found.status == "optimal":
        assert feasible(found.x, A, b, E, e, low, high)
        assert found.value == pytest.approx(c @ found.x)
        # Strong duality, up to the tolerances of the solver.
        assert found.dual_value == pytest.approx(found.value, abs=1e-5)
        assert (found.dual_ub >= 0).all()
        assert np.abs(found.dual_ub * (A @ found.x - b)).max(initial=0) < 1e-5
    elif found.status == "infeasible":
        proof = found.certificate
        assert proof.violation > 0
        assert (proof.ub >= 0).all()
        # Farkas: no point within the bounds can meet the weighted sum of the constraints.
        points = rng.uniform(np.maximum(low, -50), np.minimum(high, 50), (200, n))
        weighted = (points @ A.T - b) @ proof.ub + (points @ E.T - e) @ proof.eq
        assert (weighted >= proof.violation - 1e-6 * (1 + np.abs(points).max())).all()
        if np.isfinite(low).all() and np.isfinite(high).all():
            assert proof.exact
    else:
        assert found.status == "unbounded"
        assert found.value == -np.inf
        for length in (0.0, 1.0, 1000.0):
            moved = found.x + length * found.ray
            assert feasible(moved / (1 + length), A, b / (1 + length), E, e / (1 + length),
                            low / (1 + length), high / (1 + length))  # fmt: skip
        assert c @ found.ray < 0


def test_certificates_are_exact_in_boxes():
    found = linear_program([0, 0], [[1, 1], [-1, -1]], [0.1, -0.3], lower=-1, upper=1)
    assert found.status == "infeasible"
    assert found.certificate.exact
    assert found.certificate.violation == pytest.approx(0.2)
    # Feasible by one unit of rounding: no certificate may be given.
    near = linear_program([0.0], [[1.0], [-1.0]], [0.3, -(0.1 + 0.2) + 2**-54], lower=-1, upper=1)
    assert near.status == "optimal"


def test_free_variables_that_cancel_exactly():
    found = linear_program([0, 0], [[1, -1], [-1, 1]], [-1, -1])
    assert found.status == "infeasible"
    assert found.certificate.exact
    assert found.certificate.violation == pytest.approx(2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linear_program([]), "c has shape"),
        (lambda: linear_program([[1.0]]), "c has shape"),
        (lambda: linear_program([1.0], [[1.0, 2.0]], [1.0]), "A_ub has shape"),
        (lambda: linear_program([1.0], [[1.0]]), "given together"),
        (lambda: linear_program([1.0], [[np.nan]], [1.0]), "A_ub has NaN"),
        (lambda: linear_program([1.0], [[1.0]], [np.inf]), "b_ub has NaN or inf"),
        (lambda: linear_program([1.0], lower=2, upper=1), "expected lower <= upper"),
        (lambda: linear_program([1.0], lower=np.nan), "a bound is NaN"),
        (lambda: linear_program([1.0], lower=np.zeros(3)), "lower has shape"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
