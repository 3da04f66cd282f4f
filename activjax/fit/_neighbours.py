"""k nearest neighbours, from distances of any kind."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Int32, Real

from activjax.fit import _check

_FEATURES_PER_STEP = 8  # one pass over the distances serves this many features


def knn(
    distances: Real[Array, "m n"], labels: Int[Array, "n"], k: int, *, n_classes: int
) -> Int32[Array, "m"]:
    """Classifies by the majority of the `k` nearest neighbours.

    Equal distances: the lower index is the nearer. Equal votes: the lower label wins. Both hold
    exactly, on every platform (integers beyond 2^31 - 2^24 count as equally far). Where neither
    tie decides, this equals scikit-learn's `KNeighborsClassifier(algorithm="brute")`, whose order
    among equal distances is undefined.

    Args:
        distances: from every test example (row) to every training example, integer or floating,
            as from `patterns.hamming(test, train)` or `pairwise_sq_euclidean(test, train)`. Any
            increasing function of the distance will do.
        labels: of the training examples, `0 .. n_classes - 1`. Those traced under `jit` cannot
            be checked; one out of range has no vote.
        k: number of neighbours, `1 <= k <= n`; static.
        n_classes: static.

    Returns:
        Predicted labels; **-1** where one of the neighbours is at distance NaN (a NaN counts as
        farther than everything else, so that fewer than `k` distances of the row are numbers).

    Raises:
        ValueError: wrong shapes, no training example, `k` or labels out of range.
    """
    distances = jnp.asarray(distances)
    if distances.ndim != 2 or distances.shape[1] == 0:
        raise ValueError(
            f"knn: distances have shape {distances.shape}, expected [m, n], a row for each test "
            "example and a column for each of n >= 1 training examples"
        )
    if not (
        jnp.issubdtype(distances.dtype, jnp.floating)
        or jnp.issubdtype(distances.dtype, jnp.signedinteger)
    ):
        raise ValueError(f"knn: distances have dtype {distances.dtype}, expected signed or float")
    n = distances.shape[1]
    labels = _check.labels(labels, n, n_classes, "knn: labels")
    k = _check.between(k, 1, n, "knn: k", "the number of training examples")
    return _knn(distances, labels, k, n_classes)


@partial(jax.jit, static_argnums=(2, 3))
def _knn(distances: Array, labels: Array, k: int, n_classes: int) -> Array:
    floating = jnp.issubdtype(distances.dtype, jnp.floating)
    nearness = -(distances if floating else _in_order(distances))
    if floating:  # top_k would put a NaN first
        nearness = jnp.where(jnp.isnan(nearness), -jnp.inf, nearness)
    _, nearest = jax.lax.top_k(nearness, k)  # equals: the lower index first
    votes = jnp.sum(jax.nn.one_hot(labels[nearest], n_classes, dtype=jnp.int32), axis=1)
    predicted = jnp.argmax(votes, axis=-1).astype(jnp.int32)  # equals: the lower label
    if not floating:
        return predicted
    chosen = jnp.take_along_axis(distances, nearest, axis=1)
    return jnp.where(jnp.any(jnp.isnan(chosen), axis=1), jnp.int32(-1), predicted)


def _in_order(x: Array) -> Array:
    """Floats in the order of the integers: on CPU XLA finds the largest of floats 40 times faster.

    The bits of positive floats are in the order of the floats; those of subnormal ones, which a
    processor may take for zero, are left out.
    """
    if x.dtype != jnp.int32:
        return x.astype(jnp.float32) if x.dtype.itemsize < 4 else x
    first, infinite = jnp.int32(0x00800000), jnp.int32(0x7F800000)
    size = jnp.abs(jnp.maximum(x, -jnp.iinfo(jnp.int32).max))  # the least integer has no opposite
    size = jnp.minimum(size, infinite - first)
    value = jax.lax.bitcast_convert_type(size + first, jnp.float32)
    return jnp.where(x < 0, -value, value)


def pairwise_sq_euclidean(X: Any, Y: Any = None) -> Float[Array, "n m"]:
    """Squared Euclidean distances between the rows of `X` and the rows of `Y`.

    By differences and not by `|x|^2 - 2 x.y + |y|^2`, which cancels: equal rows are at distance
    exactly 0, integer-valued features give exact integers (below 2^24 in float32), and every
    distance is within `(d + 2) 2^-24` of itself (float32). Memory is that of the result.

    Args:
        X: `[n, d]`.
        Y: `[m, d]`; `X` itself if left out.

    Returns:
        `[n, m]`, in the wider of the two dtypes, at least float32. A NaN in a row makes all its
        distances NaN.

    Raises:
        ValueError: wrong shapes, or nothing to compare.
    """
    X = _check.matrix(X, "pairwise_sq_euclidean: X")
    Y = X if Y is None else _check.matrix(Y, "pairwise_sq_euclidean: Y")
    if X.shape[1] != Y.shape[1]:
        raise ValueError(
            f"pairwise_sq_euclidean: X has {X.shape[1]} features and Y has {Y.shape[1]}"
        )
    dtype = X.dtype if X.dtype.itemsize >= Y.dtype.itemsize else Y.dtype
    return _pairwise_sq_euclidean(X.astype(dtype), Y.astype(dtype))


@jax.jit
def _pairwise_sq_euclidean(X: Array, Y: Array) -> Array:
    def add_feature(total: Array, feature: tuple[Array, Array]) -> tuple[Array, None]:
        return total + jnp.square(feature[0][:, None] - feature[1][None, :]), None

    start = jnp.zeros((X.shape[0], Y.shape[0]), X.dtype)
    return jax.lax.scan(add_feature, start, (X.T, Y.T), unroll=_FEATURES_PER_STEP)[0]
