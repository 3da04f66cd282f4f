"""Bounds, lines and certificates of the checker, against exact values at points."""

import itertools
from fractions import Fraction

import jax
import numpy as np
import pytest

from activjax.verify import Problem, above
from activjax.verify.checking import _exactly, _numbers, _weights
from activjax.verify.checking._bounds import bounds
from activjax.verify.checking._relaxation import lines
from activjax.verify.checking._steps import Integers, Steps, integers
from tests.verify.proofs import clauses, mlp, random_mlp


def steps_of(sizes, seed, scale=1.0):
    params = random_mlp(sizes, seed)
    params = [(np.float32(scale) * w, b) for w, b in params]
    box = np.zeros(sizes[0]), np.ones(sizes[0])
    return Steps.of(Problem.from_model(mlp, params, box, above([1.0] * sizes[-1], 0)))


def residual(params, x):
    """Skips and a division by 3, so that every kind of step is there."""
    for w, b in params:
        h = jax.nn.leaky_relu(np.float32(0.25) * x + (x @ w + b))
        x = x + abs(h) / np.float32(3)
    return x


def residual_steps(seed):
    params = random_mlp((5, 5, 5, 5), seed)
    box = np.zeros(5), np.ones(5)
    return Steps.of(Problem.from_model(residual, params, box, above([1.0] * 5, 0)))


@pytest.mark.parametrize("seed", range(6))
def test_bounds_at_a_point_hold_its_exact_values(seed):
    # A box that is one point: nothing hides a rounding error.
    steps = residual_steps(seed) if seed % 2 else steps_of((6, 9, 9, 7), seed, scale=3.0)
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(20, steps.inputs)).astype(np.float32).astype(float)
    known = bounds(steps, x, x, np.zeros((20, steps.units), np.int8))
    assert not known.empty.any()
    widest = 0.0
    for k, row in enumerate(x):
        exact = iter(steps.exactly([Fraction(v) for v in row.tolist()])[0])
        for i, _ in steps.rectifiers:
            for low, high in zip(*(z[k].tolist() for z in known.z[i]), strict=True):
                value = next(exact)
                assert Fraction(low) <= value <= Fraction(high)
                widest = max(widest, (high - low) / (1 + abs(float(value))))
    # A thousand roundings of 1e-16, grown by three layers.
    assert 0 < widest < 1e-11


@pytest.mark.parametrize("seed", range(4))
def test_bounds_hold_where_large_numbers_cancel(seed):
    # 800 units near 1000 that add up to nearly 0: only the sums on the way back can be wrong.
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(1, 400)).astype(np.float32)
    b = (1000 + rng.normal(size=400)).astype(np.float32)
    v = rng.normal(size=400).astype(np.float32)
    params = [(np.hstack([w, w]), np.hstack([b, b])),
              (np.hstack([v, -v])[:, None], np.zeros(1, np.float32)),
              (np.ones((1, 1), np.float32), np.zeros(1, np.float32))]  # fmt: skip
    params[0][1][400:] += np.float32(2.0**-10) * rng.integers(-9, 9, 400).astype(np.float32)
    box = np.zeros(1), np.ones(1)
    steps = Steps.of(Problem.from_model(mlp, params, box, above([1.0], 0)))
    x = np.array([[0.3]])
    known = bounds(steps, x, x, np.zeros((1, steps.units), np.int8))
    (low,), (high,) = (z[0].tolist() for z in known.z[1])
    value = steps.exactly([Fraction(0.3)])[0][-1]
    assert Fraction(low) <= value <= Fraction(high)


def skipping(params, x):
    """Every layer also reads the input: bounds of sums that partly cancel."""
    first, h = x, x
    for w, b, v in params:
        h = jax.nn.relu(h @ w + b + first @ v)
    return h


@pytest.mark.parametrize("seed", range(25))
def test_bounds_hold_on_a_line_from_end_to_end(seed):
    # One input: 2,001 points and both ends leave no room for a line on the wrong side.
    rng = np.random.default_rng(seed)
    params = [(rng.normal(size=(n, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32),
               2 * rng.normal(size=(1, 3)).astype(np.float32)) for n in (1, 3, 3)]  # fmt: skip
    box = -np.ones(1), np.ones(1)
    steps = Steps.of(Problem.from_model(skipping, params, box, above([1.0] * 3, 0)))
    x = np.linspace(-1, 1, 2001)[:, None]
    signs = np.zeros((40, steps.units), np.int8)
    low = np.linspace(-1, 0.9, 40)[:, None]
    known = bounds(steps, low, low + 0.1 * (1 + np.arange(40)[:, None] % 2), signs)
    wide = bounds(steps, *(np.full((1, 1), v) for v in (-1.0, 1.0)), signs[:1])
    values = _weights.values(steps, x)
    for found in (known, wide):
        for k in range(len(found.lower)):
            inside = (x[:, 0] >= found.lower[k, 0]) & (x[:, 0] <= found.upper[k, 0])
            for i, _ in steps.rectifiers:
                assert (values[i][inside] >= found.z[i][0][k] - 1e-12).all()
                assert (values[i][inside] <= found.z[i][1][k] + 1e-12).all()


@pytest.mark.parametrize("seed", range(4))
def test_bounds_hold_under_literals(seed):
    steps = residual_steps(seed) if seed % 2 else steps_of((4, 7, 6, 5, 3), seed)
    rng = np.random.default_rng(seed)
    low = rng.normal(size=(1, steps.inputs))
    high = low + rng.uniform(1, 3, size=low.shape)
    x = low + (high - low) * rng.random((4000, steps.inputs))
    z = np.concatenate([_weights.values(steps, x)[i] for i, _ in steps.rectifiers], 1)
    free = bounds(steps, low, high, np.zeros((1, steps.units), np.int8))
    ambiguous = [u for u in range(steps.units) if 0.2 < (z[:, u] > 0).mean() < 0.8][:3]
    assert ambiguous
    narrower = 0
    for bits in itertools.product((-1, 1), repeat=len(ambiguous)):
        signs = np.zeros((1, steps.units), np.int8)
        signs[0, ambiguous] = bits
        known = bounds(steps, low, high, signs)
        inside = z[(np.sign(z[:, ambiguous]) == bits).all(1)]
        assert not (len(inside) and known.empty[0])
        if known.empty[0]:
            continue
        for i, at in steps.rectifiers:
            below, above_ = known.z[i]
            assert (inside[:, at] >= below - 1e-12).all()
            assert (inside[:, at] <= above_ + 1e-12).all()
            narrower += int((above_ - below).sum() < (free.z[i][1] - free.z[i][0]).sum() - 1e-6)
    assert narrower


def test_lines_lie_above_and_below_exactly():
    rng = np.random.default_rng(0)
    scale = 10.0 ** rng.integers(-12, 12, size=(1, 400))
    low = rng.normal(size=(3, 400)) * scale
    high = low + rng.exponential(size=(3, 400)) * scale
    made = lines(low, high, np.zeros((3, 400), np.int8))
    undecided = 0
    for lo, hi, state, s, t in zip(*(v.ravel().tolist() for v in (low, high, made.state,
                                     made.above, made.offset)), strict=True):  # fmt: skip
        lo, hi, s, t = (Fraction(v) for v in (lo, hi, s, t))
        assert s * lo + t >= max(lo, 0)
        assert s * hi + t >= max(hi, 0)
        assert state == (1 if lo >= 0 else -1 if hi <= 0 else 0)
        if not state:
            undecided += 1
            assert 0 <= s <= 1
    assert undecided > 300


def test_floats_as_integers():
    rng = np.random.default_rng(0)
    for x in (rng.normal(size=(5, 7)) * 10.0 ** rng.integers(-30, 30, size=(5, 7)),
              rng.normal(size=(6, 4)).astype(np.float32).astype(float),
              np.zeros((2, 3)), np.array([[1.0, -2.0**-1074, 0.0, 2.0**1000]])):  # fmt: skip
        values, e = integers(x)
        back = [Fraction(int(v)) * Fraction(2) ** e for v in values.ravel()]
        assert back == [Fraction(v) for v in x.ravel().tolist()]
    import scipy.sparse

    full = np.where(rng.random((8, 5)) < 0.4, rng.integers(-9, 9, (8, 5)), 0).astype(float)
    v = np.array([3, 0, -(10**30), 7, 1], object)
    for matrix in (full, scipy.sparse.csr_array(full)):
        made = Integers.of(matrix)
        expected = full.astype(int).astype(object).dot(v)
        assert [int(x) * Fraction(2) ** made.exponent for x in made.times(v)] == list(expected)


@pytest.mark.parametrize("seed", range(5))
def test_a_certificate_is_below_the_lagrangian_everywhere(seed):
    steps = residual_steps(seed) if seed % 2 else steps_of((4, 6, 6, 2), seed)
    rng = np.random.default_rng(seed)
    outputs = steps.parts[-1].size
    (clause,) = clauses([(rng.normal(size=outputs), 0.3), (rng.normal(size=outputs), -0.2)]
                        ).clauses(outputs)  # fmt: skip
    low = [Fraction(int(v), 7) for v in rng.integers(-9, 9, steps.inputs)]
    high = [v + Fraction(int(w), 3) for v, w in zip(low, rng.integers(0, 4, steps.inputs),
                                                    strict=True)]  # fmt: skip
    ends = np.array([_numbers.around(a, b) for a, b in zip(low, high, strict=True)]).T[:, None]
    some = [low[i] + (high[i] - low[i]) * Fraction(1, 2) for i in range(steps.inputs)]
    signs = np.zeros((1, steps.units), np.int8)
    middle = steps.exactly(some)[0]
    for u in rng.choice(steps.units, 3, replace=False):
        signs[0, u] = 1 if middle[u] >= 0 else -1
    known = bounds(steps, ends[0], ends[1], signs)
    assert not known.empty[0]
    weights = _weights.default(known, rng.random((1, 2)))
    for i, held in known.lines.items():
        weights.slopes[i] = np.where(held.state == 0, rng.random(held.slope.shape), 0.0)
        weights.signs[i] = np.abs(held.sign) * rng.random(held.slope.shape)
    whole = _numbers.rounded(weights, 40)
    box = _exactly.Box.of(tuple(low), tuple(high))
    value = _exactly.least(steps, known, 0, box, clause, whole)
    # Slopes of 20 bits and rows of 40 against floats: 2**-20 of the numbers that are added up.
    promised = _weights.promise(steps, known, clause, weights)
    assert abs(float(value) - promised.value[0]) <= 1e-5 * promised.size[0]
    stored = _numbers.multipliers(steps, whole, known, 0)
    again = _numbers.dyadic(steps, stored, known, 0)
    assert _exactly.least(steps, known, 0, box, clause, again) == value

    rows = stored.rows
    seen = 0
    for _ in range(300):
        share = [Fraction(int(v), 8) for v in rng.integers(0, 9, steps.inputs)]
        x = [a + (b - a) * s for a, b, s in zip(low, high, share, strict=True)]
        z, y = steps.exactly(x)
        if any(z[u] * int(signs[0, u]) < 0 for u in np.flatnonzero(signs[0])):
            continue
        seen += 1
        total = sum(
            r * (sum(w * v for w, v in zip(row, y, strict=True)) - q)
            for r, row, q in zip(rows, clause.weights, clause.bounds, strict=True)
        )
        total -= sum(m * abs(z[u]) for u, m in stored.signs.items())
        assert value <= total
    assert seen


def test_the_gradient_is_that_of_the_promise():
    steps = residual_steps(3)
    rng = np.random.default_rng(3)
    low = rng.normal(size=(1, 5))
    signs = np.zeros((1, steps.units), np.int8)
    signs[0, 1] = 1
    known = bounds(steps, low, low + 1.3, signs)
    (clause,) = clauses([(rng.normal(size=5), 0.3)]).clauses(5)
    weights = _weights.default(known, np.ones((1, 1)))
    for i, held in known.lines.items():
        weights.slopes[i] = np.where(held.state == 0, 0.5, 0.0)
        weights.signs[i] = 0.1 * np.abs(held.sign).astype(float)
    at = _weights.promise(steps, known, clause, weights, gradient=True)
    checked = 0
    for i, held in known.lines.items():
        for name, where in (("slopes", held.state == 0), ("signs", held.sign != 0)):
            for u in np.flatnonzero(where[0]):
                moved = _weights._copy(weights)
                getattr(moved, name)[i][0, u] += 1e-7
                change = _weights.promise(steps, known, clause, moved).value[0] - at.value[0]
                # The promise is piecewise linear; 1e-7 away from a kink it is exact to 1e-16/1e-7.
                assert change / 1e-7 == pytest.approx(getattr(at.gradient, name)[i][0, u], abs=1e-5)
                checked += 1
    assert checked > 5
