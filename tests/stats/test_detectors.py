import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import binomtest, norm
from sklearn.metrics import average_precision_score, roc_curve

from activjax import stats
from tests.stats.test_auroc import EPS, least_hits, tied

FEW = {"draws": 20}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_auprc_equals_scikit_learns(seed):
    scores, labels = tied(seed)
    found = stats.auprc(scores, labels, **FEW).value
    # at most as many products as distinct scores (5), each of three roundings, on both sides
    assert abs(found - average_precision_score(labels, scores)) <= 2 * (3 + 5) * EPS


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    fpr=st.sampled_from([0.1, 0.3, 0.7, 1.0]),
    tpr=st.sampled_from([0.05, 0.5, 0.9]),
)
def test_ends_of_the_roc_curve_equal_scikit_learns(seed, fpr, tpr):
    scores, labels = tied(seed)
    x, y, _ = roc_curve(labels, scores, drop_intermediate=False)
    found = stats.tpr_at_fpr(scores, labels, fpr, **FEW)
    n_positive, n_negative = labels.sum(), (~labels).sum()
    if fpr * n_negative < 1 - 1e-9:
        assert math.isnan(found.value)
        assert found.status == "unresolved"
    else:
        assert found.value == y[x <= fpr].max()
    found = stats.fpr_at_tpr(scores, labels, tpr, **FEW)
    if n_positive < 1 / (1 - tpr) - 1e-9:
        assert found.status == "unresolved"
    else:
        assert found.value == x[y >= tpr].min()


def test_by_hand():
    scores = np.array([9, 8, 8, 7, 6, 5, 4, 3, 2, 1])
    labels = np.array([1, 1, 0, 0, 1, 0, 1, 0, 0, 0])
    # thresholds, true and false: 9: 1, 0; 8: 2, 1; 7: 2, 2; 6: 3, 2; 5: 3, 3; 4: 4, 3; ...
    assert stats.tpr_at_fpr(scores, labels, 1 / 6).value == 0.5
    assert stats.tpr_at_fpr(scores, labels, 0.2).value == 0.5  # no interpolation
    assert stats.tpr_at_fpr(scores, labels, 2 / 6).value == 0.75
    assert stats.tpr_at_fpr(scores, labels, 1).value == 1
    assert stats.fpr_at_tpr(scores, labels, 0.75).value == 2 / 6
    assert stats.fpr_at_tpr(scores, labels, 0.5).value == 1 / 6
    expected = (1 / 1 + 2 / 3 + 3 / 5 + 4 / 7) / 4
    assert stats.auprc(scores, labels).value == pytest.approx(expected, abs=8 * EPS)


def test_a_shared_top_score_gives_no_threshold():
    found = stats.tpr_at_fpr([1, 1, 1, 0, 0], [1, 0, 0, 1, 0], 0.5)
    assert found.value == 0
    infinite = stats.tpr_at_fpr([np.inf, 1, 0, -np.inf], [1, 1, 0, 0], 0.5)
    assert infinite.value == 1


def test_unresolved_says_what_would_do():
    rng = np.random.default_rng(0)
    labels = np.arange(300) < 100
    scores = rng.normal(size=300)
    found = stats.tpr_at_fpr(scores, labels, 0.001)
    assert (found.status, found.note) == ("unresolved", "needs at least 1000 negatives")
    assert np.isnan([found.value, found.low, found.high]).all()
    assert str(found) == (
        "TPR at FPR 0.001 unresolved (100 positive, 200 negative; needs at least 1000 negatives)"
    )
    assert stats.tpr_at_fpr(scores, labels, 0.005).status == "ok"  # 200 are just enough
    found = stats.fpr_at_tpr(scores, labels, 0.995)
    assert found.note == "needs at least 200 positives"
    assert stats.fpr_at_tpr(scores, labels, 0.99, **FEW).status == "ok"


@settings(max_examples=100, deadline=None)
@given(n=st.integers(2, 3000))
def test_the_number_it_asks_for_is_enough_and_one_less_is_not(n):
    """Also where `1 / (1 / n)` is not `n`."""
    asked = stats.tpr_at_fpr([0, 1], [0, 1], 1 / n).note
    assert asked == f"needs at least {n} negatives"
    asked = stats.fpr_at_tpr([0, 1], [0, 1], (n - 1) / n).note
    assert asked == f"needs at least {n} positives"


def test_separated_classes_never_have_an_interval_of_width_0():
    labels = np.arange(60) < 20
    exact = binomtest(20, 20).proportion_ci(0.95, method="exact").low
    found = stats.tpr_at_fpr(labels, labels, 0.1)
    assert (found.value, found.high, found.status) == (1, 1, "bounded")
    assert found.low == pytest.approx(exact, rel=1e-12)
    found = stats.fpr_at_tpr(labels, labels, 0.9)
    exact = binomtest(0, 40).proportion_ci(0.95, method="exact").high
    assert (found.value, found.low, found.status) == (0, 0, "bounded")
    assert found.high == pytest.approx(exact, rel=1e-12)
    by_cluster = stats.tpr_at_fpr(labels, labels, 0.1, groups=np.arange(60) % 10)
    assert by_cluster.low == pytest.approx(0.025 ** (1 / 10), rel=1e-12)
    found = stats.auprc(labels, labels)
    assert (found.value, found.high, found.status) == (1, 1, "bounded")
    assert stats.auprc(labels, labels, groups=np.arange(60) % 10).status == "no interval"
    same = stats.auprc(np.zeros(60), labels)  # chance, whatever is drawn
    assert (same.value, same.status) == (pytest.approx(1 / 3), "no interval")


def test_the_bound_of_separated_average_precision():
    labels = np.arange(60) < 20
    tail = 0.0125
    reached, false = tail ** (1 / 20), 1 - tail ** (1 / 40)
    recall = (np.arange(200_000) + 0.5) / 200_000
    precision = recall / (recall + 2 * np.where(recall <= reached, false, 1))
    # The midpoint rule on a monotone function, one jump: within one step of the integral.
    assert stats.auprc(labels, labels).low == pytest.approx(precision.mean(), abs=1e-5)
    # It holds: where samples of this kind are separated at all often, the truth is above.
    rng = np.random.default_rng(0)
    shift = 4.0
    grid = np.linspace(-5, shift + 6, 20_001)
    tpr, fpr = norm.sf(grid - shift), norm.sf(grid)
    truth = -np.sum(np.diff(tpr) * (tpr / (tpr + 2 * fpr))[1:])
    found = [stats.auprc(rng.normal(size=60) + shift * labels, labels, **FEW) for _ in range(60)]
    perfect = [f for f in found if f.status == "bounded"]
    assert len(perfect) > 20
    assert all(f.low <= truth for f in perfect)


def test_coverage():
    rng = np.random.default_rng(0)
    trials, n = 200, 100
    labels = np.arange(2 * n) < n
    truth = norm.sf(norm.isf(0.1) - 1.5)  # TPR at FPR 0.1 of normals 1.5 apart
    grid = np.linspace(-5, 6.5, 4001)
    tpr, fpr = norm.sf(grid - 1.5), norm.sf(grid)
    area = -np.sum(np.diff(tpr) * (tpr / (tpr + fpr))[1:])
    hits = {"tpr": 0, "auprc": 0}
    for seed in range(trials):
        scores = rng.normal(size=2 * n) + 1.5 * labels
        found = stats.tpr_at_fpr(scores, labels, 0.1, draws=300, seed=seed)
        hits["tpr"] += found.low <= truth <= found.high
        found = stats.auprc(scores, labels, draws=300, seed=seed)
        hits["auprc"] += found.low <= area <= found.high
    # Over 1000 such trials they covered in 96.2 % and 92.9 % (standard error 0.8 %; percentile
    # intervals are a little short at this n). A binomial with share 0.91 is below this once in a
    # million.
    assert hits["tpr"] >= least_hits(trials, 0.91)
    assert hits["auprc"] >= least_hits(trials, 0.91)


def test_ranks_decide_and_the_order_of_examples_does_not():
    scores, labels = tied(5, n=60)
    groups = np.arange(60) // 4
    shuffled = np.random.default_rng(0).permutation(60)
    for metric, argument in [
        (stats.auprc, ()),
        (stats.tpr_at_fpr, (0.2,)),
        (stats.fpr_at_tpr, (0.5,)),
    ]:
        found = metric(scores, labels, *argument, draws=100)
        assert found == metric(scores[shuffled], labels[shuffled], *argument, draws=100)
        assert found == metric(np.exp(scores), labels, *argument, draws=100)
        clustered = metric(scores, labels, *argument, groups=groups, draws=100)
        assert clustered != found
        assert clustered == metric(
            scores[shuffled], labels[shuffled], *argument, groups=groups[shuffled], draws=100
        )


def test_clusters_of_copies_count_once():
    rng = np.random.default_rng(0)
    labels = np.arange(200) < 80
    scores = rng.normal(size=200) + labels
    copies = [np.repeat(x, 4) for x in (scores, labels, np.arange(200))]
    clustered = stats.auprc(*copies[:2], groups=copies[2])
    iid = stats.auprc(*copies[:2], groups=np.arange(800))
    # as in test_auroc: twice the width, 3.1 % of Monte Carlo error, four of them
    ratio = (clustered.high - clustered.low) / (iid.high - iid.low)
    assert abs(ratio - 2) < 2 * 4 * 0.031


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda s, y: stats.tpr_at_fpr(s, y, 0), r"fpr is 0, expected a number in \(0, 1\]"),
        (lambda s, y: stats.tpr_at_fpr(s, y, np.nan), "fpr is nan"),
        (lambda s, y: stats.fpr_at_tpr(s, y, 1), r"tpr is 1, expected a number in \(0, 1\)"),
        (lambda s, y: stats.tpr_at_fpr(s, y, 0.5, level=0), "level is 0"),
        (lambda s, y: stats.tpr_at_fpr(s, y, 1e-9, level=2), "level is 2"),
        (lambda s, y: stats.auprc(s, y, draws=0), "draws is 0"),
        (lambda s, y: stats.auprc(s, y * 0), "all 4 labels are 0"),
        (lambda s, y: stats.fpr_at_tpr(s, y, 0.5, groups=[1]), "groups have shape"),
    ],
)
def test_refusals(call, match):
    with pytest.raises(ValueError, match=match):
        call(np.array([0.0, 1, 1, 2]), np.array([0, 1, 0, 1]))
