import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import binom, binomtest
from sklearn.metrics import roc_auc_score

from activjax import stats

EPS = 2.0**-53


def tied(seed, n=None, values=5):
    """Few distinct scores, both classes present."""
    rng = np.random.default_rng(seed)
    n = n or int(rng.integers(2, 60))
    labels = rng.permutation(np.arange(n) < rng.integers(1, n))
    return rng.integers(0, values, n).astype(float), labels


def components(scores, labels):
    """Structural components by comparing all pairs."""
    psi = [
        [(p > q) + 0.5 * (p == q) for q in scores[~labels]] for p in scores[labels]
    ]  # [positives, negatives]
    psi = np.array(psi)
    return psi.mean(1), psi.mean(0)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_equals_scikit_learns(seed):
    scores, labels = tied(seed)
    # Theirs adds at most n trapezia of rounded rates; ours is one quotient of integers.
    expected = roc_auc_score(labels, scores)
    assert abs(stats.auroc(scores, labels).value - expected) <= 4 * len(scores) * EPS


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_covariance_equals_all_pairs(seed):
    a, labels = tied(seed, n=40)
    b = a + np.random.default_rng(seed + 1).integers(0, 3, 40)
    pairs = [components(x, labels) for x in (a, b)]
    m, n = labels.sum(), (~labels).sum()
    found = stats.delong(a, b, labels)
    if min(m, n) < 2:
        assert np.isnan(found.covariance).all()
        return
    parts = [np.cov(np.stack([p[k] for p in pairs])) / size for k, size in ((0, m), (1, n))]
    np.testing.assert_allclose(found.covariance, sum(parts), rtol=0, atol=2 * 40 * EPS)
    assert found.difference.value == pytest.approx(found.a.value - found.b.value, abs=4 * EPS)
    assert found.a == stats.auroc(a, labels)


def test_by_hand():
    # Positives 1, 3, 4 against negatives 0, 2, 3: they beat 1, 2.5, 3 of three; area 6.5 / 9.
    scores, labels = [1, 3, 4, 0, 2, 3], [1, 1, 1, 0, 0, 0]
    found = stats.auroc(scores, labels)
    assert found.value == 6.5 / 9
    # V10 = (2, 5, 6) / 6 has variance (13/3) / 36; V01 = (6, 4, 3) / 6 has (7/3) / 36.
    variance = (13 / 3 + 7 / 3) / 36 / 3
    logit, half = math.log(6.5 / 2.5), 1.959963984540054 * math.sqrt(variance) / (6.5 * 2.5 / 81)
    expected = [1 / (1 + math.exp(-(logit + s * half))) for s in (-1, 1)]
    np.testing.assert_allclose([found.low, found.high], expected, rtol=64 * EPS)
    assert (found.n_positive, found.n_negative, found.status) == (3, 3, "ok")
    assert str(found).startswith("AUROC 0.7222 [")
    assert str(found).endswith("(95 %; 3 positive, 3 negative)")


def test_jackknife_agrees():
    rng = np.random.default_rng(0)
    n = 200
    labels = np.arange(2 * n) < n
    scores = rng.normal(size=2 * n) + labels
    # Leaving out one positive changes the area by (V10_i - A) / (n - 1): the jackknife over each
    # class is DeLong's variance times (n - 1) / n * n / (n - 1) = 1, an identity.
    area = stats.auroc(scores, labels).value
    kept = [np.delete(np.arange(2 * n), i) for i in range(2 * n)]
    left = np.array([stats.auroc(scores[k], labels[k]).value for k in kept])
    jackknife = sum((n - 1) / n * ((x - area) ** 2).sum() for x in (left[:n], left[n:]))
    variance = stats.delong(scores, scores, labels).covariance[0, 0]
    # differences of areas are exact to 2 EPS and as small as 1e-4; 2n squares of them
    assert variance == pytest.approx(jackknife, rel=1e-10)


def least_hits(trials, level, risk=1e-6):
    """A count that a binomial with this share falls below with probability `risk`."""
    return binom.ppf(risk, trials, level)


def test_coverage():
    rng = np.random.default_rng(0)
    trials, hits, apart = 600, 0, 0
    truth = 0.7602499389065233  # Phi(1 / sqrt 2), of normals one deviation apart
    for _ in range(trials):
        labels = np.arange(80) < 30
        signal = rng.normal(size=80) + labels
        found = stats.auroc(signal, labels)
        hits += found.low <= truth <= found.high
        # Two detectors with independent noise of the same size: equal areas.
        a, b = (signal + rng.normal(size=80) for _ in range(2))
        both = stats.delong(a, b, labels)
        inside = both.difference.low <= 0 <= both.difference.high
        assert inside == (both.p_value >= 0.05)
        apart += inside
    # Over 4000 such trials the intervals covered in 95.5 % and 94.9 % (standard error 0.3 %), so
    # 93.5 % is four errors below; a binomial with that share is below this once in a million.
    assert hits >= least_hits(trials, 0.935)
    assert apart >= least_hits(trials, 0.935)
    assert max(hits, apart) < trials  # else the intervals are far too wide


@pytest.mark.parametrize(("n_positive", "n_negative"), [(1, 1), (3, 40), (50, 20)])
def test_perfect_separation_has_the_exact_bound_of_its_pairs(n_positive, n_negative):
    labels = np.arange(n_positive + n_negative) < n_positive
    m = min(n_positive, n_negative)
    exact = binomtest(m, m).proportion_ci(0.95, method="exact").low
    for scores, low, high in [(labels, exact, 1), (~labels, 0, 1 - exact)]:
        found = stats.auroc(scores, labels)
        assert found.status == "bounded"
        assert "perfectly separated" in str(found)
        np.testing.assert_allclose([found.low, found.high], [low, high], atol=1e-12)
    if m > 1:
        # Perfect by luck: at this truth all of m independent pairs succeed with probability 2.5 %.
        assert exact**m == pytest.approx(0.025, rel=1e-9)


def test_without_variance_there_is_hoeffdings_bound():
    labels = np.arange(30) < 10
    same = stats.auroc(np.zeros(30), labels)
    half = math.sqrt(math.log(40) / 20)
    assert same.value == 0.5
    np.testing.assert_allclose([same.low, same.high], [0.5 - half, 0.5 + half], rtol=1e-14)
    assert same.status == "bounded"
    one = stats.auroc([1, 0, 2], [1, 0, 0])
    assert (one.value, one.low, one.high, one.status) == (0.5, 0, 1, "bounded")
    opposite = stats.delong(labels, ~labels, labels)
    assert opposite.difference.value == 1
    assert opposite.difference.status == "bounded"
    assert opposite.difference.low == pytest.approx(1 - 2 * half, abs=1e-14)
    assert opposite.p_value == pytest.approx(2 * math.exp(-5))
    equal = stats.delong(labels, 2 * labels, labels)
    assert (equal.difference.value, equal.p_value) == (0, 1)
    assert equal.difference.low < 0 < equal.difference.high


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_ranks_decide_and_the_order_of_examples_does_not(seed):
    scores, labels = tied(seed, n=30)
    groups = np.arange(30) // 3
    shuffled = np.random.default_rng(seed).permutation(30)
    for options in ({}, {"groups": groups, "draws": 50}):
        found = stats.auroc(scores, labels, **options)
        moved = dict(options)
        if options:
            moved["groups"] = groups[shuffled]
        assert found == stats.auroc(scores[shuffled], labels[shuffled], **moved)
        infinite = np.where(scores == 4, np.inf, np.where(scores == 0, -np.inf, scores**3))
        assert found == stats.auroc(infinite, labels, **options)
    a = stats.delong(scores, -scores, labels)
    b = stats.delong(scores[shuffled], -scores[shuffled], labels[shuffled])
    assert (a.difference, a.p_value) == (b.difference, b.p_value)


def test_turning_scores_and_labels_round():
    scores, labels = tied(3, n=50)
    found, turned = stats.auroc(scores, labels), stats.auroc(-scores, labels)
    np.testing.assert_allclose([turned.low, turned.high], [1 - found.high, 1 - found.low])
    assert stats.auroc(-scores, ~labels).value == found.value


def test_clusters_of_copies_count_once():
    rng = np.random.default_rng(0)
    labels = np.arange(120) < 60
    scores = rng.normal(size=120) + labels
    once = stats.auroc(scores, labels, groups=np.arange(120))
    copies = [np.repeat(x, 4) for x in (scores, labels, np.arange(120))]
    clustered = stats.auroc(copies[0], copies[1], groups=copies[2])
    assert (clustered.low, clustered.high) == (once.low, once.high)  # the same resamples
    iid = stats.auroc(*copies[:2], groups=np.arange(480))
    # Four times the examples, half the width. Each end is a quantile of 2000 draws: standard error
    # sqrt(.025 .975 / 2000) / phi(1.96) = 0.06 deviations, of a width of 3.9: 2.2 %, ratio 3.1 %.
    ratio = (clustered.high - clustered.low) / (iid.high - iid.low)
    assert abs(ratio - 2) < 2 * 4 * 0.031
    # and without clusters DeLong's width is that of independent examples
    delong = stats.auroc(*copies[:2])
    assert abs((iid.high - iid.low) / (delong.high - delong.low) - 1) < 4 * 0.022


def test_clusters_too_few_or_separated():
    labels = np.arange(20) < 10
    one = stats.auroc(np.arange(20), labels, groups=np.zeros(20))
    assert (one.status, math.isnan(one.low)) == ("no interval", True)
    assert "at least 2" in one.note
    # Each of two clusters has one class: half of the resamples lack one.
    two = stats.auroc(np.arange(20.0), labels, groups=labels)
    assert two.status == "no interval"
    assert "lack a class" in str(two)
    mixed = np.arange(20) % 10
    found = stats.auroc(labels, labels, groups=mixed)
    assert found.status == "bounded"
    assert found.low == pytest.approx(0.025 ** (1 / 5))  # five disjoint pairs of ten clusters


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"scores": [0.0, np.nan, 1, 2]}, r"scores are NaN at index 1 \(1 in all\)"),
        ({"scores": []}, "n >= 1"),
        ({"scores": np.zeros((4, 1))}, r"shape \(4, 1\), expected \[n\]"),
        ({"scores": [1, 2, 3]}, "3 scores and 4 labels"),
        ({"scores": np.zeros(4, complex)}, "real numbers"),
        ({"labels": [1, 1, 1, 1]}, "all 4 labels are 1, expected examples of both"),
        ({"labels": [0, 1, -1, 1]}, "hold -1 at index 2, expected booleans or 0 and 1"),
        ({"labels": [[0, 1, 0, 1]]}, r"labels have shape \(1, 4\)"),
        ({"level": 95}, "level is 95"),
        ({"groups": [1, 2]}, r"groups have shape \(2,\), expected \[4\]"),
        ({"groups": [1, 2, np.nan, 1]}, "NaN at index 2"),
        ({"groups": [1, 2, 1, 2], "draws": 0}, "draws is 0"),
    ],
)
def test_refusals(change, match):
    args = {"scores": [0.0, 1, 1, 2], "labels": [0, 1, 0, 1]} | change
    with pytest.raises(ValueError, match=match):
        stats.auroc(**args)


def test_delong_names_the_scores():
    with pytest.raises(ValueError, match="scores_b.* NaN at index 0"):
        stats.delong([1, 2], [np.nan, 1], [0, 1])


def test_accepts_any_kind_of_binary_labels():
    scores = [0.1, 0.4, 0.35, 0.8]
    kinds = [[0, 0, 1, 1], [False, False, True, True], [0.0, 0.0, 1.0, 1.0]]
    values = {stats.auroc(scores, labels).value for labels in kinds}
    assert values == {0.75}
    for kind, dtype in itertools.product(kinds, (np.float16, np.float32)):
        assert stats.auroc(np.array(scores, dtype), kind).value == 0.75
