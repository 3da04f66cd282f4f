"""A matrix product with weights, in the decoder's dtypes."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from activjax.models._low_rank import product
from activjax.models.decoder.config import DecoderConfig


class Linear(nnx.Module):
    """`x @ kernel + bias`; `kernel` is `[d_in, d_out]`, or a `LowRank` of that shape."""

    def __init__(
        self,
        d_in: int,
        d_out: int,
        config: DecoderConfig,
        *,
        bias: bool,
        gain: float = 1.0,
        rngs: nnx.Rngs,
    ):
        self.compute, self.precision = config.compute, config.product
        draw = jax.random.normal(rngs.params(), (d_in, d_out), jnp.float32)
        kernel = draw * (gain / math.sqrt(d_in))
        self.kernel = nnx.Param(kernel.astype(config.param_dtype), low_rank=True)
        self.bias = nnx.Param(jnp.zeros(d_out, config.param_dtype)) if bias else None

    def __call__(
        self, x: Float[Array, "*batch d_in"], out: Any = None
    ) -> Float[Array, "*batch d_out"]:
        """The product, in the compute dtype or in `out`."""
        kernel = self.kernel.get_value()
        y = product(x, kernel, self.compute, precision=self.precision, out=out)
        return y if self.bias is None else y + self.bias.get_value().astype(y.dtype)
