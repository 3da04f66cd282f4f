"""Histograms over the bit patterns of bfloat16: exact quantiles, without a range given first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from activjax.stats._accumulator import EVERY, Accumulator, Rows, channels, table
from activjax.stats._blocks import fold
from activjax.stats._count import Count, total

_BITS = 16  # of a bfloat16


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Histogram:
    """Counts of values by the leading bits of their bfloat16 pattern, in order of value.

    Its methods run on the host, in exact integers and float64. `*lead` are the axes in front:
    loops, and channels where they were asked for.

    Attributes:
      counts: `[*lead, 2^bits]`, from -infinity to infinity.
      nan: `[*lead]`, values that are NaN; they are in no bin.
    """

    counts: Count
    nan: Count

    @property
    def bits(self) -> int:
        """How many leading bits tell bins apart."""
        return self.counts.shape[-1].bit_length() - 1

    @property
    def n(self) -> np.ndarray:
        """`[*lead]`, values counted, without NaN."""
        return np.asarray(self.counts).sum(-1)

    def values(self) -> np.ndarray:
        """`[2^bits]`, float64: the value of each bin that is nearest to zero; NaN where none is.

        With 16 bits a bin is one value of bfloat16, so this is that value.
        """
        return _values(self.bits)

    def quantile(self, q: Any) -> np.ndarray:
        """The smallest value whose share of values up to it is at least `q` (inverse CDF).

        Exact for bfloat16 data and 16 bits; otherwise the value of the bin that holds it.

        Args:
          q: one or more shares in [0, 1], `[*q]`; 0 gives the smallest value.

        Returns:
          `[*lead, *q]`; NaN where nothing was counted.

        Raises:
          ValueError: a share outside [0, 1].
        """
        q = np.asarray(q, np.float64)
        if not ((q >= 0) & (q <= 1)).all():
            raise ValueError(f"quantile: expected shares in [0, 1], got {q}")
        cumulative = np.cumsum(np.asarray(self.counts), axis=-1)
        flat = cumulative.reshape(-1, cumulative.shape[-1])
        out = np.full((len(flat), q.size), np.nan)
        for row, sums in zip(out, flat):
            if n := int(sums[-1]):
                ranks = [_rank(float(share), n) for share in q.ravel()]
                row[:] = self.values()[np.searchsorted(sums, ranks)]
        return out.reshape((*cumulative.shape[:-1], *q.shape))

    def share_up_to(self, threshold: Any) -> np.ndarray:
        """The share of values whose magnitude is at most a threshold.

        Args:
          threshold: non-negative numbers, `[*t]`.

        Returns:
          `[*lead, *t]`: NaN where nothing was counted. Bins count as their value in `values()`.

        Raises:
          ValueError: a negative or NaN threshold.
        """
        t = np.asarray(threshold, np.float64)
        if not (t >= 0).all():
            raise ValueError(f"share_up_to: expected thresholds >= 0, got {t}")
        counts = np.asarray(self.counts)
        within = np.abs(self.values())[:, None] <= t.ravel()
        sums = np.stack([counts[..., keep].sum(-1) for keep in within.T], axis=-1)
        n = np.where(self.n > 0, self.n, np.nan)
        return (sums / n[..., None]).reshape((*counts.shape[:-1], *t.shape))


class _State(NamedTuple):
    counts: Count
    nan: Count


def histogram(bits: int = _BITS, *, per_channel: bool = False) -> Accumulator:
    """Counts values by the leading bits of their bfloat16 pattern.

    Values of other types are rounded to bfloat16 first (to nearest, ties to even, on the bits, so
    that no platform flushes subnormals). No range is chosen beforehand, and merging is exact.

    Args:
      bits: 4 to 16. 16 gives every bfloat16 a bin (0.4 % steps); 12 gives 6 % steps in 4,096 bins;
        below 9, infinities fall in one bin with the largest numbers.
      per_channel: keep every channel apart, `[d, 2^bits]`.

    Returns:
      An accumulator whose result is `Histogram`. -0 comes just before 0; NaNs are counted apart.

    Raises:
      ValueError: `bits` out of range.
    """
    if not 4 <= bits <= _BITS:
        raise ValueError(f"histogram: bits is {bits}, expected 4 to {_BITS}")
    bins = 2**bits

    def init(like: Any) -> _State:
        d, _ = channels("histogram", like)
        lead = (d,) if per_channel else ()
        return _State(Count.zeros((*lead, bins)), Count.zeros(lead))

    def update(state: _State, x: Any, rows: Rows = EVERY) -> _State:
        t = table("histogram", x, rows)
        d = t.x.shape[1]

        def count(new: tuple[Array, Array], block: Any) -> tuple[Array, Array]:
            counts, nans = new
            x, mask = block
            ordered, nan = ordered_bits(x)
            kept = mask[:, None]
            place = (ordered >> (_BITS - bits)).astype(jnp.int32)
            # One bin more, for what does not count.
            place = jnp.where(kept & ~nan, place, bins)
            if per_channel:
                place = place + jnp.arange(d, dtype=jnp.int32) * (bins + 1)
            nans = nans + total(kept & nan, axis=0 if per_channel else None)
            return counts.at[place.ravel()].add(jnp.uint32(1)), nans

        lead = (d,) if per_channel else ()
        start = jnp.zeros((d if per_channel else 1) * (bins + 1), jnp.uint32)
        new, nans = fold(count, (start, jnp.zeros(lead, jnp.uint32)), (t.x, t.mask), d)
        new = new.reshape(*lead, bins + 1)[..., :bins]
        return _State(state.counts.add(new), state.nan.add(nans))

    def merge(a: _State, b: _State) -> _State:
        return _State(a.counts + b.counts, a.nan + b.nan)

    return Accumulator(init, update, merge, lambda state: Histogram(*state))


def ordered_bits(x: Array) -> tuple[UInt32[Array, "..."], Array]:
    """The bfloat16 patterns of values as numbers in the order of the values, and which are NaN."""
    if x.dtype == jnp.bfloat16:
        pattern = jax.lax.bitcast_convert_type(x, jnp.uint16).astype(jnp.uint32)
        nan = (pattern & 0x7FFF) > 0x7F80
    else:
        word = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
        nan = (word & 0x7FFFFFFF) > 0x7F800000
        pattern = (word + 0x7FFF + ((word >> 16) & 1)) >> 16
    negative = pattern >= 0x8000
    # The larger the pattern of a negative value, the smaller the value.
    return jnp.where(negative, 0xFFFF - pattern, pattern + 0x8000), nan


def _values(bits: int) -> np.ndarray:
    shift = _BITS - bits
    first = np.arange(2**bits, dtype=np.int64) << shift
    last = first + (1 << shift) - 1
    # Positive bins begin nearest to zero, negative ones end there.
    ordered = np.where(first >= 0x8000, first, last)
    pattern = np.where(ordered >= 0x8000, ordered - 0x8000, 0xFFFF - ordered)
    with np.errstate(invalid="ignore"):  # patterns of NaN
        return (pattern.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def _rank(share: float, n: int) -> int:
    """The smallest rank whose share of `n` is, in float64, at least `share`."""
    rank = max(1, math.ceil(share * n))
    while rank > 1 and (rank - 1) / n >= share:
        rank -= 1
    while rank < n and rank / n < share:
        rank += 1
    return rank
