"""What is put into each trial: a concept's vector, a random one of the same length, or nothing."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from activjax.introspection._bank import ConceptBank
from activjax.introspection._inject import Units, row_of, vectors_of


def put(
    bank: ConceptBank,
    concept: Int[Array | np.ndarray, " n"],
    noise: Int[Array | np.ndarray, " n"],
    strength: Float[Array | np.ndarray, " n"],
    layer: Int[Array | np.ndarray, " n"],
    *,
    seed: Any,
    units: Units,
    source: Int[Array, " n"] | None = None,
) -> Float[Array, "n d"]:
    """The vectors of trials.

    Args:
      bank: the concepts.
      concept: -1 for none.
      noise: number of a random direction (uniform, a function of `seed` and the number); -1: none.
      strength: of either, in `units`. With "raw", noise has the mean length of the vectors.
      layer: where they are put; ignored for a bank of no loop.
      seed: of the random directions.
      units, source: as `inject`.
    """
    concept, noise, layer = (jnp.asarray(x) for x in (concept, noise, layer))
    at = None if bank.layers is None else layer
    of_concept = vectors_of(bank, concept, strength, layer=at, source=source, units=units)
    key = jax.random.key(seed)
    of_row = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.maximum(noise, 0))
    d = bank.vectors.shape[-1]
    drawn = jax.vmap(lambda k: jax.random.normal(k, (d,), jnp.float32))(of_row)
    drawn = drawn / jnp.linalg.norm(drawn, axis=-1, keepdims=True)
    size = jnp.asarray(strength, jnp.float32)
    if units != "abs":
        scale = bank.resid_norm if units == "resid_norm" else bank.norms.mean(axis=1)
        row = row_of(bank, at, "layer")
        size = size * jnp.where(row < 0, jnp.nan, scale.astype(jnp.float32)[jnp.maximum(row, 0)])
    return jnp.where((noise >= 0)[:, None], size[:, None] * drawn, of_concept)
