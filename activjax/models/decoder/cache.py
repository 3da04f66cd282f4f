"""The keys and values of the tokens seen so far: a decoder's state."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Int32


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cache:
    """A decoder's state: what later tokens need of earlier ones. Padding takes up slots too.

    Attributes:
      k, v: keys (rotated) and values, `[layers, batch, kv_heads, slots, head_width]`.
      places: which token of its sequence is in each slot, counted from 0; -1 for none.
      used: slots taken so far, the same number for every sequence.
      lengths: tokens of each sequence so far.
      prompt: tokens of each sequence after the first call: its prompt.
    """

    k: Float[Array, "layers batch kv_heads slots d_head"]
    v: Float[Array, "layers batch kv_heads slots d_head"]
    places: Int32[Array, "batch slots"]
    used: Int32[Array, ""]
    lengths: Int32[Array, " batch"]
    prompt: Int32[Array, " batch"]

    @property
    def batch(self) -> int:
        """Number of sequences."""
        return self.places.shape[0]

    @property
    def slots(self) -> int:
        """The most tokens it holds, padding included."""
        return self.places.shape[1]

    def grown(self, slots: int) -> Cache:
        """The cache with room for `slots` tokens.

        Raises:
          ValueError: it has more already.
        """
        more = slots - self.slots
        if more < 0:
            raise ValueError(f"cache: it has {self.slots} slots already, more than {slots}")
        wide = [(0, 0), (0, 0), (0, 0), (0, more), (0, 0)]
        places = jnp.pad(self.places, [(0, 0), (0, more)], constant_values=-1)
        k, v = jnp.pad(self.k, wide), jnp.pad(self.v, wide)
        return Cache(k, v, places, self.used, self.lengths, self.prompt)

    def take(self, rows: Int[Array, " n"]) -> Cache:
        """The cache of some of its sequences, in any order; one may be taken more than once."""
        k, v = jnp.take(self.k, rows, axis=1), jnp.take(self.v, rows, axis=1)
        rest = (self.lengths[rows], self.prompt[rows])
        return Cache(k, v, self.places[rows], self.used, *rest)

    def extended(
        self,
        k: Float[Array, "layers batch kv_heads seq d_head"],
        v: Float[Array, "layers batch kv_heads seq d_head"],
        places: Int32[Array, "batch seq"],
    ) -> Cache:
        """The cache after these tokens; without any slots it becomes as long as they are."""
        lengths = self.lengths + (places >= 0).sum(1, dtype=jnp.int32)
        used = self.used + places.shape[1]
        if self.slots:
            put = jax.lax.dynamic_update_slice_in_dim
            k, v = put(self.k, k, self.used, axis=3), put(self.v, v, self.used, axis=3)
            places = put(self.places, places, self.used, axis=1)
        return Cache(k, v, places, used, lengths, self.prompt)
