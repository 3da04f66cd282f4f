"""Gradients are finite where values are: at zeros, at equal singular values, in other layers."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import activjax as aj

E = aj.edits
X = jnp.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [-1.0, 0.5, 0.0]])


def _loss(x):
    return (aj.tag(x, "h") ** 2 * jnp.array([1.0, 2.0, 3.0])).sum()


def _edited(edit, x=X):
    return aj.intervene(_loss, {"h": edit})(x)


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (E.project_out, jnp.zeros(3)),
        (E.project_out, jnp.eye(3)[:2]),
        (E.project_out, jnp.stack([jnp.ones(3), jnp.ones(3)])),
        (E.project_out, jnp.zeros((2, 3))),
        (lambda u: E.patch_subspace(jnp.ones(3), u), jnp.eye(3)[:2]),
        (lambda u: E.renorm(E.add(u)), jnp.ones(3)),
        (lambda u: E.renorm(E.add(u)), jnp.zeros(3)),
        (lambda u: E.renorm(E.scale(u)), jnp.float32(0.0)),
    ],
)
def test_gradients_of_edits_are_finite(make, value):
    at_value = jax.jit(jax.grad(lambda u: _edited(make(u))))(value)
    at_x = jax.jit(jax.grad(lambda x: _edited(make(value), x)))(X)
    chex.assert_tree_all_finite((at_value, at_x))
    chex.assert_tree_all_finite(jax.jit(jax.hessian(lambda u: _edited(make(u))))(value))


@pytest.mark.parametrize("rows", [np.eye(4)[:2], np.random.default_rng(0).normal(size=(2, 4))])
def test_projection_gradients_equal_finite_differences(rows):
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4)))
        w = jnp.asarray(np.random.default_rng(2).normal(size=(3, 4)))

        def f(u):
            net = lambda x: (aj.tag(x, "h") * w).sum()  # noqa: E731
            return aj.intervene(net, {"h": E.project_out(u)})(x)

        u = jnp.asarray(rows)
        f = jax.jit(f)
        got, step = jax.grad(f)(u), 1e-6
        for i in np.ndindex(2, 4):
            d = jnp.zeros_like(u).at[i].set(step)
            # Central differences: error of order step^2 and eps / step, about 1e-10 here.
            np.testing.assert_allclose(got[i], (f(u + d) - f(u - d)) / (2 * step), atol=1e-8)
        hessian = jax.hessian(f)(u)
        numeric = (jax.grad(f)(u + d) - jax.grad(f)(u - d)) / (2 * step)
        np.testing.assert_allclose(hessian[..., 1, 3], numeric, atol=1e-7)


def test_complex_values_are_projected_with_conjugates():
    u = jnp.array([[1.0 + 1j, 0, 0]])
    x = jnp.array([2.0 + 3j, 1j, 1.0])
    got = aj.intervene(lambda x: aj.tag(x, "h"), {"h": E.project_out(u)})(x)
    # x = a u + rest with a = <u, x> = sum(conj(u) x): the first entry goes whole.
    np.testing.assert_allclose(got, [0, 1j, 1], atol=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_lengths_of_directions_do_not_matter(size):
    u = jnp.array([1.0, 2.0, -1.0])
    for rows in (u, jnp.stack([u, jnp.ones(3)])):
        expected = aj.intervene(lambda x: aj.tag(x, "h"), {"h": E.project_out(rows)})(X)
        got = aj.intervene(lambda x: aj.tag(x, "h"), {"h": E.project_out(rows * size)})(X)
        np.testing.assert_allclose(got, expected, atol=1e-6)


def _falling(x):
    def layer(h, _):
        h = aj.tag(h - 1.0, "t")
        return h, None

    return jax.lax.scan(layer, x, None, length=4)[0].sum()


@pytest.mark.parametrize("layer", [0, jnp.int32(0), [0]])
def test_an_edit_of_one_layer_is_not_run_in_the_others(layer):
    # In the later layers the square root is of a negative number.
    edit = [(aj.select("t", layers=layer), jnp.sqrt)]
    x = jnp.array([2.0, 3.0])
    value, grad = jax.value_and_grad(aj.intervene(_falling, edit))(x)
    np.testing.assert_allclose(value, (jnp.sqrt(x - 1) - 3).sum(), rtol=1e-6)
    np.testing.assert_allclose(grad, 0.5 / jnp.sqrt(x - 1), rtol=1e-6)


def test_buffers_hold_no_nan_on_the_way():
    jax.config.update("jax_debug_nans", True)
    try:
        x = jnp.array([2.0, 3.0])
        for layers in (1, [2, 0], jnp.int32(1), jnp.array([3, 3])):
            got = aj.capture(_falling, aj.select("t", layers=layers))(x)[1]["t"]
            expected = x - 1.0 - jnp.asarray(layers, jnp.float32)[..., None]
            np.testing.assert_allclose(got, expected.reshape(got.shape))
    finally:
        jax.config.update("jax_debug_nans", False)
