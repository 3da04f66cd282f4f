"""Edits at the last prompt position, at the cost of that position: the prefix is run once.

What an edit at the last token changes is that token's own computation and nothing before it, so
keys and values of the other tokens are the same for every edit. They are kept once; the one-token
step is mapped over the edits and attends to the shared cache, which is never copied.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Int32

from activjax.models._model import Params
from activjax.models.decoder import Cache, Decoder
from activjax.models.generation._generate import prefill, prompt_shape
from activjax.transforms import intervene


def last_token(
    model: Decoder,
    params: Params,
    tokens: Int[Array, "batch seq"],
    *,
    mask: Bool[Array, "batch seq"] | None = None,
) -> tuple[Int32[Array, "batch 1"], Cache]:
    """Run prompts but for their last token, which is handed back with the cache.

    `model.apply(params, last, state=cache)[0][:, 0]` are the logits after the prompt, at the cost
    of one token; edits of that call are edits at the last prompt position (`at="last_prompt"`).

    Args:
      model: the decoder.
      params: its parameters.
      tokens: prompts.
      mask: True for tokens, False for padding on either side.

    Returns:
      The last token of each prompt, and the cache of those before it.

    Raises:
      ValueError: as `model.apply`.
    """
    prompt_shape(tokens, mask)
    ids = jnp.asarray(tokens)
    real = jnp.ones(ids.shape, bool) if mask is None else jnp.asarray(mask)
    if real.shape != ids.shape:
        raise ValueError(f"mask: expected the tokens' shape {list(ids.shape)}, got {real.shape}")
    at = ids.shape[1] - 1 - jnp.argmax(real[:, ::-1], axis=1)
    last = jnp.take_along_axis(ids, at[:, None], axis=1)
    if mask is None:
        prefix, rest = ids[:, :-1], None
    else:
        prefix, rest = ids, real & (jnp.arange(ids.shape[1]) != at[:, None])
    if not prefix.shape[1]:
        return last, model.init_cache(ids.shape[0], 1)
    _, cache = prefill(model, params, prefix, mask=rest, slots=prefix.shape[1] + 1)
    # the prompt ends with the token that is left
    return last, dataclasses.replace(cache, prompt=cache.lengths + 1)


def sweep_last_token(
    model: Decoder,
    params: Params,
    tokens: Int[Array, "batch seq"],
    edits: Callable[..., Any],
    *over: Any,
    mask: Bool[Array, "batch seq"] | None = None,
    read: Callable[[Array], Any] = lambda logits: logits,
    chunk: int | None = None,
) -> Any:
    """Next-token logits under every combination of edits at the last prompt position.

    One program: the prompts once, then one token for each combination. To be jitted whole.

    Args:
      model: the decoder.
      params: its parameters.
      tokens: prompts.
      edits: `edits(*values)`, of one entry of each of `over`, returns what `intervene` takes. They
        are made at the last prompt position, whatever the selectors' `at`.
      *over: arrays, or pytrees of arrays, with a leading axis: vectors, strengths, layers.
      mask: True for tokens, False for padding on either side.
      read: what to keep of logits `[batch, vocab]`.
      chunk: how many combinations run at a time; None for all.

    Returns:
      What `read` gives, with one leading axis for each of `over`, in order: `[vectors, strengths,
      layers, batch, vocab]`.

    Raises:
      ValueError: nothing to sweep over, or an empty axis; as `model.apply`.
      SiteError: as `intervene`.
    """
    sizes = [_size(i, axis) for i, axis in enumerate(over)]
    if not sizes:
        raise ValueError("sweep_last_token: give at least one array to sweep over")
    last, cache = last_token(model, params, tokens, mask=mask)

    def one(index: Any) -> Any:
        values = [jax.tree.map(lambda leaf: leaf[i], a) for i, a in zip(index, over)]  # noqa: B023
        apply = intervene(model.apply, edits(*values))
        return read(apply(params, last, state=cache)[0][:, 0])

    grid = jnp.unravel_index(jnp.arange(math.prod(sizes), dtype=jnp.int32), sizes)
    if chunk is None:
        out = jax.vmap(one)(grid)
    else:
        out = jax.lax.map(one, grid, batch_size=chunk)
    return jax.tree.map(lambda leaf: leaf.reshape(*sizes, *leaf.shape[1:]), out)


def _size(i: int, axis: Any) -> int:
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(axis)}
    if len(sizes) != 1 or sizes & {(), (0,)}:
        raise ValueError(
            f"sweep_last_token: argument {i} of what to sweep over needs one leading axis with at "
            f"least one entry, got {sorted(sizes) or 'no arrays'}"
        )
    return sizes.pop()[0]
