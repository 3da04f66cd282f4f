"""A user's function in normal form: the same function, and refusals by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from activjax import program
from activjax.program.networks import extract
from tests.program import networks

A = jnp.linspace(-1.0, 1.0, 6)
FUNCTIONS = {
    "hard_tanh": (jax.nn.hard_tanh, [6, 6]),
    "relu6": (jax.nn.relu6, [6, 6]),
    "hard_sigmoid": (jax.nn.hard_sigmoid, [6, 6]),
    "leaky_relu": (jax.nn.leaky_relu, [6]),
    "abs": (jnp.abs, [6]),
    "clip": (lambda x: jnp.clip(x, -0.5, 0.25), [6, 6]),
    "clamp": (lambda x: jax.lax.clamp(-0.1, x, 0.2), [6, 6]),
    "maximum": (lambda x: jnp.maximum(x[:3], x[3:]), [3]),
    "minimum": (lambda x: jnp.minimum(x, A), [6]),
    "prelu": (lambda x: jnp.where(x >= 0, x, A * x), [6]),
    "prelu turned": (lambda x: jnp.where(x < 0.5, A * (x - 0.5), 0.0), [6]),
    "mask": (lambda x: x * (x > 0).astype(x.dtype), [6]),
    "max": (lambda x: jnp.max(jnp.outer(x, A), 0), [6]),
    "min": (lambda x: x.min(), [1]),
    "cummax": (lambda x: jax.lax.cummax(x, reverse=True), [6]),
    "cummin": (jax.lax.cummin, [6]),
    "larger": (lambda x: jnp.where(x[:3] > x[3:], x[:3], x[3:]), [3]),
    "tree": (lambda x: {"a": jnp.abs(x).sum(), "b": (x, 2 * x[::-1])}, [6]),
    "mixed": (lambda x: x + jax.nn.relu(x) - jnp.abs(x), [6, 6]),
    "constant": (lambda x: jnp.ones(3), []),
    "linear": (lambda x: x @ jnp.outer(A, A) + 1, []),
    "median": (
        lambda x: jnp.maximum(jnp.minimum(x[0], x[1]), jnp.minimum(jnp.maximum(x[0], x[1]), x[2])),
        [1, 1, 1, 1],
    ),
    "same pool": (
        lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (3,), (1,), "SAME"),
        [6],
    ),
    "dilated pool": (
        lambda x: jax.lax.reduce_window(
            x.reshape(2, 3), jnp.inf, jax.lax.min, (1, 2), (1, 1), "VALID", window_dilation=(1, 2)
        ),
        [2],
    ),
    "crelu": (lambda x: jnp.concatenate([jax.nn.relu(x), jax.nn.relu(-x)]), [6, 6]),
    "gathered": (lambda x: jax.nn.relu(x)[jnp.array([5, 0, 0])], [6]),
    "padded": (lambda x: jnp.pad(jnp.abs(x), 2, constant_values=3.0), [6]),
    "scattered": (lambda x: jnp.ones(6).at[jnp.array([1, 4])].set(jax.nn.relu(x[:2])), [2]),
    "summed": (lambda x: jnp.cumsum(jax.nn.relu(x)), [6]),
    "solved": (
        lambda x: jax.scipy.linalg.solve_triangular(jnp.eye(6) + jnp.tri(6), jnp.abs(x)),
        [6],
    ),
    "while": (lambda x: jax.lax.fori_loop(0, 3, lambda i, h: jnp.abs(h) - A, x), [6, 6, 6]),
    "cond": (lambda x: jax.lax.cond(A[0] > 0, jnp.negative, jnp.abs, x), [6]),
}


def same(f, x, layers=None):
    made = extract("test", f, x)
    points = np.random.default_rng(0).normal(size=(30, *x.shape)).astype(np.float32)
    outs = jax.tree.leaves(jax.jit(jax.vmap(f))(points))
    want = np.concatenate([np.reshape(v, (30, -1)) for v in outs], axis=1)
    got = made.network(points.reshape(30, -1).astype(np.float64))
    # float32 of a few hundred operations against float64
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * max(1, np.abs(want).max()))
    if layers is not None:
        assert [layer.size for layer in made.network.layers] == layers
    return made


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operations(name):
    f, layers = FUNCTIONS[name]
    same(f, jnp.ones(6), layers)


@pytest.mark.parametrize("net", networks.NETWORKS, ids=lambda n: n.__name__)
def test_networks_of_several_libraries(net):
    apply, params, x = net()
    made = same(lambda v: apply(params, v[None])[0], x[0])
    assert made.network.units > 0


def test_a_unit_is_what_the_program_tests():
    made = extract("test", lambda x: jax.nn.relu(-x) + jnp.clip(x, -1.0, 1.0), jnp.ones(1))
    states = made.network.pattern(np.array([[-2.0], [-1.0], [0.0], [1.0], [2.0]]))
    # -x > 0, x > -1, max(x, -1) > 1
    assert states.tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 1, 1]]


def test_maximum_takes_the_first_of_equals():
    made = extract("test", lambda x: x.max(), jnp.ones(3))
    assert made.network.pattern(np.array([[1.0, 1, 0], [0, 2, 2]])).tolist() == [[0], [1]]


def test_operations_have_names():
    apply, params, x = networks.cnn()
    made = extract("test", lambda v: apply(params, v[None])[0], x[0])
    assert [layer.name for layer in made.network.layers] == [
        "layers/0/max", "layers/0/reduce_window_max", "layers/1/max", "layers/1/reduce_window_max",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda x: jax.nn.silu(x), "not piecewise linear: logistic in silu at test_extract.py"),
        (lambda x: jax.nn.softmax(x), "not piecewise linear: exp at test_extract.py"),
        (lambda x: x * x, "product of two values"),
        (lambda x: jnp.sign(x), "jumps, from sign"),
        (lambda x: jnp.where(x > 0, 1.0, A * x), "jumps, or cannot be shown"),
        (lambda x: x * jnp.nan, "NaN or infinite"),
        (lambda x: jax.nn.relu(x) / 0.0, "NaN or infinite"),
    ],
)
def test_what_is_no_continuous_piecewise_linear_function(f, words):
    with pytest.raises(ValueError, match=words):
        extract("test", f, jnp.ones(6))


@pytest.mark.parametrize(
    "f", [jnp.floor, jnp.sort, lambda x: jax.lax.top_k(x, 2)[0]], ids=["floor", "sort", "top_k"]
)
def test_what_is_not_supported_is_named(f):
    with pytest.raises(program.UnsupportedError, match="is not supported; supported are"):
        extract("test", f, jnp.ones(6))


def test_branches_and_loops_that_depend_on_the_input():
    with pytest.raises(program.UnsupportedError, match="a branch depends on the input"):
        extract("test", lambda x: jax.lax.cond(x[0] > 0, jnp.abs, lambda v: v, x), jnp.ones(6))
    with pytest.raises(program.UnsupportedError, match="the end of a while loop depends"):
        extract(
            "test",
            lambda x: jax.lax.while_loop(lambda h: h[0] < 1, lambda h: h + 1, x),
            jnp.ones(6),
        )


def test_inputs_and_outputs_are_real():
    with pytest.raises(TypeError, match="input of real numbers"):
        extract("test", lambda x: x * 2, jnp.arange(3))
    with pytest.raises(TypeError, match="Return logits"):
        extract("test", lambda x: jnp.argmax(x), jnp.ones(3))


def test_large_convolutions_stay_sparse():
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 1, 4))

    def f(x):
        h = jax.lax.conv_general_dilated(
            x[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jax.nn.relu(h).sum()

    made = same(f, jnp.ones((28, 28, 1)), [28 * 28 * 4])
    matrix = made.network.layers[0].affine.matrices[0]
    assert not isinstance(matrix, np.ndarray)
    assert matrix.nnz < 28 * 28 * 4 * 9
