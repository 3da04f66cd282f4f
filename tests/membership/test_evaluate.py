import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from activjax import stats
from activjax.membership._evaluate import compare, evaluate, roc


def sample(n=300, gap=1.0, seed=0):
    rng = np.random.default_rng(seed)
    member = rng.random(n) < 0.5
    return member, rng.normal(size=n) + gap * member


def test_four_scores_by_hand():
    # pairs (member, other): 4 > 3, 4 > 1, 2 < 3, 2 > 1: three of four
    found = evaluate(np.array([1, 0, 1, 0]), np.array([4.0, 3, 2, 1]), fpr=(0.5, 0.1))
    assert found.auc.value == 0.75
    assert found.tpr[0.5].value == 1
    assert found.tpr[0.1].status == "unresolved"
    assert math.isnan(found.tpr[0.1].value)
    assert (found.n_members, found.n_non_members) == (2, 2)


def test_ties_count_half_and_one_threshold():
    found = evaluate(np.array([1, 0, 1, 0]), np.array([1.0, 1, 2, 0]), fpr=(0.5,))
    assert found.auc.value == (0.5 + 1 + 1 + 1) / 4
    same = evaluate(np.array([1, 0, 1, 0]), np.ones(4), fpr=(0.5,))
    assert same.auc.value == 0.5
    assert same.tpr[0.5].value == 0  # the only threshold lets all through


def test_the_numbers_are_those_of_stats_on_members_as_positives():
    member, score = sample()
    found = evaluate(member, score, name="loss")
    assert found.auc == stats.auroc(score, member)
    assert found.tpr == {
        0.01: stats.tpr_at_fpr(score, member, 0.01),
        0.001: stats.tpr_at_fpr(score, member, 0.001),
    }
    np.testing.assert_allclose(found.auc.value, roc_auc_score(member, score))
    assert found.tpr[0.001].status == "unresolved"
    text = str(found)
    assert text.startswith("loss: ")
    assert "AUROC" in text
    assert "unresolved" in text
    assert "needs at least 1000 negatives" in text
    assert len(text.splitlines()) == 4


def test_groups_widen_the_intervals():
    member, score = sample(100)
    member, score, groups = (np.repeat(v, 4) for v in (member, score, np.arange(100)))
    alone, grouped = evaluate(member, score), evaluate(member, score, groups=groups)
    assert grouped.auc.high - grouped.auc.low > 1.5 * (alone.auc.high - alone.auc.low)
    assert grouped.tpr[0.01] == stats.tpr_at_fpr(score, member, 0.01, groups=groups)
    assert grouped.tpr[0.01] != alone.tpr[0.01]


def test_an_inverted_score_is_flagged_and_not_turned():
    member, score = sample(gap=-1.0)
    found = evaluate(member, score)
    assert found.flagged_inverted
    assert found.auc.value < 0.4
    assert "oriented the wrong way for this data; it is reported as it is" in str(found)
    for gap in (0.0, 1.0):
        right = evaluate(*sample(gap=gap))
        assert not right.flagged_inverted
        assert "wrong way" not in str(right)


@pytest.mark.parametrize(
    ("member", "score", "match"),
    [
        ([1, 0, 1], [1, np.nan, 2], "NaN at index 1"),
        ([1, 1], [1, 2], "examples of both classes"),
        ([1, 0], [1, 2, 3], "3 scores and 2 labels"),
        ([1, 2], [1, 2], "2 at index 1"),
        ([[1, 0]], [[1, 2]], "shape"),
    ],
)
def test_refusals(member, score, match):
    with pytest.raises(ValueError, match=match):
        evaluate(np.array(member), np.array(score, float))
    with pytest.raises(ValueError, match=match):
        roc(np.array(member), np.array(score, float))
    with pytest.raises(ValueError, match=match):
        compare(np.array(member), {"a": np.array(score, float)})


def test_infinite_scores_are_ranked():
    found = evaluate(np.array([1, 0, 1, 0]), np.array([np.inf, 0, 1, -np.inf]), fpr=(0.5,))
    assert found.auc.value == 1


def test_compare_is_paired():
    member, score = sample(400)
    rng = np.random.default_rng(1)
    given = {"loss": score, "better": score + 0.7 * member, "noise": rng.normal(size=400)}
    rows = compare(member, given, baseline="loss", fpr=(0.1,))
    assert [r.name for r in rows] == ["loss", "better", "noise"]
    assert rows[0].difference is None
    assert rows[0].p_value is None
    wanted = stats.delong(given["better"], score, member)
    assert rows[1].difference == wanted.difference
    assert rows[1].p_value == wanted.p_value
    assert rows[1].difference.low > 0 > rows[2].difference.high
    assert [r.evaluation.auc for r in rows] == [stats.auroc(s, member) for s in given.values()]
    assert list(rows[0].evaluation.tpr) == [0.1]
    alone = compare(member, given)
    assert all(r.difference is None for r in alone)
    for row in rows:
        assert row.name in str(row)
        assert "\n" not in str(row)


def test_differences_of_clusters_are_bootstrapped_over_clusters():
    member, score = sample(60)
    other = score + 0.5 * np.random.default_rng(2).normal(size=60)
    groups = np.repeat(np.arange(60), 5)
    member, score, other = (np.repeat(v, 5) for v in (member, score, other))
    given = {"a": score, "b": other}
    (_, grouped), (_, alone) = (
        compare(member, given, baseline="a", groups=g, fpr=(0.1,), draws=500)
        for g in (groups, None)
    )
    np.testing.assert_allclose(grouped.difference.value, alone.difference.value, atol=1e-12)
    assert grouped.p_value is None  # DeLong's takes examples to be independent
    widths = [r.difference.high - r.difference.low for r in (grouped, alone)]
    assert widths[0] > 1.5 * widths[1]


def test_compare_refuses():
    member, score = sample(20)
    with pytest.raises(ValueError, match="baseline is 'c', expected one of a, b"):
        compare(member, {"a": score, "b": score}, baseline="c")
    with pytest.raises(ValueError, match="no scores"):
        compare(member, {})


def test_roc_steps_with_ties_merged():
    fpr, tpr = roc(np.array([1, 0, 1, 0, 1]), np.array([5.0, 4, 4, 4, 1]))
    assert fpr.tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(tpr, [0, 1 / 3, 2 / 3, 1])
    member, score = sample()
    fpr, tpr = roc(member, score)
    assert len(fpr) == 301
    allowed = fpr <= 0.1
    assert tpr[allowed].max() == stats.tpr_at_fpr(score, member, 0.1).value
    area = np.sum(np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2)
    np.testing.assert_allclose(area, stats.auroc(score, member).value)
