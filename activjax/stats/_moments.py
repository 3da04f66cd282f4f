"""Means, variances and covariances of a stream, by Chan's merge."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from activjax.stats._accumulator import EVERY, Accumulator, Rows, channels, table
from activjax.stats._blocks import fold
from activjax.stats._count import Count, total
from activjax.stats._sums import Sum, two_sum


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Moments:
    """First and second moments; `*labels` is `[labels]` where they were asked for by label.

    Attributes:
      n: rows counted, `[*labels]`.
      skipped: rows that the mask kept but whose label is none, a number.
      mean: `[*labels, d]`; 0 where there are no rows.
      scatter: sums of products of deviations from the mean, `[*labels, d, d]`; of squares of
        deviations, `[*labels, d]`, where only the diagonal was asked for.
    """

    n: Count
    skipped: Count
    mean: Float[Array, "*labels d"]
    scatter: Float[Array, "*labels d *d"]
    by_label: bool = field(metadata={"static": True}, default=False)

    @property
    def full(self) -> bool:
        """Whether the covariances between channels are known."""
        return self.scatter.ndim > self.mean.ndim

    def covariance(self, ddof: int = 1) -> Float[Array, "*labels d d"]:
        """Covariances with divisor `n - ddof`; NaN where that is not positive."""
        if not self.full:
            raise ValueError('covariance: only the diagonal was kept; use moments("full")')
        return _divide(self.scatter, self.n, ddof, 2)

    def variance(self, ddof: int = 1) -> Float[Array, "*labels d"]:
        """Variances with divisor `n - ddof`; NaN where that is not positive."""
        squares = self.scatter
        if self.full:
            squares = jnp.diagonal(squares, axis1=-2, axis2=-1)
        return _divide(squares, self.n, ddof, 1)

    def correlation(self) -> Float[Array, "*labels d d"]:
        """Correlations; NaN beside a constant channel."""
        covariance = self.covariance(0)
        scale = jnp.sqrt(jnp.diagonal(covariance, axis1=-2, axis2=-1))
        return covariance / (scale[..., :, None] * scale[..., None, :])

    def pooled(self) -> Moments:
        """All labels together.

        Raises:
          ValueError: they were not kept apart.
        """
        if not self.by_label:
            raise ValueError("pooled: labels were not kept apart; use moments(labels=...)")
        state = _State(self.n, Sum(self.mean, 0 * self.mean), Sum(self.scatter, 0 * self.scatter))
        # Labels lie behind the loops, of which there may be any number.
        axis = self.mean.ndim - 2
        first = jax.tree.map(lambda a: jnp.moveaxis(a, axis, 0), state)
        merge = partial(_merge, self.full)
        for _ in range(axis):
            merge = jax.vmap(merge)
        one = jax.tree.map(lambda a: a[0], first)
        for i in range(1, self.mean.shape[axis]):
            one = merge(one, jax.tree.map(lambda a, i=i: a[i], first))
        return Moments(one.n, self.skipped, one.mean.value, one.scatter.value)

    def within(self) -> Moments:
        """The scatter around the means of the labels (its mean is that of all rows)."""
        pooled = self.pooled()
        scatter = self.scatter.sum(self.mean.ndim - 2)
        return Moments(pooled.n, self.skipped, pooled.mean, scatter)


def _divide(scatter: Array, n: Count, ddof: int, axes: int) -> Array:
    free = n.to(scatter.dtype) - ddof
    free = jnp.where(free > 0, free, jnp.nan)
    return scatter / free.reshape(free.shape + (1,) * axes)


class _State(NamedTuple):
    n: Count
    mean: Sum
    scatter: Sum


def moments(
    kind: Literal["diagonal", "full"] = "diagonal", *, labels: int | None = None
) -> Accumulator:
    """Means with variances ("diagonal") or covariances ("full") of every channel.

    The deviations of each batch are taken from its own mean and merged by Chan, Golub and LeVeque
    ("Updating formulae and a pairwise algorithm for computing sample variances", 1979), with
    compensated sums: large means and long streams cost no accuracy.

    Args:
      kind: "full" keeps `[d, d]` and costs one Gram matrix a batch.
      labels: keep each of this many labels apart (`rows.labels`); "full" then costs as many Gram
        matrices a batch.

    Returns:
      An accumulator whose result is `Moments`. A NaN or an infinity in a channel of a row that
      counts makes that channel's entries NaN (by label and "diagonal", those of every label).
      Sums are kept in float32, in float64 for float64, and under 64-bit mode for wide integers.

    Raises:
      ValueError: another kind, or fewer than one label.
    """
    if kind not in ("diagonal", "full"):
        raise ValueError(f'moments: kind is {kind!r}, expected "diagonal" or "full"')
    if labels is not None and labels < 1:
        raise ValueError(f"moments: labels is {labels}, expected at least 1")
    full, lead = kind == "full", () if labels is None else (labels,)

    def init(like: Any) -> tuple[_State, Count]:
        d, dtype = channels("moments", like)
        square = (*lead, d, d) if full else (*lead, d)
        state = _State(Count.zeros(lead), Sum.zeros((*lead, d), dtype), Sum.zeros(square, dtype))
        return state, Count.zeros()

    def update(state: tuple[_State, Count], x: Any, rows: Rows = EVERY) -> tuple[_State, Count]:
        sums, skipped = state
        t = table("moments", x, rows)
        x = t.x.astype(sums.mean.high.dtype)
        if labels is None and full:
            return _merge(True, sums, _batch(True, x, t.mask)), skipped
        if labels is None:
            one = lambda s, block: _merge(False, s, _batch(False, *block))  # noqa: E731
            return fold(one, sums, (x, t.mask), x.shape[1]), skipped
        if t.labels is None:
            raise ValueError(f"moments(labels={labels}): expected rows=Rows(labels=...)")
        known = (t.labels >= 0) & (t.labels < labels)
        skipped = skipped.add(total(t.mask & ~known))
        if full:
            found = jax.lax.map(
                lambda label: _batch(True, x, t.mask & (t.labels == label)),
                jnp.arange(labels, dtype=jnp.int32),
            )
        else:

            def one(s: _State, block: Any) -> _State:
                return jax.vmap(partial(_merge, False))(s, _by_label(*block, k=labels or 0))

            return fold(one, sums, (x, t.mask & known, t.labels), x.shape[1]), skipped
        return jax.vmap(partial(_merge, full))(sums, found), skipped

    def merge(a: tuple[_State, Count], b: tuple[_State, Count]) -> tuple[_State, Count]:
        join = partial(_merge, full)
        join = join if labels is None else jax.vmap(join)
        return join(a[0], b[0]), a[1] + b[1]

    def finish(state: tuple[_State, Count]) -> Moments:
        sums, skipped = state
        by_label = labels is not None
        return Moments(sums.n, skipped, sums.mean.value, sums.scatter.value, by_label)

    return Accumulator(init, update, merge, finish)


def centre(x: Array, mask: Array) -> tuple[Array, Sum, Array]:
    """The number of rows that count, their mean, and deviations from it, 0 for rows that do not.

    The mean is corrected by the mean of the deviations; both are kept, since the deviations are
    from their sum, which need not be a number of the dtype.
    """
    n = total(mask)
    share = 1 / jnp.maximum(n, 1).astype(x.dtype)
    kept = jnp.where(mask[:, None], x, 0)
    first = jnp.sum(kept, axis=0) * share
    left = jnp.where(mask[:, None], x - first, 0)
    rest = jnp.sum(left, axis=0) * share
    return n, two_sum(first, rest), jnp.where(mask[:, None], left - rest, 0)


def _batch(full: bool, x: Array, mask: Array) -> _State:
    n, mean, deviations = centre(x, mask)
    if full:
        scatter = jnp.matmul(deviations.T, deviations, precision="highest")
    else:
        scatter = jnp.sum(jnp.square(deviations), axis=0)
    return _state(Count.zeros().add(n), mean, scatter)


def _state(n: Count, mean: Sum, scatter: Array) -> _State:
    return _State(n, mean, Sum(scatter, 0 * scatter))


def _by_label(x: Array, mask: Array, labels: Array, k: int) -> _State:
    """The diagonal moments of every label, in three products with the indicators of labels."""
    member = (labels[:, None] == jnp.arange(k, dtype=jnp.int32)) & mask[:, None]
    n = total(member, axis=0)
    share = (1 / jnp.maximum(n, 1).astype(x.dtype))[:, None]
    one_hot = member.astype(x.dtype)
    label = jnp.clip(labels, 0, k - 1)

    def means(values: Array) -> Array:
        return jnp.matmul(one_hot.T, values, precision="highest") * share

    first = means(jnp.where(mask[:, None], x, 0))
    left = jnp.where(mask[:, None], x - first[label], 0)
    rest = means(left)
    deviations = jnp.where(mask[:, None], left - rest[label], 0)
    scatter = jnp.matmul(one_hot.T, jnp.square(deviations), precision="highest")
    return _state(Count.zeros((k,)).add(n), two_sum(first, rest), scatter)


def shift(a: Count, b: Count, dtype: Any) -> tuple[Array, Array]:
    """`n_b / n` and `n_a n_b / n` of a merge; 0 where neither has rows."""
    n_a, n_b = a.to(dtype), b.to(dtype)
    share = n_b / jnp.maximum(n_a + n_b, 1)
    return share, n_a * share


def _merge(full: bool, a: _State, b: _State) -> _State:
    share, weight = shift(a.n, b.n, a.mean.high.dtype)
    delta = (b.mean.high - a.mean.high) + (b.mean.low - a.mean.low)
    # An empty side adds nothing, however far its mean of 0 is.
    far = jnp.where(weight > 0, delta, 0)
    between = far[:, None] * (far[None, :] * weight) if full else far * (far * weight)
    return _State(a.n + b.n, a.mean.add(delta * share), a.scatter.join(b.scatter).add(between))
