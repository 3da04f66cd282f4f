"""Rotary position embedding (Su et al. 2021), the half-split form of GPT-NeoX and Llama."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from activjax.models._layers import check_sizes
from activjax.models.decoder._checks import number

Table = tuple[Float[Array, "#batch seq 1 half"], Float[Array, "#batch seq 1 half"]]


@dataclass(frozen=True)
class RotaryScaling:
    """Slower rotation, for texts longer than a decoder was first trained on.

    Attributes:
      kind: "linear": every plane turns `factor` times slower (Chen et al. 2023). "llama3": planes
        that turn less than `low` times within `original` tokens do so, those that turn more than
        `high` times stay, and between the two the rate is interpolated (Llama 3.1).
      factor: how many times slower.
      low, high: turns; of "llama3" only.
      original: the context of the first training, in tokens; of "llama3" only.

    Raises:
      ValueError: another kind, or a number that cannot be; the message names the field.
    """

    kind: str
    factor: float
    low: float = 1.0
    high: float = 4.0
    original: int = 8192

    def __post_init__(self) -> None:
        if self.kind not in ("linear", "llama3"):
            raise ValueError(
                f"decoder rotary_scaling kind: expected 'linear' or 'llama3', got {self.kind!r}"
            )
        for name in ("factor", "low", "high"):
            value = number(f"decoder rotary_scaling {name}", getattr(self, name))
            object.__setattr__(self, name, value)
        (original,) = check_sizes("decoder rotary_scaling original", (self.original,), 1)
        object.__setattr__(self, "original", original)
        if self.low >= self.high:
            raise ValueError(
                f"decoder rotary_scaling: expected low < high, got {self.low} and {self.high}"
            )

    def slowed(self, rates: Float[Array, " half"]) -> Float[Array, " half"]:
        """The rates of the planes, in radians a token, after scaling."""
        if self.kind == "linear":
            return rates / self.factor
        turns = rates * (self.original / (2 * math.pi))
        kept = jnp.clip((turns - self.low) / (self.high - self.low), 0.0, 1.0)
        return rates * (kept + (1.0 - kept) / self.factor)


@dataclass(frozen=True)
class Rotary:
    """How the heads of a layer rotate.

    Attributes:
      size: dimensions that rotate, the first ones of a head; an even number.
      base: the slowest plane turns about `base` times slower than the fastest.
      scaling: makes the rotation slower still.
    """

    size: int
    base: float
    scaling: RotaryScaling | None = None

    def table(self, at: Int[Array, "#batch seq"]) -> Table:
        """Cosines and sines of each token's angles: `at * base^(-2i/size)` in plane `i`."""
        half = self.size // 2
        rates: Any = self.base ** (-jnp.arange(half, dtype=jnp.float32) * (2.0 / self.size))
        if self.scaling is not None:
            rates = self.scaling.slowed(rates)
        angles = at.astype(jnp.float32)[..., None, None] * rates
        return jnp.cos(angles), jnp.sin(angles)


def rotate(x: Float[Array, "batch seq head d"], table: Table) -> Float[Array, "batch seq head d"]:
    """Rotate the first dimensions of each head, those that the table has angles for.

    Of `2 * half` of them, dimension `i < half` and dimension `i + half` form a plane. Computed in
    float32.
    """
    cos, sin = table
    half = cos.shape[-1]
    a, b, rest = jnp.split(x.astype(jnp.float32), [half, 2 * half], axis=-1)
    out = jnp.concatenate([a * cos - b * sin, b * cos + a * sin, rest], axis=-1)
    return out.astype(x.dtype)
