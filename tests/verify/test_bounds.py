"""Bounds: they hold for every input, rounding included, and are as tight as they should be."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import activjax as aj
from activjax import verify
from activjax.program import UnsupportedError

METHODS = ("ibp", "crown", "alpha")


def like(a, x):
    return jnp.asarray(a, x.dtype)


def mlp(sizes, seed):
    r = np.random.default_rng(seed)
    layers = [
        (r.normal(size=(a, b)).astype(np.float32) / np.sqrt(a), r.normal(size=b).astype("f4") * 0.1)
        for a, b in itertools.pairwise(sizes)
    ]

    def f(x):
        for i, (w, b) in enumerate(layers):
            x = jnp.dot(x, like(w, x), precision="highest") + like(b, x)
            if i < len(layers) - 1:
                x = jax.nn.relu(aj.tag(x, f"layers/{i}/pre"))
        return x

    return f


def residual(seed):
    r = np.random.default_rng(seed)
    w = [r.normal(size=(6, 6)).astype(np.float32) / 3 for _ in range(4)]

    def f(x):
        for a, b in (w[:2], w[2:]):
            x = x + jax.nn.leaky_relu(x @ like(a, x), 0.1) @ like(b, x)
        return jnp.concatenate([x[:3], jnp.abs(x[3:]) - jnp.maximum(x[:3], 0.2)])

    return f


def convolutional(seed):
    r = np.random.default_rng(seed)
    k1 = r.normal(size=(3, 3, 1, 4)).astype(np.float32) / 3
    k2 = r.normal(size=(3, 3, 4, 4)).astype(np.float32) / 6
    w = r.normal(size=(36, 3)).astype(np.float32) / 6

    def conv(x, k, pad):
        return lax.conv_general_dilated(
            x,
            like(k, x),
            (1, 1),
            pad,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision="highest",
        )

    def f(x):
        h = jax.nn.relu(conv(x[None, :, :, None], k1, "SAME"))
        h = (
            lax.reduce_window(
                h, np.zeros((), x.dtype), lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
            )
            / 4
        )
        h = jnp.clip(conv(h, k2, "SAME"), -0.5, 1.0)
        return jnp.pad(h, ((0, 0), (0, 0), (0, 0), (0, 0))).reshape(-1) @ like(w, x)

    return f


NETWORKS = {
    "mlp": (mlp([5, 20, 20, 20, 4], 0), (5,)),
    "deep": (mlp([3, 8, 8, 8, 8, 2], 1), (3,)),
    "residual": (residual(2), (6,)),
    "convolutional": (convolutional(3), (6, 6)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_no_sample_of_100_000_escapes_and_methods_are_ordered(name):
    f, shape = NETWORKS[name]
    r = np.random.default_rng(4)
    mid = r.uniform(-1, 1, shape).astype(np.float32)
    width = r.uniform(0.02, 0.4, shape).astype(np.float32)
    box = mid - width, mid + width
    widths = {}
    share = np.concatenate([r.uniform(size=(60_000, *shape)), r.integers(0, 2, (40_000, *shape))])
    x = np.clip(box[0] + (box[1] - box[0]) * share.astype(np.float32), *box)
    y, acts = jax.jit(jax.vmap(lambda x: both(f, x)))(x)
    with jax.enable_x64(True):  # to the last digit: what float32 rounds is no escape
        exact = np.asarray(jax.jit(jax.vmap(f))(x.astype(np.float64)))
    for method in METHODS:
        bounds = jax.jit(lambda box, m=method: verify.bound(f, box, m))(box)
        low, high = np.asarray(bounds.lower), np.asarray(bounds.upper)
        assert (exact >= low).all(), method
        assert (exact <= high).all(), method
        for site, (a, b) in bounds.sites.items():
            slack = 1e-5  # these samples are float32 themselves
            assert (acts[site] >= a - slack).all(), site
            assert (acts[site] <= b + slack).all(), site
        widths[method] = (high - low).mean()
    assert widths["alpha"] <= widths["crown"] * (1 + 1e-6)
    assert widths["crown"] < widths["ibp"]
    assert y.shape[0] == 100_000


def both(f, x):
    return aj.capture(f, "**")(x) if len(aj.sites(f)(x)) else (f(x), {})


@pytest.mark.parametrize("name", ["mlp", "residual", "convolutional"])
def test_no_gradient_search_escapes(name):
    f, shape = NETWORKS[name]
    r = np.random.default_rng(6)
    mid, width = r.uniform(-1, 1, shape), 0.05
    low, high = (mid - width).astype(np.float32), (mid + width).astype(np.float32)
    found = {m: verify.bound(f, (low, high), m, select=None) for m in ("ibp", "crown")}
    with jax.enable_x64(True):

        @jax.jit
        def extremes(x):
            """The outputs `[n, outputs]` where each was pushed up and down."""
            n = jax.eval_shape(f, x[0]).size

            def push(x, i, sign):
                def step(k, x):
                    slope = jax.grad(lambda x: sign * f(x).reshape(-1)[i])(x)
                    moved = x + 0.3 * width * 0.93**k * jnp.sign(slope)
                    return jnp.clip(moved, low.astype(float), high.astype(float))

                return f(jax.lax.fori_loop(0, 60, step, x)).reshape(-1)[i]

            each = jax.vmap(push, (0, None, None))
            return jnp.stack(
                [jnp.stack([each(x, i, s) for i in range(n)], -1) for s in (1.0, -1.0)]
            )

        start = low + (high - low) * r.uniform(size=(64, *shape))
        y = np.asarray(extremes(jnp.asarray(start)))
    for method, bounds in found.items():
        assert (y <= np.asarray(bounds.upper, np.float64)).all(), method
        assert (y >= np.asarray(bounds.lower, np.float64)).all(), method
    reach = y.max((0, 1)) - y.min((0, 1))
    # the search does reach out: CROWN on so small a box is at most a few times as wide
    assert (reach > 0.3 * (np.asarray(found["crown"].upper) - found["crown"].lower)).all()


def test_a_single_point_is_bounded_to_rounding():
    f, shape = NETWORKS["mlp"]
    x = np.full(shape, 0.3, np.float32)
    bounds = verify.bound(f, (x, x))
    y = np.asarray(f(x))
    # gamma of the terms of four layers of 20 (about 300) is 2e-5; numbers here are below 3
    assert (bounds.upper - bounds.lower).max() < 3e-4
    assert (bounds.lower <= y).all()
    assert (y <= bounds.upper).all()


def test_crown_of_two_rectifiers_by_hand():
    def f(x):
        return jax.nn.relu(x[0] + x[1]) - jax.nn.relu(x[0] - x[1])

    low, high = np.array([-1.0, -0.5], np.float32), np.array([2.0, 1.0], np.float32)
    bounds = verify.bound(f, (low, high))
    # z1 in [-1.5, 3], z2 in [-2, 2.5], both lower slopes 1.
    # below: z1 - (2.5/4.5)(z2 + 2); at x = (-1, -0.5): -1.5 - (5/9)(1.5)
    assert np.allclose(bounds.lower, -1.5 - 5 / 9 * 1.5, atol=1e-5)
    # above: (3/4.5)(z1 + 1.5) - z2; at x = (-1, 1): (2/3)(1.5) + 2
    assert np.allclose(bounds.upper, 2 / 3 * 1.5 + 2, atol=1e-5)
    assert np.allclose(bounds.units[0], [-1.5, -2], atol=1e-5)


def test_jit_vmap_and_traced_parameters_compile_once():
    traces = []

    @jax.jit
    def run(w, low, high):
        traces.append(1)
        return verify.bound(lambda x: jax.nn.relu(x @ w) @ w, (low, high)).lower

    r = np.random.default_rng(0)
    for _ in range(3):
        w = r.normal(size=(4, 4)).astype(np.float32)
        run(w, np.zeros(4, np.float32), np.ones(4, np.float32))
    assert len(traces) == 1
    lows = r.uniform(-1, 0, (7, 4)).astype(np.float32)
    mapped = jax.vmap(lambda low: run(w, low, low + 1))(lows)
    single = np.stack([run(w, low, low + np.float32(1)) for low in lows])
    np.testing.assert_allclose(mapped, single, rtol=1e-5, atol=1e-5)


def test_objective_and_pattern():
    f, shape = NETWORKS["mlp"]
    box = np.full(shape, -0.5, np.float32), np.full(shape, 0.5, np.float32)
    rows = np.array([[1, -1, 0, 0], [0, 0, 2, 1]], np.float32)
    bounds = verify.bound(f, box, objective=rows)
    plain = verify.bound(f, box)
    apart = np.maximum(rows, 0) @ plain.lower + np.minimum(rows, 0) @ plain.upper
    assert (np.asarray(bounds.lower) >= apart - 1e-5).all()
    signs = np.zeros(60, np.int8)
    signs[:3] = [1, -1, 1]
    fixed = verify.bound(f, box, pattern=signs)
    assert (np.asarray(fixed.units[0])[[0, 2]] >= 0).all()
    assert fixed.units[1][1] <= 0
    assert not fixed.empty
    always = int(np.argmax(np.asarray(plain.units[0])))
    impossible = np.zeros(60, np.int8)
    impossible[always] = -1
    if plain.units[0][always] > 0:
        assert verify.bound(f, box, pattern=impossible).empty


def test_float64_is_tighter():
    with jax.enable_x64(True):
        f = mlp([3, 8, 2], 0)
        x = np.full(3, 0.25)
        bounds = verify.bound(f, (x, x))
        assert bounds.lower.dtype == jnp.float64
        assert (bounds.upper - bounds.lower).max() < 1e-12


def test_what_is_not_supported_is_named():
    box = np.zeros(3, np.float32), np.ones(3, np.float32)
    with pytest.raises(UnsupportedError, match="exp is not supported"):
        verify.bound(lambda x: jnp.exp(x), box)
    with pytest.raises(UnsupportedError, match="mul is not supported"):
        verify.bound(lambda x: x * x[::-1], box)
    with pytest.raises(UnsupportedError, match="jumps"):
        verify.bound(lambda x: jnp.where(x > 0.5, x, 0.0), box)
    with pytest.raises(ValueError, match="expected one of ibp, crown, alpha"):
        verify.bound(lambda x: x, box, "crow")  # pyright: ignore
    with pytest.raises(ValueError, match="box is empty"):
        verify.bound(lambda x: x, (box[1], box[0]))
    with pytest.raises(ValueError, match="NaN"):
        verify.bound(lambda x: x, (box[0], box[1] * np.nan))
    with pytest.raises(ValueError, match=r"objective has shape \(2, 2\), expected \[rows, 3\]"):
        verify.bound(lambda x: x, box, objective=np.ones((2, 2)))
    with pytest.raises(ValueError, match="one sign"):
        verify.bound(jax.nn.relu, box, pattern=np.ones(4))


def test_outputs_that_do_not_depend_on_the_input():
    bounds = verify.bound(lambda x: {"a": jnp.ones(2), "b": x.sum()}, (np.zeros(2, "f4"),) * 2)
    assert bounds.lower["a"].tolist() == [1, 1]
    assert abs(bounds.upper["b"]) < 1e-6
