import numpy as np
import pytest

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
