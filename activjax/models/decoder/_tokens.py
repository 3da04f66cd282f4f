"""Tokens with their places: which are real, where each stands, what each may attend to."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int32

from activjax.models.decoder.cache import Cache
from activjax.transforms import tag


@dataclass(frozen=True)
class Tokens:
    """What a decoder is given, made ready.

    Attributes:
      ids: token ids.
      real: False for padding.
      places: which token of its sequence each one is, padding not counted (-1 there).
      at: its position for the model: `places`, or its place within its document. Of one row
        where all sequences agree.
      allowed: which keys it attends to, those in the cache first.
      room: whether a cache can take them; None where it surely can.
    """

    ids: Int32[Array, "batch seq"]
    real: Bool[Array, "batch seq"]
    places: Int32[Array, "batch seq"]
    at: Int32[Array, "#batch seq"]
    allowed: Bool[Array, "#batch 1 seq key"]
    room: Bool[Array, ""] | None

    def without_room(self, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """NaN where the cache was full: later slots would have overwritten earlier ones."""
        return x if self.room is None else jnp.where(self.room, x, jnp.nan)


def of_text(ids: Int32[Array, "batch seq"], segments: Int[Array, "batch seq"] | None) -> Tokens:
    """Whole sequences; `segments` as in `decoder`."""
    if segments is None:
        places = jnp.broadcast_to(jnp.arange(ids.shape[1], dtype=jnp.int32), ids.shape)
        places, _ = _named(places, places[:, -1])
        at = places[:1]
        return Tokens(ids, places >= 0, places, at, _causal(at), None)
    documents = jnp.issubdtype(segments.dtype, jnp.integer)
    places = _count(segments > 0 if documents else segments)
    places, _ = _named(places, places.max(axis=1))
    real = places >= 0
    allowed = _causal(places) & real[:, None, None, :]
    if not documents:
        return Tokens(ids, real, places, places, allowed, None)
    allowed &= segments[:, None, :, None] == segments[:, None, None, :]
    new = segments[:, 1:] != segments[:, :-1]
    starts = jnp.pad(jnp.where(new, places[:, 1:], 0), [(0, 0), (1, 0)])
    at = jnp.where(real, places - jax.lax.cummax(starts, axis=1), -1)
    return Tokens(ids, real, places, at, allowed, None)


def of_more_text(
    ids: Int32[Array, "batch seq"], mask: Bool[Array, "batch seq"] | None, cache: Cache
) -> tuple[Tokens, Cache]:
    """Tokens that follow those in a cache, and the cache as it will know their prompt."""
    real = jnp.ones(ids.shape, bool) if mask is None else mask
    lengths = cache.lengths + real.sum(1, dtype=jnp.int32)
    prompt = jnp.where(cache.used == 0, lengths, cache.prompt)
    places = jnp.where(real, cache.lengths[:, None] + _count(real), -1)
    places, last = _named(places, prompt - 1)
    real = places >= 0
    new = _causal(places) & real[:, None, None, :]
    old = (cache.places >= 0)[:, None, None, :]
    old = jnp.broadcast_to(old, (*new.shape[:3], cache.slots))
    room = cache.used + ids.shape[1] <= cache.slots if cache.slots else None
    tokens = Tokens(ids, real, places, places, jnp.concatenate([old, new], axis=-1), room)
    return tokens, dataclasses.replace(cache, prompt=last + 1)


def _named(
    places: Int32[Array, "batch seq"], last: Int32[Array, " batch"]
) -> tuple[Int32[Array, "batch seq"], Int32[Array, " batch"]]:
    """Places by which `at=` finds tokens, under a cache too, and the prompt's last one."""
    places = tag(places, "positions", axes="batch seq")
    return places, tag(last, "last_prompt", axes="batch")


def _causal(at: Int32[Array, "batch seq"]) -> Bool[Array, "batch 1 seq key"]:
    return at[:, None, :, None] >= at[:, None, None, :]


def _count(real: Bool[Array, "batch seq"]) -> Int32[Array, "batch seq"]:
    count = jnp.cumsum(real, axis=1, dtype=jnp.int32) - 1
    return jnp.where(real, count, -1)
