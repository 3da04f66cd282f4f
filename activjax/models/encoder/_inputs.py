"""What an encoder is given, checked."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int32

from activjax.models._layers import known
from activjax.models.encoder.config import EncoderConfig


def tokens_of(
    tokens: Any, mask: Any, types: Any, config: EncoderConfig
) -> tuple[Int32[Array, "b t"], Bool[Array, "b t"] | None, Int32[Array, "b t"] | None]:
    """Token ids, which of them are real, and their types.

    Raises:
      ValueError: shapes, dtypes or values that an encoder cannot take.
    """
    c = config
    ids = jnp.asarray(tokens)
    if not jnp.issubdtype(ids.dtype, jnp.integer) or ids.ndim != 2 or 0 in ids.shape:
        hint = "; for one sequence tokens[None]" if ids.ndim == 1 else ""
        raise ValueError(
            f"tokens: expected integers [batch, seq], got {ids.dtype} {list(ids.shape)}{hint}"
        )
    if ids.shape[1] > c.context:
        raise ValueError(
            f"tokens: {ids.shape[1]} a sequence, but the encoder's context is {c.context}: cut "
            "them, or build it with a larger context="
        )
    if mask is not None:
        mask = jnp.asarray(mask)
        if mask.dtype != bool or mask.shape != ids.shape:
            raise ValueError(
                f"mask: expected booleans {list(ids.shape)}, True for tokens, got {mask.dtype} "
                f"{list(mask.shape)}"
            )
        values = known(mask)
        if values is not None and not values.any(axis=1).all():
            raise ValueError(f"mask: sequence {int(values.any(axis=1).argmin())} has no tokens")
    _check_values("tokens: id", ids, mask, c.vocab, ": is this the encoder's tokenizer?")
    if types is None:
        return ids.astype(jnp.int32), mask, None
    if not c.types:
        raise ValueError("types: this encoder has no token types: leave them out")
    types = jnp.asarray(types)
    if not jnp.issubdtype(types.dtype, jnp.integer) or types.shape != ids.shape:
        raise ValueError(
            f"types: expected integers {list(ids.shape)}, got {types.dtype} {list(types.shape)}"
        )
    _check_values("types:", types, mask, c.types, "")
    return ids.astype(jnp.int32), mask, types.astype(jnp.int32)


def _check_values(what: str, ids: Array, mask: Array | None, size: int, hint: str) -> None:
    """Refuse values outside of a table, where they are known; padding may be anything."""
    values, real = known(ids), None if mask is None else known(mask)
    if values is None or (mask is not None and real is None):
        return
    values = values.ravel() if real is None else values[real]
    wrong = values[(values < 0) | (values >= size)]
    if len(wrong):
        raise ValueError(
            f"{what} {wrong[0]} is outside of 0..{size - 1} ({len(wrong)} of {values.size} are)"
            f"{hint}"
        )
