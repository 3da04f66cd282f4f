"""One block: attention and an MLP around the residual stream."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from activjax.models._layers import activation
from activjax.models.decoder._attention import KV, Attention
from activjax.models.decoder._linear import Linear
from activjax.models.decoder._norm import residual_norm
from activjax.models.decoder._views import View
from activjax.models.decoder.config import DecoderConfig
from activjax.transforms import scope, tag

RESIDUAL = "batch seq d"
UNIT = "batch seq unit"


def dropout(x: Float[Array, "*n"], rate: float, key: Array | None) -> Float[Array, "*n"]:
    """Inverted dropout; without a key nothing is dropped."""
    if key is None or not rate:
        return x
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), jnp.zeros((), x.dtype))


class MLP(nnx.Module):
    """Two projections around an activation, the first one gated if asked."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        c, bias = config, config.bias is True
        self.activation = c.activation
        self.pre = Linear(c.width, c.hidden, c, bias=bias, rngs=rngs)
        self.up = Linear(c.width, c.hidden, c, bias=bias, rngs=rngs) if c.gated else None
        self.out = Linear(c.hidden, c.width, c, bias=bias, gain=c.residual_gain, rngs=rngs)
        self.out_norm = residual_norm(c) if c.out_norm else None

    def __call__(self, x: Float[Array, "batch seq d"]) -> Float[Array, "batch seq d"]:
        """What the MLP adds."""
        y = activation(self.activation)(tag(self.pre(x), "pre", axes=UNIT))
        if self.up is not None:
            y = y * tag(self.up(x), "up", axes=UNIT)
        out = self.out(tag(y, "post", axes=UNIT))
        if self.out_norm is not None:
            out = self.out_norm(out)
        return tag(out, "out", axes=RESIDUAL)


class Block(nnx.Module):
    """Pre-norm block; what it adds may have a norm of its own."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.attn_norm = residual_norm(config)
        self.attn = Attention(config, rngs=rngs)
        self.mlp_norm = residual_norm(config)
        self.mlp = MLP(config, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "batch seq d"],
        view: View,
        cached: KV | None,
        key: Array | None,
    ) -> tuple[Float[Array, "batch seq d"], KV]:
        """The residual stream after the block, and its keys and values."""
        rate = self.config.dropout
        keys = (None, None) if key is None else jax.random.split(key)
        x = tag(x, "resid_pre", axes=RESIDUAL)
        with scope("attn"):
            added, kv = self.attn(self.attn_norm(x), view, cached)
        mid = x + dropout(added, rate, keys[0])
        if not self.config.parallel:
            mid = tag(mid, "resid_mid", axes=RESIDUAL)
        with scope("mlp"):
            added = self.mlp(self.mlp_norm(x if self.config.parallel else mid))
        return tag(mid + dropout(added, rate, keys[1]), "resid_post", axes=RESIDUAL), kv
