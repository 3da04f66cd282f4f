"""Answers of a model with vectors put into it: each distinct prompt is run once, greedily on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32

from activjax.introspection._inject import LAST, PERSISTENT, inject_vectors
from activjax.introspection._rows import with_answers
from activjax.introspection._talk import Prompts, Replay, Talk
from activjax.models import Decoder, Generated, generate, last_token
from activjax.models._layers import known


def respond(
    model: Decoder,
    params: Any,
    prompts: Prompts,
    rows: Int[Array, " n"],
    vectors: Float[Array, "n d"],
    *,
    site: str,
    layer: Any,
    steps: int,
    at: Any = LAST,
    prefix: Int[Array, " k"] | None = None,
    stop: Sequence[int] = (),
    pad: int = 0,
) -> Int32[Array, "n steps"]:
    """Greedy answers, one for each vector; a pure function, all arrays may be traced.

    What stands before the injected token is the same for every vector: with `at="last_prompt"` or
    `"persistent"` each prompt is run once up to there, and an answer costs one token and its own.

    Args:
      model, params: the decoder.
      prompts: the different prompts.
      rows: which prompt each answer is to.
      vectors: what is added; zeros for nothing.
      site, layer, at: as in `inject_vectors`; positions are `[n]`.
      steps: tokens of an answer.
      prefix: tokens that every answer is made to begin with; they are not returned.
      stop, pad: as in `models.generate`.

    Returns:
      New tokens, after a stop token `pad`. Where logits are NaN the token is 0 (`respond_all` and
      `evaluate` refuse these).

    Raises:
      ValueError: prompts, prefix and answers together longer than the decoder's context, or a known
        row that is no prompt.
    """
    options: dict[str, Any] = {"steps": steps, "prefix": prefix, "stop": stop, "pad": pad}
    return _generated(
        model, params, prompts, rows, vectors, site=site, layer=layer, at=at, **options
    ).tokens


def _generated(
    model: Decoder, params: Any, prompts: Prompts, rows: Any, vectors: Any, *, site: str,
    layer: Any, steps: int, at: Any, prefix: Any, stop: Sequence[int], pad: int,
) -> Generated:  # fmt: skip
    tokens, last = jnp.asarray(prompts.tokens), jnp.asarray(prompts.last)[rows]
    whose = known(rows)
    if whose is not None and whose.size and not 0 <= whose.min() <= whose.max() < len(tokens):
        raise ValueError(f"rows: expected prompts 0 to {len(tokens) - 1}, got {whose.tolist()}")
    ends = jnp.asarray(prompts.last)[:, None].astype(jnp.int32)
    mask = jnp.arange(tokens.shape[1], dtype=jnp.int32) <= ends
    if isinstance(at, str) and at in (LAST, PERSISTENT):
        # "last_prompt" would be the end of a prefix
        where: dict[str, Any] = {"at": last} if at == LAST else {"at": at, "start": last}
        new, cache = last_token(model, params, tokens, mask=mask)
        given, cache, real = new[rows], cache.take(rows), None
    else:
        where = {"at": at}
        given, cache, real = tokens[rows], None, mask[rows]
    ahead = jnp.asarray(() if prefix is None else prefix, tokens.dtype)
    more = len(ahead)
    # known here alone: a cache that turns out too small gives NaN
    if (whole := tokens.shape[1] + more + steps - 1) > model.config.context:
        raise ValueError(
            f"respond: prompts of {tokens.shape[1]} tokens (padding included), a prefix of "
            f"{more} and {steps} new ones take {whole}, the decoder's context is "
            f"{model.config.context}"
        )
    if more:
        forced = jnp.broadcast_to(ahead, (len(rows), more))
        given = jnp.concatenate([given, forced], axis=1)
        if real is not None:
            real = jnp.concatenate([real, jnp.ones(forced.shape, bool)], axis=1)
    apply = inject_vectors(model.apply, site, vectors, layer=layer, **where)
    edited = dataclasses.replace(model, apply=apply)
    options: dict[str, Any] = {"temperature": 0, "stop": stop, "pad": pad}
    return generate(edited, params, given, steps=steps, mask=real, state=cache, **options)


@partial(jax.jit, static_argnames=("model", "site", "steps", "at", "stop", "pad"))
def _respond(
    model: Decoder,
    params: Any,
    prompts: Prompts,
    rows: Any,
    vectors: Any,
    back: Any,
    *,
    at: str,
    **options: Any,
) -> Any:
    where = at if back is None else jnp.asarray(prompts.last)[rows] - back
    found = _generated(model, params, prompts, rows, vectors, at=where, **options)
    return found.tokens, jnp.isnan(found.logprobs).any(axis=1)


def respond_all(
    model: Decoder,
    params: Any,
    prompts: Prompts,
    vectors: Any,
    *,
    site: str,
    layer: Int[np.ndarray, " n"] | None,
    steps: int,
    at: str = LAST,
    back: int = 0,
    prefix: Any = None,
    stop: tuple[int, ...] = (),
    pad: int = 0,
    chunk: int = 256,
) -> Int32[np.ndarray, "n steps"]:
    """`respond` for any number of rows, in one compiled program of `chunk` rows.

    Args:
      prompts: one for each row; equal ones of a chunk are run once.
      vectors: `vectors(rows)`, `[len(rows), d]`: what is added to these rows.
      layer: of each row; None for a site in no loop.
      back: with "last_prompt", so many tokens before it.
      chunk: rows at a time.
      model, params, site, steps, at, prefix, stop, pad: as in `respond`.

    Raises:
      ValueError: as `respond`; `chunk` below 1; a NaN among the logits of an answer, which read as
        a token would count as no report.
    """
    if chunk < 1:
        raise ValueError(f"chunk: expected at least 1 answer at a time, got {chunk}")
    tokens, last = np.asarray(prompts.tokens), np.asarray(prompts.last)
    out = np.full((len(tokens), steps), pad, np.int32)
    _, same = _apart(prompts)
    order = np.argsort(same, kind="stable")  # a chunk has few different prompts
    for begin in range(0, len(order), chunk):
        take = order[begin : begin + chunk]
        full = np.concatenate([take, np.repeat(take[-1:], chunk - len(take))])
        _, first, rows = np.unique(same[full], return_index=True, return_inverse=True)
        few = max(1, chunk // 16)  # two sizes, so two programs at most
        size = few if len(first) <= few else chunk
        distinct = full[np.concatenate([first, np.repeat(first[:1], size - len(first))])]
        found, lost = _respond(
            model, params, Prompts(tokens[distinct], last[distinct]),
            rows.ravel().astype(np.int32), vectors(full), np.int32(back) if back else None,
            site=site,
            layer=None if layer is None else np.asarray(layer)[full], steps=steps, at=at,
            prefix=prefix, stop=tuple(stop), pad=pad,
        )  # fmt: skip
        out[take] = np.asarray(found)[: len(take)]
        if number := int(np.asarray(lost)[: len(take)].sum()):
            raise ValueError(
                f"respond: the logits of {number} of {len(take)} answers are NaN: the parameters "
                "have NaN, or what is put in is too large for the model's numbers"
            )
    return out


def answers_of(model: Decoder, params: Any, talk: Talk, prompts: Prompts) -> Replay:
    """Prompts with what a model itself answers, greedily: what it is to keep saying.

    Equal prompts are run once. The answer is learned up to its stop token.
    """
    tokens, last = np.asarray(prompts.tokens), np.asarray(prompts.last)
    first, which = _apart(prompts)
    some = Prompts(tokens[first], last[first])
    ask = jax.jit(partial(generate, model, steps=talk.steps, stop=talk.stop, pad=talk.pad))
    found = ask(params, jnp.asarray(some.tokens), mask=jnp.asarray(some.mask))
    if np.isnan(np.asarray(found.logprobs)).any():
        raise ValueError("replay: the model's logits are NaN before it is trained")
    given = np.asarray(found.tokens)[which]
    full, learned = with_answers(prompts, given, talk)
    return Replay(full, (last + 1 + learned.sum(1)).astype(np.int32), learned)


def _apart(prompts: Prompts) -> tuple[np.ndarray, np.ndarray]:
    """Where each different prompt stands first, and which of them each one is."""
    rows = np.column_stack([prompts.tokens, prompts.last])
    _, first, which = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return first, which.ravel()
