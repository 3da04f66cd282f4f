import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid

from activjax.fit._mean_difference import mean_difference

EPS = 2.0**-24  # float32 unit roundoff


def two_classes(n=60, d=5, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    y[:2] = 0, 1
    return (rng.normal(size=(n, d)) + 2 * y[:, None] + 3).astype(np.float32), y


def test_by_hand():
    fit = mean_difference(np.array([[0.0, 0], [2, 0], [4, 4], [4, 8]]), np.array([0, 0, 1, 1]))
    assert fit.direction.tolist() == [3, 6]
    assert fit.midpoint.tolist() == [2.5, 3]
    X = [[2.5, 3], [1, 0], [4, 6], [np.nan, 0]]
    assert fit.predict(X).tolist() == [0, 0, 1, -1]
    assert fit.score(X)[:3].tolist() == [0, -0.5, 0.5]  # half way, and the two means


def test_equals_the_means_and_the_nearest_centroid():
    X, y = two_classes()
    wide = X.astype(float)
    fit = mean_difference(X, y)
    # sums of 60 numbers up to the largest, two centrings
    size = 62 * EPS * np.abs(X).max()
    means = [wide[y == k].mean(0) for k in (0, 1)]
    np.testing.assert_allclose(fit.direction, means[1] - means[0], atol=2 * size)
    np.testing.assert_allclose(fit.midpoint, (means[0] + means[1]) / 2, atol=2 * size)
    theirs = NearestCentroid().fit(wide, y).predict(wide)
    clear = np.abs(np.asarray(fit.score(X))) > 1e-3
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(np.asarray(fit.predict(X))[clear], theirs[clear])


def test_a_shared_offset_does_not_drown_the_difference():
    X, y = two_classes()
    # offsets that keep every entry exact: multiples of 2^-7 below 2^17
    X = np.round(X * 128) / 128
    near, far = mean_difference(X, y), mean_difference(X + np.float32(2**16), y)
    # the mean of 60 is off by 60 EPS 2^16 at most and cancels; what is left is centred and small
    scale = np.abs(X - X.mean(0)).max() + 60 * EPS * 2**16
    np.testing.assert_allclose(far.direction, near.direction, atol=2 * 62 * EPS * scale)


def test_booleans_integers_and_dtypes():
    X, y = two_classes()
    chex.assert_trees_all_equal(mean_difference(X, y), mean_difference(X, y == 1))
    fit = mean_difference(X, y.astype(np.uint8))
    assert fit.direction.dtype == fit.score(X).dtype == jnp.float32
    assert fit.predict(X).dtype == jnp.int32
    with jax.enable_x64(True):
        assert mean_difference(X.astype(np.float64), y).direction.dtype == jnp.float64


def test_vmap_jit_and_a_class_that_is_missing_under_them():
    X, y = two_classes()
    Xs, ys = np.stack([X, X + 1]), np.stack([y, 1 - y])
    mapped = jax.jit(jax.vmap(mean_difference))(Xs, ys)
    for i in range(2):
        one = mean_difference(Xs[i], ys[i])
        np.testing.assert_allclose(mapped.direction[i], one.direction, atol=62 * EPS * 10)
    for f in (mean_difference, jax.jit(mean_difference)):  # XLA folds some 0 / 0 to 0
        missing = f(X, np.zeros(60, np.int32))
        assert np.isnan(missing.direction).all()
        assert missing.predict(X).tolist() == [-1] * 60
    odd = jax.jit(mean_difference)(np.concatenate([X, X[:1]]), np.append(y, 5).astype(np.int32))
    np.testing.assert_allclose(odd.direction, mean_difference(X, y).direction, atol=62 * EPS * 10)
    X = X.copy()
    X[3, 1] = np.nan
    assert np.isnan(mean_difference(X, y).direction).tolist() == [False, True, False, False, False]


def test_second_call_does_not_recompile(compilations):
    X, y = two_classes()
    mean_difference(X, y).predict(X)
    with compilations() as seen:
        mean_difference(X + 1, 1 - y).predict(X + 1)
    assert not seen


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (np.array([0, 1, 2, 1]), "run from 0 to 2, expected 0 .. 1"),
        (np.zeros(3, int), r"shape \(3,\), expected \[4\]"),
        (np.zeros(4), "expected integers"),
    ],
)
def test_refusals(y, match):
    with pytest.raises(ValueError, match=match):
        mean_difference(np.zeros((4, 2)), y)
    with pytest.raises(ValueError, match="nothing to fit"):
        mean_difference(np.zeros((0, 2)), np.zeros(0, int))
    with pytest.raises(ValueError, match=r"expected \[m, 5\]"):
        mean_difference(*two_classes()).score(np.zeros((2, 3)))
