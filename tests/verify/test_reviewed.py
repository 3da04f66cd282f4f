"""Cases that a hostile reader found: each of them once gave a wrong answer or no clear error."""

import dataclasses
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from activjax import verify
from activjax.patterns import unpack
from activjax.program.networks import extract_exactly
from activjax.verify.bounds._bound import _compiled
from activjax.verify.bounds._record import record
from activjax.verify.search._linear_part import decide
from activjax.verify.search._settled import Fixed, settled
from activjax.verify.search._spec import Boxes, rows_of
from tests.verify.proofs import gap, mlp, random_mlp

SIDES = -np.ones(2), np.ones(2)
FLOAT = np.dtype(np.float32)


def model(f):
    """From one example to a batch."""
    return lambda p, x: jax.vmap(lambda x: f(p, x))(x)


def tape_of(f, n):
    return record(f, jax.ShapeDtypeStruct((n,), FLOAT), FLOAT)[0]


# --- bounds ---------------------------------------------------------------------------------------


def test_what_is_flushed_to_zero_does_not_escape():
    # XLA flushes numbers below 1.2e-38 on CPU; the coefficient of x * 1e30 is 1e-45
    factors = [np.full(1, f, np.float32) for f in (1e30, 1e-30, 1e-15)]

    def f(x):
        for factor in factors:
            x = x * factor
        return x

    one = np.ones(1, np.float32)
    value = np.prod([f.astype(np.float64) for f in factors])
    bounds = verify.bound(f, (one, one), "crown")
    assert np.asarray(bounds.lower, np.float64)[0] <= value <= np.asarray(bounds.upper, "f8")[0]


def test_a_box_below_the_smallest_normal_number():
    small = np.full(2, 1e-39, np.float32)
    low, high = verify.bound(jax.nn.relu, (-small, small), "ibp").units
    assert (np.asarray(low, np.float64) <= -small.astype(np.float64)).all()
    assert (np.asarray(high, np.float64) >= small.astype(np.float64)).all()


def test_terms_of_transposes_are_counted():
    # backward, the padding collects the cotangents of all places that it fills
    (node,) = (n for n in tape_of(lambda x: lax.pad(x, x[0], [(9, 9, 0)]), 3).nodes
               if n.name == "pad")  # fmt: skip
    assert node.terms >= 18
    # cotangents of the input are added for each of its readers
    tape = tape_of(lambda x: jax.nn.relu(x) + jax.nn.relu(x[::-1]) + x, 3)
    assert tape.segment_terms[tape.relus[0].operands[0]] >= 3
    assert tape.additions >= 2


def test_a_function_that_closes_over_something_else_now_is_bounded_anew():
    box = np.ones(2, np.float32), np.ones(2, np.float32)
    weights = {"w": np.full(2, 2.0, np.float32), "n": 1.0}

    def f(x):
        return jax.nn.relu(x * weights["w"]) + weights["n"]

    assert np.allclose(verify.bound(f, box).lower, 3, atol=1e-4)
    known = _compiled._cache_size()
    verify.bound(f, box)
    assert _compiled._cache_size() == known
    weights["w"] = np.full(2, 5.0, np.float32)
    assert np.allclose(verify.bound(f, box).lower, 6, atol=1e-4)
    weights["n"] = 2.0
    assert np.allclose(verify.bound(f, box).lower, 7, atol=1e-4)


# --- the order of rectifiers ----------------------------------------------------------------------


def late(p, x):
    """The bend of `m` becomes a rectifier when it is multiplied, if its bias is one number."""
    h = x @ p["w"]
    m = jnp.where(h > 0, h, 0.5 * h) + p["b"]
    r = jax.nn.relu(h - 0.3)
    return m @ p["w"] + r


def residual(p, x):
    """A bend added to another array."""
    h = x @ p["w"]
    return jax.nn.leaky_relu(h) + jax.nn.relu(x - p["b"])


def unbounded(p, x):
    """Maxima with -inf are no rectifiers."""
    return jnp.minimum(jnp.maximum(jax.nn.relu(x @ p["w"]), -jnp.inf), jnp.inf)


@pytest.mark.slow
@pytest.mark.parametrize("f", [late, residual, unbounded])
@pytest.mark.parametrize("bias", [(0.0, 0.0), (0.1, 0.2)])
def test_units_are_numbered_as_in_exact_networks(f, bias):
    p = {"w": np.array([[0.5, 1], [-1, 3]], np.float32), "b": np.array(bias, np.float32)}
    network = extract_exactly("test", lambda x: f(p, x), jax.ShapeDtypeStruct((2,), FLOAT))
    x = np.array([[1, 2], [-1, 1], [0.25, -0.125], [-0.5, -0.5], [0.75, 0]], np.float32)
    values = [network.values([Fraction(float(v)) for v in row])[0] for row in x]
    bits = np.asarray(unpack(verify.codes(model(f), p, x)))
    assert bits.tolist() == [[int(z > 0) for z in row] for row in values]
    # one sign at a time, against the exact values at the points
    problem = verify.Problem.from_model(model(f), p, (x[0], x[0]), verify.above([1.0, 1.0], -100))
    for unit, z in enumerate(values[0]):
        for sign in (-1, 1):
            signs = np.zeros(network.units, np.int8)
            signs[unit] = sign
            verdict = verify.prove(problem, pattern=signs)
            assert verdict.status == ("verified" if (z > 0) == (sign > 0) else "empty_region")


# --- constants that are computed ------------------------------------------------------------------


@pytest.mark.slow
def test_parameters_that_are_computed_with_are_constants_of_the_search():
    p = {"w": np.ones((2, 2), np.float32), "s": jnp.ones(2, jnp.bfloat16)}
    shared = [
        lambda p, x: jax.nn.relu(x @ p["w"]) * p["s"].astype(jnp.float32),  # does not
        lambda p, x: x @ -p["w"].T.reshape(2, 2)[::-1],
    ]
    fixed = [
        lambda p, x: x @ (p["w"] / jnp.linalg.norm(p["w"])),
        lambda p, x: x @ (p["w"] @ p["w"]),
        lambda p, x: x * p["w"].astype(jnp.bfloat16).astype(jnp.float32)[0],  # rounds
    ]
    for f in shared:
        assert settled(f, p, (2,), FLOAT)[0] is f
    for f in fixed:
        made, left = settled(f, p, (2,), FLOAT)
        assert isinstance(made, Fixed)
        assert left == ()
        assert made == settled(f, p, (2,), FLOAT)[0]  # so that programs are found again
        problem = verify.Problem.from_model(model(f), p, SIDES, verify.above([1.0, 1.0], -99))
        verdict = verify.prove(problem)
        assert verdict.status == "verified"
        assert verify.check(verdict.tree, problem).ok
        other = verify.Problem.from_model(model(f), p, SIDES, verify.above([1.0, 1.0], 0))
        assert verify.prove(other).status == "violated"


def test_linear_programs_have_the_constants_of_the_program():
    # float32(0.01) is below 0.01: where a program reads 0.01 it would refute what is true
    problem = verify.Problem.from_model(
        lambda p, x: jax.nn.leaky_relu(x), (), (-np.ones(1), -np.ones(1)),
        verify.above([-1.0], "0.0099999999"),
    )  # fmt: skip
    network = extract_exactly(
        "test", lambda x: problem.apply((), x), jax.ShapeDtypeStruct((1,), FLOAT)
    )
    one, none = -np.ones((1, 1), np.float32), np.zeros((1, network.units))
    boxes = Boxes(one, one, none.astype(np.int8), none - 1, none, np.zeros(1, np.int32))
    assert not decide(network, problem.cases[0].clauses, boxes, 0).refuted
    below = (verify.Clause(((Fraction(-1),),), (Fraction("0.0099999"),)),)
    assert decide(network, below, boxes, 0).refuted


# --- going on -------------------------------------------------------------------------------------


def test_what_another_search_left_is_refused():
    params = random_mlp([3, 16, 16, 1], 7)

    def asked(bound="-0.2426", params=params, size=4):
        box = -size * np.ones(3), size * np.ones(3)
        return verify.Problem.from_model(mlp, params, box, verify.above([1.0], bound))

    few = verify.Budget(boxes=10, restarts=0)
    part = verify.prove(asked(), budget=few)
    assert part.status == "unknown"
    for problem, word in (
        (asked("5"), "property"),
        (asked(size=5), "boxes"),
        (asked(params=random_mlp([3, 16, 16, 1], 8)), "another network"),
    ):
        with pytest.raises(ValueError, match=word):
            verify.prove(problem, budget=few, resume=part)
    with pytest.raises(ValueError, match="pattern"):
        verify.prove(asked(), budget=few, resume=part, pattern=np.eye(1, 32, dtype=np.int8)[0])
    with pytest.raises(ValueError, match="splits or steps"):
        verify.prove(asked(), budget=dataclasses.replace(few, splits="relu"), resume=part)
    assert verify.prove(asked(), budget=few, resume=part).status == "unknown"


# --- numbers and shapes ---------------------------------------------------------------------------


@pytest.mark.slow
def test_numbers_beyond_float32():
    eye = np.eye(2, dtype=np.float32)

    def asked(box, property):
        problem = verify.Problem.from_model(lambda p, x: x @ p, eye, box, property)
        return verify.prove(problem).status

    with pytest.raises(ValueError, match=r"input 0 goes from -1e\+300"):
        asked(([-1e300, 0], [1e300, 1]), verify.above([1.0, 1.0], 0))
    assert asked(SIDES, verify.above([1.0, 1.0], -1e300)) == "verified"
    assert asked(SIDES, verify.above([1.0, 1.0], 1e300)) == "violated"
    # a weight that float32 cannot hold may not be taken for the largest that it can
    (clause,) = verify.above([1e300, -1e300], 0).clauses(2)
    case = verify.Case((Fraction(-1),) * 2, (Fraction(1),) * 2, (clause,))
    assert np.isinf(rows_of(case, 2).weights).all()
    assert asked(SIDES, verify.above([1e300, 0.0], -2e300)) in ("verified", "unknown")
    assert asked(SIDES, verify.above([1e300, 0.0], 0)) in ("violated", "unknown")


@pytest.mark.parametrize(
    ("apply", "word"),
    [
        (lambda p, x: x @ np.eye(3, dtype=np.float32), r"one example, \[1, 2\]"),
        (lambda p, x: (x, x), "returns a tuple"),
        (lambda p, x: x.sum(), r"returns shape \[\]"),
        (lambda p, x: x[0], r"returns shape \[2\]"),
    ],
)
def test_models_that_do_not_fit(apply, word):
    with pytest.raises(ValueError, match=word):
        verify.Problem.from_model(apply, (), SIDES, verify.above([1.0, 1.0], 0))


def test_arguments_that_are_no_numbers():
    nan = jnp.full((2, 2), jnp.nan, jnp.bfloat16)
    with pytest.raises(ValueError, match="NaN or infinite"):
        verify.Problem.from_model(lambda p, x: x, nan, SIDES, verify.above([1.0, 1.0], 0))
    for weights, bound in (([1.0], "abc"), ([np.inf], 0), ([1.0], None)):
        with pytest.raises(ValueError, match="expected a finite number"):
            verify.above(weights, bound)
    half = np.zeros(2, np.float16), np.ones(2, np.float16)
    with pytest.raises(ValueError, match="float16"):
        verify.bound(lambda x: x, half)


def test_a_radius_is_not_cut_off_by_rounding():
    # float32(0.1) + 0.7 rounded to float32 is below the sum
    center, r = np.full(2, 0.1, np.float32), 0.7
    found = verify.radius(
        lambda p, x: x, (), center, verify.above([1.0, 1.0], -9), largest=r, trials=1
    )
    ((tried, verdict),) = found.verdicts
    assert found.verified == tried
    # float64 rounds the sides by at most 1e-16
    exact = Fraction(float(center[0])) + Fraction(tried)
    assert abs(verdict.tree.cases[0].upper[0] - exact) <= Fraction(1, 10**16)


@pytest.mark.slow
def test_double_precision_is_on():
    with jax.enable_x64(True):
        assert verify.prove(gap("-1/1000")).status == "verified"
        w = np.random.default_rng(0).normal(size=(2, 3))  # float64 parameters
        problem = verify.Problem.from_model(
            lambda p, x: jax.nn.relu(x.astype(p.dtype) @ p).sum(-1, keepdims=True), w, SIDES,
            verify.above([1.0], "-1e-3"),
        )  # fmt: skip
        verdict = verify.prove(problem)
        assert verdict.status == "verified"
        assert verify.check(verdict.tree, problem).ok


def test_the_proof_that_a_region_is_empty_is_checked():
    signs = np.array([-1], np.int8)
    problem = verify.Problem.from_model(
        lambda p, x: jax.nn.relu(x), (), (np.full(1, 0.5), np.ones(1)), verify.above([1.0], 0)
    )
    verdict = verify.prove(problem, pattern=signs)
    assert verdict.status == "empty_region"
    # that no input has the pattern, whatever the property
    anything = dataclasses.replace(problem, cases=verdict.tree.cases)
    assert anything.cases[0].clauses == (verify.Clause((), ()),)
    assert verify.check(verdict.tree, anything).ok
