import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes

from activjax.fit._procrustes import procrustes

EPS = {np.float32: 2.0**-24, np.float64: 2.0**-53}


def pairs(n=50, dx=5, dy=5, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, dx)) * np.arange(1, dx + 1) + 2
    return X, X @ rng.normal(size=(dx, dy)) + noise * rng.normal(size=(n, dy)) - 4


def rotation(d, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [False, True])
def test_equals_scipys(dtype, scale):
    X, Y = (a.astype(dtype) for a in pairs())
    A, B = (a.astype(float) - a.astype(float).mean(0) for a in (X, Y))
    R, total = orthogonal_procrustes(A, B)
    with jax.enable_x64(dtype == np.float64):
        fit = procrustes(X, Y, scale=scale)
        assert fit.rotation.dtype == fit.scale.dtype == dtype
        moved = np.asarray(fit.transform(X), float)
        fit = jax.tree.map(np.asarray, fit)
    # The cross-products are off by (n + 2) EPS |A| |B|; the orthogonal factor by twice that over
    # the two smallest singular values (Higham 2008, theorem 8.9).
    singular = np.linalg.svd(A.T @ B, compute_uv=False)
    error = (len(X) + 2) * EPS[dtype] * np.linalg.norm(A) * np.linalg.norm(B)
    tolerance = 2 * error / (singular[-1] + singular[-2]) + 5 * 5 * EPS[dtype]
    assert tolerance < 0.2
    assert np.linalg.norm(fit.rotation - R) <= tolerance
    np.testing.assert_allclose(fit.singular_values, singular, atol=2 * error)
    expected = total / np.sum(A**2) if scale else 1.0
    np.testing.assert_allclose(fit.scale, expected, atol=4 * error / np.sum(A**2) + 4 * EPS[dtype])
    left = np.sum((expected * A @ R - B) ** 2)
    # at a minimum, but for the rounding of each residual
    np.testing.assert_allclose(fit.residual, left / np.sum(B**2), rtol=20 * tolerance)
    reach = tolerance * np.abs(A).max() * 5 * expected + 50 * EPS[dtype] * np.abs(Y).max()
    np.testing.assert_allclose(moved, expected * A @ R + Y.mean(0), atol=5 * reach)


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("reflect", [False, True])
def test_recovers_a_planted_rotation(scale, reflect):
    X, _ = pairs(40)
    R = rotation(5)
    R[:, 0] *= -1 if reflect else 1
    Y = (3.5 if scale else 1) * X @ R + np.arange(5.0)
    with jax.enable_x64(True):
        fit = procrustes(X, Y, scale=scale)
        moved = fit.transform(X)
        back = fit.inverse_transform(moved)
    # as above, with cross-products of condition 25 (variances 1 to 25): 1e3 roundings of float64
    np.testing.assert_allclose(fit.rotation, R, atol=1e-12)
    assert float(fit.scale) == pytest.approx(3.5 if scale else 1, rel=1e-13)
    np.testing.assert_allclose(moved, Y, atol=1e-11)
    np.testing.assert_allclose(back, X, atol=1e-11)
    assert float(fit.residual) < 1e-20


def test_no_other_rotation_is_better():
    X, Y = (a.astype(np.float32) for a in pairs())
    fit = procrustes(X, Y, scale=True)
    A, B = X - X.mean(0), Y - Y.mean(0)
    least = float(fit.residual) * np.sum(B**2)
    for seed in range(20):
        R = rotation(5, seed)
        assert np.sum((np.asarray(fit.scale) * A @ R - B) ** 2) > least
        near = np.asarray(fit.rotation) @ rotation_near(seed)
        assert np.sum((np.asarray(fit.scale) * A @ near - B) ** 2) > least
    for factor in (0.9, 1.1):
        turned = np.asarray(fit.scale) * factor * A @ np.asarray(fit.rotation)
        assert np.sum((turned - B) ** 2) > least


def rotation_near(seed):
    skew = np.random.default_rng(seed).normal(size=(5, 5)) * 0.1
    skew = skew - skew.T
    return np.linalg.solve(np.eye(5) + skew, np.eye(5) - skew)  # Cayley


@pytest.mark.parametrize(("dx", "dy"), [(3, 6), (6, 3)])
def test_spaces_of_different_widths_are_padded_with_zeros(dx, dy):
    X, Y = pairs(dx=dx, dy=dy)
    A, B = X - X.mean(0), Y - Y.mean(0)
    full = max(dx, dy)
    R, total = orthogonal_procrustes(
        np.pad(A, ((0, 0), (0, full - dx))), np.pad(B, ((0, 0), (0, full - dy)))
    )
    with jax.enable_x64(True):
        fit = jax.tree.map(np.asarray, procrustes(X, Y, scale=True))
    np.testing.assert_allclose(fit.rotation, R[:dx, :dy], atol=1e-11)  # as above
    product = fit.rotation @ fit.rotation.T if dx < dy else fit.rotation.T @ fit.rotation
    np.testing.assert_allclose(product, np.eye(3), atol=1e-13)
    assert float(fit.singular_values.sum()) == pytest.approx(total, rel=1e-12)
    turned = A @ R[:dx, :dy]
    assert float(fit.scale) == pytest.approx(np.sum(turned * B) / np.sum(turned**2), rel=1e-11)
    left = np.sum((fit.scale * turned - B) ** 2) / np.sum(B**2)
    assert float(fit.residual) == pytest.approx(left, rel=1e-10)
    if dx < dy:
        planted = procrustes(X, X @ rotation(6)[:3])
        # an isometric embedding loses nothing: float32, sums of 50 products
        assert float(planted.residual) < (60 * EPS[np.float32]) ** 2 * 100


def test_single_constant_and_nan():
    X = np.arange(6.0, dtype=np.float32).reshape(1, 6)
    one = procrustes(X, X[:, :4], scale=True)
    assert one.rotation.tolist() == np.eye(6)[:, :4].tolist()
    assert (float(one.scale), float(one.residual)) == (1, 0)
    assert one.transform(X).tolist() == X[:, :4].tolist()
    X, Y = (a.astype(np.float32) for a in pairs())
    X[1, 1] = np.nan
    fit = procrustes(X, Y)
    assert np.isnan(fit.rotation).all()
    assert np.isnan(fit.residual)


def test_vmap_dtypes_and_recompilation(compilations):
    X, Y = (a.astype(np.float32) for a in pairs())
    Xs = np.stack([X, X[::-1]])
    mapped = jax.vmap(lambda X: procrustes(X, Y, scale=True))(Xs)
    for i in range(2):
        one = procrustes(Xs[i], Y, scale=True)
        # relative to the condition of the cross-products, under 1e3 here
        np.testing.assert_allclose(
            mapped.rotation[i], one.rotation, atol=52 * EPS[np.float32] * 1e3
        )
    with compilations() as seen:
        procrustes(X + 1, Y, scale=True)
    assert not seen
    with jax.enable_x64(True):
        assert procrustes(X.astype(np.float64), Y).rotation.dtype == jnp.float64


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda X: procrustes(X, X[:3]), "X has 4 examples and Y 3, expected as many of each"),
        (lambda X: procrustes(X[:0], X[:0]), "nothing to fit"),
        (lambda X: procrustes(X, X[:, 0]), r"procrustes: Y has shape \(4,\)"),
        (lambda X: procrustes(X, X).transform(X[:, :1]), r"expected \[m, 2\]"),
        (lambda X: procrustes(X, X[:, :1]).inverse_transform(X), r"expected \[m, 1\]"),
    ],
)
def test_refusals(call, match):
    with pytest.raises(ValueError, match=match):
        call(np.arange(8.0).reshape(4, 2))
