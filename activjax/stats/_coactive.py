"""Which units are active together, and how often, by label: exact counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from activjax.stats._accumulator import EVERY, Accumulator, Rows, channels, table
from activjax.stats._count import Count, total
from activjax.stats._exceedances import exceeds

_CHUNK = 2**23  # rows whose indicators float32 adds exactly


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Coactivation:
    """How often units are active, alone and together; `*labels` is there if asked for by label.

    Attributes:
      n: rows counted, `[*labels]`.
      skipped: rows that the mask kept but whose label is none, a number.
      pairs: rows in which both of two units are active, `[*labels, d, d]`; the diagonal counts
        single units.
    """

    n: Count
    skipped: Count
    pairs: Count

    @property
    def active(self) -> Count:
        """Rows in which each unit is active, `[*labels, d]`."""
        return jax.tree.map(lambda w: jnp.diagonal(w, axis1=-2, axis2=-1), self.pairs)

    def rates(self) -> Float[Array, "*labels d"]:
        """The share of rows in which each unit is active; NaN where there are no rows."""
        n = self.n.to()
        return self.active.to() / jnp.where(n > 0, n, jnp.nan)[..., None]


class _State(NamedTuple):
    n: Count
    skipped: Count
    pairs: Count


def coactive(threshold: float = 0.0, *, labels: int | None = None) -> Accumulator:
    """Counts, for all pairs of units, the rows in which both exceed a threshold.

    Args:
      threshold: a unit is active where its value is greater; a NaN is not.
      labels: count each of this many labels apart (`rows.labels`), at the cost of a product each.

    Returns:
      An accumulator whose result is `Coactivation`; merging is exact.
    """
    if threshold != threshold:
        raise ValueError("coactive: the threshold is NaN, expected a number")
    if labels is not None and labels < 1:
        raise ValueError(f"coactive: labels is {labels}, expected at least 1")
    lead = () if labels is None else (labels,)

    def init(like: Any) -> _State:
        d, _ = channels("coactive", like)
        return _State(Count.zeros(lead), Count.zeros(), Count.zeros((*lead, d, d)))

    def update(state: _State, x: Any, rows: Rows = EVERY) -> _State:
        t = table("coactive", x, rows)
        on = exceeds(t.x, float(threshold))
        if labels is None:
            return _State(
                state.n.add(total(t.mask)), state.skipped, _add(state.pairs, on & t.mask[:, None])
            )
        if t.labels is None:
            raise ValueError(f"coactive(labels={labels}): expected rows=Rows(labels=...)")
        member = (t.labels == jnp.arange(labels, dtype=jnp.int32)[:, None]) & t.mask
        skipped = total(t.mask) - total(member)
        pairs = jax.lax.map(
            lambda args: _add(args[0], on & args[1][:, None]), (state.pairs, member)
        )
        return _State(state.n.add(total(member, axis=1)), state.skipped.add(skipped), pairs)

    def merge(a: _State, b: _State) -> _State:
        return _State(a.n + b.n, a.skipped + b.skipped, a.pairs + b.pairs)

    return Accumulator(init, update, merge, lambda state: Coactivation(*state))


def _add(pairs: Count, on: Array) -> Count:
    for start in range(0, on.shape[0], _CHUNK):
        # Products of zeros and ones are exact in any precision, and their float32 sums up to 2^24.
        part = on[start : start + _CHUNK].astype(jnp.float32)
        pairs = pairs.add(jnp.matmul(part.T, part).astype(jnp.uint32))
    return pairs
