"""Mean difference, discriminant analysis, Procrustes and probes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from activjax import fit

EPS = float(np.finfo(np.float32).eps)


def classes(n=300, d=5, k=3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 2 * rng.normal(size=(k, d))[y]
    return x + 5, y.astype(np.int32)


def test_mean_difference_by_hand():
    X, y = np.asarray([[1.0, 0], [3, 0], [2, 4], [2, 8]]), np.asarray([0, 0, 1, 1])
    found = fit.mean_difference(X, y)
    np.testing.assert_array_equal(found.direction, [0, 6])
    np.testing.assert_array_equal(found.midpoint, [2, 3])
    np.testing.assert_allclose(found.score([[9, 0], [9, 6], [9, 3]]), [-0.5, 0.5, 0], atol=EPS)
    assert found.predict([[0, 2.9], [0, 3.1]]).tolist() == [False, True]
    assert np.isnan(fit.mean_difference(X, np.zeros(4, int)).direction).all()
    same = fit.mean_difference(np.ones((4, 2)), y)
    assert (np.asarray(same.score(X)) == 0).all()
    with pytest.raises(ValueError, match="run from 0 to 2"):
        fit.mean_difference(X, [0, 1, 2, 0])


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0])
def test_lda_equals_scikit_learn(shrinkage):
    X, y = classes()
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(X, y)
    with jax.enable_x64(True):
        ours = fit.lda(X, y, n_classes=3, shrinkage=shrinkage)
        # Both solve the same system, of condition below 1e4, in float64.
        got, expected = np.asarray(ours.logits(X)), theirs.decision_function(X)
        centred = [a - a.mean(1, keepdims=True) for a in (got, expected)]
        np.testing.assert_allclose(*centred, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(ours.means, theirs.means_, rtol=1e-12)
        np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


def test_lda_where_there_is_no_inverse():
    X, y = classes(8, 20, 2)
    assert np.isnan(fit.lda(X, y, n_classes=2).coef).all()
    assert (np.asarray(fit.lda(X, y, n_classes=2).predict(X)) == -1).all()
    assert (np.asarray(fit.lda(X, y, n_classes=2, shrinkage=0.1).predict(X)) == y).mean() > 0.8
    constant = np.concatenate([X, np.ones((8, 1))], axis=1)
    assert np.isfinite(fit.lda(constant, y, n_classes=2, shrinkage=0.1).coef).all()
    missing = fit.lda(X, y, n_classes=3, shrinkage=0.1)
    assert missing.intercept[2] == -np.inf
    assert set(np.asarray(missing.predict(X)).tolist()) <= {0, 1}
    with pytest.raises(ValueError, match="shrinkage is 2"):
        fit.lda(X, y, n_classes=2, shrinkage=2)


def test_lda_maps_over_shrinkage():
    X, y = classes()
    many = jax.vmap(lambda s: fit.lda(X, y, n_classes=3, shrinkage=s).coef)(jnp.array([0.1, 0.5]))
    for got, s in zip(many, (0.1, 0.5), strict=True):
        alone = fit.lda(X, y, n_classes=3, shrinkage=s).coef
        np.testing.assert_allclose(got, alone, rtol=1e-4, atol=1e-4 * np.abs(alone).max())


def test_procrustes_equals_scipy_and_finds_a_planted_rotation():
    rng = np.random.default_rng(0)
    X, noise = rng.normal(size=(60, 5)), rng.normal(size=(60, 5))
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    Y = 3 * X @ turn + 7 + 0.01 * noise
    with jax.enable_x64(True):
        found = fit.procrustes(X, Y)
        theirs = orthogonal_procrustes(X - X.mean(0), Y - Y.mean(0))[0]
        np.testing.assert_allclose(found.rotation, theirs, atol=1e-12)
        scaled = fit.procrustes(X, Y, scale=True)
        # Noise of .01 / 3 a coordinate moves an average over 60 rows by less than .01 / sqrt(60).
        np.testing.assert_allclose(scaled.rotation, turn, atol=5e-3)
        assert abs(float(scaled.scale) - 3) < 5e-3
        left = np.mean(np.sum((np.asarray(scaled.transform(X)) - Y) ** 2, 1))
        assert left / np.mean(np.sum((Y - Y.mean(0)) ** 2, 1)) == pytest.approx(
            float(scaled.residual)
        )
        assert float(scaled.residual) < float(found.residual)


@pytest.mark.parametrize("dims", [(3, 5), (5, 3)])
def test_procrustes_between_dimensions_is_that_of_padded_spaces(dims):
    rng = np.random.default_rng(1)
    X, Y = (rng.normal(size=(40, d)) for d in dims)
    padded = [np.pad(a - a.mean(0), ((0, 0), (0, 5 - a.shape[1]))) for a in (X, Y)]
    theirs = orthogonal_procrustes(*padded)[0][: dims[0], : dims[1]]
    with jax.enable_x64(True):
        found = np.asarray(fit.procrustes(X, Y).rotation)
    small = found.T @ found if dims[0] > dims[1] else found @ found.T
    np.testing.assert_allclose(small, np.eye(3), atol=1e-12)
    # The best value is the same; padding leaves the directions of no variance open.
    moment = (X - X.mean(0)).T @ (Y - Y.mean(0))
    assert np.sum(found * moment) == pytest.approx(np.sum(theirs * moment))
    with pytest.raises(ValueError, match="as many of each"):
        fit.procrustes(X, Y[1:])


def test_a_probe_that_remembers_types_is_not_selective():
    rng = np.random.default_rng(0)
    types = rng.integers(0, 12, 400)
    one_hot = np.eye(12)[types] + 0.01 * rng.normal(size=(400, 12))
    labels = rng.integers(0, 3, 12)[types]  # a label for each type: it can be learnt by heart
    train, test = ((one_hot[s], labels[s], types[s]) for s in (slice(300), slice(300, 400)))
    found = fit.probe(jax.random.key(0), train, test, n_classes=3, n_types=12, l2=0.1)
    assert bool(found.converged)
    assert float(found.accuracy) == 1
    np.testing.assert_array_equal(found.control_accuracy, 1)
    np.testing.assert_array_equal(found.selectivity, 0)


def test_a_probe_that_reads_a_property_is_selective():
    rng = np.random.default_rng(1)
    types = rng.integers(0, 200, 600)  # many types, few directions: none can be remembered
    labels = rng.integers(0, 2, 200)[types]
    X = np.stack([labels * 4.0, rng.normal(size=600)], 1) + 0.1 * rng.normal(size=(600, 2))
    train, test = ((X[s], labels[s], types[s]) for s in (slice(400), slice(400, 600)))
    found = fit.probe(jax.random.key(0), train, test, n_classes=2, n_types=200, draws=8)
    assert float(found.accuracy) == 1
    # A random label of a type agrees with one threshold on X half of the time: 8 draws of 200
    # types each have a mean within 5 standard deviations of .5.
    assert abs(float(found.control_accuracy.mean()) - 0.5) < 5 * 0.5 / np.sqrt(8 * 200) + 0.05
    most = np.argmax(np.bincount(train[1]))
    assert float(found.majority) == pytest.approx(np.mean(test[1] == most))
    unseen = test[0], test[1], np.full(200, 199)
    apart = tuple(a[train[2] != 199] for a in train)
    strange = fit.probe(jax.random.key(0), apart, unseen, n_classes=2, n_types=200)
    assert float(strange.seen) == 0
    assert np.isnan(strange.control_accuracy).all()
    assert float(strange.accuracy) == 1
    with pytest.raises(ValueError, match="draws is 0"):
        fit.probe(jax.random.key(0), train, test, n_classes=2, n_types=200, draws=0)
    with pytest.raises(ValueError, match="train types run from"):
        fit.probe(jax.random.key(0), train, test, n_classes=2, n_types=3)
