"""Cross-covariances of two sites, and a covariance too large to keep, by its range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from activjax.stats._accumulator import EVERY, Accumulator, Rows, channels, sums_dtype, table
from activjax.stats._count import Count
from activjax.stats._moments import centre, shift
from activjax.stats._sums import Sum


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cross:
    """Cross moments of two vectors a row.

    Attributes:
      n: rows counted.
      mean_x, mean_y: `[dx]`, `[dy]`.
      variance_sum_x, variance_sum_y: `[dx]`, `[dy]`, sums of squared deviations.
      scatter: `[dx, dy]`, sums of products of deviations.
    """

    n: Count
    mean_x: Float[Array, "dx"]
    mean_y: Float[Array, "dy"]
    variance_sum_x: Float[Array, "dx"]
    variance_sum_y: Float[Array, "dy"]
    scatter: Float[Array, "dx dy"]

    def covariance(self, ddof: int = 1) -> Float[Array, "dx dy"]:
        """Cross-covariances with divisor `n - ddof`; NaN where that is not positive."""
        free = self.n.to(self.scatter.dtype) - ddof
        return self.scatter / jnp.where(free > 0, free, jnp.nan)[..., None, None]

    def correlation(self) -> Float[Array, "dx dy"]:
        """Correlations; NaN beside a constant channel."""
        scale_x, scale_y = jnp.sqrt(self.variance_sum_x), jnp.sqrt(self.variance_sum_y)
        return self.scatter / (scale_x[..., :, None] * scale_y[..., None, :])


class _State(NamedTuple):
    n: Count
    mean_x: Sum
    mean_y: Sum
    squares_x: Sum
    squares_y: Sum
    scatter: Sum


def cross() -> Accumulator:
    """Centred cross products of two sites: values are pairs `(x, y)`, `[rows, dx]`, `[rows, dy]`.

    Batches are merged as in `moments`.

    Returns:
      An accumulator whose result is `Cross`. A NaN or an infinity in a channel of a row that
      counts makes that channel's entries NaN.
    """
    return Accumulator(_init, _update, _merge, _finish)


def _init(like: Any) -> _State:
    like_x, like_y = _pair(like)
    (dx, type_x), (dy, type_y) = channels("cross", like_x), channels("cross", like_y)
    dtype = sums_dtype(type_x, type_y)
    sizes = ((dx,), (dy,), (dx,), (dy,), (dx, dy))
    return _State(Count.zeros(), *(Sum.zeros(size, dtype) for size in sizes))


def _pair(x: Any) -> Any:
    if not isinstance(x, (tuple, list)) or len(x) != 2:
        raise ValueError("cross: expected a pair of values (x, y)")
    return x


def _update(state: _State, x: Any, rows: Rows = EVERY) -> _State:
    x, y = _pair(x)
    t, u = table("cross x", x, rows), table("cross y", y, rows)
    if t.x.shape[0] != u.x.shape[0]:
        raise ValueError(
            f"cross: x has {t.x.shape[0]} rows and y {u.x.shape[0]}, expected as many of each"
        )
    dtype = state.scatter.high.dtype
    n, mean_x, left_x = centre(t.x.astype(dtype), t.mask)
    _, mean_y, left_y = centre(u.x.astype(dtype), u.mask)
    parts = (
        jnp.sum(jnp.square(left_x), axis=0),
        jnp.sum(jnp.square(left_y), axis=0),
        jnp.matmul(left_x.T, left_y, precision="highest"),
    )
    squares_x, squares_y, scatter = (Sum(p, 0 * p) for p in parts)
    found = _State(Count.zeros().add(n), mean_x, mean_y, squares_x, squares_y, scatter)
    return _merge(state, found)


def _merge(a: _State, b: _State) -> _State:
    share, weight = shift(a.n, b.n, a.scatter.high.dtype)

    def delta(a: Sum, b: Sum) -> Array:
        return (b.high - a.high) + (b.low - a.low)

    dx, dy = delta(a.mean_x, b.mean_x), delta(a.mean_y, b.mean_y)
    # An empty side adds nothing, however far its mean of 0 is.
    far_x, far_y = jnp.where(weight > 0, dx, 0), jnp.where(weight > 0, dy, 0)
    return _State(
        a.n + b.n,
        a.mean_x.add(dx * share),
        a.mean_y.add(dy * share),
        a.squares_x.join(b.squares_x).add(far_x * (far_x * weight)),
        a.squares_y.join(b.squares_y).add(far_y * (far_y * weight)),
        a.scatter.join(b.scatter).add(far_x[:, None] * (far_y[None, :] * weight)),
    )


def _finish(state: _State) -> Cross:
    n, *sums = state
    return Cross(n, *(s.value for s in sums))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RangeSketch:
    """A covariance of many channels, known through its product with a thin random matrix.

    Attributes:
      n: rows counted.
      mean: `[d]`.
      eigenvalues: `[k]`, decreasing: those of the best-known part of the covariance (divisor
        `n - 1`; all 0 for fewer than two rows). None exceeds the true one of its rank, but for
        rounding.
      eigenvectors: `[d, k]`, orthonormal columns.
      trace: the trace of the covariance, exact but for rounding.
    """

    n: Count
    mean: Float[Array, "d"]
    eigenvalues: Float[Array, "k"]
    eigenvectors: Float[Array, "d k"]
    trace: Float[Array, ""]

    @property
    def missing(self) -> Float[Array, ""]:
        """The variance that the sketch has lost: the nuclear norm of the error, exactly."""
        return self.trace - jnp.sum(self.eigenvalues, axis=-1)


def range_sketch(key: Key[Array, ""], k: int) -> Accumulator:
    """The leading part of a covariance in `d * k` numbers, where `d * d` are too many.

    Keeps `C Omega` for a fixed Gaussian `Omega` `[d, k]` and ends with the Nystrom approximation
    `C Omega (Omega^T C Omega)^+ Omega^T C`, which never exceeds `C` (Tropp, Yurtsever, Udell and
    Cevher, "Fixed-rank approximation of a positive-semidefinite matrix from streaming data",
    2017, algorithm 3). Ask for some more directions than are wanted: the last ones are poor.

    Args:
      key: draws `Omega`; states to be merged need the same.
      k: directions, at most `d`.

    Returns:
      An accumulator whose result is `RangeSketch`.

    Raises:
      ValueError: `k < 1`, or on `init`, `k > d`.
    """
    if k < 1:
        raise ValueError(f"range_sketch: k is {k}, expected at least 1")

    def directions(d: int, dtype: Any) -> Array:
        # Orthonormal columns: the same range, better conditioned.
        return jnp.linalg.qr(jax.random.normal(key, (d, k), dtype))[0]

    def project(x: Any, rows: Rows) -> tuple[Array, Array]:
        t = table("range_sketch", x, rows)
        x = x.astype(channels("range_sketch", x)[1])
        masked = jnp.where(t.mask.reshape(*x.shape[:-1], 1), x, 0)
        omega = directions(x.shape[-1], x.dtype)
        return x, jnp.matmul(masked, omega, precision="highest")

    def init(like: Any) -> _State:
        d, dtype = channels("range_sketch", like)
        if k > d:
            raise ValueError(f"range_sketch: k is {k}, expected at most the {d} channels")
        shapes = jax.ShapeDtypeStruct((1, d), dtype), jax.ShapeDtypeStruct((1, k), dtype)
        return _init(shapes)

    def update(state: _State, x: Any, rows: Rows = EVERY) -> _State:
        return _update(state, project(jnp.asarray(x), rows), rows)

    def finish(state: _State) -> RangeSketch:
        found = _finish(state)
        free = jnp.maximum(found.n.to(found.scatter.dtype) - 1, 1)
        d, dtype = found.scatter.shape[0], found.scatter.dtype
        values, vectors = _nystrom(found.scatter / free, directions(d, dtype))
        trace = jnp.sum(found.variance_sum_x) / free
        return RangeSketch(found.n, found.mean_x, values, vectors, trace)

    return Accumulator(init, update, _merge, finish)


def _nystrom(sketch: Array, omega: Array) -> tuple[Array, Array]:
    """Eigenvalues and eigenvectors of the Nystrom approximation, with its stabilising shift."""
    d = sketch.shape[0]
    eps = jnp.asarray(jnp.finfo(sketch.dtype).eps, sketch.dtype)
    nu = jnp.sqrt(jnp.asarray(d, sketch.dtype)) * eps * jnp.linalg.norm(sketch)
    shifted = sketch + nu * omega
    core = jnp.matmul(omega.T, shifted, precision="highest")
    values, vectors = jnp.linalg.eigh((core + core.T) / 2)
    # A direction of no variance has a value of rounding only: it adds nothing.
    good = values > d * eps * jnp.max(values)
    root = jnp.where(good, 1 / jnp.sqrt(jnp.where(good, values, 1)), 0)
    half = jnp.matmul(shifted, vectors * root, precision="highest")
    left, singular, _ = jnp.linalg.svd(half, full_matrices=False)
    return jnp.maximum(jnp.square(singular) - nu, 0), left
