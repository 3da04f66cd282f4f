import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

from activjax import stats
from activjax.membership._attack import fit_attack, halves, stacked


def sample(n=200, seed=0):
    """Member or not, a weak signal, a strong one with heavy tails, and noise."""
    rng = np.random.default_rng(seed)
    member = rng.random(n) < 0.5
    weak = rng.normal(size=n) + 0.5 * member
    heavy = np.sinh(3 * (rng.normal(size=n) + 1.5 * member))
    return np.stack([weak, heavy, rng.normal(size=n)], 1), member


def test_quantile_scaling_gives_normal_scores_of_the_fit_set():
    F, member = sample(50)
    F[:10, 0] = F[10, 0]  # ties share the mean of their ranks
    attack = fit_attack(F, member)
    for column in range(3):
        wanted = ndtri((rankdata(F[:, column]) - 0.5) / 50)
        np.testing.assert_allclose(attack.scaled(F)[:, column], wanted, rtol=1e-12, atol=1e-12)


def test_new_values_lie_between_their_neighbours_and_are_clipped():
    F = np.array([[0.0], [1.0], [10.0], [11.0]])
    attack = fit_attack(F, np.array([0, 0, 1, 1]))
    at = ndtri(np.array([0.5, 1.5, 2.5, 3.5]) / 4)
    got = attack.scaled(np.array([[-99.0], [0.0], [5.5], [1e300], [11.0]]))[:, 0]
    np.testing.assert_allclose(got, [at[0], at[0], 0, at[3], at[3]], atol=1e-15)


def test_a_constant_column_counts_for_nothing_wherever_it_goes():
    F, member = sample()
    F[:, 2] = 7.0
    for scaling in ("quantile_normal", "standard"):
        attack = fit_attack(F, member, names=["a", "b", "c"], scaling=scaling)
        assert attack.constant == ("c",)
        moved = F.copy()
        moved[:, 2] = np.arange(len(F))
        np.testing.assert_array_equal(attack.score(moved), attack.score(F))
        assert attack.coef[2] == 0


def test_scaling_is_fitted_on_the_fit_set_only():
    F, member = sample()
    attack = fit_attack(F, member)
    score = attack.score(F[:5])
    others = np.concatenate([F[:5], 1e6 * F[5:]])
    np.testing.assert_array_equal(attack.score(others)[:5], score)


def test_equals_scikit_learn_on_the_scaled_features():
    F, member = sample()
    for scaling in ("quantile_normal", "standard"):
        attack = fit_attack(F, member, scaling=scaling)
        Z = attack.scaled(F)
        theirs = LogisticRegression(C=0.1, tol=1e-10, solver="newton-cholesky").fit(Z, member)
        # the fit's gradient is at most 1e-6 * n * sqrt(4) in float32, curvature at least l2 = 10
        np.testing.assert_allclose(attack.coef, theirs.coef_[0], atol=1e-6 * 200 * 2 * 4 / 10)
        np.testing.assert_allclose(
            attack.score(F), theirs.decision_function(Z), atol=5 * 1e-6 * 200 * 2 * 4 / 10
        )


def test_score_is_higher_for_members_on_new_data_and_survives_heavy_tails():
    F, member = sample()
    fresh, truth = sample(400, seed=1)
    areas = {}
    for scaling in ("quantile_normal", "standard"):
        attack = fit_attack(F, member, scaling=scaling)
        areas[scaling] = stats.auroc(attack.score(fresh), truth)
    assert areas["quantile_normal"].low > 0.75
    assert areas["quantile_normal"].value >= areas["standard"].value


def test_order_of_examples_decides_nothing():
    F, member = sample(60)
    order = np.random.default_rng(1).permutation(60)
    a, b = fit_attack(F, member), fit_attack(F[order], member[order])
    np.testing.assert_allclose(a.coef, b.coef, atol=1e-5)  # float32 sums in another order
    np.testing.assert_array_equal(a.scaled(F), b.scaled(F))


def test_table_names_features_by_the_size_of_their_coefficients():
    F, member = sample()
    attack = fit_attack(-F, member, names=["weak", "strong", "noise"])
    rows = attack.table()
    assert rows[0].name == "strong"
    assert rows[0].coefficient == attack.coef[1] < 0
    assert [abs(r.coefficient) for r in rows] == sorted(np.abs(attack.coef), reverse=True)
    text = str(attack)
    assert text.index("strong") < text.index("weak")
    assert fit_attack(F, member).names == ("feature 0", "feature 1", "feature 2")


def test_no_scaling_is_the_features_themselves():
    F, member = sample()
    attack = fit_attack(F[:, [0, 2]], member, scaling="none")
    np.testing.assert_array_equal(attack.scaled(F[:, [0, 2]]), F[:, [0, 2]])
    assert attack.constant == ()


def test_groups_of_the_fit_set_are_refused_when_scoring():
    F, member = sample()
    attack = fit_attack(F[:100], member[:100], groups=np.arange(100) // 2)
    attack.score(F[100:], groups=np.arange(50, 150))
    with pytest.raises(ValueError, match="example 3 .* group 7"):
        attack.score(F[100:104], groups=np.array([99, 98, 97, 7]))
    with pytest.raises(ValueError, match="fitted without groups"):
        fit_attack(F, member).score(F, groups=np.arange(200))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"F": np.zeros(8)}, r"F has shape \[8\], expected \[n, d\]"),
        ({"F": np.zeros((8, 0))}, r"F has shape \[8, 0\]"),
        ({"F": np.where(np.arange(16).reshape(8, 2) == 5, np.nan, 1)}, "'b' is nan in row 2"),
        ({"F": np.where(np.arange(16).reshape(8, 2) == 4, -np.inf, 1)}, "'a' is -inf in row 2"),
        ({"member": np.ones(8)}, "8 members and 0 non-members, expected at least 2 of each"),
        ({"member": np.arange(8) == 0}, "1 members and 7 non-members"),
        ({"member": np.arange(8)}, "member is 2 at index 2"),
        ({"member": np.zeros(7)}, r"member has shape \[7\], expected \[8\]"),
        ({"names": ["a"]}, "1 names, expected 2"),
        ({"names": ["a", "a"]}, "'a' twice"),
        ({"scaling": "log"}, "scaling is 'log'"),
        ({"l2": 0.0}, "l2"),
        ({"groups": np.zeros(3, int)}, r"groups have shape \[3\], expected \[8\]"),
        ({"groups": np.zeros(8)}, "groups have dtype float64"),
    ],
)
def test_refusals(change, match):
    given = {"F": np.arange(16.0).reshape(8, 2), "member": np.arange(8) % 2, "names": ["a", "b"]}
    with pytest.raises(ValueError, match=match):
        fit_attack(**{**given, **change})


def test_score_refuses():
    F, member = sample()
    attack = fit_attack(F, member, names=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"F has shape \[200, 2\], expected \[n, 3\]"):
        attack.score(F[:, :2])
    F[4, 1] = np.inf
    with pytest.raises(ValueError, match="'b' is inf in row 4"):
        attack.score(F)


def test_a_fit_that_did_not_converge_is_refused():
    F, member = sample()
    with pytest.raises(ArithmeticError, match=r"scaling='quantile_normal'"):
        fit_attack(np.concatenate([F, 1e18 * F**9], 1), member, scaling="none")


def test_halves_are_disjoint_and_stratified():
    member = np.arange(101) < 31
    fit, test = halves(0, member)
    assert sorted([*fit, *test]) == list(range(101))
    assert abs(member[fit].sum() - member[test].sum()) <= 1
    assert abs(len(fit) - len(test)) <= 1
    assert all(np.array_equal(a, b) for a, b in zip(halves(0, member), (fit, test)))
    assert not np.array_equal(halves(1, member)[0], fit)


def test_halves_keep_groups_on_one_side():
    rng = np.random.default_rng(0)
    groups, member = rng.integers(0, 40, 200), rng.random(200) < 0.5
    fit, test = halves(3, member, groups)
    assert not set(groups[fit]) & set(groups[test])
    # each side is behind by at most one group when the next one comes
    largest = np.bincount(groups).max()
    assert abs(len(fit) - len(test)) <= largest
    assert abs(member[fit].mean() - member[test].mean()) < 0.15


@pytest.mark.parametrize(
    ("member", "groups", "match"),
    [
        (np.array([1, 1, 1, 0]), None, "3 members and 1 non-members"),
        (np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1]), "cannot be split"),
        (np.array([1, 0]), None, "at least 2 of each"),
    ],
)
def test_halves_refuse(member, groups, match):
    with pytest.raises(ValueError, match=match):
        halves(0, member, groups)


def test_stacked_scores_are_the_columns():
    F, names = stacked({"loss": [1.0, 2], "zlib": np.array([3, 4])})
    assert F.tolist() == [[1, 3], [2, 4]]
    assert names == ("loss", "zlib")
    with pytest.raises(ValueError, match=r"'b' has shape \[3\], expected \[2\]"):
        stacked({"a": [1, 2], "b": [1, 2, 3]})
    with pytest.raises(ValueError, match="no scores"):
        stacked({})
