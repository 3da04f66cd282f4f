"""What decoders and encoders are given, checked: tokens, masks, and numbers beside tokens."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Int32

from activjax.models._layers import known


def ids_of(tokens: Any, context: int, what: str) -> Int32[Array, "batch seq"]:
    """Token ids.

    Args:
      tokens: as they were given.
      context: the most tokens of a sequence.
      what: "decoder" or "encoder".

    Raises:
      ValueError: no integers, another shape, or too many tokens.
    """
    ids = jnp.asarray(tokens)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(f"tokens: expected integers, got {ids.dtype}")
    if ids.ndim != 2 or 0 in ids.shape:
        hint = "; for one sequence tokens[None]" if ids.ndim == 1 else ""
        raise ValueError(f"tokens: expected shape [batch, seq], got {list(ids.shape)}{hint}")
    if ids.shape[1] > context:
        raise ValueError(
            f"tokens: {ids.shape[1]} a sequence, but the {what}'s context is {context}: "
            "cut them, or build it with a larger context="
        )
    return ids.astype(jnp.int32)


def mask_of(
    mask: Any, shape: tuple[int, ...], *, some: bool = True
) -> Bool[Array, "batch seq"] | None:
    """A mask, True for tokens; with `some`, each sequence has one.

    Raises:
      ValueError: another shape, no booleans, or a sequence without tokens.
    """
    if mask is None:
        return None
    _check_shape("mask", mask, shape)
    mask = jnp.asarray(mask)
    if mask.dtype != bool:
        raise ValueError(f"mask: expected booleans, True for tokens, got {mask.dtype}")
    values = known(mask)
    if values is not None and some and not values.any(axis=1).all():
        raise ValueError(f"mask: sequence {int(values.any(axis=1).argmin())} has no tokens")
    return mask


def numbers_of(
    name: str, value: Any, shape: tuple[int, ...], meaning: str = ""
) -> Int[Array, "batch seq"] | None:
    """An integer beside each token: segments, types.

    Raises:
      ValueError: another shape, or no integers; `meaning` says more of them.
    """
    if value is None:
        return None
    _check_shape(name, value, shape)
    value = jnp.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise ValueError(f"{name}: expected integers{meaning}, got {value.dtype}")
    return value


def check_ids(tokens: Any, marks: Array | None, vocab: int, what: str) -> None:
    """Refuse ids outside the vocabulary, where they are known; `marks` as in `check_range`.

    Raises:
      ValueError: naming the first; `what` is "decoder" or "encoder".
    """
    check_range(
        "tokens: id", tokens, marks, vocab, "the vocabulary ", f": is this the {what}'s tokenizer?"
    )


def check_range(
    name: str, given: Any, marks: Array | None, size: int, of: str = "", hint: str = ""
) -> None:
    """Refuse numbers outside of a table, where they are known.

    Args:
      name: what the message begins with.
      given: the numbers.
      marks: positive where they matter; padding may be anything. None: everywhere.
      size: of the table.
      of, hint: what the message says of it, and at its end.

    Raises:
      ValueError: naming the first.
    """
    values, real = known(given), None if marks is None else known(marks)
    if values is None or (marks is not None and real is None):
        return
    values = values.ravel() if real is None else values[real > 0]
    wrong = values[(values < 0) | (values >= size)]
    if len(wrong):
        raise ValueError(
            f"{name} {wrong[0]} is outside {of}0..{size - 1} "
            f"({len(wrong)} of {values.size} are){hint}"
        )


def _check_shape(name: str, value: Any, shape: tuple[int, ...]) -> None:
    if jnp.shape(value) != shape:
        raise ValueError(
            f"{name}: expected the tokens' shape {list(shape)}, got {list(jnp.shape(value))}"
        )
