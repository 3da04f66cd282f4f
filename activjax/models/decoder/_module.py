"""The decoder as a Flax NNX module: embedding, stacked blocks, head."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int32

import activjax.transforms as aj
from activjax.models.decoder._block import RESIDUAL, Block, dropout
from activjax.models.decoder._cap import capped
from activjax.models.decoder._linear import Linear
from activjax.models.decoder._norm import residual_norm
from activjax.models.decoder._tokens import Tokens
from activjax.models.decoder._views import View, views
from activjax.models.decoder.cache import Cache
from activjax.models.decoder.config import DecoderConfig


class Embedding(nnx.Module):
    """A table of vectors; what is outside of it gives NaN."""

    def __init__(self, rows: int, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.compute = config.compute
        draw = 0.02 * jax.random.normal(rngs.params(), (rows, config.width), jnp.float32)
        self.table = nnx.Param(draw.astype(config.param_dtype))

    def __call__(self, ids: Int32[Array, "*n"]) -> Float[Array, "*n d"]:
        """The rows."""
        table = self.table.get_value()
        inside = jnp.where(ids < 0, table.shape[0], ids)  # negative ones would count from the end
        return jnp.take(table, inside, axis=0, mode="fill").astype(self.compute)


class DecoderModule(nnx.Module):
    """The module behind `decoder`."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.embed = Embedding(config.vocab, config, rngs=rngs)
        learned = config.positions == "learned"
        self.place = Embedding(config.context, config, rngs=rngs) if learned else None

        @nnx.split_rngs(splits=config.layers)
        @nnx.vmap
        def blocks(rngs: nnx.Rngs) -> Block:
            return Block(config, rngs=rngs)

        self.blocks = blocks(rngs)
        self.final = residual_norm(config)
        head = None
        if not config.tied:
            head = Linear(config.width, config.vocab, config, bias=False, rngs=rngs)
        self.head = head

    def __call__(
        self, tokens: Tokens, cache: Cache | None = None, noise: Array | None = None
    ) -> tuple[Float[Array, "batch seq vocab"], Cache | None]:
        """Logits, and the cache after these tokens."""
        c = self.config
        keys = (None, None) if noise is None else jax.random.split(noise)
        x = self.embed(tokens.ids)
        if c.embed_scale is not None:
            x = x * jnp.asarray(c.embed_scale, c.compute)
        if self.place is not None:
            x = x + self.place(jnp.maximum(tokens.at, 0))
        x = aj.tag(dropout(x, c.dropout, keys[0]), "embed", axes=RESIDUAL)
        x, (k, v) = self._through_blocks(x, tokens, cache, keys[1])
        logits = self._logits(x)
        if cache is not None:
            cache = cache.extended(k, v, tokens.places)
            logits = tokens.without_room(logits)
        return aj.tag(logits, "logits", axes="batch seq vocab"), cache

    def block(
        self, x: Float[Array, "batch seq d"], layer: Array, tokens: Tokens, cache: Cache
    ) -> Float[Array, "batch seq d"]:
        """One block alone, its sites under `blocks/`: from `resid_pre` to `resid_post`."""
        view = views(tokens, self.config).at_layer(layer)
        with aj.scope("blocks"):
            return self._block(x, layer, view, cache)

    def above(
        self, x: Float[Array, "batch seq d"], layer: Array, tokens: Tokens, cache: Cache
    ) -> Float[Array, "batch seq vocab"]:
        """Logits, from what enters a block; the blocks below are not run."""
        seen = views(tokens, self.config)

        def body(x: Array, i: Array) -> tuple[Array, None]:
            # a loop of fixed length, so that it has a derivative backwards; what is skipped is free
            run = lambda x: self._block(x, i, seen.at_layer(i), cache)  # noqa: E731
            return jax.lax.cond(i >= layer, run, lambda x: x, x), None

        with aj.scope("above"):
            every = jnp.arange(self.config.layers, dtype=jnp.int32)
            return self._logits(jax.lax.scan(body, x, every)[0])

    def _block(self, x: Array, layer: Array, view: View, cache: Cache) -> Array:
        graph, params = nnx.split(self.blocks)
        params, k, v = jax.tree.map(
            lambda leaf: jax.lax.dynamic_index_in_dim(leaf, layer, keepdims=False),
            (params, cache.k, cache.v),
        )
        block = nnx.merge(graph, params)
        return block(x, view, (k, v), None)[0]

    def unembed(self, x: Float[Array, "*batch d"]) -> Float[Array, "*batch vocab"]:
        """What the final norm and the head make of a residual stream."""
        return self._head(self.final(x))

    def _logits(self, x: Float[Array, "batch seq d"]) -> Float[Array, "batch seq vocab"]:
        return self._head(aj.tag(self.final(x), "final", axes=RESIDUAL))

    def _head(self, x: Float[Array, "*batch d"]) -> Float[Array, "*batch vocab"]:
        c = self.config
        if self.head is not None:
            logits = self.head(x, jnp.float32)
        else:
            table = self.embed.table.get_value().astype(c.compute)
            logits = jnp.einsum(
                "...d,vd->...v", x, table, precision=c.product, preferred_element_type=jnp.float32
            )
        return capped(logits, c.logit_cap)

    def _through_blocks(
        self, x: Array, tokens: Tokens, cache: Cache | None, key: Array | None
    ) -> tuple[Array, Any]:
        c = self.config
        graph, params = nnx.split(self.blocks)
        keys = None if key is None or not c.dropout else jax.random.split(key, c.layers)
        cached = None if cache is None else (cache.k, cache.v)
        seen = views(tokens, c)

        def block(view: View, x: Array, xs: Any) -> tuple[Array, Any]:
            params, cached, key = xs
            return nnx.merge(graph, params)(x, view, cached, key)

        def flagged(x: Array, xs: Any) -> tuple[Array, Any]:
            return block(seen.of(xs[0]), x, xs[1])

        xs = (params, cached, keys)
        if c.scan:
            flags = None if seen.flags is None else jnp.asarray(seen.flags)
            with aj.scope("blocks"):
                return aj.scan(_remat(flagged, c), x, (flags, xs), name="layers")
        kept = []
        for i in range(c.layers):
            view = seen.of(None if seen.flags is None else seen.flags[i])
            own = jax.tree.map(lambda leaf: leaf[i], xs)  # noqa: B023
            with aj.scope(f"blocks/{i}"):
                x, kv = _remat(functools.partial(block, view), c)(x, own)
            kept.append(kv)
        return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *kept)


def _remat(f: Callable[..., Any], config: DecoderConfig) -> Callable[..., Any]:
    if not config.remat:
        return f
    dots = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    policy = dots if config.remat == "dots" else None
    # a loop keeps the two passes apart by itself
    return jax.checkpoint(f, prevent_cse=not config.scan, policy=policy)
