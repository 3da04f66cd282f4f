"""What a decoder is made of: one frozen dataclass that expresses the families people study."""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from activjax.models._layers import activation, check_sizes

_CHOICES: dict[str, tuple[Any, ...]] = {
    "norm": ("layer", "rms"),
    "positions": ("learned", "rotary", "none"),
    "bias": (True, False, "qkv"),
    "dtype": ("float32", "bfloat16"),
    "param_dtype": ("float32", "bfloat16"),
    "remat": (True, False, "dots"),
    "precision": ("highest", "high", "default"),
}


@dataclass(frozen=True)
class DecoderConfig:
    """A causal transformer. The defaults are GPT-2's; sizes are numbers of units.

    Attributes:
      vocab: number of token ids.
      context: the most positions a sequence may have.
      layers: number of blocks.
      width: size of the residual stream.
      heads: query heads.
      kv_heads: key and value heads, a divisor of `heads` (grouped-query attention, Ainslie et al.
        2023); None for as many as `heads`.
      head_width: size of a head; None for `width / heads`.
      mlp_width: hidden units of an MLP; None for `4 * width`.
      norm: "layer" (Ba et al. 2016) or "rms" (Zhang and Sennrich 2019).
      norm_eps: added to the variance or the mean square.
      positions: "learned" (added to the embedding), "rotary" (Su et al. 2021) or "none".
      rotary_fraction: share of a head's dimensions that rotate, the first ones.
      rotary_base: wavelengths are `2 pi base^(2i/n)`.
      bias: additive biases everywhere but in the head; "qkv": in the query, key and value
        projections only; LayerNorm keeps its shift only where True.
      qk_norm: RMS-normalise each query and key head before rotating it, with a learned scale.
      parallel: attention and MLP both read the block's input (each through its own norm) and are
        added together (GPT-NeoX); there is no `resid_mid` then.
      tied: the head is the embedding.
      activation: of the MLP: "gelu" (tanh form), "gelu_exact", "gelu_quick", "relu", "silu", ...
      gated: the activation multiplies a second projection (Shazeer 2020; with "silu": SwiGLU).
      dropout: probability, on the embedding and on what each block adds to the residual stream.
      dtype: of activations and of products; norms, softmax and logits are float32.
      param_dtype: of parameters.
      scan: blocks as one scanned loop; False: one after the other (slower to compile), with sites
        `blocks/<i>/...`. The parameters are the same.
      remat: recompute a block's activations in the backward pass; "dots" keeps the products with
        weights.
      precision: of float32 products on accelerators (see `mlp`).

    Raises:
      ValueError: a value outside these, or sizes that do not fit; the message names the field.
    """

    vocab: int
    context: int
    layers: int
    width: int
    heads: int
    kv_heads: int | None = None
    head_width: int | None = None
    mlp_width: int | None = None
    norm: str = "layer"
    norm_eps: float = 1e-5
    positions: str = "learned"
    rotary_fraction: float = 1.0
    rotary_base: float = 10_000.0
    bias: bool | str = True
    qk_norm: bool = False
    parallel: bool = False
    tied: bool = True
    activation: str = "gelu"
    gated: bool = False
    dropout: float = 0.0
    dtype: str = "float32"
    param_dtype: str = "float32"
    scan: bool = True
    remat: bool | str = False
    precision: str = "highest"

    def __post_init__(self) -> None:
        for name in ("vocab", "context", "layers", "width", "heads"):
            check_sizes(f"decoder {name}", (getattr(self, name),), 1)
        for name in ("kv_heads", "head_width", "mlp_width"):
            if getattr(self, name) is not None:
                check_sizes(f"decoder {name}", (getattr(self, name),), 1)
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if not any(type(value) is type(c) and value == c for c in choices):
                raise ValueError(f"decoder {name}: expected one of {choices}, got {value!r}")
        activation(self.activation)
        if self.head_width is None and self.width % self.heads:
            raise ValueError(
                f"decoder width {self.width} is not a multiple of heads={self.heads}: change one, "
                "or give head_width="
            )
        if self.heads % self.groups_of:
            raise ValueError(
                f"decoder kv_heads: expected a divisor of heads={self.heads}, got {self.kv_heads}"
            )
        if not 0 < self.rotary_fraction <= 1 or (self.positions == "rotary" and self.rotated < 2):
            raise ValueError(
                f"decoder rotary_fraction: expected a number in (0, 1] that leaves at least 2 of "
                f"{self.head_size} dimensions, got {self.rotary_fraction}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"decoder dropout: expected a number in [0, 1), got {self.dropout}")
        for name in ("norm_eps", "rotary_base"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"decoder {name}: expected a positive number, got {getattr(self, name)}"
                )

    @property
    def groups_of(self) -> int:
        """Key and value heads."""
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def head_size(self) -> int:
        """Units of a head."""
        return self.width // self.heads if self.head_width is None else self.head_width

    @property
    def hidden(self) -> int:
        """Hidden units of an MLP."""
        return 4 * self.width if self.mlp_width is None else self.mlp_width

    @property
    def residual_gain(self) -> float:
        """Scale of the kernels that add to the residual stream: it keeps its size over depth."""
        return 1 / math.sqrt(2 * self.layers)

    @property
    def rotated(self) -> int:
        """Dimensions of a head that rotate; an even number."""
        return int(self.head_size * self.rotary_fraction) // 2 * 2

    @property
    def compute(self) -> Any:
        """`dtype` as a type."""
        return jnp.dtype(self.dtype)

    @property
    def product(self) -> Any:
        """`precision` as JAX takes it."""
        return {
            "highest": jax.lax.Precision.HIGHEST,
            "high": jax.lax.Precision.HIGH,
            "default": jax.lax.Precision.DEFAULT,
        }[self.precision]


def config_of(given: dict[str, Any]) -> DecoderConfig:
    """A config from keyword arguments.

    Raises:
      TypeError: an unknown or a missing one, with the nearest name.
    """
    known = {f.name for f in dataclasses.fields(DecoderConfig)}
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"decoder: unknown argument {name!r}{hint}")
    needed = ("vocab", "context", "layers", "width", "heads")
    if missing := [name for name in needed if name not in given]:
        raise TypeError(f"decoder: missing {', '.join(missing)}")
    return DecoderConfig(**given)
