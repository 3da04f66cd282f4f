import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.special import expit, logit

from activjax import stats
from tests.stats.test_auroc import EPS, least_hits


def by_loop(p, y, edges):
    """Guo et al.'s code: bins (edge, edge], and 0 in the first."""
    total = 0.0
    for low, high in itertools.pairwise(edges):
        chosen = (p > low) & (p <= high) | (p == 0) & (low == 0)
        if chosen.any():
            total += chosen.mean() * abs(p[chosen].mean() - y[chosen].mean())
    return total


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), bins=st.integers(1, 12))
def test_equals_the_definition(seed, bins):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(12, 80))
    p = rng.integers(0, bins + 1, n) / bins if seed % 2 else rng.random(n)  # on edges, or not
    y = rng.random(n) < p
    found = stats.ece(p, y, bins, draws=5)
    # n additions on either side, of terms within 1 / n
    assert found.value == pytest.approx(by_loop(p, y, np.arange(bins + 1) / bins), abs=4 * n * EPS)


def test_by_hand():
    p, y = np.array([0.1, 0.3, 0.6, 0.8]), np.array([0, 1, 1, 1])
    # halves: |0.2 - 0.5| and |0.7 - 1|, each of half the examples
    assert stats.ece(p, y, 2).value == pytest.approx(0.3, abs=8 * EPS)
    # one of 0.5 belongs to the lower bin
    p = np.array([0.5, 0.5, 0.9, 1.0])
    assert stats.ece(p, y, 2).value == pytest.approx(0.5 * 0 + 0.5 * 0.05, abs=8 * EPS)


def test_equal_mass_bins():
    p, y = np.array([0.01, 0.02, 0.03, 0.9]), np.array([0, 1, 0, 1])
    # two lowest: |0.015 - 0.5|; two highest: |0.465 - 0.5|
    found = stats.ece(p, y, 2, kind="mass")
    assert found.value == pytest.approx(0.5 * 0.485 + 0.5 * 0.035, abs=8 * EPS)
    # Equal probabilities stay together: the three of 0.5 have middle rank 2 of 4, the upper half.
    p, y = np.array([0.5, 0.5, 0.1, 0.5]), np.array([0, 1, 0, 1])
    shuffled = [3, 2, 1, 0]
    found = stats.ece(p, y, 2, kind="mass")
    assert found.value == pytest.approx(0.25 * 0.1 + 0.75 * (2 / 3 - 0.5), abs=8 * EPS)
    assert found == stats.ece(p[shuffled], y[shuffled], 2, kind="mass")
    spread = np.random.default_rng(0).random(47)
    parts = np.array_split(np.sort(spread), 5)
    outcome = np.zeros(47, int)
    # sizes within one of one another, as array_split's; with no outcome the bins do not matter
    assert stats.ece(spread, outcome, 5, kind="mass").value == pytest.approx(
        sum(part.sum() for part in parts) / 47, abs=100 * EPS
    )


def test_top_label():
    p = np.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6], [0.4, 0.4, 0.2]])
    y = np.array([0, 1, 0])  # right, wrong, right (the first of equals)
    found = stats.ece(p, y, 1)
    assert found.value == pytest.approx(abs(1.6 / 3 - 2 / 3), abs=8 * EPS)
    assert (found.n_positive, found.n_negative) == (2, 1)
    binary = stats.ece(p.max(1), p.argmax(1) == y, 1)
    assert found == binary


def calibration(rng, n, slope):
    p = rng.beta(2, 2, n)
    truth = expit(slope * logit(p))
    return p, rng.random(n) < truth, truth


@pytest.mark.parametrize("slope", [1.0, 0.5])
def test_coverage_is_at_least_nominal(slope):
    rng = np.random.default_rng(0)
    p, _, truth = calibration(rng, 400_000, slope)
    bins = np.searchsorted(np.arange(1, 15) / 15, p)
    true = np.abs(np.bincount(bins, p - truth)).sum() / len(p)
    if slope == 1:
        assert true < 1e-15  # rounding
    trials, hits, excess = 150, 0, []
    for seed in range(trials):
        p, y, _ = calibration(rng, 300, slope)
        found = stats.ece(p, y, draws=300, seed=seed)
        # of the big sample: its own error is within sqrt(15 / 4 / 400_000) = 0.003
        hits += found.low <= true + (0.003 if slope < 1 else 0) and found.high >= true - 0.003
        excess.append(found.value - true)
        expected = float(found.note.split()[1])
        assert 0.03 < expected < 0.1
        if slope == 1:
            excess[-1] -= expected
    # the bootstrap's quantile is a percent or two low at this n
    assert hits >= least_hits(trials, 0.935)
    if slope == 1:
        # The note's expectation: normal in each bin, good to a few percent; the mean of 150 with
        # deviation under 0.015 has standard error 0.0012.
        assert abs(np.mean(excess)) < 4 * 0.0012 + 0.003
    else:
        assert np.mean(excess) > 0  # biased upwards


def test_an_interval_of_width_0_is_never_given():
    y = np.arange(50) % 2
    found = stats.ece(y.astype(float), y)
    unseen = 1 - 0.025 ** (1 / 50)
    assert (found.value, found.low, found.status) == (0, 0, "bounded")
    assert found.high == pytest.approx(unseen, rel=1e-12)
    by_cluster = stats.ece(y.astype(float), y, groups=np.arange(50) // 5)
    assert by_cluster.high == pytest.approx(1 - 0.025 ** (1 / 10), rel=1e-12)
    right = stats.ece(np.full(30, 0.3), np.ones(30), 1)  # one class is enough here
    assert (right.value, right.status) == (pytest.approx(0.7), "bounded")
    assert stats.ece(np.full(30, 0.3), y[:30], groups=np.zeros(30)).status == "no interval"


def test_clusters_of_copies_count_once():
    rng = np.random.default_rng(0)
    p, y, _ = calibration(rng, 200, 0.5)
    one = stats.ece(p, y, groups=np.arange(200))
    copies = [np.repeat(x, 3) for x in (p, y, np.arange(200))]
    three = stats.ece(copies[0], copies[1], groups=copies[2])
    assert (three.low, three.high) == pytest.approx((one.low, one.high), abs=1000 * EPS)
    iid = stats.ece(*copies[:2])
    # deviations shrink by sqrt(3); a quantile of 2000 draws of a sum of 15 parts: within 5 %
    ratio = (three.high - three.value) / (iid.high - iid.value)
    assert ratio == pytest.approx(math.sqrt(3), rel=0.1)


def test_too_few_examples_for_the_bins():
    found = stats.ece([0.5] * 10, [0, 1] * 5)
    assert (found.status, math.isnan(found.value)) == ("unresolved", True)
    assert str(found) == (
        "ECE unresolved (5 positive, 5 negative; needs at least 15 examples, one for each bin)"
    )


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (([0.5, np.nan], [0, 1]), "NaN at index 1"),
        (([[0.5, 0.5], [np.nan, 1]], [0, 1]), r"NaN at index \(1, 0\)"),
        (([0.5, 1.5], [0, 1]), r"example 1 are 1.5, expected numbers in \[0, 1\]; pass logits"),
        (([[0.5, 0.1]], [0]), "example 0 add up to 0.6, expected 1"),
        (([[0.5, 0.5]], [2]), "labels run from 2 to 2"),
        (([[0.5, 0.5]], [0.0]), "expected integers 0 .. 1"),
        (([0.5, 0.5], [0, 2]), "hold 2 at index 1"),
        (([0.5, 0.5], [0]), r"labels have shape \(1,\), expected \[2\]"),
        (([], []), "n >= 1"),
        ((np.zeros((2, 0)), [0, 1]), r"expected \[n\] or \[n, classes\]"),
        ((np.zeros((2, 1, 1)), [0, 1]), r"expected \[n\] or \[n, classes\]"),
        (([0.5], [0], 0), "bins is 0"),
    ],
)
def test_refusals(args, match):
    with pytest.raises(ValueError, match=match):
        stats.ece(*args)
    with pytest.raises(ValueError, match="kind is 'size'"):
        stats.ece([0.5], [0], kind="size")
