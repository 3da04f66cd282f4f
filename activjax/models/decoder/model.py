"""`decoder`: the transformer as pure functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from activjax.models._inputs import check_ids, ids_of, mask_of, numbers_of
from activjax.models._layers import known
from activjax.models._model import Model, Params
from activjax.models._nnx import from_nnx
from activjax.models.decoder._module import DecoderModule
from activjax.models.decoder._tokens import of_more_text, of_text
from activjax.models.decoder.cache import Cache
from activjax.models.decoder.config import DecoderConfig, config_of


@dataclass(frozen=True)
class Decoder(Model):
    """A decoder as pure functions: a `Model` with a config and a cache.

    Attributes:
      config: what it is made of.
      part: `part(params, x, *, method, ...)`: a method of the module, for code that runs blocks
        one by one.
    """

    config: DecoderConfig = field(kw_only=True)
    part: Callable[..., Any] = field(kw_only=True)

    def unembed(
        self, params: Params, x: Float[Array, "batch seq d"]
    ) -> Float[Array, "batch seq vocab"]:
        """Logits that the final norm and the head read in a residual stream: the logit lens.

        Args:
          params: the parameters.
          x: a value of a residual site; leading axes are mapped over, such as all layers at once.
        """
        return self.part(params, x, method="unembed")

    def init_cache(self, batch: int, slots: int = 0) -> Cache:
        """An empty cache, to be given as `state`.

        Args:
          batch: number of sequences.
          slots: the most tokens of a sequence it will hold, padding included. With 0 it comes back
            from the first call as long as the tokens given: `Cache.grown` makes room for more.

        Raises:
          ValueError: no sequences, or a negative number of slots. Of more slots than the decoder's
            context `apply` complains.
        """
        c = self.config
        if batch < 1 or slots < 0:
            raise ValueError(f"cache: expected batch >= 1 and slots >= 0, got {batch} and {slots}")
        shape = (c.layers, batch, c.groups_of, slots, c.head_size)
        return Cache(
            jnp.zeros(shape, c.compute),
            jnp.zeros(shape, c.compute),
            jnp.full((batch, slots), -1, jnp.int32),
            jnp.int32(0),
            jnp.zeros(batch, jnp.int32),
            jnp.zeros(batch, jnp.int32),
        )


def decoder(config: DecoderConfig | None = None, **fields: Any) -> Decoder:
    """A causal transformer: GPT-2, GPT-NeoX, Llama, Mistral, Qwen, Gemma and what lies between.

    Sites, with `B` sequences of `T` tokens and `K` keys (those in a cache, then the `T` given):
    `positions` `[B, T]` (which token of its sequence each one is, padding -1, going on under a
    cache: `at={"seq": 5}` finds tokens by it), `last_prompt` `[B]`, `embed` `[B, T, d]`; in the
    loop "layers" `blocks/resid_pre`, `blocks/attn/q`, `k`, `v` (`[B, T, head, d_head]`, as the
    scores use them: normalised and rotated; `k` and `v` have `kv_heads`), `blocks/attn/scores`
    (`[B, head, T, K]`, scaled and capped, before what comes later or is outside of the window is
    masked), `blocks/attn/pattern`, `blocks/attn/heads` (`[B, T, head, d_head]`, before the output
    projection), `blocks/attn/out` (what is added: with `out_norm` after that norm),
    `blocks/resid_mid`, `blocks/mlp/pre` (`[B, T, unit]`), `blocks/mlp/up` where gated,
    `blocks/mlp/post`, `blocks/mlp/out` (as added), `blocks/resid_post`; then `final` and `logits`
    (capped).

    `apply(params, tokens, *, state=None, key=None, train=False, mask=None, segments=None)` returns
    float32 logits `[B, T, vocab]`, and with `state=` (a `Cache`) also the cache after these tokens:

    - `tokens`: integers `[B, T]`.
    - `state`: a `Cache`: the tokens follow those in it.
    - `key`: for dropout, with `train=True`.
    - `mask`: booleans `[B, T]`, True for tokens and False for padding, anywhere; its ids are
      ignored.
    - `segments`: integers `[B, T]`, the number of the document that each token is of; 0 for
      padding. Documents do not see one another, and positions begin anew in each.

    Known token ids are checked; traced ones outside the vocabulary give NaN, and so does a cache
    that is too small.

    Args:
      config: a `DecoderConfig`; or its fields as keyword arguments:
      **fields: such as `vocab=257, context=256, layers=4, width=128, heads=4`.

    Returns:
      The model; `model.init_cache(batch, slots)` makes its state. Kernels are normal with variance
      1 / d_in, those that add to the residual stream over 2 * layers; embeddings have 0.02.

    Raises:
      TypeError: an unknown or missing field, or both a config and fields.
      ValueError: as `DecoderConfig`; from `apply`: tokens of another shape or type or outside the
        vocabulary, more of them than the context, a mask of another shape, a cache of another
        batch or model or without room.
    """
    if config is not None and fields:
        raise TypeError("decoder: give a config or keyword arguments, not both")
    config = config if config is not None else config_of(fields)
    inner = from_nnx(lambda rngs: DecoderModule(config, rngs=rngs))

    def apply(
        params: Params,
        tokens: Int[Array, "batch seq"],
        *,
        state: Cache | None = None,
        key: Array | None = None,
        train: bool = False,
        mask: Bool[Array, "batch seq"] | None = None,
        segments: Int[Array, "batch seq"] | None = None,
    ) -> Any:
        ids = ids_of(tokens, config.context, "decoder")
        mask, segments = _marks(mask, segments, ids.shape, state)
        check_ids(tokens, mask if segments is None else segments, config.vocab, "decoder")
        noise = None
        if train and config.dropout:
            if key is None:
                raise ValueError("this decoder drops units in training: pass key=")
            noise = key
        if state is None:
            ready = of_text(ids, segments if mask is None else mask)
            return inner.apply(params, ready, noise=noise)[0]
        _check_cache(state, ids.shape, config)
        ready, cache = of_more_text(ids, mask, state)
        return inner.apply(params, ready, cache=cache, noise=noise)

    return Decoder(inner.init, apply, config=config, part=inner.apply)


def _marks(
    mask: Any, segments: Any, shape: tuple[int, ...], state: Cache | None
) -> tuple[Array | None, Array | None]:
    if mask is not None and segments is not None:
        raise ValueError("give mask= or segments= (0 is padding there), not both")
    if segments is not None and state is not None:
        raise ValueError("segments= is for whole texts; with a cache give mask=")
    return (
        mask_of(mask, shape, some=state is None),
        numbers_of("segments", segments, shape, ", 0 for padding"),
    )


def _check_cache(cache: Any, shape: tuple[int, ...], config: DecoderConfig) -> None:
    if not isinstance(cache, Cache):
        raise ValueError(f"state: expected a Cache (model.init_cache), got {type(cache).__name__}")
    wanted = (config.layers, shape[0], config.groups_of, cache.slots, config.head_size)
    if cache.k.shape != wanted:
        raise ValueError(
            f"cache: keys of shape {list(cache.k.shape)}, expected {list(wanted)} (layers, batch, "
            "kv_heads, slots, head_width): it is of another decoder or batch"
        )
    used = known(cache.used)
    if used is None:
        full = bool(cache.slots) and shape[1] > cache.slots
    else:
        full = bool(cache.slots) and int(used) + shape[1] > cache.slots
    if full:
        raise ValueError(
            f"cache: {shape[1]} tokens do not fit into its {cache.slots} slots"
            + ("" if used is None else f", of which {int(used)} are used")
            + ": make it longer (init_cache(slots=), Cache.grown)"
        )
    if cache.slots > config.context:
        raise ValueError(
            f"cache: {cache.slots} slots, but the decoder's context is {config.context}"
        )
