"""Ridge regression, principal components, standardising."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA as SklearnPCA
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from activjax.fit import kmeans, knn, logistic, pairwise_sq_euclidean, pca, ridge, standardise

EPS = 2.0**-24  # float32 unit roundoff


def regression(n, d, outputs=None, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) + 3
    y = X @ rng.normal(size=(d, outputs or 1)) + rng.normal(size=(n, outputs or 1)) + 5
    return X.astype(np.float32), (y if outputs else y[:, 0]).astype(np.float32)


@pytest.mark.parametrize(("n", "d"), [(60, 8), (8, 60), (20, 20)])
@pytest.mark.parametrize("outputs", [None, 3])
@pytest.mark.parametrize("l2", [0.1, 10.0])
def test_ridge_equals_scikit_learns(n, d, outputs, l2):
    X, y = regression(n, d, outputs)
    fit, theirs = ridge(X, y, l2), Ridge(alpha=l2, solver="svd").fit(X.astype(float), y)
    # A backward stable solution of (X'X + l2) w = X'y: condition number times a modest multiple
    # (the smaller side) of the rounding unit; the intercept takes it over by the mean.
    singular = np.linalg.svd(X.astype(float) - X.mean(0), compute_uv=False)
    smallest = singular[-1] if n > d else 0.0
    condition = (singular[0] ** 2 + l2) / (smallest**2 + l2)
    size = np.linalg.norm(theirs.coef_)
    tolerance = min(n, d) * condition * EPS * size
    theirs_coef = np.atleast_2d(theirs.coef_).T.reshape(fit.coef.shape)
    assert np.linalg.norm(fit.coef - theirs_coef) <= tolerance
    reach = np.linalg.norm(X.mean(0)) * tolerance + n * EPS * np.abs(y).max()
    assert np.max(np.abs(fit.intercept - theirs.intercept_)) <= reach
    assert fit.coef.dtype == jnp.float32
    assert fit.predict(X).shape == y.shape


@pytest.mark.parametrize(("n", "d"), [(60, 8), (8, 60)])
def test_ridge_in_float64(n, d):
    X, y = regression(n, d)
    with jax.enable_x64(True):
        X, y = X.astype(np.float64), y.astype(np.float64)
        fit, theirs = ridge(X, y, 1.0), Ridge(alpha=1.0, solver="svd").fit(X, y)
        assert fit.coef.dtype == fit.intercept.dtype == jnp.float64
        # as above: 8 * condition (under 1e3) * 1e-16, and room for scikit-learn's own error
        np.testing.assert_allclose(fit.coef, theirs.coef_, rtol=0, atol=1e-11)


def test_ridge_by_hand():
    # Centred: X = (-1, 1), y = (-2, 2), so w = 4 / (2 + l2).
    fit = ridge(np.array([[1.0], [3.0]]), np.array([1.0, 5.0]), 2.0)
    np.testing.assert_allclose(fit.coef, [1.0], rtol=4 * EPS)
    np.testing.assert_allclose(fit.intercept, 1.0, rtol=8 * EPS)  # 3 - 2 * 1
    one = ridge(np.array([[1.0, 2.0]]), np.array([7.0]), 1.0)
    assert (one.coef.tolist(), float(one.intercept)) == ([0.0, 0.0], 7.0)


def test_ridge_maps_over_penalties():
    X, y = regression(30, 5)
    l2 = jnp.array([0.1, 1.0, 10.0])
    mapped = jax.vmap(lambda l2: ridge(X, y, l2))(l2)
    looped = [ridge(X, y, one) for one in l2]
    # conditioned below 10 here (30 normal rows in 5 dimensions), 5 columns
    chex.assert_trees_all_close(
        mapped, jax.tree.map(lambda *x: jnp.stack(x), *looped), atol=20 * 5 * 10 * EPS
    )


@pytest.mark.parametrize("shape", [(400, 64), (30, 64)])
def test_pca_equals_scikit_learns(shape):
    X = load_digits().data[: shape[0]].astype(np.float32)
    k = 6
    fit, theirs = pca(X, k), SklearnPCA(k, svd_solver="full").fit(X.astype(float))
    # Singular values of a backward stable decomposition are off by p EPS |X|, p the longer side
    # (Weyl); singular vectors by that over the gap to the next singular value (Wedin), twice.
    singular = np.linalg.svd(X.astype(float) - X.mean(0), compute_uv=False)
    error = max(shape) * EPS * singular[0]
    np.testing.assert_allclose(fit.singular_values, theirs.singular_values_, atol=error)
    np.testing.assert_allclose(
        fit.explained_variance, theirs.explained_variance_, rtol=2 * error / singular[k]
    )
    np.testing.assert_allclose(
        fit.explained_variance_ratio, theirs.explained_variance_ratio_, rtol=4 * error / singular[k]
    )
    gap = np.minimum(-np.diff(singular, prepend=np.inf)[:k], -np.diff(singular)[:k])
    apart = np.linalg.norm(fit.components - theirs.components_, axis=1)
    assert (apart <= 2 * np.sqrt(2) * error / gap).all()
    np.testing.assert_allclose(fit.mean, theirs.mean_, rtol=shape[0] * EPS)
    np.testing.assert_allclose(fit.components @ fit.components.T, np.eye(k), atol=max(shape) * EPS)


def test_pca_round_trip_and_dtype():
    X = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
    fit = pca(X, 4)
    back = fit.inverse_transform(fit.transform(X))
    np.testing.assert_allclose(back, X, atol=10 * 4 * EPS * np.abs(X).max() * 2)
    assert float(np.sum(fit.explained_variance_ratio)) == pytest.approx(1, abs=8 * EPS)
    assert fit.components.dtype == back.dtype == jnp.float32
    with jax.enable_x64(True):
        assert pca(X.astype(np.float64), 2).components.dtype == jnp.float64


def test_pca_of_equal_rows_and_nan():
    flat = pca(np.ones((3, 2)), 1)
    assert (float(flat.explained_variance[0]), float(flat.explained_variance_ratio[0])) == (0, 0)
    X = np.random.default_rng(0).normal(size=(5, 3))
    X[1, 1] = np.nan
    fit = pca(X, 2)
    assert np.isnan(fit.components).all()
    assert np.isnan(fit.explained_variance).all()
    assert np.isfinite(fit.mean[0])


def test_pca_maps():
    X = np.random.default_rng(0).normal(size=(3, 12, 4)).astype(np.float32)
    mapped = jax.vmap(lambda X: pca(X, 2))(X)
    for i in range(3):
        one = pca(X[i], 2)
        np.testing.assert_allclose(mapped.singular_values[i], one.singular_values, rtol=48 * EPS)


def test_standardise_equals_scikit_learns():
    X = load_digits().data[:200].astype(np.float32)  # has constant columns
    fit, theirs = standardise(X), StandardScaler().fit(X.astype(float))
    np.testing.assert_allclose(fit.mean, theirs.mean_, rtol=200 * EPS)
    np.testing.assert_allclose(fit.scale, theirs.scale_, rtol=200 * EPS)
    np.testing.assert_allclose(
        fit.transform(X), theirs.transform(X.astype(float)), rtol=400 * EPS, atol=3200 * EPS
    )
    rounding = np.full((7, 1), 0.1, np.float32)  # not representable: its variance is rounding
    assert standardise(rounding).scale.tolist() == [1.0]
    assert standardise(np.ones((1, 2))).scale.tolist() == [1.0, 1.0]
    assert np.isnan(standardise(np.array([[np.nan, 1], [2, 3]])).scale).tolist() == [True, False]


def test_nan_makes_a_ridge_fit_nan():
    X, y = regression(10, 3, 2)
    y[0, 1] = np.nan
    fit = ridge(X, y, 1.0)
    assert np.isnan(fit.coef).tolist() == [[False, True]] * 3
    X[0, 0] = np.nan
    assert np.isnan(ridge(X, y[:, 0], 1.0).coef).all()


def test_second_call_does_not_recompile(compilations):
    X, y = regression(12, 3)

    def all_fits(X, y):
        ridge(X, y, 1.0).predict(X)
        pca(X, 2).transform(X)
        standardise(X).transform(X)

    all_fits(X, y)
    with compilations() as seen:
        all_fits(X + 1, y)
    assert not seen


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize(
    "f",
    [
        lambda X: ridge(X, X[:, 0], 1.0),
        lambda X: ridge(X.T, X[0], 1.0),
        lambda X: pca(X, 2),
        standardise,
        lambda X: kmeans(jax.random.key(0), X, 3, n_init=2),
        lambda X: logistic(X, jnp.arange(12) % 3, l2=1.0, n_classes=3),
        lambda X: knn(pairwise_sq_euclidean(X), jnp.arange(12) % 3, 2, n_classes=3),
    ],
    ids=["ridge", "ridge dual", "pca", "standardise", "kmeans", "logistic", "knn"],
)
def test_lowers_for_accelerators(f, platform):
    X = jax.ShapeDtypeStruct((12, 4), jnp.float32)
    jax.export.export(jax.jit(f), platforms=[platform])(X)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda X: ridge(X, np.ones(4), 1.0), r"y has shape \(4,\), expected \[5\]"),
        (lambda X: ridge(X, np.ones(5), -1.0), "positive"),
        (lambda X: ridge(X[:0], np.ones(0), 1.0), "nothing to fit"),
        (lambda X: ridge(X, np.ones(5), 1.0).predict(X[:, :2]), r"expected \[m, 3\]"),
        (lambda X: pca(X, 4), r"k is 4, expected 1 .. 3"),
        (lambda X: pca(X[:1], 1), "at least 2"),
        (lambda X: pca(X, 2).transform(X[0]), r"expected \[m, 3\]"),
        (lambda X: standardise(X[0]), r"x\[None\]"),
        (lambda X: standardise(X.astype(complex)), "real numbers"),
    ],
)
def test_refusals(call, match):
    with pytest.raises(ValueError, match=match):
        call(np.random.default_rng(0).normal(size=(5, 3)))
