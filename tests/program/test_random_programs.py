"""Random programs: what is declared piecewise linear has vanishing second differences.

Along a segment x + t d, a program with finitely many bends is linear around almost every t. Second
differences over steps of H vanish there up to rounding; a bend within H of t spoils one. A smooth
nonlinear program has f'' H^2 nearly everywhere.
"""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from activjax import program

N = 3  # elements of every value
H = 2.0**-12
EPS = 2.0**-52
TIMES = np.random.default_rng(0).uniform(-1, 1, 200)

#: name -> (function of a value and of constants in [-1, 1], Lipschitz constant in the maximum norm)
OPS = {
    "matrix": (lambda x, w, b: w @ x + b, N),
    "scale": (lambda x, w, b: x * b - w[0], 1),
    "relu": (lambda x, w, b: jax.nn.relu(x + b), 1),
    "leaky": (lambda x, w, b: jax.nn.leaky_relu(x), 1),
    "abs": (lambda x, w, b: jnp.abs(x - b), 1),
    "bent": (lambda x, w, b: jnp.where(x > 0.5, 2 * x - 0.5, x), 2),
    "affine": (lambda x, w, b: jnp.concatenate([x[1:], x[:1]]) - b * x, 2),
    "hard_tanh": (lambda x, w, b: jax.nn.hard_tanh(x), 1),
    "clip": (lambda x, w, b: jnp.clip(x, -jnp.abs(b), 1.0), 1),
    "pool": (lambda x, w, b: jnp.maximum(x, jnp.roll(x, 1)), 1),
    "sort": (lambda x, w, b: jnp.sort(x), 1),
    "cummax": (lambda x, w, b: jax.lax.cummax(x), 1),
    "cumsum": (lambda x, w, b: jnp.cumsum(x), N),
    "mean": (lambda x, w, b: x - x.mean(), 2),
    "where": (lambda x, w, b: jnp.where(x > b, x, b), 1),
    "mask": (lambda x, w, b: (x > b).astype(x.dtype) * x, 1),
    "gather": (lambda x, w, b: x[jnp.argsort(b)], 1),
    "best": (lambda x, w, b: x[jnp.argmax(x + b)] + x, 2),
    "floor": (lambda x, w, b: jnp.floor(4 * x) / 4 + b, 1),
    "residual": (lambda x, w, b: x + jax.nn.relu(w @ x), 1 + N),
    "cond": (lambda x, w, b: jax.lax.cond(x.sum() > 0, lambda x: -x, lambda x: x + b, x), 1),
    "scan": (lambda x, w, b: jax.lax.scan(lambda c, v: (jax.nn.relu(c + v), None), x, w)[0], 1),
    "switch": (lambda x, w, b: jnp.stack([x, w @ x])[jnp.int32(x[0] > b[0])], N),
}
#: The same, each with the primitive of its name; not piecewise linear, unless of steps.
SPOILERS = {
    "tanh": (lambda x, w, b: jnp.tanh(x), 1),
    "exp": (lambda x, w, b: jnp.exp(-jnp.abs(x)), 1),
    "logistic": (lambda x, w, b: jax.nn.sigmoid(x), 1),
    "integer_pow": (lambda x, w, b: jnp.clip(x, -2.0, 2.0) ** 3, 12),
    "mul": (lambda x, w, b: jnp.clip(x, -2.0, 2.0) * jnp.roll(jnp.clip(x, -2.0, 2.0), 1), 4),
}
ALL = OPS | SPOILERS


def programs(ops):
    steps = st.tuples(st.sampled_from(sorted(ops)), st.integers(0, 10**6))
    return st.lists(steps, min_size=1, max_size=5)


def constants(seed):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (N, N)), rng.uniform(-1, 1, N)


def build(steps):
    def f(x):
        for name, seed in steps:
            x = ALL[name][0](x, *map(jnp.asarray, constants(seed)))
        return x

    return f


def second_differences(f, seed):
    rng = np.random.default_rng(seed)
    start, way = rng.uniform(-1, 1, (2, N))
    t = TIMES[:, None, None] + H * np.array([-1, 0, 1])[None, :, None]
    values = np.asarray(jax.jit(jax.vmap(jax.vmap(f)))(jnp.asarray(start + t * way)))
    return np.abs(values[:, 0] - 2 * values[:, 1] + values[:, 2]).max(-1), np.abs(values).max()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.one_of(programs(OPS), programs(ALL)), st.integers(0, 10**6))
def test_programs_declared_piecewise_linear_are(steps, seed):
    check_declared(steps, seed)


@pytest.mark.slow
@settings(max_examples=160, deadline=None, derandomize=True)
@given(st.one_of(programs(OPS), programs(ALL)), st.integers(0, 10**6))
def test_many_programs_declared_piecewise_linear_are(steps, seed):
    check_declared(steps, seed)


def check_declared(steps, seed):
    with jax.enable_x64(True):
        f = build(steps)
        result = program.piecewise_linear(f)(jnp.zeros(N))
        if not result.piecewise_linear:
            assert result.first_nonlinear.primitive in SPOILERS.keys() & dict(steps).keys()
            return
        bends, _ = second_differences(f, seed)
    # Every step sums at most 2 N + 2 terms, so it errs by at most (2 N + 2) EPS times its gain
    # times the largest value; values start within 2 and grow by the gain, plus N, at most. Errors
    # grow by the gains that follow, so each step adds at most its share of the whole product.
    # A second difference adds four of these.
    size, product = 2.0, 1.0
    for name, _ in steps:
        gain = ALL[name][1]
        size, product = gain * size + N, product * max(1, gain)
    tolerance = 4 * len(steps) * (2 * N + 2) * EPS * size * product
    # A bend spoils times within H of it: with B of them 2 H B / 2 of the times. A quarter would be
    # a thousand bends on the segment.
    assert np.mean(bends > tolerance) < 0.25
    if result.linear:
        assert bends.max() <= tolerance
    if result.continuous:
        # Lipschitz by the product of the gains; the segment's direction is at most 1.
        assert bends.max() <= 2 * H * product + tolerance


@settings(max_examples=30, deadline=None, derandomize=True)
@given(programs(OPS), st.sampled_from(sorted(SPOILERS)), st.integers(0, 10**6))
def test_programs_with_another_operation_name_it(steps, spoiler, seed):
    f, spoil = build(steps), build([(spoiler, 0)])
    with jax.enable_x64(True):
        # Beside the input itself, so that it is not made of steps alone.
        result = program.piecewise_linear(lambda x: spoil(f(x) + x) + 1.0)(jnp.zeros(N))
        assert result.first_nonlinear.primitive == spoiler
        assert {b.place.path for b in result.breakpoints} >= {
            b.place.path for b in program.piecewise_linear(f)(jnp.zeros(N)).breakpoints
        }
        # On the inputs themselves; behind f it may saturate.
        bends, size = second_differences(spoil, seed)
    # f'' H^2 is about 1e-8; rounding is four values within 4 EPS of their size.
    assert np.mean(bends > 16 * EPS * max(1, size)) > 0.9


def test_bends_and_jumps_lie_where_the_breakpoint_says():
    """A jump of `where(x > t, x, 0)` is where its operand crosses the constant."""
    with jax.enable_x64(True):
        for threshold, continuous in ((0.0, True), (0.5, False)):

            def f(x, threshold=threshold):
                return jnp.where(x > threshold, x, 0)

            result = program.piecewise_linear(f)(jnp.zeros(()))
            assert result.continuous is continuous
            gap = f(jnp.float64(threshold + 1e-9)) - f(jnp.float64(threshold - 1e-9))
            assert bool(gap < 1e-8) is continuous
