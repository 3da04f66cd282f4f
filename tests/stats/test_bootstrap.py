import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from activjax import stats


def difference(scores, labels):
    return scores[labels].mean() - scores[~labels].mean()


def sample(n=400, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) < n // 4
    return rng.normal(size=n) + labels, labels


def test_a_mean_difference_has_the_width_of_its_standard_error():
    scores, labels = sample()
    found = stats.bootstrap(difference, scores, labels)
    assert found.value == difference(scores, labels)
    assert (found.name, found.n_positive, found.n_negative) == ("difference", 100, 300)
    error = math.sqrt(sum(scores[labels == k].var() / (labels == k).sum() for k in (0, 1)))
    # Each end is a quantile of 2000 draws: 2.2 % of the width (see test_auroc); four of them.
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=4 * 0.022)
    assert (found.high + found.low) / 2 == pytest.approx(found.value, abs=4 * 0.06 * error)


def test_equals_the_metrics_own():
    scores, labels = sample(80)
    own = stats.auprc(scores, labels, draws=50)
    given = stats.bootstrap(
        lambda s, y: average_precision_score(y, s), scores, labels, draws=50, name="AUPRC"
    )
    np.testing.assert_allclose([given.low, given.high], [own.low, own.high], rtol=1e-12)
    groups = [f"document {i % 20}" for i in range(80)]
    own = stats.auprc(scores, labels, draws=50, groups=groups)
    given = stats.bootstrap(
        lambda s, y: average_precision_score(y, s), scores, labels, draws=50, groups=groups
    )
    np.testing.assert_allclose([given.low, given.high], [own.low, own.high], rtol=1e-12)


def test_order_seed_and_columns():
    scores, labels = sample(60)
    table = np.stack([scores, -scores], axis=1)
    found = stats.bootstrap(lambda s, y: s[y, 1].mean(), table, labels, draws=50)
    shuffled = np.random.default_rng(1).permutation(60)
    again = stats.bootstrap(
        lambda s, y: s[y, 1].mean(), table[shuffled], labels[shuffled], draws=50
    )
    assert found == again
    other = stats.bootstrap(lambda s, y: s[y, 1].mean(), table, labels, draws=50, seed=1)
    assert (other.value, other.low != found.low) == (found.value, True)


def test_clusters_are_drawn_whole_and_lacking_a_class_is_left_out():
    scores, labels = sample(60)
    groups = np.arange(60) % 6
    seen = []

    def metric(s, y):
        seen.append((len(s), y.any() and not y.all()))
        return difference(s, y)

    stats.bootstrap(metric, scores, labels, groups=groups, draws=30)
    assert {n for n, _ in seen} == {60}  # six clusters of ten
    assert all(both for _, both in seen)
    # Two clusters of one class each: 50 % of the draws lack one.
    halves = stats.bootstrap(metric, scores, labels, groups=labels, draws=30)
    assert halves.status == "no interval"
    assert "lack a class" in halves.note
    assert stats.bootstrap(metric, scores, labels, groups=0 * groups).status == "no interval"


def test_draws_that_agree_give_no_interval():
    scores, labels = sample(40)
    found = stats.bootstrap(lambda s, y: 1.0, scores, labels, draws=20, name="one")
    assert (found.value, found.status) == (1, "no interval")
    assert str(found) == (
        "one 1 (10 positive, 30 negative; all resamples agree: the bootstrap cannot tell the "
        "spread)"
    )
    undefined = stats.bootstrap(lambda s, y: math.nan, scores, labels, draws=20)
    assert undefined.status == "no interval"


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda s, y: stats.bootstrap(difference, s[:3], y), "3 scores and 20 labels"),
        (lambda s, y: stats.bootstrap(difference, s, y | True), "expected examples of both"),
        (lambda s, y: stats.bootstrap(difference, s, y, draws=0), "draws is 0"),
        (lambda s, y: stats.bootstrap(difference, s, y, level=1), "level is 1"),
        (lambda s, y: stats.bootstrap(difference, s * np.nan, y), "NaN at index 0"),
    ],
)
def test_refusals(call, match):
    with pytest.raises(ValueError, match=match):
        call(*sample(20))


def test_an_estimate_is_no_metric():
    with pytest.raises(TypeError, match="has an interval already"):
        stats.bootstrap(stats.auroc, *sample(20))
