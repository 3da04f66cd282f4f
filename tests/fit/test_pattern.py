"""Activation patterns, and ridge regression from moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from activjax import fit

EPS = float(np.finfo(np.float32).eps)


def test_a_suppressor_has_weight_but_no_pattern():
    # x1 = s + n, x2 = n: to read s out exactly, x1 - x2. Var(s) = 1, Var(n) = 4.
    covariance = jnp.asarray([[5.0, 4.0], [4.0, 4.0]])
    pattern = fit.activation_pattern(jnp.asarray([1.0, -1.0]), covariance)
    np.testing.assert_allclose(pattern, [1.0, 0.0], atol=8 * EPS * 5)


def test_the_pattern_inverts_a_square_read_out():
    # Haufe et al. (2014): with as many outputs as channels, A is the transpose of W^-1.
    rng = np.random.default_rng(0)
    w, root = rng.normal(size=(4, 4)), rng.normal(size=(4, 4))
    with jax.enable_x64(True):
        pattern = fit.activation_pattern(w, root @ root.T)
        np.testing.assert_allclose(pattern, np.linalg.inv(w).T, rtol=1e-9)


def test_the_pattern_is_the_regression_of_channels_on_outputs():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(500, 5)) @ rng.normal(size=(5, 5))
    w = rng.normal(size=(5, 2))
    centred = x - x.mean(0)
    slopes = np.linalg.lstsq(centred @ w, centred, rcond=None)[0].T
    with jax.enable_x64(True):
        np.testing.assert_allclose(fit.activation_pattern(w, np.cov(x.T)), slopes, rtol=1e-9)


def test_outputs_that_do_not_vary_have_no_pattern():
    w = jnp.asarray([1.0, -1.0])
    assert np.isnan(fit.activation_pattern(w, jnp.ones((2, 2)))).all()
    both = jnp.stack([w, 2 * w], axis=1)
    assert np.isnan(fit.activation_pattern(both, jnp.eye(2))).all()
    with pytest.raises(ValueError, match="expected .d. or .d, outputs. and .d, d."):
        fit.activation_pattern(w, jnp.eye(3))


@pytest.mark.parametrize("outputs", [(), (3,)])
def test_ridge_from_moments_equals_ridge(outputs):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(300, 6)) + 2
    y = rng.normal(size=(300, *outputs))
    dx, dy = x - x.mean(0), y - y.mean(0)
    with jax.enable_x64(True):
        stored = fit.ridge(x, y, 0.7)
        found = fit.ridge_from_moments(dx.T @ dx, dx.T @ dy, x.mean(0), y.mean(0), 0.7)
        # The condition is below 10: some hundred roundings of float64.
        np.testing.assert_allclose(found.coef, stored.coef, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(found.intercept, stored.intercept, rtol=1e-12, atol=1e-13)
    with pytest.raises(ValueError, match=r"expected \[d, d\]"):
        fit.ridge_from_moments(dx, dy, x.mean(0), y.mean(0), 1.0)
    with pytest.raises(ValueError, match="the means have shapes"):
        fit.ridge_from_moments(dx.T @ dx, dx.T @ dy, x.mean(0)[:2], y.mean(0), 1.0)
