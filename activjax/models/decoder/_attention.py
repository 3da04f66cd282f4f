"""Causal attention over the tokens given and those in a cache, every step named."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from activjax.models.decoder._cap import capped
from activjax.models.decoder._linear import Linear
from activjax.models.decoder._norm import head_norm, residual_norm
from activjax.models.decoder._views import View
from activjax.models.decoder.config import DecoderConfig
from activjax.transforms import tag

HEAD = "batch seq head d_head"
KEYS = "batch head seq key"
_NEVER = -1e30  # finite: a row without any key (padding) gives an average, not NaN

KV = tuple[Float[Array, "batch kv slots d"], Float[Array, "batch kv slots d"]]


class Attention(nnx.Module):
    """Multi-head attention; `kv_heads < heads` shares keys and values among groups of heads."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.config = config
        c, size = config, config.head_size
        inner, shared = c.heads * size, c.groups_of * size
        qkv, added = c.bias is not False, c.bias is True or c.bias == "attn"
        self.q = Linear(c.width, inner, c, bias=qkv, rngs=rngs)
        self.k = Linear(c.width, shared, c, bias=qkv, rngs=rngs)
        self.v = Linear(c.width, shared, c, bias=qkv, rngs=rngs)
        self.out = Linear(inner, c.width, c, bias=added, gain=c.residual_gain, rngs=rngs)
        self.q_norm = head_norm(c) if c.qk_norm else None
        self.k_norm = head_norm(c) if c.qk_norm else None
        self.out_norm = residual_norm(c) if c.out_norm else None

    def __call__(
        self,
        x: Float[Array, "batch seq d"],
        view: View,
        cached: KV | None,
    ) -> tuple[Float[Array, "batch seq d"], KV]:
        """What attention adds, and the keys and values of these tokens.

        Args:
          x: normalised inputs.
          view: places of the tokens, and the keys that they attend to.
          cached: keys and values in the cache, or None.
        """
        c = self.config
        q, k, v = (
            p(x).reshape(*x.shape[:2], n, c.head_size)
            for p, n in ((self.q, c.heads), (self.k, c.groups_of), (self.v, c.groups_of))
        )
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = view.rotated(q), view.rotated(k)
        q, k, v = tag(q, "q", axes=HEAD), tag(k, "k", axes=HEAD), tag(v, "v", axes=HEAD)
        k, v = jnp.swapaxes(k, 1, 2), jnp.swapaxes(v, 1, 2)
        heads = self._attend(q, k, v, view.allowed, cached)
        heads = tag(heads, "heads", axes=HEAD)
        out = self.out(heads.reshape(*x.shape[:2], -1))
        if self.out_norm is not None:
            out = self.out_norm(out)
        return tag(out, "out", axes="batch seq d"), (k, v)

    def _attend(
        self,
        q: Float[Array, "batch seq head d"],
        k: Float[Array, "batch kv seq d"],
        v: Float[Array, "batch kv seq d"],
        allowed: Bool[Array, "#batch 1 seq key"],
        cached: KV | None,
    ) -> Float[Array, "batch seq head d"]:
        c = self.config
        batch, seq = q.shape[:2]
        grouped = q.reshape(batch, seq, c.groups_of, -1, c.head_size)
        # Old and new keys apart: a cache shared by the lanes of a `vmap` is never copied.
        pieces = [(k, v)] if cached is None else [cached, (k, v)]
        scores = jnp.concatenate([self._scores(grouped, keys) for keys, _ in pieces], axis=-1)
        scores = scores.reshape(batch, c.heads, seq, -1)
        if c.score_scale is None:
            scores = scores / math.sqrt(c.head_size)
        else:
            scores = scores * c.score_scale
        scores = tag(capped(scores, c.score_cap), "scores", axes=KEYS)
        pattern = jax.nn.softmax(jnp.where(allowed, scores, _NEVER), axis=-1)
        pattern = tag(pattern.astype(q.dtype), "pattern", axes=KEYS)
        parts = pattern.reshape(batch, c.groups_of, -1, seq, pattern.shape[-1])
        split = [] if cached is None else [cached[0].shape[2]]
        weights = jnp.split(parts, split, axis=-1)
        sums = [
            jnp.einsum("bkgts,bksd->btkgd", w, values, precision=c.product)
            for w, (_, values) in zip(weights, pieces, strict=True)
        ]
        heads = sums[0] if len(sums) == 1 else sums[0] + sums[1]
        return heads.reshape(batch, seq, c.heads, c.head_size)

    def _scores(
        self, q: Float[Array, "batch seq kv group d"], k: Float[Array, "batch kv key d"]
    ) -> Float[Array, "batch kv group seq key"]:
        return jnp.einsum(
            "btkgd,bksd->bkgts",
            q,
            k,
            precision=self.config.product,
            preferred_element_type=jnp.float32,
        )
