"""How the nearest codes and their sums are computed; the numbers do not depend on it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import jax

#: Bytes of the block of similarities that is made at a time. On a CPU it should stay in the cache;
#: elsewhere it should fill the device and still be small beside the codes.
BLOCK_BYTES = {"cpu": 12 * 2**20, "gpu": 64 * 2**20, "tpu": 64 * 2**20}

#: Fewest and most tokens of a chunk. Below about eight, matrix products take other paths, whose
#: rounding differs.
ROWS = (16, 1024)


@jax.tree_util.register_static
@dataclass(frozen=True)
class Strategy:
    """How a bottleneck is computed. Every choice gives the same codes, except "approx".

    "auto" and None are replaced by what is fastest on the platform: measured on CPUs, reasoned for
    GPUs and TPUs. `tune` measures on the device at hand.

    Attributes:
      select: how the k largest of C similarities are found. "top_k": `lax.top_k`. "blocks": first
        the k blocks of codes with the largest maxima, then the largest within these; exact too,
        ties included. "approx": `lax.approx_max_k`, which may miss codes; for TPUs.
      combine: how the gradient of the codes is added up. "gather": scatter-adds, rank by rank.
        "one_hot": products with counts of the chosen codes. The output is gathered in both.
      groups: "vmap" computes groups side by side, "map" one after the other.
      chunk: tokens at a time; None: so many that a block of similarities has a size that suits the
        platform.
      similarity: "bfloat16" finds `k + margin` candidates from products of bfloat16 and ranks them
        in float32. Chunks where the rounding could have lost a code are found and done again in
        float32.
      margin: candidates beyond k.
      block: codes in a block of "blocks".

    Raises:
      ValueError: a field out of range.
    """

    select: Literal["auto", "top_k", "blocks", "approx"] = "auto"
    combine: Literal["auto", "gather", "one_hot"] = "auto"
    groups: Literal["auto", "vmap", "map"] = "auto"
    chunk: int | None = None
    similarity: Literal["float32", "bfloat16"] = "float32"
    margin: int = 16
    block: int = 16

    def __post_init__(self) -> None:
        for name, allowed in (
            ("select", ("auto", "top_k", "blocks", "approx")),
            ("combine", ("auto", "gather", "one_hot")),
            ("groups", ("auto", "vmap", "map")),
            ("similarity", ("float32", "bfloat16")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"Strategy: {name}={getattr(self, name)!r}; expected one of "
                    f"{', '.join(map(repr, allowed))}"
                )
        for name, least in (("chunk", 1), ("margin", 0), ("block", 2)):
            value = getattr(self, name)
            if name == "chunk" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(
                    f"Strategy: {name} must be a whole number of at least {least}, got {value!r}"
                )

    def resolved(
        self, tokens: int, groups: int, codes: int, d: int, k: int, platform: str | None = None
    ) -> Strategy:
        """The same strategy with nothing left open.

        Args:
          tokens, groups, codes, d, k: the sizes: T activations of G groups of d features, k of C.
          platform: "cpu", "gpu" or "tpu"; None: the default backend.
        """
        del d  # what is fastest did not depend on it
        platform = platform or jax.default_backend()
        platform = {"cuda": "gpu", "rocm": "gpu"}.get(platform, platform)
        kind = platform if platform in BLOCK_BYTES else "gpu"
        select, combine, order, chunk = self.select, self.combine, self.groups, self.chunk
        if select == "auto":
            # Scalar gathers, which "blocks" needs for its candidates, are slow on a TPU.
            few = 32 * k * self.block <= codes
            select = "blocks" if few and kind != "tpu" else "top_k"
        if combine == "auto":
            combine = "one_hot" if kind == "tpu" else "gather"
        if order == "auto":
            order = "map" if kind == "cpu" else "vmap"
        if chunk is None:
            row = 4 * codes * (groups if order == "vmap" else 1)
            fit = max(BLOCK_BYTES[kind] // row, 1)
            chunk = min(max(2 ** (fit.bit_length() - 1), ROWS[0]), ROWS[1])
        return dataclasses.replace(self, select=select, combine=combine, groups=order, chunk=chunk)
