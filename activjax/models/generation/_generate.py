"""`generate`: the prompt once, then token by token with the cache as state, in one program."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int32

from activjax.models._layers import known
from activjax.models._model import Params
from activjax.models.decoder import Cache, Decoder
from activjax.models.generation._sampling import check_sampling, sample
from activjax.transforms import scan, scope


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Generated:
    """What was generated.

    Attributes:
      tokens: new tokens; after a stop token, padding.
      lengths: new tokens of each sequence, a stop token included.
      logprobs: log-probability of each new token under the decoder itself (at temperature 1,
        whatever the sampling), in nats; 0 after a stop token.
      state: the cache, without the last new token: `generate(model, params, tokens[:, -1:],
        state=state, ...)` goes on.
    """

    tokens: Int32[Array, "batch steps"]
    lengths: Int32[Array, " batch"]
    logprobs: Float[Array, "batch steps"]
    state: Cache


def prefill(
    model: Decoder,
    params: Params,
    tokens: Int[Array, "batch seq"],
    *,
    mask: Bool[Array, "batch seq"] | None = None,
    state: Cache | None = None,
    slots: int | None = None,
) -> tuple[Float[Array, "batch vocab"], Cache]:
    """Run a decoder over prompts once and keep what later tokens need.

    Args:
      model: the decoder.
      params: its parameters.
      tokens: prompts.
      mask: True for tokens, False for padding on either side.
      state: a cache that the prompts follow.
      slots: room in the cache that is returned; None for exactly what is in it.

    Returns:
      Logits after the last token of each prompt, and the cache.

    Raises:
      ValueError: as `model.apply`.
    """
    batch, seq = prompt_shape(tokens, mask)
    cache = model.init_cache(batch) if state is None else state
    if state is not None and slots is not None and slots > cache.slots:
        cache = cache.grown(slots)
    # these tokens are the prompt, whatever stands before them
    count = seq if mask is None else jnp.asarray(mask).sum(1, dtype=jnp.int32)
    cache = dataclasses.replace(cache, prompt=cache.lengths + count)
    logits, cache = model.apply(params, tokens, state=cache, mask=mask)
    if state is None and slots is not None:
        cache = cache.grown(slots)
    return _last(logits, mask), cache


def prompt_shape(tokens: Any, mask: Any = None) -> tuple[int, int]:
    """Number of prompts and their padded length.

    Raises:
      ValueError: not of two axes, or empty; a prompt of padding only, where that can be known.
    """
    shape = jnp.shape(tokens)
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"prompts: expected shape [batch, seq], got {list(shape)}")
    real = None if mask is None else known(mask)
    if real is not None and real.shape == shape and not real.any(axis=1).all():
        raise ValueError(f"mask: prompt {int(real.any(axis=1).argmin())} has no tokens")
    return shape[0], shape[1]


def _last(logits: Array, mask: Array | None) -> Array:
    if mask is None:
        return logits[:, -1]
    mask = jnp.asarray(mask)
    last = mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1)
    out = jnp.take_along_axis(logits, last[:, None, None], axis=1)[:, 0]
    return jnp.where(mask.any(axis=1, keepdims=True), out, jnp.nan)


def generate(
    model: Decoder,
    params: Params,
    tokens: Int[Array, "batch seq"],
    *,
    steps: int,
    mask: Bool[Array, "batch seq"] | None = None,
    state: Cache | None = None,
    key: Array | None = None,
    temperature: float | Float[Array, ""] = 0.0,
    top_k: int | None = None,
    top_p: float | Float[Array, ""] | None = None,
    stop: Sequence[int] = (),
    pad: int = 0,
) -> Generated:
    """Continue prompts by `steps` tokens.

    A pure function, to be jitted whole: `jax.jit(partial(generate, model, steps=64))(params,
    tokens)`. Sites are those of the decoder under `prefill/` and, in the loop "steps", `decode/`:
    decode step k runs the decoder on new token k (of `steps - 1`; the last one is not run).
    `capture` and `intervene` work through it: `"prefill/blocks/resid_post"` edits the prompt only,
    `"**/blocks/resid_post"` every token, `select("decode/blocks/resid_post", loops={"steps": k})`
    one step, and `select("**/blocks/resid_post", at=p)` the token at position p, whichever call
    comes to it.

    Args:
      model: the decoder.
      params: its parameters.
      tokens: prompts.
      steps: new tokens.
      mask: True for tokens, False for padding on either side; the results are the same.
      state: a cache that the prompts follow (`prefill`).
      key: typed random key; needed unless `temperature` is 0. Each sequence and step has its own.
      temperature, top_k, top_p: as `sample`; temperature 0 is greedy.
      stop: token ids after which a sequence ends. Once all have, decode steps are skipped; a
        capture of `decode/...` then also has `decode/...#valid`, False for these.
      pad: what stands after the end.

    Returns:
      The new tokens, their number, log-probabilities, and the cache.

    Raises:
      ValueError: as `model.apply` and `sample`; fewer than one step; prompts and steps together
        longer than the context; a stop token or `pad` outside the vocabulary.
    """
    seq = prompt_shape(tokens, mask)[1]
    steps, pad, stop = operator.index(steps), operator.index(pad), list(map(int, stop))
    slots = _slots(model, steps, seq, state)
    _check_ids(model, stop, pad)
    check_sampling(model.config.vocab, temperature, top_k, top_p, key)
    stops = jnp.asarray(stop, jnp.int32)

    def choose(logits: Array, step: Any) -> tuple[Array, Array]:
        own = None if key is None else jax.random.fold_in(key, step)
        token = sample(own, logits, temperature=temperature, top_k=top_k, top_p=top_p)
        likely = jax.nn.log_softmax(logits, axis=-1)
        return token, jnp.take_along_axis(likely, token[:, None], axis=1)[:, 0]

    with scope("prefill"):
        logits, cache = prefill(model, params, tokens, mask=mask, state=state, slots=slots)
    first, logprob = choose(logits, 0)
    ended = jnp.isin(first, stops)

    def decode(token: Array, cache: Cache) -> tuple[Array, Cache]:
        with scope("decode"):
            logits, cache = model.apply(params, token[:, None], state=cache)
        return logits[:, 0], cache

    def skip(token: Array, cache: Cache) -> tuple[Array, Cache]:
        return jnp.zeros((token.shape[0], model.config.vocab), jnp.float32), cache

    def step(carry: Any, k: Array) -> tuple[Any, Any]:
        token, ended, cache = carry
        if stop:  # nothing is run once every sequence has ended
            logits, cache = jax.lax.cond(ended.all(), skip, decode, token, cache)
        else:
            logits, cache = decode(token, cache)
        new, logprob = choose(logits, k + 1)
        new = jnp.where(ended, pad, new)
        logprob = jnp.where(ended, 0.0, logprob)
        return (new, ended | jnp.isin(new, stops), cache), (new, ended, logprob)

    carry = (first, ended, cache)
    carry, (rest, over, logprobs) = scan(step, carry, jnp.arange(steps - 1), name="steps")
    new = jnp.concatenate([first[None], rest]).T
    return Generated(
        new,
        1 + jnp.sum(~over, axis=0, dtype=jnp.int32),
        jnp.concatenate([logprob[None], logprobs]).T,
        carry[2],
    )


def _slots(model: Decoder, steps: int, seq: int, state: Cache | None) -> int:
    """The slots that prompts and new tokens need; where that is not known, what there may be."""
    if steps < 1:
        raise ValueError(f"steps: expected an integer >= 1, got {steps}")
    context, new = model.config.context, seq + steps - 1
    used = 0 if state is None else known(state.used)
    if (0 if used is None else int(used)) + new > context:
        raise ValueError(
            f"generate: prompts of {seq} tokens (padding included{_beside(used)}) and {steps} new "
            f"ones do not fit into the decoder's context of {context}: shorten one"
        )
    if state is None:
        return new
    # a cache that turns out to be too small gives NaN
    return max(state.slots, min(context, state.slots + new) if used is None else int(used) + new)


def _beside(used: Any) -> str:
    return f", after {int(used)} in the cache" if used is not None and int(used) else ""


def _check_ids(model: Decoder, stop: Sequence[int], pad: int) -> None:
    vocab = model.config.vocab
    for name, ids in (("stop", stop), ("pad", [pad])):
        for i in ids:
            if not 0 <= i < vocab:
                raise ValueError(f"{name}: token {i} is outside the vocabulary 0..{vocab - 1}")
