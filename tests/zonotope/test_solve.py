"""The convex program over activation patterns: against NNLS, SLSQP and its own dual."""

import jax
import numpy as np
import pytest
from scipy import optimize

from activjax import patterns, zonotope
from activjax.zonotope._solve import solve


def problem(n=40, d=5, m=4, loss="squared", seed=0):  # one shape where possible: one compilation
    rng = np.random.default_rng([seed, n, d, m])
    X = rng.normal(size=(n, d))
    active = (X @ rng.normal(size=(d, m)) > 0).T
    y = rng.normal(size=n) if loss == "squared" else rng.choice([-1.0, 1.0], n)
    return X, y, active, np.where(np.arange(m) % 2, -1.0, 1.0)


def stacked(X, active, signs):
    """The outputs' and the constraints' matrices, over all weights in a row."""
    m, d = len(active), X.shape[1]
    outputs = (signs[:, None, None] * active[:, :, None] * X).transpose(1, 0, 2)
    constraints = np.zeros((m, len(X), m, d))
    constraints[np.arange(m), :, np.arange(m)] = (2.0 * active[:, :, None] - 1) * X
    return outputs.reshape(len(X), m * d), constraints.reshape(m * len(X), m * d)


def by_nnls(B, y, G):
    """min |B w - y|^2, G w >= 0, B of full column rank (Lawson and Hanson, chapter 23)."""
    q, r = np.linalg.qr(B)
    E = np.linalg.solve(r.T, G.T).T
    f = -E @ (q.T @ y)
    u, _ = optimize.nnls(np.vstack([E.T, f]), np.append(np.zeros(B.shape[1]), 1.0))
    rest = np.vstack([E.T, f]) @ u - np.append(np.zeros(B.shape[1]), 1.0)
    return np.linalg.solve(r, -rest[:-1] / rest[-1] + q.T @ y)


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_matches_nnls(seed, decay):
    X, y, active, signs = problem(seed=seed)
    fit = solve(X, y, active, signs, weight_decay=decay)
    B, G = stacked(X, active, signs)
    size = B.shape[1]
    w = by_nnls(np.vstack([B, np.sqrt(decay / 2) * np.eye(size)]), np.append(y, np.zeros(size)), G)
    best = np.sum((B @ w - y) ** 2) + decay / 2 * np.sum(w**2)
    assert fit.converged
    np.testing.assert_allclose(fit.objective, best, rtol=1e-7)
    np.testing.assert_allclose(fit.weights.ravel(), w, atol=2e-3 * np.abs(w).max())


def logistic_reference(X, y, active, signs, decay):
    B, G = stacked(X, active, signs)

    def value(w):
        f = B @ w
        slope = -y / (1 + np.exp(y * f))
        penalty = decay / 2 * np.sum(w**2)
        return np.sum(np.logaddexp(0, -y * f)) + penalty, B.T @ slope + decay * w

    found = optimize.minimize(
        value, np.zeros(B.shape[1]), jac=True, method="SLSQP", options={"ftol": 1e-14},
        constraints={"type": "ineq", "fun": lambda w: G @ w, "jac": lambda w: G},
    )  # fmt: skip
    return found.fun


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_logistic_matches_slsqp(decay):
    X, y, active, signs = problem(loss="logistic")
    fit = solve(X, y, active, signs, loss="logistic", weight_decay=decay)
    assert fit.converged
    best = logistic_reference(X, y, active, signs, decay)
    np.testing.assert_allclose(fit.objective, best, rtol=1e-6)


def dual_value(fit, X, y, active, signs, loss, decay):
    """The lower bound of the multipliers, and what they leave of the dual equations."""
    pulled = signs[:, None] * (active * fit.dual) @ X
    rest = pulled - ((2.0 * active - 1) * fit.multipliers) @ X
    if loss == "squared":
        conjugate = np.sum(fit.dual**2 / 4 + fit.dual * y)
    else:
        share = -y * fit.dual
        assert ((share >= -1e-15) & (share <= 1 + 1e-15)).all()
        share = np.clip(share, 1e-300, 1 - 1e-16)
        conjugate = np.sum(share * np.log(share) + (1 - share) * np.log1p(-share))
    if decay:
        return -conjugate - np.sum(rest**2) / (2 * decay), 0.0
    return -conjugate, np.sum(np.abs(rest * fit.weights))


def changed(kind, loss):
    """Ill-posed problems."""
    X, y, active, signs = problem(loss=loss, seed=3)
    rng = np.random.default_rng(5)
    gates = rng.normal(size=(5, 4))
    if kind == "rank deficient":
        X[:, 3] = X[:, 0] + X[:, 1]
    if kind == "zero column":
        X[:, 2] = 0
    if kind == "duplicates":
        X[20:] = X[:20]
        X[:5] *= -2
    if kind == "zero rows":
        X[::7] = 0
    if kind == "column scales":
        X = X * [1e-6, 1e6, 1, 1e3, 1e-3]
    if kind == "row scales":
        X = X * 10.0 ** rng.uniform(-4, 4, (40, 1))
    if kind == "collinear":
        X[:, 1] = X[:, 0] + 1e-6 * X[:, 1]
    if kind == "same pattern":
        gates[:, 1] = gates[:, 0]
    active = (X @ gates > 0).T
    if kind == "more features than examples":
        return problem(10, 16, 2, loss, seed=4)
    if kind == "no interior":
        active[0] = rng.random(40) < 0.5  # only w = 0, or so
        active[2, 7] ^= True
    if kind == "separable":
        active[0], active[1] = (X[:, 0] > 0), (X[:, 0] <= 0)
        y = np.where(X[:, 0] > 0, 1.0, -1.0)
    return X, y, active, signs


KINDS = [
    "rank deficient", "zero column", "duplicates", "zero rows", "column scales", "row scales",
    "collinear", "more features than examples", "same pattern", "no interior", "separable",
]  # fmt: skip


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("kind", KINDS)
def test_gap_is_proved_by_the_multipliers(kind, loss):
    X, y, active, signs = changed(kind, loss)
    for decay in (0.0, 0.1):
        fit = solve(X, y, active, signs, loss=loss, weight_decay=decay)
        zero = np.sum(y**2) if loss == "squared" else len(y) * np.log(2)
        assert fit.converged
        assert fit.relative_gap <= 1e-6
        assert (fit.multipliers >= 0).all()
        bound, rest = dual_value(fit, X, y, active, signs, loss, decay)
        assert rest <= 1e-6 * zero
        assert fit.objective - bound <= fit.gap + 1e-8 * zero
        # The weights keep to their cones, so the network is the function that was fitted.
        value = (2.0 * active - 1) * (fit.weights @ X.T)
        assert (value >= -1e-13 * np.abs(fit.weights).max() * np.abs(X).max()).all()
        outputs = fit.predict(X)
        np.testing.assert_allclose(
            outputs, signs @ (active * (fit.weights @ X.T)), atol=1e-12 * np.abs(outputs).max()
        )
        each = (outputs - y) ** 2 if loss == "squared" else np.logaddexp(0, -y * outputs)
        np.testing.assert_allclose(fit.loss, each.sum(), rtol=1e-12)


def test_no_feasible_weights_are_better():
    X, y, active, signs = problem()
    fit = solve(X, y, active, signs)
    rng = np.random.default_rng(0)
    for scale in (1e-3, 0.1):
        near = fit.weights + scale * rng.normal(size=(2000, 4, 5))
        inside = ((2.0 * active - 1) * (near @ X.T) >= 0).all(axis=(1, 2))
        loss = np.sum(((signs[:, None] * np.maximum(near @ X.T, 0)).sum(axis=1) - y) ** 2, axis=1)
        assert (loss[inside] >= fit.objective - fit.gap).all()


@pytest.mark.parametrize("x_scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("y_scale", [1e-6, 1.0, 1e6])
def test_scales_do_not_matter(x_scale, y_scale):
    X, y, active, signs = problem()
    plain, fit = solve(X, y, active, signs), solve(x_scale * X, y_scale * y, active, signs)
    assert fit.converged
    np.testing.assert_allclose(fit.weights, plain.weights * y_scale / x_scale, rtol=1e-6)
    np.testing.assert_allclose(fit.loss, plain.loss * y_scale**2, rtol=1e-9)
    np.testing.assert_array_equal(fit.tight, plain.tight)


def test_tight_constraints_of_a_problem_solved_by_hand():
    # w >= 0 wanted, -1 would be best: w = 0, and the multipliers balance the slope 10.
    fit = solve([[1.0], [2.0]], [-1.0, -2.0], np.array([[True, True]]), [1.0])
    assert fit.tight.all()
    np.testing.assert_allclose(fit.multipliers @ [1.0, 2.0], 10.0, rtol=1e-6)
    np.testing.assert_allclose(fit.weights, 0, atol=1e-7)
    # And here the optimum is inside.
    fit = solve([[1.0], [2.0]], [1.0, 2.0], np.array([[True, True]]), [1.0])
    assert not fit.tight.any()
    np.testing.assert_allclose(fit.weights, 1, rtol=1e-3)
    assert fit.relative_gap <= 1e-6


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_many_at_once_equal_one_at_a_time(loss):
    X, y, active, signs = problem(loss=loss)
    rng = np.random.default_rng(0)
    many = np.stack([active, *((X @ rng.normal(size=(5, 4)) > 0).T for _ in range(4))])
    fits = solve(X, y, many, signs, loss=loss)
    assert fits.weights.shape == (5, 4, 5)
    assert fits.tight.shape == (5, 4, 40)
    assert fits.predict(X).shape == (5, 40)
    for i in range(5):
        one = solve(X, y, many[i], signs, loss=loss)
        np.testing.assert_allclose(one.objective, fits.objective[i], rtol=2e-7)
        np.testing.assert_array_equal(one.tight, fits.tight[i])
        np.testing.assert_allclose(one.predict(X), fits.predict(X)[i], atol=1e-3)
    ys, vs = np.stack([*4 * [y], y[::-1]]), np.stack([*4 * [signs], -signs])
    mixed = solve(X, ys, many, vs, loss=loss)
    other = solve(X, y[::-1], many[4], -signs, loss=loss)
    np.testing.assert_allclose(mixed.objective[:4], fits.objective[:4], rtol=2e-7)
    np.testing.assert_allclose(mixed.objective[4], other.objective, rtol=2e-7)


def test_one_compilation_for_many_problems(compilations):
    X, y, active, signs = problem()
    solve(X, y, active, signs)
    with compilations() as seen:
        for seed in range(1, 4):
            solve(*problem(seed=seed))
    assert not seen


def test_float64_inside_whatever_the_mode_outside():
    X, y, active, signs = problem()
    assert not jax.config.jax_enable_x64
    fit = solve(X, y, active, signs)
    assert not jax.config.jax_enable_x64
    assert fit.weights.dtype == np.float64
    with jax.enable_x64(True):
        same = solve(X, y, active, signs)
    np.testing.assert_array_equal(same.weights, fit.weights)
    assert len(jax.tree.leaves(fit)) == 12


def test_codes_and_booleans_agree():
    X, y, active, signs = problem()
    codes = patterns.codes({"examples": active})
    np.testing.assert_array_equal(
        solve(X, y, codes, signs).weights, solve(X, y, active, signs).weights
    )
    vertices = zonotope.sample(X, jax.random.key(0), 4).codes
    assert solve(X, y, vertices, signs).converged


def test_nothing_to_fit_gives_zero():
    X, y, active, signs = problem()
    fit = solve(X, 0 * y, active, signs)
    assert fit.converged
    for value in (fit.weights, fit.loss, fit.gap, fit.relative_gap):
        assert not np.any(value)
    fit = solve(np.zeros((2, 1)), [1.0, 2.0], np.array([[True, False]]), [1.0])
    assert fit.converged
    assert not fit.tight.any()
    np.testing.assert_allclose(fit.loss, 5)


WRONG = [
    (dict(X=np.zeros(10)), r"X has shape \(10,\), expected \[n, d\].*x\[None\]"),
    (dict(X=np.zeros((0, 3))), "nothing to fit"),
    (dict(X=np.full((10, 3), np.nan)), "NaN or infinite entries, the first at \\[0, 0\\]"),
    (dict(X=np.zeros((10, 3), complex)), "expected real numbers"),
    (dict(y=np.zeros(9)), r"y has shape \(9,\), expected \[10\] or \[b, 10\]"),
    (dict(y=np.zeros(10), loss="logistic"), "expected labels -1 and 1; use 2 \\* y - 1"),
    (dict(y=np.full(10, 3.0), loss="logistic"), "values 3, expected labels -1 and 1$"),
    (dict(loss="hinge"), "loss is 'hinge', expected one of"),
    (dict(patterns=np.zeros((2, 9), bool)), r"patterns has shape \(2, 9\), expected \[m, 10\]"),
    (dict(patterns=np.zeros((0, 10), bool)), "at least one"),
    (dict(patterns=np.zeros((2, 10))), "dtype float64, expected bool"),
    (dict(patterns=patterns.codes(np.zeros((2, 9), bool))), "codes of 9 units, expected 10"),
    (dict(output_signs=[1.0]), r"output_signs has shape \(1,\), expected \[2\]"),
    (dict(output_signs=[1.0, 0.0]), "values 0, 1, expected -1 and 1"),
    (dict(weight_decay=-1.0), "weight_decay is -1.0, expected a finite number, at least 0"),
    (dict(y=np.zeros((3, 10)), output_signs=np.ones((2, 2))), "leading axes disagree"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_wrong_input_is_refused(change, message):
    X, y, active, signs = problem(10, 3, 2)
    given = {"X": X, "y": y, "patterns": active, "output_signs": signs, **change}
    with pytest.raises(ValueError, match=message):
        solve(**given)


def test_predict_wants_the_same_features():
    fit = solve(*problem())
    with pytest.raises(ValueError, match=r"expected \[k, 5\] as in the fit"):
        fit.predict(np.zeros((4, 2)))
