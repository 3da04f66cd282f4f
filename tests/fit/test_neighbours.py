import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from activjax.fit import knn, pairwise_sq_euclidean

EPS = 2.0**-24  # float32 unit roundoff


def test_knn_by_hand():
    distances = jnp.array([[3, 1, 2, 9], [0, 5, 5, 5], [7, 7, 7, 7]])
    labels = jnp.array([2, 1, 1, 0])
    assert knn(distances, labels, 1, n_classes=3).tolist() == [1, 2, 2]  # equals: lower index
    assert knn(distances, labels, 3, n_classes=3).tolist() == [1, 1, 1]
    assert knn(distances, labels, 2, n_classes=3).tolist() == [1, 1, 1]  # equal votes: lower label
    assert knn(distances, labels, 4, n_classes=3).tolist() == [1, 1, 1]


@settings(max_examples=25, deadline=None)
@given(k=st.sampled_from([1, 3, 6]), seed=st.integers(0, 999), floating=st.booleans())
def test_knn_equals_a_stable_sort_and_a_count(k, seed, floating):
    rng = np.random.default_rng(seed)
    distances = rng.integers(0, 4, (5, 6)).astype(np.float32 if floating else np.int32)
    labels = rng.integers(0, 3, 6)
    expected = [
        np.bincount(labels[np.argsort(row, kind="stable")[:k]], minlength=3).argmax()
        for row in distances
    ]
    assert knn(distances, labels, k, n_classes=3).tolist() == expected


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.integers(-(2**31), 2**31 - 1)
        | st.integers(-5, 5)
        | st.sampled_from([2**24, 2**24 + 1, 2**31 - 2**24, -(2**31), 2**31 - 1]),
        min_size=8, max_size=8,
    )
)  # fmt: skip
def test_knn_of_any_integers(values):
    far = 2**31 - 2**24
    distances = np.array([values], np.int64)
    expected = int(np.argsort(np.clip(distances, -far, far)[0], kind="stable")[0])
    labels = np.arange(8)
    assert knn(distances.astype(np.int32), labels, 1, n_classes=8).tolist() == [expected]


@pytest.mark.parametrize("metric", ["hamming", "sqeuclidean"])
def test_knn_equals_scikit_learns_where_its_tie_order_is_defined(metric):
    X, y = load_digits(return_X_y=True)
    if metric == "hamming":
        X = (X - 5) @ np.random.default_rng(0).normal(size=(64, 800)) > 0  # wide: few ties
        distances = (X[1200:, None] != X[None, :1200]).sum(-1).astype(np.int32)
    else:
        distances = pairwise_sq_euclidean(X[1200:], X[:1200])
    for k in (1, 5):
        theirs = KNeighborsClassifier(k, metric=metric, algorithm="brute")
        theirs.fit(X[:1200].astype(float), y[:1200])
        ordered = np.sort(distances, axis=1)
        defined = ordered[:, k - 1] < ordered[:, k]  # else which neighbours count is left open
        assert defined.mean() > 0.5
        predicted = knn(distances, y[:1200], k, n_classes=10)
        np.testing.assert_array_equal(
            np.asarray(predicted)[defined], theirs.predict(X[1200:].astype(float))[defined]
        )


def test_a_neighbour_at_nan_is_no_neighbour():
    nan = np.nan
    distances = np.array([[nan, 1, 2], [nan, nan, 5], [nan, nan, nan]], np.float32)
    labels = np.array([0, 1, 1])
    assert knn(distances, labels, 1, n_classes=2).tolist() == [1, 1, -1]
    assert knn(distances, labels, 2, n_classes=2).tolist() == [1, -1, -1]


def test_distances_of_integers_are_exact_and_equal_rows_are_at_zero():
    X, _ = load_digits(return_X_y=True)
    X = X[:60].astype(np.int32)
    expected = ((X[:, None] - X[None]) ** 2).sum(-1)
    np.testing.assert_array_equal(pairwise_sq_euclidean(X), expected)
    far = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32) + np.float32(1e4)
    assert np.diag(pairwise_sq_euclidean(far)).tolist() == [0.0] * 5


def test_distances_are_relatively_accurate():
    rng = np.random.default_rng(0)
    X, Y = (rng.normal(size=(7, 40)).astype(np.float32) + np.float32(100) for _ in range(2))
    expected = ((X[:, None].astype(float) - Y[None].astype(float)) ** 2).sum(-1)
    # a subtraction, a square (which doubles its error) and at most d - 1 additions
    np.testing.assert_allclose(pairwise_sq_euclidean(X, Y), expected, rtol=(40 + 2) * EPS)


def test_dtypes():
    X = np.ones((2, 3))
    assert pairwise_sq_euclidean(X).dtype == jnp.float32
    assert pairwise_sq_euclidean(X.astype(bool)).dtype == jnp.float32
    assert pairwise_sq_euclidean(jnp.ones((2, 3), jnp.bfloat16)).dtype == jnp.float32
    with jax.enable_x64(True):
        assert pairwise_sq_euclidean(X).dtype == jnp.float64
        assert pairwise_sq_euclidean(X.astype(np.float32)).dtype == jnp.float32
        labels = np.array([0, 1])
        assert knn(pairwise_sq_euclidean(X), labels, 1, n_classes=2).dtype == jnp.int32


def test_vmap_equals_a_loop():
    distances = np.random.default_rng(0).random((3, 4, 6)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 3, (3, 6))
    mapped = jax.vmap(lambda d, y: knn(d, y, 3, n_classes=3))(distances, labels)
    looped = [knn(d, y, 3, n_classes=3) for d, y in zip(distances, labels)]
    np.testing.assert_array_equal(mapped, jnp.stack(looped))


def test_second_call_does_not_recompile(compilations):
    distances = np.random.default_rng(0).random((2, 4, 6)).astype(np.float32)
    knn(distances[0], np.arange(6) % 2, 3, n_classes=2)
    pairwise_sq_euclidean(distances[0])
    with compilations() as seen:
        knn(distances[1], np.arange(6) % 2, 3, n_classes=2)
        pairwise_sq_euclidean(distances[1])
    assert not seen


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"distances": np.zeros(3)}, r"expected \[m, n\]"),
        ({"distances": np.zeros((2, 0))}, "n >= 1"),
        ({"distances": np.zeros((2, 3), np.uint32)}, "signed or float"),
        ({"labels": np.zeros(4, int)}, r"shape \(4,\), expected \[3\]"),
        ({"labels": np.array([0, 1, 2])}, r"run from 0 to 2, expected 0 .. 1"),
        ({"labels": np.zeros(3)}, "expected integers"),
        ({"k": 4}, r"k is 4, expected 1 .. 3"),
        ({"k": 0}, r"k is 0"),
    ],
)
def test_refusals(change, match):
    args = {"distances": np.zeros((2, 3)), "labels": np.array([0, 1, 1]), "k": 1} | change
    with pytest.raises(ValueError, match=match):
        knn(args["distances"], args["labels"], args["k"], n_classes=2)
    with pytest.raises(ValueError, match="3 features and Y has 2"):
        pairwise_sq_euclidean(np.ones((2, 3)), np.ones((2, 2)))


def test_distances_of_mixed_floats():
    with jax.enable_x64(True):
        X, Y = jnp.ones((2, 3), jnp.float32), jnp.zeros((4, 3), jnp.float64)
        found = pairwise_sq_euclidean(X, Y)
        assert (found.dtype, found.shape) == (jnp.float64, (2, 4))
