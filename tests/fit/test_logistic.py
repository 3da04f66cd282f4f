import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from activjax.fit import logistic


def digits(n=600, classes=10):
    X, y = load_digits(return_X_y=True)
    keep = y < classes
    return (X[keep][:n] / 16).astype(np.float32), y[keep][:n]


def reference(X, y, l2):
    """scikit-learn's optimum in float64, by Newton's method to a gradient of about 1e-10."""
    model = LogisticRegression(C=1 / l2, solver="newton-cholesky", tol=1e-10)
    return model.fit(X.astype(np.float64), y)


def gradient(X, y, coef, intercept, l2):
    X, coef, intercept = (np.asarray(a, np.float64) for a in (X, coef, intercept))
    residual = softmax(X @ coef.T + intercept, axis=1) - np.eye(len(coef))[y]
    return residual.T @ X + l2 * coef, residual.sum(axis=0)


@pytest.mark.parametrize("l2", [0.1, 10.0])
def test_equals_scikit_learns_within_what_strong_convexity_allows(l2):
    X, y = digits(400, 5)
    fit, theirs = logistic(X, y, l2=l2, n_classes=5), reference(X, y, l2)
    assert bool(fit.converged)
    # The objective is l2-strongly convex in the coefficients and convex in the intercepts, and
    # its gradient is 0 at their optimum, so with the gradient (g, h) at ours
    #   l2 |dW|^2 <= <(g, h), (dW, db)> <= |g| |dW| + |h| |db|.
    g, h = gradient(X, y, fit.coef, fit.intercept, l2)
    dW = np.linalg.norm(fit.coef - theirs.coef_)
    db = np.linalg.norm(fit.intercept - theirs.intercept_)
    g, h = np.linalg.norm(g), np.linalg.norm(h)
    assert l2 * dW**2 <= g * dW + h * db + 1e-8
    # The gradient's size is what was asked for: tol * n * root mean square row (here 65 entries
    # of at most 1), and two units of rounding in each of the n terms of its sums.
    limit = len(X) * np.sqrt(65) * (1e-6 + 2 * 2.0**-24)
    assert max(g, h) <= limit
    assert dW <= (limit + np.sqrt(limit**2 + 4 * l2 * limit * db)) / (2 * l2)
    assert dW <= 2e-3 * np.linalg.norm(theirs.coef_)  # and this is small
    np.testing.assert_array_equal(fit.predict(X), theirs.predict(X))


@pytest.mark.parametrize("classes", [2, 3])
def test_equals_scikit_learns_to_ten_digits_in_float64(classes):
    X, y = digits(200, classes)
    with jax.enable_x64(True):
        X = X.astype(np.float64)
        fit, theirs = logistic(X, y, l2=0.5, n_classes=classes, tol=1e-13), reference(X, y, 0.5)
        assert fit.coef.dtype == jnp.float64
        coef, intercept = np.asarray(fit.coef), np.asarray(fit.intercept)
        np.testing.assert_allclose(
            fit.probabilities(X)[:, :classes], theirs.predict_proba(X), atol=1e-9
        )
        if classes == 2:  # scikit-learn keeps the difference of the two
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
        # Gradients of 1e-13 n sqrt(d) and 1e-10, over l2 = 0.5: 1e-9 leaves a factor of about 5.
        np.testing.assert_allclose(coef, theirs.coef_, atol=1e-9)
        np.testing.assert_allclose(intercept, theirs.intercept_, atol=1e-8)


def test_loss_and_gradient_norm_are_those_of_the_objective():
    X, y = digits(100, 4)
    fit = logistic(X, y, l2=2.0, n_classes=4)
    log_p = log_softmax(X @ np.asarray(fit.coef).T + np.asarray(fit.intercept), axis=1)
    loss = -log_p[np.arange(len(y)), y].sum() + np.sum(np.square(fit.coef))
    np.testing.assert_allclose(fit.loss, loss, rtol=100 * 2.0**-24)  # a sum of 100 terms
    assert float(fit.grad_norm) <= 1e-6 * 100 * np.sqrt(65)
    np.testing.assert_allclose(np.sum(fit.intercept), 0, atol=1e-5)


def test_a_fit_does_not_depend_on_a_shift_and_follows_the_scale():
    X, y = digits(150, 3)
    fit = logistic(X, y, l2=1.0, n_classes=3)
    moved = logistic(8 * X + 16, y, l2=64.0, n_classes=3)  # powers of 2 times sixteenths: exact
    # Both are within grad_norm / l2 of optima that agree, in the units of `fit`.
    apart = np.linalg.norm(8 * moved.coef - fit.coef)
    assert apart <= float(fit.grad_norm) + 8 * float(moved.grad_norm) / 64 + 1e-5


def test_one_example_a_missing_class_and_constant_features():
    one = logistic(np.ones((1, 2)), np.array([1]), l2=1.0, n_classes=3)
    assert bool(one.converged)
    assert one.predict(np.ones((1, 2))).tolist() == [1]
    np.testing.assert_array_equal(one.coef, np.zeros((3, 2)))
    flat = logistic(np.zeros((4, 2)), np.array([0, 0, 0, 1]), l2=1.0, n_classes=2)
    # The optimum is the base rate; a gradient of 4e-6 over the curvature 4 * 3/16 * 2 is 3e-6.
    np.testing.assert_allclose(flat.probabilities(np.zeros((1, 2))), [[0.75, 0.25]], atol=3e-6)


def test_nan_never_passes_for_a_fit():
    X, y = digits(50, 3)
    X = X.copy()
    X[3, 4] = np.nan
    fit = logistic(X, y, l2=1.0, n_classes=3)
    assert not bool(fit.converged)
    assert np.isnan(fit.coef).all()
    assert fit.predict(X).tolist() == [-1] * 50
    good = logistic(np.nan_to_num(X), y, l2=1.0, n_classes=3)
    assert (np.asarray(good.predict(X)) == -1).nonzero()[0].tolist() == [3]


def test_too_few_iterations_are_reported():
    X, y = digits(100)
    fit = logistic(X, y, l2=0.1, n_classes=10, max_iter=3)
    assert not bool(fit.converged)
    assert int(fit.n_iter) == 3


def test_vmap_over_penalties_and_data_equals_a_loop():
    X, y = digits(90, 3)
    X, y = X.reshape(3, 30, 64), y.reshape(3, 30)
    l2 = jnp.array([0.5, 1.0, 8.0])
    mapped = jax.vmap(lambda X, y, l2: logistic(X, y, l2=l2, n_classes=3))(X, y, l2)
    for i in range(3):
        fit = logistic(X[i], y[i], l2=l2[i], n_classes=3)
        # Either is within grad_norm / l2 of one optimum (intercept gradients are part of it).
        reach = (fit.grad_norm + mapped.grad_norm[i]) / l2[i]
        assert np.linalg.norm(fit.coef - mapped.coef[i]) <= 2 * reach + 1e-6
    predictions = jax.vmap(lambda fit, X: fit.predict(X))(mapped, X)
    assert predictions.shape == (3, 30)


def test_jit_and_second_call(compilations):
    X, y = digits(60, 3)
    fit = logistic(X, y, l2=1.0, n_classes=3)
    jitted = jax.jit(lambda X, y: logistic(X, y, l2=1.0, n_classes=3))(X, y)
    # Fusion may round otherwise; both meet the same tolerance of the same optimum.
    assert np.linalg.norm(fit.coef - jitted.coef) <= 2 * (fit.grad_norm + jitted.grad_norm)
    chex.assert_trees_all_equal_shapes_and_dtypes(fit, jitted)
    with compilations() as seen:
        logistic(X + 1, y, l2=2.0, n_classes=3)
    assert not seen


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"X": np.ones(3)}, r"expected \[n, d\].*x\[None\]"),
        ({"X": np.ones((0, 3)), "y": np.zeros(0, int)}, "nothing to fit"),
        ({"y": np.array([0, 1])}, "one for each example"),
        ({"y": np.array([0, 1, 2])}, r"run from 0 to 2, expected 0 .. 1"),
        ({"y": np.array([0, -1, 1])}, "run from -1"),
        ({"l2": 0.0}, "expected a positive number"),
        ({"l2": np.nan}, "expected a positive number"),
        ({"l2": np.ones(2)}, r"jax.vmap"),
        ({"n_classes": 1}, "at least 2"),
        ({"max_iter": 0}, "max_iter"),
        ({"X": np.ones((3, 2), complex)}, "real numbers"),
    ],
)
def test_refusals(change, match):
    args = {"X": np.ones((3, 2)), "y": np.array([0, 1, 1]), "l2": 1.0, "n_classes": 2} | change
    X, y = args.pop("X"), args.pop("y")
    with pytest.raises(ValueError, match=match):
        logistic(X, y, **args)


def test_predict_refuses_other_features():
    fit = logistic(np.ones((3, 2)), np.array([0, 1, 1]), l2=1.0, n_classes=2)
    with pytest.raises(ValueError, match=r"expected \[m, 2\] as in the fit"):
        fit.predict(np.ones((3, 4)))


@pytest.mark.slow
def test_every_compilation_gives_the_same_fit():
    """XLA on CPU miscompiled a first gradient at constant zeros, in 7 of 8 compilations."""
    rng = np.random.default_rng(0)
    X = (rng.random((5, 1347, 256)) < 0.5).astype(np.float32)
    y = rng.integers(0, 10, 1347)
    losses = []
    for _ in range(4):
        jax.clear_caches()
        fit = jax.vmap(lambda X: logistic(X, y, l2=1.0, n_classes=10, max_iter=5))
        losses.append(np.asarray(jax.jit(fit)(X).loss))
    assert np.isfinite(losses).all()
    assert (np.asarray(losses) == losses[0]).all()
