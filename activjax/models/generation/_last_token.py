"""Edits at the last prompt position, at the cost of that position: the prefix is run once.

What an edit at the last token changes is that token's own computation and nothing before it, so
keys and values of the other tokens are the same for every edit. They are kept once; the one-token
step is mapped over the edits and attends to the shared cache, which is never copied.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Int32

from activjax.models._layers import known
from activjax.models._model import Params
from activjax.models.decoder import Cache, Decoder
from activjax.models.decoder._tokens import of_more_text
from activjax.models.generation._generate import prompt_shape
from activjax.transforms import capture, intervene


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
    if mask is not None:  # turn each prompt until its last token is in the last column
        turn = jnp.argmax(real[:, ::-1], axis=1)[:, None]
        order = (jnp.arange(ids.shape[1]) - turn) % ids.shape[1]
        ids, real = (jnp.take_along_axis(x, order, axis=1) for x in (ids, real))
    last, prefix, rest = ids[:, -1:], ids[:, :-1], None if mask is None else real[:, :-1]
    if not prefix.shape[1]:
        return last, model.init_cache(ids.shape[0], 1)
    _, cache = model.apply(params, prefix, state=model.init_cache(ids.shape[0]), mask=rest)
    # the prompt ends with the token that is left, for which there is room
    return last, dataclasses.replace(cache.grown(ids.shape[1]), prompt=cache.lengths + 1)


def sweep_last_token(
    model: Decoder,
    params: Params,
    tokens: Int[Array, "batch seq"],
    edits: Callable[..., Any],
    *over: Any,
    layers: Int[Array, " layers"] | Sequence[int] | None = None,
    mask: Bool[Array, "batch seq"] | None = None,
    read: Callable[[Array], Any] = lambda logits: logits,
    chunk: int | None = None,
) -> Any:
    """Next-token logits under every combination of edits at the last prompt position.

    One program, to be jitted whole: the prompts once, then one token for each combination. With
    `layers`, a combination costs the blocks above its layer only:

        sweep_last_token(model, params, prompts, edits, vectors, strengths, layers=range(6))
        # edits(layer, v, a): {"blocks/resid_post": aj.edits.add(a * v)}

    Args:
      model: the decoder.
      params: its parameters.
      tokens: prompts.
      edits: `edits(*values)`, of one entry of each of `over`, returns what `intervene` takes; with
        `layers`, `edits(layer, *values)` returns edits of sites `blocks/...` without `layers=`,
        made in that layer. The call that they edit holds the last prompt token alone, so they need
        no `at`.
      *over: arrays, or pytrees of arrays, with a leading axis: vectors, strengths.
      layers: the layers to edit, one at a time; they may be traced.
      mask: True for tokens, False for padding on either side.
      read: what to keep of logits `[batch, vocab]`.
      chunk: how many combinations (of one layer) run at a time; None for all.

    Returns:
      What `read` gives, with leading axes for `layers`, if given, and each of `over`, in order:
      `[layers, vectors, strengths, batch, vocab]`.

    Raises:
      ValueError: nothing to sweep over, an empty axis, or a known layer out of range (of traced
        ones the result is NaN); as `model.apply`.
      SiteError: as `intervene`.
    """
    sizes = [_size(i, axis) for i, axis in enumerate(over)]
    if layers is None and not sizes:
        raise ValueError("sweep_last_token: give layers=, or at least one array to sweep over")
    if chunk is not None and operator.index(chunk) < 1:
        raise ValueError(f"chunk: expected at least 1 combination at a time, got {chunk}")
    last, cache = last_token(model, params, tokens, mask=mask)
    over = jax.tree.map(jnp.asarray, over)

    def grid(one: Callable[..., Any]) -> Any:
        """`one` of every combination of values, with an axis for each of `over`."""
        if not sizes:
            return one()
        index = jnp.unravel_index(jnp.arange(math.prod(sizes), dtype=jnp.int32), sizes)

        def at(index: Any) -> Any:
            return one(*(jax.tree.map(lambda leaf, i=i: leaf[i], a) for i, a in zip(index, over)))

        out = jax.vmap(at)(index) if chunk is None else jax.lax.map(at, index, batch_size=chunk)
        return jax.tree.map(lambda leaf: leaf.reshape(*sizes, *leaf.shape[1:]), out)

    if layers is None:

        def whole(*values: Any) -> Any:
            apply = intervene(model.apply, edits(*values))
            return read(apply(params, last, state=cache)[0][:, 0])

        return grid(whole)

    def clean(cache: Cache) -> Any:
        return model.apply(params, last, state=cache)

    before = capture(clean, "**/resid_pre", out=False)(cache)
    before = jnp.concatenate([x.reshape(-1, *x.shape[-3:]) for x in before.values()])
    ready, own = of_more_text(last, None, cache)

    def one_layer(layer: Array) -> Any:
        entering = jax.lax.dynamic_index_in_dim(before, layer, keepdims=False)

        def block(cache: Cache, x: Array) -> Array:
            tokens, cache = of_more_text(last, None, cache)
            return model.part(params, x, method="block", layer=layer, tokens=tokens, cache=cache)

        def one(*values: Any) -> Any:
            # nothing before the edit depends on it: that is computed once
            x = intervene(block, edits(layer, *values))(cache, entering)
            rest = {"layer": layer + 1, "tokens": ready, "cache": own}
            logits = model.part(params, x, method="above", **rest)[:, 0]
            inside = (layer >= 0) & (layer < model.config.layers)
            return read(jnp.where(inside, logits, jnp.nan))

        return grid(one)

    return jax.lax.map(one_layer, _layers(layers, model.config.layers))


def _layers(layers: Any, count: int) -> Array:
    chosen = layers if isinstance(layers, jax.Array) else jnp.asarray(list(layers), jnp.int32)
    values = known(chosen)
    if chosen.ndim != 1 or not chosen.shape[0]:
        raise ValueError(f"layers: expected at least one, got shape {list(chosen.shape)}")
    if values is not None and not (-count <= values.min() <= values.max() < count):
        raise ValueError(f"layers: expected 0..{count - 1}, got {values.tolist()}")
    return jnp.where(chosen < 0, chosen + count, chosen).astype(jnp.int32)


def _size(i: int, axis: Any) -> int:
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(axis)}
    if len(sizes) != 1 or sizes & {(), (0,)}:
        raise ValueError(
            f"sweep_last_token: argument {i} of what to sweep over needs one leading axis with at "
            f"least one entry, got {sorted(sizes) or 'no arrays'}"
        )
    return sizes.pop()[0]
