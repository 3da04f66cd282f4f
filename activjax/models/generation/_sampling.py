"""The next token, given logits: greedy, or drawn at a temperature from the top k or the nucleus."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from activjax.models._layers import known


def sample(
    key: Array | None,
    logits: Float[Array, "batch vocab"],
    *,
    temperature: float | Float[Array, ""] = 1.0,
    top_k: int | None = None,
    top_p: float | Float[Array, ""] | None = None,
) -> Int32[Array, " batch"]:
    """Draw one token for each row, each with a key of its own folded from `key`.

    Args:
      key: a typed random key; None is allowed where `temperature` is 0.
      logits: of the next token; NaN gives token 0.
      temperature: divides the logits; 0 takes the largest (the first of equals). May be traced.
      top_k: draw from the k largest only (Fan et al. 2018).
      top_p: draw from the smallest set of the most likely tokens whose probability, at this
        temperature and within `top_k`, reaches this (Holtzman et al. 2020). May be traced.

    Returns:
      Token ids.

    Raises:
      ValueError: a negative temperature, `top_k` outside 1..vocab, `top_p` outside (0, 1], or no
        key.
    """
    vocab = logits.shape[-1]
    check_sampling(vocab, temperature, top_k, top_p, key)
    greedy = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    if key is None:
        return greedy
    warmth = jnp.asarray(temperature, logits.dtype)
    scaled = logits / jnp.where(warmth > 0, warmth, 1)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(logits.shape[0]))
    draw = jax.vmap(jax.random.categorical)
    if top_k is None and top_p is None:
        drawn = draw(keys, scaled)
    else:
        best, ids = jax.lax.top_k(scaled, vocab if top_k is None else top_k)
        if top_p is not None:
            likely = jax.nn.softmax(best, axis=-1)
            before = jnp.cumsum(likely, axis=-1) - likely  # the first is always in
            best = jnp.where(before < jnp.asarray(top_p, before.dtype), best, -jnp.inf)
        drawn = jnp.take_along_axis(ids, draw(keys, best)[:, None], axis=1)[:, 0]
    return jnp.where(warmth > 0, drawn.astype(jnp.int32), greedy)


def check_sampling(
    vocab: int, temperature: object, top_k: int | None, top_p: object, key: object
) -> None:
    """Refuse what `sample` cannot use. Raises as it."""
    warmth, nucleus = _number(temperature), _number(top_p)
    if warmth is not None and not 0 <= warmth < np.inf:
        raise ValueError(f"temperature: expected a number >= 0, got {warmth}")
    if top_k is not None and not (type(top_k) is int and 1 <= top_k <= vocab):
        raise ValueError(f"top_k: expected an integer in 1..{vocab} (the vocabulary), got {top_k}")
    if nucleus is not None and not 0 < nucleus <= 1:
        raise ValueError(f"top_p: expected a number in (0, 1], got {nucleus}")
    if key is None and warmth != 0:
        raise ValueError("drawing tokens at random needs key=jax.random.key(0); or temperature=0")


def _number(x: object) -> float | None:
    values = None if x is None else known(x)
    return None if values is None else float(values)
