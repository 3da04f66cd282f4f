"""A batch iterator as a pure function: its position is a pytree, saved like any other state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int32


class BatchState(NamedTuple):
    """Where an iterator stands.

    Attributes:
      key: random key of the epochs to come.
      order: the current epoch's order of the examples.
      position: examples of the epoch already used.
      epoch: epochs finished.
    """

    key: Array
    order: Int32[Array, " n"]
    position: Int32[Array, ""]
    epoch: Int32[Array, ""]


@dataclass(frozen=True)
class Batches:
    """Shuffled batches of row numbers; each epoch uses every example once, less the remainder.

    Attributes:
      n: number of examples.
      size: examples a batch.

    Raises:
      ValueError: the size is not between 1 and n.
    """

    n: int
    size: int

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.n:
            raise ValueError(f"batch size: expected 1 to {self.n} (the examples), got {self.size}")

    @property
    def per_epoch(self) -> int:
        """Batches an epoch."""
        return self.n // self.size

    def init(self, key: Array) -> BatchState:
        """The iterator before its first batch."""
        key, first = jax.random.split(key)
        order = jax.random.permutation(first, self.n).astype(jnp.int32)
        return BatchState(key, order, jnp.int32(0), jnp.int32(0))

    def next(self, state: BatchState) -> tuple[BatchState, Int32[Array, " size"]]:
        """The iterator after a batch, and the batch's row numbers."""
        rows = jax.lax.dynamic_slice_in_dim(state.order, state.position, self.size)
        after = state.position + self.size

        def reshuffled() -> BatchState:
            fresh = self.init(state.key)
            return fresh._replace(epoch=state.epoch + 1)

        def same() -> BatchState:
            return state._replace(position=after)

        return jax.lax.cond(after + self.size > self.n, reshuffled, same), rows
