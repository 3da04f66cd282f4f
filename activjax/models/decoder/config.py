"""What a decoder is made of: one frozen dataclass that expresses the families people study."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from activjax.models._layers import activation, check_sizes
from activjax.models.decoder._checks import number
from activjax.models.decoder._rotary import RotaryScaling

_CHOICES: dict[str, tuple[Any, ...]] = {
    "norm": ("layer", "rms", "rms_1p"),
    "positions": ("learned", "rotary", "none"),
    "bias": (True, False, "qkv", "attn"),
    "out_norm": (True, False),
    "dtype": ("float32", "bfloat16", "float16"),
    "param_dtype": ("float32", "bfloat16", "float16"),
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
      norm: "layer" (Ba et al. 2016), "rms" (Zhang and Sennrich 2019) or "rms_1p": "rms" whose
        scale is 1 + a parameter that starts at 0 (Gemma).
      norm_eps: added to the variance or the mean square.
      positions: "learned" (added to the embedding), "rotary" (Su et al. 2021) or "none".
      rotary_fraction: share of a head's dimensions that rotate, the first ones.
      rotary_base: wavelengths are `2 pi base^(2i/n)`.
      rotary_scaling: slower rotation for longer texts; a mapping of its fields is taken too.
      window: a token attends to the last `window` tokens of its document, itself included
        (Beltagy et al. 2020; padding is not counted); None for all of them. A cache keeps all.
      windowed: which layers have the window; None for every layer.
      window_rotary_base: `rotary_base` of the layers with the window, which then have no
        `rotary_scaling` (Gemma 3); None for the same as in the others.
      bias: additive biases everywhere but in the head; "attn": in the four projections of attention
        only; "qkv": in those of queries, keys and values only; LayerNorm keeps its shift only where
        True.
      qk_norm: RMS-normalise each query and key head before rotating it, with a learned scale (as
        `norm` says, where that is "rms_1p").
      score_scale: what products of queries and keys are multiplied by; None for
        `1 / sqrt(head size)`.
      score_cap: scores are bounded by `cap * tanh(score / cap)` (Gemma 2); None for no bound.
      logit_cap: the same for logits, wherever they come from.
      out_norm: what attention and the MLP add goes through a norm first (Gemma 2): the sites
        `attn/out` and `mlp/out` are after it.
      embed_scale: multiplies token embeddings, rounded to `dtype` (Gemma: sqrt(width)); the site
        `embed` is after it. A tied head has the table as it is.
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
      ValueError: a value outside these, sizes that do not fit, or a field that means nothing beside
        the others; the message names the field.
      TypeError: an unknown or missing field of `rotary_scaling`.
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
    rotary_scaling: RotaryScaling | None = None
    window: int | None = None
    windowed: tuple[int, ...] | None = None
    window_rotary_base: float | None = None
    bias: bool | str = True
    qk_norm: bool = False
    score_scale: float | None = None
    score_cap: float | None = None
    logit_cap: float | None = None
    out_norm: bool = False
    embed_scale: float | None = None
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
        optional = ("score_scale", "score_cap", "logit_cap", "embed_scale", "window_rotary_base")
        for name in ("norm_eps", "rotary_base", *optional):
            if getattr(self, name) is not None or name not in optional:
                value = number(f"decoder {name}", getattr(self, name))
                object.__setattr__(self, name, value)
        self._check_window()
        self._check_rotary()

    def _check_window(self) -> None:
        if self.window is not None:
            object.__setattr__(self, "window", *check_sizes("decoder window", (self.window,), 1))
        for name in ("windowed", "window_rotary_base"):
            if self.window is None and getattr(self, name) is not None:
                raise ValueError(
                    f"decoder {name}: it is of layers with a window: give window=, or leave it out"
                )
        if self.windowed is None:
            return
        if isinstance(self.windowed, str) or not isinstance(self.windowed, Iterable):
            raise ValueError(f"decoder windowed: expected layers, got {self.windowed!r}")
        given = tuple(self.windowed)
        if not given:
            raise ValueError(
                "decoder windowed: it names no layer: leave out window= and windowed=, or give "
                "windowed=None for every layer"
            )
        for i in given:
            whole = isinstance(i, (int, np.integer)) and not isinstance(i, bool)
            if not whole or not 0 <= i < self.layers:
                raise ValueError(
                    f"decoder windowed: expected layers 0..{self.layers - 1}, got {i!r}"
                )
        if len(set(given)) < len(given):
            raise ValueError(f"decoder windowed: a layer is named twice in {given}")
        object.__setattr__(self, "windowed", tuple(sorted(map(int, given))))

    def _check_rotary(self) -> None:
        for name in ("rotary_scaling", "window_rotary_base"):
            if self.positions != "rotary" and getattr(self, name) is not None:
                raise ValueError(
                    f"decoder {name}: positions are {self.positions!r}: give positions='rotary', "
                    "or leave it out"
                )
        given: Any = self.rotary_scaling
        if isinstance(given, Mapping):
            given = RotaryScaling(**known_fields("decoder rotary_scaling", RotaryScaling, given))
            object.__setattr__(self, "rotary_scaling", given)
        if given is not None and not isinstance(given, RotaryScaling):
            raise ValueError(
                "decoder rotary_scaling: expected a RotaryScaling or a mapping of its fields, got "
                f"{given!r}"
            )

    @property
    def has_window(self) -> tuple[bool, ...]:
        """For each layer whether it has the window."""
        if self.window is None:
            return (False,) * self.layers
        return tuple(self.windowed is None or i in self.windowed for i in range(self.layers))

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
    return DecoderConfig(**known_fields("decoder", DecoderConfig, given))


def known_fields(what: str, kind: Any, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keyword arguments of a dataclass, if they are.

    Raises:
      TypeError: an unknown or a missing one, with the nearest name.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for name in given:
        if name not in fields:
            near = difflib.get_close_matches(str(name), fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{what}: unknown argument {name!r}{hint}")
    needed = [name for name, f in fields.items() if f.default is dataclasses.MISSING]
    if missing := [name for name in needed if name not in given]:
        raise TypeError(f"{what}: missing {', '.join(missing)}")
    return given
