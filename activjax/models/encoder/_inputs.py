"""What an encoder is given, checked."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int32

from activjax.models._inputs import check_ids, check_range, ids_of, mask_of, numbers_of
from activjax.models.encoder.config import EncoderConfig


def tokens_of(
    tokens: Any, mask: Any, types: Any, config: EncoderConfig
) -> tuple[Int32[Array, "b t"], Bool[Array, "b t"] | None, Int32[Array, "b t"] | None]:
    """Token ids, which of them are real, and their types.

    Raises:
      ValueError: shapes, dtypes or values that an encoder cannot take.
    """
    ids = ids_of(tokens, config.context, "encoder")
    mask = mask_of(mask, ids.shape)
    check_ids(tokens, mask, config.vocab, "encoder")
    if types is None:
        return ids, mask, None
    if not config.types:
        raise ValueError("types: this encoder has no token types: leave them out")
    kinds = numbers_of("types", types, ids.shape)
    check_range("types:", types, mask, config.types)
    return ids, mask, jnp.asarray(kinds, jnp.int32)
