"""The search: right verdicts, replayed witnesses, proofs that check, frontiers that go on."""

import dataclasses
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from activjax import verify
from activjax.verify.search._loop import advance
from tests.verify.proofs import gap, least_over, mlp, random_mlp

QUICK = verify.Budget(seconds=60)


def replayed(problem, witness):
    """Whether a witness lies in its box and its exact outputs are unsafe, by fractions alone."""
    case = problem.cases[witness.case]
    inside = all(a <= v <= b for v, a, b in zip(witness.exact, case.lower, case.upper, strict=True))
    return inside and any(c.holds(witness.outputs) for c in case.clauses)


def hard():
    """A property that holds by little and takes some hundred boxes."""
    box = -4 * np.ones(3), 4 * np.ones(3)
    # the least value of 200,000 samples is -0.2126; 0.03 below it the property holds
    property = verify.above([1.0], "-0.2426")
    return verify.Problem.from_model(mlp, random_mlp([3, 16, 16, 1], 7), box, property)


def test_the_gap_property_is_decided_to_the_last_digit():
    violated = verify.prove(gap("0"), budget=QUICK)
    assert violated.status == "violated"
    assert replayed(gap("0"), violated.witness)
    for bound in ("-1e-9", "-1/1000"):
        problem = gap(bound)
        verdict = verify.prove(problem, budget=QUICK)
        assert verdict.status == "verified", verdict.reason
        assert verify.check(verdict.tree, problem).ok
        # without the attack too
        again = verify.prove(problem, budget=dataclasses.replace(QUICK, restarts=0))
        assert again.status == "verified"


@pytest.mark.parametrize("splits", ["input", "relu"])
@pytest.mark.parametrize("seed", range(3))
def test_verdicts_are_those_of_brute_force(seed, splits):
    params = random_mlp([2, 4, 3, 2], seed)
    low, high = -np.ones(2), np.ones(2)
    row = np.array([1.0, -1.0])
    least = least_over(params, low, high, row)
    for away, expected in ((-1e-3, "verified"), (1e-3, "violated")):
        bound = Fraction(least + away).limit_denominator(10**9)
        problem = verify.Problem.from_model(mlp, params, (low, high), verify.above(row, bound))
        budget = verify.Budget(seconds=60, restarts=0, splits=splits)
        verdict = verify.prove(problem, budget=budget)
        assert verdict.status == expected, (verdict.reason, away)
        if expected == "verified":
            checked = verify.check(verdict.tree, problem)
            assert checked.ok, checked.reason
            assert checked.exact
        else:
            assert replayed(problem, verdict.witness)


def test_a_clause_of_several_rows_and_several_clauses():
    params = random_mlp([3, 8, 3], 5)
    box = -np.ones(3), np.ones(3)
    outcome = {}
    for label in range(3):
        problem = verify.Problem.from_model(mlp, params, box, verify.largest(label))
        verdict = verify.prove(problem, budget=QUICK)
        outcome[label] = verdict.status
        if verdict.witness is not None:
            y = [float(v) for v in verdict.witness.outputs]
            assert max(y) >= y[label]
            assert replayed(problem, verdict.witness)
            np.testing.assert_allclose(verdict.witness.y, y, rtol=1e-12, atol=1e-12)
    assert "violated" in outcome.values()
    x = np.linspace(-1, 1, 9)
    grid = np.stack(np.meshgrid(x, x, x), -1).reshape(-1, 3).astype(np.float32)
    tops = set(np.argmax(np.asarray(mlp(params, jnp.asarray(grid))), -1).tolist())
    assert all(outcome[label] == "violated" for label in range(3) if tops - {label})


def test_the_budget_ends_and_the_frontier_goes_on():
    problem = hard()
    whole = verify.prove(problem, budget=verify.Budget(restarts=0))
    assert whole.status == "verified"
    assert whole.statistics.boxes > 300
    small = verify.Budget(boxes=100, restarts=0)
    part = verify.prove(problem, budget=small)
    assert part.status == "unknown"
    assert "100 boxes" in part.reason
    assert part.statistics.open > 0
    assert part.tree is None
    rest = verify.prove(problem, budget=verify.Budget(restarts=0), resume=part)
    assert rest.status == "verified"
    assert rest.statistics.boxes >= part.statistics.boxes
    assert verify.check(rest.tree, problem).ok
    # an interrupted verdict can be gone on from twice
    again = verify.prove(problem, budget=verify.Budget(restarts=0), resume=part)
    assert again.status == "verified"
    assert again.statistics.boxes == rest.statistics.boxes
    with pytest.raises(ValueError, match="no unknown verdict"):
        verify.prove(problem, resume=whole)


def test_networks_of_one_shape_share_one_program():
    def problem(seed):
        params = random_mlp([3, 9, 2], seed)
        return verify.Problem.from_model(mlp, params, (-np.ones(3), np.ones(3)), verify.largest(0))

    verify.prove(problem(0), budget=dataclasses.replace(QUICK, restarts=0))
    known = advance._cache_size()
    for seed in range(1, 5):
        verify.prove(problem(seed), budget=dataclasses.replace(QUICK, restarts=0))
    assert advance._cache_size() == known


def test_a_frontier_that_overflows_loses_no_box(monkeypatch):
    from activjax.verify.search import _spec
    from activjax.verify.search._frontier import Frontier

    monkeypatch.setattr(_spec, "BOXES", 1)
    monkeypatch.setattr(_spec, "MOST", 8)
    monkeypatch.setattr(_spec, "BATCHES_KEPT", 3)
    loads = []
    load = Frontier.load
    monkeypatch.setattr(Frontier, "load", lambda self: loads.append(self.open) or load(self))
    problem = hard()
    verdict = verify.prove(problem, budget=verify.Budget(restarts=0))
    assert verdict.status == "verified"
    assert verdict.statistics.boxes > 100
    assert len(loads) > 1
    assert loads[1] > 0
    assert verify.check(verdict.tree, problem).ok


def test_boxes_that_are_points_and_several_boxes():
    params = random_mlp([3, 6, 2], 2)
    x = np.array([0.1, 0.2, 0.3])
    y = np.asarray(mlp(params, jnp.asarray(x[None], jnp.float32)))[0]
    label = int(np.argmax(y))
    problem = verify.Problem.from_model(mlp, params, (x, x), verify.largest(label))
    verdict = verify.prove(problem, budget=QUICK)
    assert verdict.status == "verified"
    assert verify.check(verdict.tree, problem).ok
    other = verify.Problem.from_model(mlp, params, (x, x), verify.largest(1 - label))
    assert verify.prove(other, budget=QUICK).status == "violated"
    both = dataclasses.replace(problem, cases=(problem.cases[0], other.cases[0]))
    witness = verify.prove(both, budget=QUICK).witness
    assert witness is not None
    assert witness.case == 1
    twice = dataclasses.replace(problem, cases=problem.cases * 2)
    verdict = verify.prove(twice, budget=QUICK)
    assert verdict.status == "verified"
    assert len(verdict.tree.leaves) == 2
    assert verify.check(verdict.tree, twice).ok


def test_a_decimal_that_no_float_equals():
    tenth = Fraction(1, 10)
    problem = dataclasses.replace(
        gap("0"), cases=(verify.Case((tenth,) * 2, (tenth,) * 2, gap("0").cases[0].clauses),)
    )
    verdict = verify.prove(problem, budget=QUICK)
    assert verdict.status == "violated"
    assert verdict.witness.exact == (tenth, tenth)


def test_a_network_without_rectifiers_and_a_property_without_clauses():
    problem = verify.Problem.from_model(
        lambda p, x: x @ p, np.eye(2, dtype=np.float32), (np.zeros(2), np.ones(2)),
        verify.above([1.0, 1.0], "-1/2"),
    )  # fmt: skip
    verdict = verify.prove(problem, budget=QUICK)
    assert verdict.status == "verified"
    assert verify.check(verdict.tree, problem).ok
    nothing = dataclasses.replace(
        problem, cases=(dataclasses.replace(problem.cases[0], clauses=()),)
    )
    assert verify.prove(nothing, budget=QUICK).status == "verified"


def test_patterns_restrict_and_empty_regions_are_told():
    # one unit, active where x > 0; the output is its rectified value
    def f(p, x):
        return jax.nn.relu(x * p)

    one = np.ones(1, np.float32)
    problem = verify.Problem.from_model(f, one, (-np.ones(1), np.ones(1)), verify.above([1.0], 0))
    assert verify.prove(problem, budget=QUICK).status == "violated"
    # inputs with z > 0 have outputs above 0, but the closure does not: the border is not decided
    away = verify.Problem.from_model(
        f, one, (-np.ones(1), np.ones(1)), verify.above([-1.0], "-1/2")
    )
    inactive = np.array([-1], np.int8)
    verdict = verify.prove(away, pattern=inactive, budget=QUICK)
    assert verdict.status == "verified"
    assert verdict.tree.assumed
    assert verify.check(verdict.tree, away).ok
    right = verify.Problem.from_model(f, one, (0.5 * one, one), verify.above([-1.0], "-1/2"))
    verdict = verify.prove(right, pattern=inactive, budget=QUICK)
    assert verdict.status == "empty_region"
    assert verdict.tree is not None
    with pytest.raises(ValueError, match=r"expected \[1\] signs"):
        verify.prove(right, pattern=np.zeros(2, np.int8))


def test_bad_input():
    with pytest.raises(ValueError, match="expected positive"):
        verify.Budget(seconds=0)
    with pytest.raises(ValueError, match="'auto', 'input' or 'relu'"):
        verify.Budget(splits="both")  # pyright: ignore
    params = random_mlp([2, 3, 2], 0)
    with pytest.raises(ValueError, match="box is empty: input 1 goes from 1"):
        verify.Problem.from_model(mlp, params, ([0, 1], [1, 0]), verify.largest(0))
    with pytest.raises(ValueError, match="NaN"):
        verify.Problem.from_model(mlp, params, ([0, 0], [1, np.nan]), verify.largest(0))
    with pytest.raises(ValueError, match="there is no output 2"):
        verify.Problem.from_model(mlp, params, ([0, 0], [1, 1]), verify.largest(2))
    params[0][0][0, 0] = np.nan
    with pytest.raises(ValueError, match=r"\[0\]\[0\] has NaN"):
        verify.Problem.from_model(mlp, params, ([0, 0], [1, 1]), verify.largest(0))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("instance", "expected"),
    [
        ("1_1:1", "verified"), ("1_1:3", "verified"), ("1_1:4", "verified"), ("2_2:2", "violated"),
        ("2_2:4", "verified"), ("3_3:9", "verified"), ("4_5:10", "verified"), ("1_1:6", "verified"),
        ("2_9:8", "violated"), ("4_7:3", "verified"), ("3_9:4", "verified"), ("3_8:3", "verified"),
        ("4_8:4", "verified"), ("mnist:0_0.03", "verified"), ("mnist:7_0.03", "violated"),
    ],
)  # fmt: skip
def test_published_instances(acasxu, instance, expected):
    net, prop = instance.split(":")
    name = "mnist-net_256x2.onnx" if net == "mnist" else f"ACASXU_run2a_{net}_batch_2000.onnx"
    problem = verify.Problem.from_vnnlib(acasxu / name, acasxu / f"prop_{prop}.vnnlib")
    verdict = verify.prove(problem, budget=verify.Budget(seconds=600))
    assert verdict.status == expected, verdict
    if expected == "violated":
        assert replayed(problem, verdict.witness)
    else:
        checked = verify.check(verdict.tree, problem)
        assert checked.ok, checked.reason
        assert checked.exact
