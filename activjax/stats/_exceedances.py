"""How often each channel exceeds thresholds: exact counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from activjax.stats._accumulator import EVERY, Accumulator, Rows, channels, table
from activjax.stats._blocks import fold
from activjax.stats._count import Count, total


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Exceedances:
    """Rows in which channels exceed thresholds.

    Attributes:
      n: rows counted.
      counts: `[thresholds, d]`.
    """

    n: Count
    counts: Count

    def rates(self) -> Float[Array, "thresholds d"]:
        """The share of rows; NaN where there are no rows."""
        n = self.n.to()
        return self.counts.to() / jnp.where(n > 0, n, jnp.nan)[..., None, None]


class _State(NamedTuple):
    n: Count
    counts: Count


def exceeds(x: Array, threshold: float) -> Array:
    """Where values are greater than a threshold, without rounding either to the other's dtype."""
    if jnp.issubdtype(x.dtype, jnp.floating):
        return (x.astype(jnp.float32) if x.dtype.itemsize < 4 else x) > threshold
    x = x.astype(jnp.int32) if x.dtype == bool else x
    limits = jnp.iinfo(x.dtype)
    if threshold < limits.min:
        return jnp.ones(x.shape, bool)
    if threshold >= limits.max:
        return jnp.zeros(x.shape, bool)
    return x > jnp.asarray(math.floor(threshold), x.dtype)


def exceedances(thresholds: float | Sequence[float] = (0.0,)) -> Accumulator:
    """Counts, channel by channel, the rows whose value is greater than each threshold.

    Args:
      thresholds: one or more numbers; a NaN value exceeds none.

    Returns:
      An accumulator whose result is `Exceedances`; merging is exact.

    Raises:
      ValueError: no thresholds, or one that is NaN.
    """
    levels = tuple(np.asarray(thresholds, np.float64).ravel().tolist())
    if not levels or any(t != t for t in levels):
        raise ValueError(f"exceedances: thresholds are {thresholds}, expected numbers")

    def init(like: Any) -> _State:
        d, _ = channels("exceedances", like)
        return _State(Count.zeros(), Count.zeros((len(levels), d)))

    def update(state: _State, x: Any, rows: Rows = EVERY) -> _State:
        t = table("exceedances", x, rows)

        def count(state: _State, block: Any) -> _State:
            x, mask = block
            found = [total(exceeds(x, level) & mask[:, None], axis=0) for level in levels]
            return _State(state.n.add(total(mask)), state.counts.add(jnp.stack(found)))

        return fold(count, state, (t.x, t.mask), t.x.shape[1])

    def merge(a: _State, b: _State) -> _State:
        return _State(a.n + b.n, a.counts + b.counts)

    return Accumulator(init, update, merge, lambda state: Exceedances(*state))
