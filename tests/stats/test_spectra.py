"""Spectra against NumPy, random-matrix limits, and similarity against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from activjax import stats

EPS = float(np.finfo(np.float32).eps)


def gaussian(n, d, spikes=(), seed=0):
    """Rows of independent channels of variance 1, the first ones of 1 + spike."""
    x = np.random.default_rng(seed).normal(size=(n, d))
    x[:, : len(spikes)] *= np.sqrt(1 + np.asarray(spikes))
    return x


def eigenvalues(x):
    centred = x - x.mean(0)
    return np.linalg.eigvalsh(centred.T @ centred / (len(x) - 1))[::-1]


def test_spectrum_is_that_of_the_covariance():
    x = gaussian(300, 7, (8, 3)).astype(np.float32)
    acc = stats.moments("full")
    covariance = acc.finish(acc.update(acc.init(x), x)).covariance()
    found = stats.spectrum(covariance)
    np.testing.assert_allclose(found.eigenvalues, eigenvalues(x.astype(float)), rtol=300 * EPS)
    vectors = np.asarray(found.eigenvectors)
    np.testing.assert_allclose(
        vectors @ np.diag(found.eigenvalues) @ vectors.T, covariance, atol=1e-5
    )
    few = stats.spectrum(jnp.cov(jnp.asarray(x[:3]).T))  # rank 2: the rest is exactly 0
    assert (np.asarray(few.eigenvalues) > 0).tolist() == [True] * 2 + [False] * 5
    both = stats.spectrum(jnp.stack([covariance, 2 * covariance]))
    np.testing.assert_allclose(both.eigenvalues[1], 2 * found.eigenvalues, rtol=1e-5)


def test_effective_ranks_of_known_spectra():
    flat = jnp.asarray([3.0, 3.0, 3.0, 0.0])
    for kind in ("entropy", "participation", "stable"):
        assert np.isclose(stats.effective_rank(flat, kind=kind), 3, rtol=4 * EPS)
        assert np.isclose(stats.effective_rank(1e30 * flat, kind=kind), 3, rtol=8 * EPS)
        assert np.isnan(stats.effective_rank(0 * flat, kind=kind))
    assert np.isclose(stats.spectral_entropy(flat), np.log(3), rtol=4 * EPS)
    uneven = jnp.asarray([3.0, 1.0])
    assert np.isclose(stats.effective_rank(uneven, kind="participation"), 16 / 10)
    assert np.isclose(stats.effective_rank(uneven, kind="stable"), 4 / 3)
    with pytest.raises(ValueError, match="kind is 'rank'"):
        stats.effective_rank(flat, kind="rank")
    with pytest.raises(ValueError, match="floating"):
        stats.spectral_entropy(jnp.zeros(0))


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0, 2.0])
def test_the_law_has_its_moments_and_its_median(ratio):
    d = 400
    n = round(d / ratio)
    law = stats.marchenko_pastur(n, d, variance=2.0)
    x = np.linspace(law.low, law.high, 400_001)
    density = law.density(x)
    mass = np.trapezoid(density, x)
    # The trapezoid errs by about a step at an edge where the density is infinite (ratio 1).
    tol = 0.01 if ratio == 1 else 1e-4
    assert abs(mass - min(1, 1 / ratio)) < tol
    assert abs(np.trapezoid(density * x, x) - 2.0) < tol
    found = eigenvalues(np.sqrt(2) * gaussian(n + 1, d))
    estimated = stats.marchenko_pastur(n, d, eigenvalues=found)
    # The median of d eigenvalues, which repel each other, is within about 2 / d of its limit.
    assert abs(estimated.variance / 2 - 1) < 2 * 4 / d


@pytest.mark.parametrize(("n", "d"), [(4000, 400), (1500, 600)])
def test_a_spike_is_found_where_theory_puts_it(n, d):
    """Baik, Ben Arous and Peche (2005): a spike s > sqrt(gamma) shows at (1 + s)(1 + gamma / s)."""
    gamma = d / n
    for s in (2 * np.sqrt(gamma), 4.0):
        tops, more = [], 0
        for seed in range(10):
            found = eigenvalues(gaussian(n + 1, d, (s,), seed))
            law = stats.marchenko_pastur(n, d, eigenvalues=found)
            outliers = law.outliers(found)
            assert outliers[0]
            more += outliers[1]
            assert abs(found[1] / law.high - 1) < 0.03
            tops.append(found[0])
        assert more <= 3  # binomial(10, .05), with probability .999
        # One top eigenvalue has a standard deviation of up to (1 + s) sqrt(2 / n), some 3 %: the
        # mean of ten is within a third of that.
        assert abs(np.mean(tops) / ((1 + s) * (1 + gamma / s)) - 1) < 0.03


def test_no_spike_is_found_in_noise_or_below_the_threshold():
    n, d, trials = 500, 100, 60
    gamma = d / n
    for s in (0.0, 0.4 * np.sqrt(gamma)):
        false = 0
        for seed in range(trials):
            found = eigenvalues(gaussian(n + 1, d, (s,), seed))
            false += stats.marchenko_pastur(n, d, variance=1.0).outliers(found).any()
        # Binomial(60, .05) is at most 8 with probability .997.
        assert false <= 8


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="either variance= or eigenvalues="):
        stats.marchenko_pastur(10, 5)
    with pytest.raises(ValueError, match="at least 2 of each"):
        stats.marchenko_pastur(1, 5, variance=1.0)
    with pytest.raises(ValueError, match="expected 5 finite ones"):
        stats.marchenko_pastur(10, 5, eigenvalues=np.ones(4))
    with pytest.raises(ValueError, match="the variance is 0"):
        stats.marchenko_pastur(10, 5, variance=0.0)
    with pytest.raises(ValueError, match="level is"):
        stats.marchenko_pastur(10, 5, variance=1.0, level=0.5)
    with pytest.raises(ValueError, match=r"expected \[..., d, d\]"):
        stats.spectrum(jnp.zeros((2, 3)))


def hsic(K, L):
    """Song et al. (2012), equation 5, as it stands."""
    n = len(K)
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    one = np.ones(n)
    middle = (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
    return (np.trace(K @ L) + middle - 2 / (n - 2) * one @ K @ L @ one) / (n * (n - 3))


def test_cka_equals_its_definition():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(50, 6)) + 3, rng.normal(size=(50, 4))
    Y[:, 0] += X[:, 0]
    K, L = X @ X.T, Y @ Y.T
    expected = hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))
    # Kernels are of size |x|^2 and cancel to their centred part: some 100 eps.
    assert np.isclose(stats.cka(X, Y), expected, atol=100 * EPS)
    H = np.eye(50) - 1 / 50
    centred = [H @ M @ H for M in (K, L)]
    plain = np.trace(centred[0] @ centred[1]) / np.prod([np.linalg.norm(M) for M in centred])
    assert np.isclose(stats.cka(X, Y, debiased=False), plain, atol=100 * EPS)
    both = np.cov(X.T, Y.T)
    got = stats.cka_from_scatter(
        *(jnp.asarray(b) for b in (both[:6, :6], both[6:, 6:], both[:6, 6:]))
    )
    assert np.isclose(got, plain, atol=100 * EPS)


def test_cka_of_independent_and_of_rotated_features():
    rng = np.random.default_rng(1)
    rotation = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    found, plain = [], []
    for _ in range(40):
        X, Y = rng.normal(size=(40, 30)), rng.normal(size=(40, 30))
        found.append(float(stats.cka(X, Y)))
        plain.append(float(stats.cka(X, Y, debiased=False)))
        assert np.isclose(stats.cka(X, 3 * X @ rotation), 1, atol=1e-4)
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(40)  # 0 on average
    assert np.mean(plain) > 0.3  # what the correction removes
    assert np.isnan(stats.cka(np.ones((9, 2)), rng.normal(size=(9, 2))))
    with pytest.raises(ValueError, match="3 examples, expected at least 4"):
        stats.cka(np.ones((3, 2)), np.ones((3, 2)))
    with pytest.raises(ValueError, match="expected .n, dx. and .n, dy."):
        stats.cka(np.ones((3, 2)), np.ones((4, 2)))


def test_svcca_equals_canonical_correlations():
    from sklearn.cross_decomposition import CCA

    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 4)) @ np.diag([3.0, 2, 1, 1])
    Y = np.stack([X[:, 0] + rng.normal(size=500), X[:, 1], rng.normal(size=500)], axis=1)
    both = np.cov(X.T, Y.T)
    blocks = [jnp.asarray(b) for b in (both[:4, :4], both[4:, 4:], both[:4, 4:])]
    found = stats.svcca(*blocks, share=1.0)
    a, b = CCA(3, max_iter=5000, tol=1e-10).fit_transform(X, Y)
    expected = sorted((np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(3)), reverse=True)
    np.testing.assert_allclose(found.correlations, expected, atol=2e-3)
    assert (int(found.kept_x), int(found.kept_y)) == (4, 3)
    assert np.isclose(found.mean, np.mean(expected), atol=2e-3)
    # 9 + 4 of 15 is less than 90 %, with one more it is enough.
    assert int(stats.svcca(*blocks, share=0.9).kept_x) == 3
    assert np.isnan(stats.svcca(0 * blocks[0], blocks[1], 0 * blocks[2]).mean)
    with pytest.raises(ValueError, match="share is 0"):
        stats.svcca(*blocks, share=0)
    with pytest.raises(ValueError, match="expected .dx, dx., .dy, dy. and .dx, dy."):
        stats.svcca(blocks[0], blocks[0], blocks[2])


def test_sparsity_and_massive_activations():
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(size=(64, 32)), 0).astype(np.float32)
    x[5, 7], x[9, 7] = 4000.0, 90.0
    acc = stats.together(
        size=stats.histogram().of(jnp.abs),
        top=stats.top_k(4, by="magnitude"),
        zero=stats.histogram(),
    )
    rows = stats.Rows(ids=jnp.arange(64))
    found = acc.finish(jax.jit(acc.update)(acc.init(x + 0.5), x + np.float32(0.5), rows))
    (massive,) = stats.massive_activations(found["top"], found["size"], times=100.0)
    assert (massive.example, massive.channel) == (5, 7)
    assert massive.value == 4000.5
    median = float(np.median(x + 0.5))
    assert np.isclose(massive.ratio, 4000.5 / median, rtol=0.01)
    assert "4000" in stats.massive_table({"h": (massive,)})
    plain = stats.histogram()
    curve = stats.sparsity_curve(plain.finish(plain.update(plain.init(x), x)), 16)
    assert curve.share[0] == (x == 0).mean()
    assert curve.share[-1] == 1
    assert (np.diff(curve.share) >= 0).all()
    negative = plain.finish(plain.update(plain.init(x), x - 1))
    with pytest.raises(ValueError, match="of magnitudes"):
        stats.massive_activations(found["top"], negative)
    with pytest.raises(ValueError, match="empty"):
        stats.sparsity_curve(plain.finish(plain.init(x)))


def test_effective_ranks_at_the_ends_of_float32():
    for kind in ("entropy", "participation", "stable"):
        rank = lambda *e, kind=kind: stats.effective_rank(jnp.asarray(e, jnp.float32), kind=kind)  # noqa: E731
        assert np.isclose(rank(3e38, 3e38), 2, rtol=8 * EPS)
        assert np.isclose(rank(2e-38, 2e-38), 2, rtol=8 * EPS)
        assert np.isnan(rank(1.0, -0.5))
        assert rank(*[1.0] * 1000) <= 1000


def test_cka_of_constants_outliers_and_scales():
    rng = np.random.default_rng(2)
    X, Z = (
        rng.normal(size=(100, 5)).astype(np.float32),
        rng.normal(size=(100, 4)).astype(np.float32),
    )
    constant = np.full((100, 5), 0.1, np.float32)
    for debiased in (True, False):
        assert np.isnan(stats.cka(constant, constant, debiased=debiased))
        assert np.isnan(stats.cka(constant, Z, debiased=debiased))
        alone = stats.cka(X, Z, debiased=debiased)
        for scale in (1e8, 1e-10, 1e-15):
            assert np.isclose(stats.cka(scale * X, Z, debiased=debiased), alone, atol=50 * EPS)
        assert stats.cka(X, 1.7 * X, debiased=debiased) <= 1 + 4 * EPS
    X[3] *= 1e4
    kernels = [(a - a.mean(0)) @ (a - a.mean(0)).T for a in (X.astype(float), Z.astype(float))]
    expected = hsic(*kernels) / np.sqrt(hsic(kernels[0], kernels[0]) * hsic(kernels[1], kernels[1]))
    assert np.isclose(stats.cka(X, Z), expected, atol=1e-4)


def test_integer_and_half_precision_matrices():
    covariance = np.asarray([[4, 0], [0, 9]])
    np.testing.assert_array_equal(stats.spectrum(covariance).eigenvalues, [9, 4])
    half = stats.spectrum(jnp.asarray(covariance, jnp.bfloat16))
    np.testing.assert_array_equal(half.eigenvalues, [9, 4])
    assert np.isclose(stats.cka_from_scatter(covariance, covariance, covariance), 1)
