import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from activjax.fit._lda import lda

EPS = {np.float32: 2.0**-24, np.float64: 2.0**-53}


def classes(n=200, d=6, k=4, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    y[:k] = np.arange(k)
    mixing = rng.normal(size=(d, d)) / np.sqrt(d) + np.eye(d)
    X = rng.normal(size=(n, d)) @ mixing + 2 * rng.normal(size=(k, d))[y] + 3
    return X.astype(dtype), y


def differences(coef, intercept):
    """What the gauge leaves: coefficients and intercepts against those of class 0."""
    return (coef - coef[0])[1:], (intercept - intercept[0])[1:]


def theirs(X, y, shrinkage, solver):
    fit = LinearDiscriminantAnalysis(solver=solver, shrinkage=shrinkage).fit(X.astype(float), y)
    if fit.coef_.shape[0] == 1:  # of two classes they keep the difference
        return fit, (fit.coef_, fit.intercept_)
    return fit, differences(fit.coef_, fit.intercept_)


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("solver", ["lsqr", "eigen", "svd"])
@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_scikit_learns(k, solver, shrinkage, dtype):
    if solver == "svd" and shrinkage:
        pytest.skip("their svd does not shrink")
    X, y = classes(k=k, dtype=dtype)
    n, d = X.shape
    fit, (coef, intercept) = theirs(X, y, shrinkage or None, solver)
    with jax.enable_x64(dtype == np.float64):
        found = lda(X, y, n_classes=k, shrinkage=shrinkage)
        assert found.coef.dtype == found.covariance.dtype == dtype
        ours = differences(np.asarray(found.coef, float), np.asarray(found.intercept, float))
        probabilities = np.asarray(found.probabilities(X))
        predicted = np.asarray(found.predict(X))
    if solver != "svd":
        # entries are means of n products, each of deviations off by (n + 2) EPS of the largest
        spread = np.abs(X).max() ** 2
        np.testing.assert_allclose(
            found.covariance, fit.covariance_, atol=4 * (n + 2) * EPS[dtype] * spread
        )
    # An error (n + d) EPS relative in the covariance moves the solution by its condition number
    # (Higham 2002, theorem 7.2), here with theirs in float64: twice that.
    condition = np.linalg.cond(np.asarray(found.covariance, float))
    tolerance = 2 * (n + d) * EPS[dtype] * condition
    assert np.linalg.norm(ours[0] - coef) <= tolerance * np.linalg.norm(coef)
    # intercepts are dot products of those with means
    reach = np.linalg.norm(X, axis=1).max() * np.linalg.norm(coef, axis=1).max()
    assert np.abs(ours[1] - intercept).max() <= 2 * tolerance * reach
    expected = fit.predict_proba(X.astype(float))
    # softmax is 1-Lipschitz in the largest logit error
    assert np.abs(probabilities - expected).max() <= min(4 * tolerance * reach, 0.05)
    decided = np.diff(np.sort(expected, axis=1)[:, -2:], axis=1)[:, 0] > 0.1
    assert decided.mean() > 0.5
    np.testing.assert_array_equal(predicted[decided], fit.predict(X.astype(float))[decided])


def test_centred_as_their_svd():
    X, y = classes()
    fit = LinearDiscriminantAnalysis(solver="svd", store_covariance=True).fit(X, y)
    with jax.enable_x64(True):
        found = lda(X, y, n_classes=4)
    # as above; condition 1e3 at most
    np.testing.assert_allclose(found.coef, fit.coef_, atol=1e-9)
    np.testing.assert_allclose(found.intercept, fit.intercept_, atol=1e-8)
    np.testing.assert_allclose(found.priors, fit.priors_, rtol=1e-14)
    np.testing.assert_allclose(found.means, fit.means_, rtol=1e-12)
    np.testing.assert_allclose(np.asarray(found.priors) @ np.asarray(found.coef), 0, atol=1e-9)


def test_by_hand():
    # Within classes the deviations are -1, 1, -1, 1: variance 1. The means are -3 and 3.
    X = np.array([[-4.0], [-2], [2], [4]])
    fit = lda(X, np.array([0, 0, 1, 1]), n_classes=2)
    assert fit.covariance.tolist() == [[1]]
    assert fit.coef.tolist() == [[-3], [3]]
    np.testing.assert_allclose(fit.intercept, np.log(0.5) - 4.5, rtol=4 * EPS[np.float32])
    assert fit.predict([[-0.1], [0.1], [0], [np.nan]]).tolist() == [0, 1, 0, -1]


def test_recovers_the_direction_that_the_means_alone_miss():
    # Classes differ in feature 0; feature 1 is its noise, doubled and seen alone.
    rng = np.random.default_rng(0)
    n = 4000
    y = np.arange(n) % 2
    noise = rng.normal(size=n)
    X = np.stack([y + noise, noise + 0.1 * rng.normal(size=n)], axis=1).astype(np.float32)
    fit = lda(X, y, n_classes=2)
    # The Bayes error of the mean of feature 0 alone is Phi(-1 / 2) = 0.31; of both Phi(-5).
    assert np.mean(np.asarray(fit.predict(X)) == y) > 0.99


@pytest.mark.parametrize("kind", ["constant", "constant in each class", "copy", "sum", "few"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_singular_covariance_is_nan_and_not_rounding(kind, dtype):
    X, y = classes(n=60, dtype=dtype)
    if kind == "constant":
        X[:, 2] = 0.1  # not representable: its variance is rounding
    elif kind == "constant in each class":
        X[:, 2] = 0.1 * y
    elif kind == "copy":
        X[:, 2] = 3 * X[:, 1] + 1
    elif kind == "sum":
        X[:, 2] = X[:, 1] - X[:, 0]
    else:
        X, y = X[:8], np.arange(8) % 4  # 8 - 4 = 4 free examples of 6 features
    with jax.enable_x64(dtype == np.float64):
        fit = lda(X, y, n_classes=4)
        assert np.isnan(fit.coef).all()
        assert fit.predict(X).tolist() == [-1] * len(X)
        shrunk = lda(X, y, n_classes=4, shrinkage=0.2)
    _, (coef, _) = theirs(X, y, 0.2, "lsqr")
    # shrinkage bounds the condition number by d / 0.2: (n + d) EPS times that, doubled
    tolerance = 2 * 66 * EPS[dtype] * 6 / 0.2
    ours = differences(np.asarray(shrunk.coef, float), np.asarray(shrunk.intercept, float))[0]
    assert np.linalg.norm(ours - coef) <= tolerance * np.linalg.norm(coef) * 10


def test_units_do_not_make_a_covariance_singular():
    X, y = classes()
    units = np.array([1e-6, 1, 1e6, 1e-3, 1e3, 1], np.float32)
    X = X.astype(np.float32)
    plain, scaled = lda(X, y, n_classes=4), lda(X * units, y, n_classes=4)
    # the same problem in other units: as in the comparison, condition of correlations under 1e2
    np.testing.assert_allclose(
        scaled.coef * units, plain.coef, atol=2 * 206 * EPS[np.float32] * 1e2 * 3
    )


def test_a_class_without_examples_is_never_predicted():
    X, y = classes(k=3)
    X = X.astype(np.float32)
    fit, without = lda(X, y, n_classes=5), lda(X, y, n_classes=3)
    assert fit.intercept[3:].tolist() == [-np.inf, -np.inf]
    assert fit.probabilities(X)[:, 3:].max() == 0
    np.testing.assert_array_equal(fit.predict(X), without.predict(X))
    assert np.isfinite(fit.coef).all()


def test_nan_no_variance_and_labels_that_jit_cannot_check():
    X, y = classes(n=40, k=2, dtype=np.float32)
    bad = X.copy()
    bad[3, 1] = np.nan
    assert np.isnan(lda(bad, y, n_classes=2).coef).all()
    assert np.isnan(lda(X[:1], y[:1], n_classes=2, shrinkage=0.5).coef).all()
    assert np.isnan(lda(np.ones((9, 2)), np.arange(9) % 2, n_classes=2, shrinkage=0.5).coef).all()

    @jax.jit
    def fit(X, y):
        return lda(X, y, n_classes=2)

    odd = np.concatenate([y, [7, -1]])
    with_odd = fit(np.concatenate([X, X[:2] + 100]), odd.astype(np.int32))
    # as if they were not there: sums of 40 and two zeros, solved twice (condition under 1e2)
    np.testing.assert_allclose(
        with_odd.coef, fit(X, y.astype(np.int32)).coef, atol=2 * 46 * EPS[np.float32] * 1e2 * 3
    )


def test_vmap_over_shrinkage():
    X, y = classes(n=5, k=2, dtype=np.float32)  # fewer examples than features
    shrinkage = jnp.array([0.0, 0.1, 1.0])
    fits = jax.vmap(lambda s: lda(X, y, n_classes=2, shrinkage=s))(shrinkage)
    assert np.isnan(fits.coef[0]).all()
    one = lda(X, y, n_classes=2, shrinkage=0.1)
    np.testing.assert_allclose(
        fits.coef[1], one.coef, rtol=0, atol=2 * 11 * EPS[np.float32] * 60 * np.abs(one.coef).max()
    )


def test_on_digits_with_constant_pixels():
    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float32)
    assert lda(X[:900], y[:900], n_classes=10).predict(X[900:]).max() == -1
    fit = lda(X[:900], y[:900], n_classes=10, shrinkage=0.01)
    their = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.01).fit(X[:900], y[:900])
    same = np.mean(np.asarray(fit.predict(X[900:])) == their.predict(X[900:].astype(float)))
    assert same > 0.995  # all but those that rounding could decide


def test_second_call_does_not_recompile(compilations):
    X, y = classes(dtype=np.float32)
    lda(X, y, n_classes=4, shrinkage=0.1).predict(X)
    with compilations() as seen:
        lda(X + 1, y, n_classes=4, shrinkage=0.2).predict(X + 1)
    assert not seen


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"X": np.zeros((0, 2)), "y": np.zeros(0, int)}, "nothing to fit"),
        ({"n_classes": 1}, "n_classes is 1, expected at least 2"),
        ({"y": np.full(9, 3)}, "run from 3 to 3"),
        ({"shrinkage": 1.5}, r"shrinkage is 1.5, expected a number in \[0, 1\]"),
        ({"shrinkage": np.nan}, "shrinkage is nan"),
        ({"shrinkage": np.ones(2)}, "use jax.vmap"),
    ],
)
def test_refusals(change, match):
    X, y = classes(n=9, d=2, k=3)
    args = {"X": X, "y": y, "n_classes": 3, "shrinkage": 0.0} | change
    with pytest.raises(ValueError, match=match):
        lda(args.pop("X"), args.pop("y"), **args)
