import numpy as np
import pytest
from scipy.stats import binomtest

from activjax import stats


def test_interval_by_hand():
    mean, half = stats.mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    # sd^2 = 2.5; t_{0.975, 4} = 2.7764451 (Fisher and Yates, table III)
    assert mean == 3
    assert np.isclose(half, 2.7764451 * np.sqrt(2.5 / 5), rtol=1e-7)


def test_coverage():
    x = np.random.default_rng(0).normal(size=(4, 20_000))
    for level in (0.5, 0.95):
        mean, half = stats.mean_interval(x, level=level)
        inside = (np.abs(mean) <= half).mean()
        # Binomial standard error of a share over 20,000 trials; four of them.
        assert abs(inside - level) < 4 * np.sqrt(level * (1 - level) / 20_000)


def test_single_trials_and_refusals():
    mean, half = stats.mean_interval(np.ones((1, 3)))
    assert mean.tolist() == [1, 1, 1]
    assert np.isnan(half).all()
    with pytest.raises(ValueError, match="n >= 1"):
        stats.mean_interval([])
    with pytest.raises(ValueError, match="level is 95"):
        stats.mean_interval([1.0, 2.0], level=95)


def test_a_ratio_of_sums_has_the_interval_of_its_units():
    rng = np.random.default_rng(0)
    hits = 0
    for i in range(200):
        sizes = rng.integers(50, 150, 40)
        value, low, high = stats.ratio_interval(
            sizes * (2 + 0.3 * rng.standard_normal(40)), sizes, draws=400, seed=i
        )
        assert low < value < high
        hits += low < 2 < high
    # 200 intervals of nominally 95 %: four standard deviations, less two points for 40 units
    assert hits > 200 * 0.93 - 4 * 3.1
    value, low, high = stats.ratio_interval([3.0], [2.0])
    assert value == 1.5
    assert np.isnan([low, high]).all()
    for bad in (([], []), ([1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0, 0.0])):
        with pytest.raises(ValueError, match="ratio_interval"):
            stats.ratio_interval(*bad)


def test_wilson():
    # Wilson's interval for 8 of 10 by hand: (.8 + .1921 +- .2770) / 1.3841 with z = 1.95996
    np.testing.assert_allclose(stats.wilson(8, 10), [0.4902, 0.9433], atol=5e-5)
    hits, n = np.array([0, 3, 10, 499]), np.array([10, 4, 10, 1000])
    for level in (0.5, 0.95, 0.999):
        wanted = [
            binomtest(int(a), int(b)).proportion_ci(level, method="wilson") for a, b in zip(hits, n)
        ]
        # both are a dozen operations of doubles
        np.testing.assert_allclose(stats.wilson(hits, n, level), wanted, rtol=1e-12, atol=1e-15)
    assert np.isnan(stats.wilson(0, 0)).all()
