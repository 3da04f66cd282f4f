"""Tokens with their places: which are real, where each stands, what each may attend to."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int32

from activjax.models.decoder.cache import Cache
from activjax.transforms import tag


@dataclass(frozen=True)
class Tokens:
    """What a decoder is given, made ready.

    Attributes:
      ids: token ids; 0 for padding.
      real: False for padding.
      places: which token of its sequence each one is, padding not counted (-1 there).
      at: its position for the model: `places`, or its place within its document.
      allowed: which keys it attends to, those in the cache first.
      room: whether a cache can take them; None where it surely can.
      before: positions of the tokens in the cache; None without one.
    """

    ids: Int32[Array, "batch seq"]
    real: Bool[Array, "batch seq"]
    places: Int32[Array, "batch seq"]
    at: Int32[Array, "#batch seq"]
    allowed: Bool[Array, "#batch 1 seq key"]
    room: Bool[Array, ""] | None
    before: Int32[Array, "batch slots"] | None = None

    def within(self, window: int) -> Bool[Array, "#batch 1 seq key"]:
        """The allowed keys among the last `window` tokens of each one's document, itself too."""
        keys = self.at
        if self.before is not None:
            keys = jnp.concatenate([self.before, keys], axis=-1)
        back = self.at[:, None, :, None] - keys[:, None, None, :]
        return self.allowed & (back < window)

    def without_room(self, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """NaN where the cache was full: later slots would have overwritten earlier ones."""
        return x if self.room is None else jnp.where(self.room, x, jnp.nan)


def of_text(ids: Int32[Array, "batch seq"], segments: Int[Array, "batch seq"] | None) -> Tokens:
    """Whole sequences; `segments` as in `decoder`, or booleans, True for tokens."""
    if segments is None:
        segments = jnp.ones(ids.shape, bool)
        places = jnp.broadcast_to(jnp.arange(ids.shape[1], dtype=jnp.int32), ids.shape)
    else:
        places = _count(segments > 0 if segments.dtype != bool else segments)
    last = tag(places.max(axis=1), "last_prompt", axes="batch")
    # changes nothing, but a name whose value nobody uses is lost under a gradient
    places = tag(jnp.minimum(places, last[:, None]), "positions", axes="batch seq")
    real = places >= 0
    allowed = _causal(places) & real[:, None, None, :]
    if segments.dtype == bool:
        return Tokens(jnp.where(real, ids, 0), real, places, places, allowed, None)
    allowed &= segments[:, None, :, None] == segments[:, None, None, :]
    before = allowed[:, 0].sum(axis=-1, dtype=jnp.int32) - 1  # tokens of its document
    at = jnp.where(real, before, -1)
    return Tokens(jnp.where(real, ids, 0), real, places, at, allowed, None)


def of_more_text(
    ids: Int32[Array, "batch seq"], mask: Bool[Array, "batch seq"] | None, cache: Cache
) -> tuple[Tokens, Cache]:
    """Tokens that follow those in a cache, and the cache as it will know their prompt."""
    real = jnp.ones(ids.shape, bool) if mask is None else mask
    lengths = cache.lengths + real.sum(1, dtype=jnp.int32)
    prompt = jnp.where(cache.used == 0, lengths, cache.prompt)
    places = jnp.where(real, cache.lengths[:, None] + _count(real), -1)
    last = tag(prompt - 1, "last_prompt", axes="batch")
    places = tag(places, "positions", axes="batch seq")
    real = places >= 0
    new = _causal(places) & real[:, None, None, :]
    old = (cache.places >= 0)[:, None, None, :]
    old = jnp.broadcast_to(old, (*new.shape[:3], cache.slots))
    room = cache.used + ids.shape[1] <= cache.slots if cache.slots else None
    allowed = jnp.concatenate([old, new], axis=-1)
    ids = jnp.where(real, ids, 0)
    tokens = Tokens(ids, real, places, places, allowed, room, before=cache.places)
    return tokens, dataclasses.replace(cache, prompt=last + 1)


def _causal(at: Int32[Array, "batch seq"]) -> Bool[Array, "batch 1 seq key"]:
    return at[:, None, :, None] >= at[:, None, None, :]


def _count(real: Bool[Array, "batch seq"]) -> Int32[Array, "batch seq"]:
    count = jnp.cumsum(real, axis=1, dtype=jnp.int32) - 1
    return jnp.where(real, count, -1)
