"""k-means clustering, and classifying by clusters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int32, Key

from activjax.fit import _check
from activjax.fit._check import dot


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class KMeans:
    """A clustering.

    Attributes:
        centers: `[k, d]`.
        labels: `[n]`, the nearest centre of every example; of equals the lowest.
        inertia: sum of squared distances to the nearest centres, in squared units of `X`.
        n_iter: Lloyd iterations of the run that was kept.
        converged: whether that run ended before `max_iter`.
    """

    centers: Float[Array, "k d"]
    labels: Int32[Array, "n"]
    inertia: Float[Array, ""]
    n_iter: Int32[Array, ""]
    converged: Bool[Array, ""]

    def predict(self, X: Any) -> Int32[Array, "m"]:
        """The nearest centre of every row of `X`, `[m, d]`; -1 for a row with a NaN."""
        X = _check.features(X, self.centers.shape[1], self.centers, "KMeans.predict: X")
        offset = jnp.mean(self.centers, axis=0)
        nearest = _nearest(X - offset, self.centers - offset)
        bad = jnp.any(jnp.isnan(X), axis=1) | jnp.any(jnp.isnan(self.centers))
        return jnp.where(bad, jnp.int32(-1), nearest)


def kmeans(
    key: Key[Array, ""] | None,
    X: Any,
    k: int,
    *,
    init: Any = None,
    n_init: int = 10,
    max_iter: int = 300,
    tol: float = 1e-4,
) -> KMeans:
    """Lloyd's algorithm from greedy k-means++ starts; the run of least inertia is kept.

    Steps, stopping rule and the treatment of empty clusters are scikit-learn's, so that from the
    same start this equals `KMeans(k, init=init, n_init=1, algorithm="lloyd")`. Starts follow
    Arthur and Vassilvitskii (2007) with `2 + floor(log k)` candidates for every centre, as there.

    Args:
        key: draws the starts; may be None where `init` is given.
        X: `[n, d]`.
        k: number of clusters, `1 <= k <= n`; static.
        init: the start, `[k, d]`, of a single run.
        n_init: number of starts, run one after another; static.
        max_iter: most iterations of a run; static.
        tol: a run ends when no label changes, or when the centres' squared moves add up to at
            most `tol` times the mean variance of the features.

    Returns:
        KMeans, in the dtype of `X`. An empty cluster is given the example farthest from its
        centre (the next empty one the second farthest, and so on); one that is still empty keeps
        its centre, as where there are fewer than `k` different examples. If `X` has a NaN or an
        infinity, centres and inertia are NaN, labels -1, and `converged` is false.

    Raises:
        ValueError: wrong shapes, no examples, `k` out of range, or neither `key` nor `init`.
    """
    X = _check.matrix(X, "kmeans: X")
    k = _check.between(k, 1, X.shape[0], "kmeans: k", "the number of examples")
    if min(n_init, max_iter) < 1:
        raise ValueError(f"kmeans: n_init {n_init}, max_iter {max_iter}, expected at least 1")
    tol_ = jnp.asarray(tol, X.dtype)
    if init is not None:
        init = jnp.asarray(init).astype(X.dtype)
        if init.shape != (k, X.shape[1]):
            raise ValueError(f"kmeans: init has shape {init.shape}, expected {(k, X.shape[1])}")
        return _from_init(X, init, tol_, max_iter)
    if key is None:
        raise ValueError("kmeans: give a key for the starts, or the start itself as init=")
    return _from_key(key, X, tol_, k, n_init, max_iter)


@partial(jax.jit, static_argnums=3)
def _from_init(X: Array, init: Array, tol: Array, max_iter: int) -> KMeans:
    mean = jnp.mean(X, axis=0)
    return _finish(_lloyd(X - mean, init - mean, tol, max_iter), X, mean)


@partial(jax.jit, static_argnums=(3, 4, 5))
def _from_key(key: Array, X: Array, tol: Array, k: int, n_init: int, max_iter: int) -> KMeans:
    mean = jnp.mean(X, axis=0)
    centred = X - mean

    def run(key: Array) -> KMeans:
        return _lloyd(centred, _plus_plus(key, centred, k), tol, max_iter)

    runs = jax.lax.map(run, jax.random.split(key, n_init))
    best = jnp.argmin(runs.inertia)
    return _finish(jax.tree.map(lambda x: x[best], runs), X, mean)


def _finish(fit: KMeans, X: Array, mean: Array) -> KMeans:
    """Moves the centres back, and lets no number pass for an answer if the input was not finite."""
    good = jnp.all(jnp.isfinite(X))
    return KMeans(
        centers=jnp.where(good, fit.centers + mean, jnp.nan),
        labels=jnp.where(good, fit.labels, jnp.int32(-1)),
        inertia=jnp.where(good, fit.inertia, jnp.nan),
        n_iter=fit.n_iter,
        converged=fit.converged & good,
    )


class _State(NamedTuple):
    centers: Array
    labels: Array
    n_iter: Array
    done: Array


def _lloyd(X: Array, centers: Array, tol: Array, max_iter: int) -> KMeans:
    limit = tol * jnp.mean(jnp.var(X, axis=0))

    def unfinished(state: _State) -> Array:
        return ~state.done & (state.n_iter < max_iter)

    def iterate(state: _State) -> _State:
        labels = _nearest(X, state.centers)
        centers = _means(X, labels, state.centers)
        moved = jnp.sum(jnp.square(centers - state.centers))
        done = jnp.all(labels == state.labels) | (moved <= limit)
        return _State(centers, labels, state.n_iter + 1, done)

    nowhere = jnp.full(X.shape[0], -1, jnp.int32)
    start = _State(centers, nowhere, jnp.int32(0), jnp.bool_(False))
    end = jax.lax.while_loop(unfinished, iterate, start)
    labels = _nearest(X, end.centers)
    inertia = jnp.sum(jnp.square(X - end.centers[labels]))
    return KMeans(end.centers, labels, inertia, end.n_iter, end.done)


def _nearest(X: Array, centers: Array) -> Int32[Array, "n"]:
    scores = jnp.sum(jnp.square(centers), axis=1) - 2 * dot(X, centers.T)
    return jnp.argmin(scores, axis=1).astype(jnp.int32)


def _means(X: Array, labels: Array, centers: Array) -> Array:
    """The clusters' means, after giving empty clusters the farthest examples."""
    k = centers.shape[0]

    def members(labels: Array) -> Array:
        return jax.nn.one_hot(labels, k, dtype=X.dtype)

    def fill(labels: Array) -> Array:
        distances = jnp.sum(jnp.square(X - centers[labels]), axis=1)
        _, farthest = jax.lax.top_k(distances, k)
        empty = jnp.sum(members(labels), axis=0) == 0
        (clusters,) = jnp.nonzero(empty, size=k, fill_value=k)
        clusters = clusters.astype(jnp.int32)
        return labels.at[farthest].set(jnp.where(clusters < k, clusters, labels[farthest]))

    some_empty = jnp.any(jnp.sum(members(labels), axis=0) == 0)
    member = members(jax.lax.cond(some_empty, fill, lambda labels: labels, labels))
    sizes = jnp.sum(member, axis=0)[:, None]
    return jnp.where(sizes > 0, dot(member.T, X) / jnp.maximum(sizes, 1), centers)


def _plus_plus(key: Array, X: Array, k: int) -> Array:
    """Greedy k-means++: each centre the best of a few, drawn by squared distance."""
    candidates = 2 + int(math.log(k))
    key, first = jax.random.split(key)
    start = X[jax.random.randint(first, (), 0, X.shape[0])]

    def distances(point: Array) -> Array:
        return jnp.sum(jnp.square(X - point), axis=1)

    def add(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        centers, closest = state
        drawn = jax.random.categorical(
            jax.random.fold_in(key, i), jnp.log(closest), shape=(candidates,)
        )
        closer = jnp.minimum(closest, jax.lax.map(distances, X[drawn]))
        best = jnp.argmin(jnp.sum(closer, axis=1))
        return centers.at[i].set(X[drawn[best]]), closer[best]

    centers = jnp.zeros((k, X.shape[1]), X.dtype).at[0].set(start)
    return jax.lax.fori_loop(1, k, add, (centers, distances(start)))[0]


def majority_vote(
    clusters: Int[Array, "n"], labels: Int[Array, "n"], *, n_clusters: int, n_classes: int
) -> Int32[Array, "n_clusters"]:
    """The commonest label in every cluster, which makes a clustering a classifier.

    With `vote = majority_vote(fit.labels, y, ...)` the predictions are `vote[fit.predict(X)]`.

    Args:
        clusters: of the training examples, `0 .. n_clusters - 1`.
        labels: of the same examples, `0 .. n_classes - 1`.
        n_clusters: static.
        n_classes: static.

    Returns:
        A label for every cluster: of equally common ones the lowest; for a cluster without
        examples the commonest label of all.

    Raises:
        ValueError: wrong shapes, no examples, or entries out of range (where they are known).
    """
    n = jnp.shape(labels)[0] if jnp.ndim(labels) else 0
    if n == 0:
        raise ValueError(
            f"majority_vote: labels have shape {jnp.shape(labels)}, expected [n], n >= 1"
        )
    clusters = _check.labels(clusters, n, n_clusters, "majority_vote: clusters")
    labels = _check.labels(labels, n, n_classes, "majority_vote: labels")
    return _majority_vote(clusters, labels, n_clusters, n_classes)


@partial(jax.jit, static_argnums=(2, 3))
def _majority_vote(clusters: Array, labels: Array, n_clusters: int, n_classes: int) -> Array:
    counts = jnp.zeros((n_clusters, n_classes), jnp.int32).at[clusters, labels].add(1)
    overall = jnp.argmax(jnp.sum(counts, axis=0))
    own = jnp.argmax(counts, axis=1)
    return jnp.where(jnp.sum(counts, axis=1) > 0, own, overall).astype(jnp.int32)
