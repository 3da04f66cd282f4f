"""Networks without rounding: what `extract_exactly` gives, in exact fractions."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from activjax.program import UnsupportedError
from activjax.program.networks import dense, extract_exactly

LIKE = jax.ShapeDtypeStruct((4,), np.float32)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def exact(array):
    return np.array([[Fraction(v) for v in row] for row in np.atleast_2d(array).tolist()], object)


def points(n, seed=1):
    return [[Fraction(v) for v in row] for row in normal(6, n, seed=seed).tolist()]


def relu(z):
    return [max(v, Fraction(0)) for v in z]


def test_a_deep_linear_map_has_no_product_of_weights():
    w1, w2, b = normal(4, 5), normal(5, 3, seed=1), normal(5, seed=2)
    network = extract_exactly("t", lambda x: ((x + b[:4]) @ w1 + b) @ w2, LIKE)
    stored = {0.0, 1.0, *w1.ravel().tolist(), *w2.ravel().tolist(), *b.tolist()}
    for affine in (*(s.affine for s in network.steps), network.out):
        assert set(affine.bias.tolist()) <= stored
        for m in affine.matrices.values():
            assert set(dense(m).ravel().tolist()) <= stored
    for x in points(4):
        mid = (exact([0]) + (np.array(x) + exact(b[:4])[0]) @ exact(w1))[0] + exact(b)[0]
        assert network(x) == (mid @ exact(w2)).tolist()


def test_an_mlp_is_one_step_a_layer():
    w1, w2, b = normal(4, 5), normal(5, 3, seed=1), normal(5, seed=2)
    network = extract_exactly("t", lambda x: jax.nn.relu(x @ w1 + b) @ w2, LIKE)
    assert [(s.rectifies, s.size) for s in network.steps] == [(True, 5)]
    assert network.units == 5
    for x in points(4):
        hidden = relu((np.array(x) @ exact(w1) + exact(b)[0]).tolist())
        assert network(x) == (np.array(hidden, object) @ exact(w2)).tolist()


def test_average_pooling_divides_exactly():
    w = normal(2, 3)

    def f(x):
        image = jax.nn.relu(x).reshape(1, 6, 3, 1)
        sums = jax.lax.reduce_window(image, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 3, 3, 1), "VALID")
        return (sums / 9).reshape(-1) @ w

    network = extract_exactly("t", f, jax.ShapeDtypeStruct((18,), np.float32))
    assert [s.divisor is not None for s in network.steps] == [False, True]
    for x in points(18):
        h = relu(x)
        mean = [sum(h[9 * k : 9 * k + 9], Fraction(0)) / 9 for k in range(2)]
        assert network(x) == (np.array(mean, object) @ exact(w)).tolist()


def test_convolution_with_bias_and_residual():
    kernel, b = normal(3, 3, 2, 2), normal(2, seed=3)

    def f(x):
        h = x.reshape(1, 3, 3, 2)
        for _ in range(2):
            c = jax.lax.conv_general_dilated(
                h, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            h = h + jax.nn.relu(c + b)
        return h

    network = extract_exactly("t", f, jax.ShapeDtypeStruct((18,), np.float32))
    assert network.units == 36
    h = np.array(points(18)[0], object).reshape(3, 3, 2)
    x = h.ravel().tolist()
    full = exact(kernel.reshape(-1, 2)).reshape(3, 3, 2, 2)
    for _ in range(2):
        padded = np.full((5, 5, 2), Fraction(0), object)
        padded[1:4, 1:4] = h
        new = np.empty((3, 3, 2), object)
        for i in range(3):
            for j in range(3):
                window = padded[i : i + 3, j : j + 3]
                new[i, j] = np.einsum("abc,abcd->d", window, full) + exact(b)[0]
        h = h + np.vectorize(lambda v: max(v, Fraction(0)), otypes=[object])(new)
    assert network(x) == h.ravel().tolist()


@pytest.mark.parametrize(
    ("name", "f", "reference", "units"),
    [
        ("abs", jnp.abs, abs, 1),
        ("leaky", lambda x: jax.nn.leaky_relu(x, 0.25), lambda v: max(v, v / 4), 1),
        ("clip", lambda x: jnp.clip(x, -0.5, 0.25),
         lambda v: min(max(v, Fraction(-1, 2)), Fraction(1, 4)), 2),
        ("max", lambda x: jnp.maximum(0.5, x), lambda v: max(v, Fraction(1, 2)), 1),
        ("min", lambda x: jnp.minimum(x, 0.5), lambda v: min(v, Fraction(1, 2)), 1),
        ("relu6", lambda x: jax.nn.relu6(8 * x), lambda v: min(max(8 * v, Fraction(0)), 6), 2),
        ("third", lambda x: jax.nn.relu(x) / 3, lambda v: max(v, Fraction(0)) / 3, 1),
        ("hard sigmoid", lambda x: jax.nn.hard_sigmoid(4 * x),
         lambda v: min(max(4 * v + 3, Fraction(0)), Fraction(6)) / 6, 2),
        ("hat", lambda x: jnp.where(x < 0, 0.0, jnp.where(x > 0.5, 0.5, x)),
         lambda v: min(max(v, Fraction(0)), Fraction(1, 2)), 2),
    ],
)  # fmt: skip
def test_elementwise(name, f, reference, units):
    network = extract_exactly("t", f, LIKE)
    assert network.units == 4 * units
    for x in points(4):
        assert network(x) == [reference(v) for v in x]


def test_rectifiers_are_numbered_in_program_order():
    w = np.diag([1, 2]).astype(np.float32)

    def f(x):
        first = jax.nn.relu(x[:2] @ w)
        second = jax.nn.relu(x[2:] - 1)
        return jnp.concatenate([second, first])

    before, out = extract_exactly("t", f, LIKE).values([Fraction(v) for v in (1, 2, 3, 4)])
    assert before == [1, 4, 2, 3]
    assert out == [2, 3, 1, 4]


def test_sums_and_products_that_round_become_steps():
    small = np.float32(2.0**-40)
    network = extract_exactly("t", lambda x: (x + small) + 2.0**20, LIKE)
    assert [s.rectifies for s in network.steps] == [False]
    assert network([Fraction(0)] * 4) == [Fraction(1, 2**40) + 2**20] * 4
    w = normal(4, seed=4)
    cubed = extract_exactly("t", lambda x: x * w * w * w, LIKE)
    assert cubed([Fraction(1)] * 4) == [Fraction(v) ** 3 for v in w.tolist()]


def test_agrees_with_the_function_itself():
    w1, w2 = normal(4, 8), normal(8, 3, seed=1)

    def f(x):
        h = jax.nn.leaky_relu((x - 0.3) @ w1)
        h = h + jnp.abs(h[::-1]) / 7
        return (jnp.clip(h, -1, 1) @ w2) * 0.1

    network = extract_exactly("t", f, LIKE)
    run = jax.jit(f)
    for x in points(4):
        y = np.asarray(run(np.array([float(v) for v in x], np.float32)))
        # float32, four sums of up to 8 terms of size below 10
        np.testing.assert_allclose([float(v) for v in network(x)], y, atol=1e-5)


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: jax.lax.reduce_window(x, -np.inf, jax.lax.max, (2,), (2,), "VALID"),
         "max pooling is not supported"),
        (lambda x: jnp.max(x), "max pooling is not supported"),
        (lambda x: jnp.sort(x), "sort"),
        (lambda x: jnp.where(x >= 0, x, np.float32(0.1) * x / np.float32(3)), "no float64"),
        (lambda x: jnp.where(x > 0, x, x @ (0.1 * np.eye(4, dtype=np.float32))),
         "cannot be shown to be continuous, at select_n"),
        (lambda x: jax.lax.reduce_precision(x, 5, 5), "reduce_precision is not supported"),
    ],
)  # fmt: skip
def test_refuses_by_name(f, message):
    with pytest.raises((UnsupportedError, ValueError), match=message):
        extract_exactly("t", f, LIKE)


def test_refuses_jumps_even_tiny_ones():
    with pytest.raises(ValueError, match="jump"):
        extract_exactly("t", lambda x: jnp.where(x > 0.1, x, np.float32(0.1000001)), LIKE)
    with pytest.raises(ValueError, match="NaN or infinite"):
        extract_exactly("t", lambda x: x @ np.full((4, 1), np.nan, np.float32), LIKE)
