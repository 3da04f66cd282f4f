import math

import numpy as np
import pytest
from scipy.stats import norm

from activjax import stats
from activjax.membership._references import lira, mean_out, rmia

# 4 models, 2 examples: example 0 is in models 0 and 1, example 1 in models 0 and 2.
INSIDE = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], bool)
SHADOW = np.array([[4.0, 1.0], [6.0, -1.0], [1.0, 3.0], [-1.0, -3.0]])
TARGET = np.array([5.0, 0.0])


def test_lira_online_by_hand():
    # example 0: IN (4, 6), OUT (1, -1); example 1: IN (1, 3), OUT (-1, -3); deviations sqrt(2)
    s = math.sqrt(2)
    wanted = [
        norm.logpdf(5, 5, s) - norm.logpdf(5, 0, s),
        norm.logpdf(0, 2, s) - norm.logpdf(0, -2, s),
    ]
    got = lira(TARGET, SHADOW, INSIDE, variance="per_example")
    np.testing.assert_allclose(got, wanted, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(got, [25 / 4, 0], atol=1e-14)


def test_lira_global_variance_pools_within_examples():
    # IN: residuals of two examples about their own means, 4 values, 2 degrees of freedom
    shadow = SHADOW.copy()
    shadow[0, 0], shadow[1, 0] = 3.0, 7.0  # IN deviations 2, 2 and 1, 1: variance 10 / 2
    in_, out = math.sqrt(5), math.sqrt(2)
    wanted = [
        norm.logpdf(5, 5, in_) - norm.logpdf(5, 0, out),
        norm.logpdf(0, 2, in_) - norm.logpdf(0, -2, out),
    ]
    np.testing.assert_allclose(lira(TARGET, shadow, INSIDE, variance="global"), wanted, rtol=1e-14)
    np.testing.assert_array_equal(
        lira(TARGET, shadow, INSIDE), lira(TARGET, shadow, INSIDE, variance="global")
    )


def test_lira_offline_is_the_log_cdf_and_stable_far_out():
    s = math.sqrt(2)
    target = np.array([-60.0, 60.0])
    got = lira(target, SHADOW, INSIDE, offline=True, variance="per_example")
    np.testing.assert_allclose(got[0], norm.logcdf(-60 / s), rtol=1e-12)
    np.testing.assert_allclose(got[1], -norm.sf(62 / s), rtol=1e-9, atol=0)  # log(1 - q) = -q
    assert got[0] < -900
    # IN models are not used: values there, and having none, change nothing
    other = np.where(INSIDE, 100.0, SHADOW)
    np.testing.assert_array_equal(
        got, lira(target, other, INSIDE, offline=True, variance="per_example")
    )
    none = np.zeros_like(INSIDE)
    assert lira(target, SHADOW, none, offline=True).shape == (2,)


def test_auto_turns_to_examples_at_64_models():
    rng = np.random.default_rng(0)
    for m, name in [(62, "global"), (64, "per_example")]:
        inside = np.arange(m)[:, None] % 2 == np.arange(3) % 2
        shadow = rng.normal(size=(m, 3)) * np.array([1.0, 2, 3])
        target = rng.normal(size=3)
        found = lira(target, shadow, inside)
        np.testing.assert_array_equal(found, lira(target, shadow, inside, variance=name))
        other = {"global": "per_example", "per_example": "global"}[name]
        assert (found != lira(target, shadow, inside, variance=other)).all()


def test_rmia_offline_by_hand():
    # one example and three z; p_out = (0.2 + 0.4) / 2, p = ((1 + a) p_out + 1 - a) / 2
    inside = np.array([[0], [0], [1]], bool)
    shadow = np.log([[0.2], [0.4], [0.9]])
    target = np.log([0.8])
    z_shadow = np.log([[0.5, 0.2, 0.6], [0.5, 0.4, 0.6], [0.5, 0.9, 0.6]])
    z_inside = np.array([[0, 0, 0], [0, 0, 0], [0, 1, 0]], bool)
    z_target = np.log([0.5, 0.1, 0.9])
    a = 0.3
    p = [((1 + a) * q + 1 - a) / 2 for q in (0.3, 0.5, 0.3, 0.6)]
    ratio = 0.8 / p[0]
    others = [0.5 / p[1], 0.1 / p[2], 0.9 / p[3]]
    for gamma in (1.0, 1.5, 2.0, 4.0):
        wanted = np.mean([ratio / r >= gamma for r in others])
        got = rmia(target, shadow, inside, z_target, z_shadow, z_inside, gamma=gamma, a=a)
        np.testing.assert_array_equal(got, [wanted])
    values = [np.mean([ratio / r >= g for r in others]) for g in (1.0, 1.5, 2.0, 4.0)]
    assert len(set(values)) == 3  # the cases differ


def test_rmia_online_averages_in_and_out():
    inside = np.array([[1], [1], [0]], bool)
    shadow = np.log([[0.9], [0.7], [0.2]])
    # p(x) = (0.8 + 0.2) / 2; z 0 is in model 0: p = (0.9 + 0.3) / 2; z 1 is in none: p = 0.5
    z_shadow = np.log([[0.9, 0.5], [0.4, 0.5], [0.2, 0.5]])
    z_inside = np.array([[1, 0], [0, 0], [0, 0]], bool)
    z_target = np.log([0.6, 0.6])  # ratios 1 and 1.2
    for p, wanted in [(0.49, 0), (0.51, 0.5), (0.59, 0.5), (0.61, 1)]:
        got = rmia(
            np.log([p]), shadow, inside, z_target, z_shadow, z_inside, gamma=1, offline=False
        )
        assert got.tolist() == [wanted]


def test_rmia_ties_count_and_tiny_probabilities_keep_their_ratio():
    # x and z alike: ratio 1 >= gamma 1
    shadow, inside = np.log([[0.25], [0.5]]), np.zeros((2, 1), bool)
    x = np.log([0.5])
    assert rmia(x, shadow, inside, x, shadow, gamma=1).tolist() == [1]
    # e^-2000 is 0 in floating point; with a = 1 p is p_out and the ratios are e^10 and 1
    low, out = np.array([-1990.0, -2000.0]), np.full((2, 2), -2000.0)
    got = rmia(low, out, np.zeros((2, 2), bool), low[1:], out[:, 1:], gamma=2, a=1)
    assert got.tolist() == [1, 0]


def test_mean_out_by_hand():
    got = mean_out(np.array([1.0, 2.0]), SHADOW, INSIDE)
    np.testing.assert_allclose(got, [(1 - 1) / 2 - 1, (-1 - 3) / 2 - 2])


def gaussian(n=400, m=24, gap=1.5, seed=0):
    """Log-odds of examples of different difficulty; being trained on adds `gap`."""
    rng = np.random.default_rng(seed)
    inside = rng.permuted(np.arange(m)[:, None] % 2 == np.zeros(n), axis=0)
    member = rng.random(n) < 0.5
    hard = 3 * rng.normal(size=n)
    shadow = hard + gap * inside + rng.normal(size=(m, n))
    return hard + gap * member + rng.normal(size=n), shadow, inside, member


def log_p(log_odds):
    return -np.log1p(np.exp(-log_odds))


ATTACKS = {
    "lira": lira,
    "lira by example": lambda *a: lira(*a, variance="per_example"),
    "lira offline": lambda *a: lira(*a, offline=True),
    "mean out": lambda t, s, i: mean_out(-log_p(t), -log_p(s), i),
    "rmia": lambda t, s, i: rmia(log_p(t), log_p(s), i, *Z),
    "rmia online": lambda t, s, i: rmia(log_p(t), log_p(s), i, *Z, offline=False),
}
_T, _S, _I, _M = gaussian(n=300, seed=1)
Z = (log_p(_T[~_M]), log_p(_S[:, ~_M]), _I[:, ~_M])


@pytest.mark.parametrize("name", ATTACKS)
def test_members_score_higher_and_calibration_helps(name):
    target, shadow, inside, member = gaussian()
    found = stats.auroc(ATTACKS[name](target, shadow, inside), member)
    assert found.low > stats.auroc(target, member).value


@pytest.mark.parametrize("name", ATTACKS)
def test_order_of_models_and_examples_means_nothing(name):
    target, shadow, inside, _ = gaussian(n=60)
    score = ATTACKS[name](target, shadow, inside)
    rng = np.random.default_rng(3)
    models, rows = rng.permutation(24), rng.permutation(60)
    moved = ATTACKS[name](target[rows], shadow[models][:, rows], inside[models][:, rows])
    # sums of 24 terms in another order; RMIA's Z keeps its order of models: that is no input here
    np.testing.assert_allclose(moved, score[rows], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"target": np.zeros((2, 1))}, r"target has shape \[2, 1\], expected \[n\]"),
        ({"shadow": np.zeros((4, 3))}, r"shadow has shape \[4, 3\], expected \[models, 2\]"),
        ({"inside": INSIDE[:3]}, r"inside has shape \[3, 2\], expected \[4, 2\]"),
        ({"inside": INSIDE * 2}, r"inside is 2 at \[0, 0\], expected booleans"),
        ({"target": np.array([0, np.nan])}, r"target is NaN at \[1\]"),
        ({"shadow": np.where(SHADOW == 3, np.nan, SHADOW)}, r"shadow is NaN at \[2, 1\]"),
        ({"shadow": np.where(SHADOW == 3, np.inf, SHADOW)}, r"shadow is infinite at \[2, 1\]"),
        ({"inside": INSIDE & [True, False]}, "example 1 .* no IN model"),
        ({"inside": INSIDE | [True, False]}, "example 0 .* no OUT model"),
        ({"variance": "mean"}, "variance is 'mean'"),
        ({"variance": "per_example", "inside": INSIDE & [[1, 1], [0, 1], [1, 1], [1, 1]]},
         "example 0 has 1 IN model, .* needs 2"),
        ({"variance": "per_example", "shadow": np.where(SHADOW > 3, 1.0, SHADOW)},
         "example 0 has equal values in all its IN models"),
        ({"shadow": np.zeros((4, 2))}, "OUT values of every example are equal"),
    ],
)  # fmt: skip
def test_lira_refuses(change, match):
    given = {"target": TARGET, "shadow": SHADOW, "inside": INSIDE} | change
    with pytest.raises(ValueError, match=match):
        lira(**given)


def test_equal_values_have_no_variance_though_their_mean_is_rounded():
    # the sum of three times 0.1, by 3, is not 0.1
    inside = np.array([[0, 0], [0, 1], [0, 1], [1, 0], [1, 0]], bool)
    shadow = np.array([[0.1, 0], [0.1, 1], [0.1, 2], [1, 4], [2, 5]])
    with pytest.raises(ValueError, match="example 0 has equal values in all its OUT models"):
        lira(TARGET, shadow, inside, variance="per_example")


def test_one_model_a_side_has_no_variance():
    inside = np.array([[True, True], [False, False]])
    with pytest.raises(ValueError, match="one OUT model"):
        lira(TARGET, SHADOW[:2], inside)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"gamma": 0.5}, "gamma is 0.5"),
        ({"a": 1.5}, "a is 1.5"),
        (
            {"population_target": np.zeros(0), "population_shadow": np.zeros((4, 0))},
            "no population",
        ),
        ({"population_shadow": np.zeros((3, 2))}, r"expected \[4, 2\]"),
        ({"target_log_p": np.array([0.5, -1])}, r"target_log_p is 0.5 at \[0\].*at most 0"),
        ({"population_inside": np.ones((4, 2), bool)}, "population point 0 .* no OUT model"),
        ({"offline": False, "inside": np.zeros((4, 2), bool)}, "example 0 .* no IN model"),
    ],
)
def test_rmia_refuses(change, match):
    low = -np.abs(SHADOW)
    given = {
        "target_log_p": -TARGET,
        "shadow_log_p": low,
        "inside": INSIDE,
        "population_target": -TARGET,
        "population_shadow": low,
    }
    with pytest.raises(ValueError, match=match):
        rmia(**{**given, **change})
