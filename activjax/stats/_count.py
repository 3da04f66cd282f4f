"""Exact 64-bit counts, without JAX's 64-bit mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Count:
    """Non-negative integers below 2^63, as two words: float32 stops counting at 2^24.

    `numpy.asarray(count)` is exact, int64; `count.to(dtype)` rounds, for use inside programs.

    Attributes:
      high, low: the words, of one shape.
    """

    high: UInt32[Array, "*shape"]
    low: UInt32[Array, "*shape"]

    @classmethod
    def zeros(cls, shape: tuple[int, ...] = ()) -> Count:
        """Counts of nothing."""
        # Two buffers, so that both can be donated.
        return cls(jnp.zeros(shape, jnp.uint32), jnp.zeros(shape, jnp.uint32))

    def add(self, n: Any) -> Count:
        """These counts and `n` more: non-negative integers of up to 32 bits, of this shape."""
        low = self.low + jnp.asarray(n).astype(jnp.uint32)
        return Count(self.high + (low < self.low).astype(jnp.uint32), low)

    def __add__(self, other: Count) -> Count:
        """The sum of both."""
        sum_ = self.add(other.low)
        return Count(sum_.high + other.high, sum_.low)

    def to(self, dtype: Any = jnp.float32) -> Array:
        """The counts as floating-point numbers, rounded."""
        return self.high.astype(dtype) * 2.0**32 + self.low.astype(dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The counts, exactly."""
        del copy
        high, low = np.asarray(self.high, np.int64), np.asarray(self.low, np.int64)
        return np.asarray((high << 32) + low, dtype or np.int64)

    def __int__(self) -> int:
        """A single count."""
        return int(np.asarray(self))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the counts."""
        return self.low.shape


def total(mask: Array, axis: int | None = None) -> UInt32[Array, "..."]:
    """How many entries of a mask are true."""
    return jnp.sum(mask, axis=axis, dtype=jnp.uint32)
