"""LayerNorm and RMSNorm, computed in float32."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from activjax.models.decoder.config import DecoderConfig


class Norm(nnx.Module):
    """Normalise the last axis, scale it and, for LayerNorm with bias, shift it.

    Of the kind "rms_1p" the scale is 1 + the parameter, which starts at 0 (Gemma).
    """

    def __init__(self, kind: str, size: int, *, eps: float, bias: bool, dtype: str):
        self.kind, self.eps = kind, eps
        start = jnp.zeros if kind == "rms_1p" else jnp.ones
        self.scale = nnx.Param(start(size, dtype))
        self.bias = nnx.Param(jnp.zeros(size, dtype)) if bias and kind == "layer" else None

    def __call__(self, x: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
        """The normalised value, in the dtype of `x`."""
        y = x.astype(jnp.float32)
        if self.kind == "layer":
            y = y - y.mean(-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), -1, keepdims=True) + self.eps)
        scale = self.scale.get_value().astype(jnp.float32)
        y = y * (1.0 + scale if self.kind == "rms_1p" else scale)
        if self.bias is not None:
            y = y + self.bias.get_value().astype(jnp.float32)
        return y.astype(x.dtype)


def residual_norm(config: DecoderConfig) -> Norm:
    """A norm of the residual stream, or of what is added to it."""
    c = config
    return Norm(c.norm, c.width, eps=c.norm_eps, bias=c.bias is True, dtype=c.param_dtype)


def head_norm(config: DecoderConfig) -> Norm:
    """A norm of single heads: of root mean squares, whatever that of the residual stream is."""
    c = config
    kind = c.norm if c.norm == "rms_1p" else "rms"
    return Norm(kind, c.head_size, eps=c.norm_eps, bias=False, dtype=c.param_dtype)
