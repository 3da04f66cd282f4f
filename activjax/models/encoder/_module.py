"""The encoder as a Flax NNX module: embedding, stacked blocks, and what reads them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int32

import activjax.transforms as aj
from activjax.models._layers import activation
from activjax.models.decoder._attention import Attention
from activjax.models.decoder._block import MLP, RESIDUAL, dropout
from activjax.models.decoder._linear import Linear
from activjax.models.decoder._module import Embedding
from activjax.models.decoder._norm import residual_norm
from activjax.models.decoder._tokens import Tokens
from activjax.models.decoder._views import View
from activjax.models.encoder.config import EncoderConfig


class Block(nnx.Module):
    """Post-norm block: each addition to the residual stream is normalised."""

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        self.rate, shared = config.dropout, config.shared
        self.attn = Attention(shared, rngs=rngs)
        self.attn_norm = residual_norm(shared)
        self.mlp = MLP(shared, rngs=rngs)
        self.mlp_norm = residual_norm(shared)

    def __call__(
        self, x: Float[Array, "batch seq d"], view: View, key: Array | None
    ) -> Float[Array, "batch seq d"]:
        """The residual stream after the block."""
        keys = (None, None) if key is None else jax.random.split(key)
        x = aj.tag(x, "resid_pre", axes=RESIDUAL)
        with aj.scope("attn"):
            added, _ = self.attn(x, view, None)
        mid = self.attn_norm(x + dropout(added, self.rate, keys[0]))
        mid = aj.tag(mid, "resid_mid", axes=RESIDUAL)
        with aj.scope("mlp"):
            added = self.mlp(mid)
        after = self.mlp_norm(mid + dropout(added, self.rate, keys[1]))
        return aj.tag(after, "resid_post", axes=RESIDUAL)


class MaskedHead(nnx.Module):
    """Logits of masked tokens: a layer, a norm, and a matrix, by default the embedding."""

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        c = config.shared
        self.config = c
        self.dense = Linear(c.width, c.width, c, bias=True, rngs=rngs)
        self.norm = residual_norm(c)
        self.head = None if c.tied else Linear(c.width, c.vocab, c, bias=False, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros(c.vocab, c.param_dtype))

    def __call__(
        self, x: Float[Array, "batch seq d"], table: Float[Array, "vocab d"]
    ) -> Float[Array, "batch seq vocab"]:
        """Logits, in float32."""
        c = self.config
        x = aj.tag(self.dense(x), "pre", axes=RESIDUAL)
        x = aj.tag(activation(c.activation)(x), "post", axes=RESIDUAL)
        x = aj.tag(self.norm(x), "out", axes=RESIDUAL)
        if self.head is not None:
            logits = self.head(x, jnp.float32)
        else:
            logits = jnp.einsum(
                "btd,vd->btv",
                x,
                table.astype(c.compute),
                precision=c.product,
                preferred_element_type=jnp.float32,
            )
        return logits + self.bias.get_value().astype(jnp.float32)


class EncoderModule(nnx.Module):
    """The module behind `encoder`."""

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        self.config = config
        c, shared = config, config.shared
        self.embed = Embedding(c.vocab, shared, rngs=rngs)
        self.place = Embedding(c.context, shared, rngs=rngs)
        self.type = Embedding(c.types, shared, rngs=rngs) if c.types else None
        self.embed_norm = residual_norm(shared)

        @nnx.split_rngs(splits=c.layers)
        @nnx.vmap
        def blocks(rngs: nnx.Rngs) -> Block:
            return Block(config, rngs=rngs)

        self.blocks = blocks(rngs)
        self.pooler = Linear(c.width, c.width, shared, bias=True, rngs=rngs) if c.pooler else None
        self.mlm = MaskedHead(config, rngs=rngs) if c.mlm else None
        pair = Linear(c.width, 2, shared, bias=True, rngs=rngs) if c.next_sentence else None
        self.next_sentence = pair

    def __call__(
        self,
        tokens: Tokens,
        types: Int32[Array, "batch seq"] | None,
        read: str,
        noise: Array | None,
    ) -> Any:
        """What the part `read` makes of the tokens."""
        keys = (None, None) if noise is None else jax.random.split(noise)
        x = self.embed(tokens.ids) + self.place(jnp.maximum(tokens.at, 0))
        if self.type is not None:
            kinds = jnp.zeros_like(tokens.ids) if types is None else types
            x = x + self.type(jnp.where(tokens.real, kinds, 0))
        x = dropout(self.embed_norm(x), self.config.dropout, keys[0])
        x = self._through_blocks(aj.tag(x, "embed", axes=RESIDUAL), tokens, keys[1])
        x = aj.tag(x, "final", axes=RESIDUAL)
        if read == "final":
            return x
        if read == "logits" and self.mlm is not None:
            with aj.scope("mlm"):
                logits = self.mlm(x, self.embed.table.get_value())
            return aj.tag(logits, "logits", axes="batch seq vocab")
        assert self.pooler is not None
        first = jnp.argmax(tokens.real, axis=1)[:, None, None]  # padding may come before it
        pooled = jnp.tanh(self.pooler(jnp.take_along_axis(x, first, axis=1)[:, 0]))
        pooled = aj.tag(pooled, "pooled", axes="batch d")
        if read == "pooled":
            return pooled
        assert self.next_sentence is not None
        return aj.tag(self.next_sentence(pooled, jnp.float32), "next_sentence", axes="batch pair")

    def _through_blocks(self, x: Array, tokens: Tokens, key: Array | None) -> Array:
        c = self.config
        graph, params = nnx.split(self.blocks)
        keys = None if key is None or not c.dropout else jax.random.split(key, c.layers)
        allowed = tokens.real[:, None, None, :]  # every token sees every other, but no padding
        seq = tokens.ids.shape[1]
        view = View(tokens.at, jnp.broadcast_to(allowed, (len(allowed), 1, seq, seq)), None)

        def block(x: Array, xs: Any) -> tuple[Array, None]:
            params, key = xs
            return nnx.merge(graph, params)(x, view, key), None

        if c.scan:
            with aj.scope("blocks"):
                return aj.scan(block, x, (params, keys), name="layers")[0]
        for i in range(c.layers):
            with aj.scope(f"blocks/{i}"):
                x, _ = block(x, jax.tree.map(lambda leaf: leaf[i], (params, keys)))  # noqa: B023
        return x
