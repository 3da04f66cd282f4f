"""Sums whose rounding error does not grow with the number of terms."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class Sum(NamedTuple):
    """A running sum and what rounding has left out of it (Knuth's two-sum; Neumaier 1974).

    The error of a plain running sum of N equal terms grows to `N / 2` units of rounding; here it
    stays within one of the value, since what is left out is kept small beside the sum.

    Attributes:
      high: the sum, rounded.
      low: the rest.
    """

    high: Float[Array, "*shape"]
    low: Float[Array, "*shape"]

    @classmethod
    def zeros(cls, shape: tuple[int, ...], dtype: Any) -> Sum:
        """Nothing yet."""
        return cls(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    @property
    def value(self) -> Float[Array, "*shape"]:
        """The sum."""
        return self.high + self.low

    def add(self, x: Array) -> Sum:
        """This sum and `x`."""
        high = self.high + x
        part = high - self.high
        return _settled(high, self.low + ((self.high - (high - part)) + (x - part)))

    def join(self, other: Sum) -> Sum:
        """The sum of two sums."""
        sum_ = self.add(other.high)
        return _settled(sum_.high, sum_.low + other.low)


def two_sum(a: Array, b: Array) -> Sum:
    """`a + b`, exactly, for `b` no larger than `a`."""
    return _settled(a, b)


def _settled(high: Array, low: Array) -> Sum:
    total = high + low
    return Sum(total, low - (total - high))
