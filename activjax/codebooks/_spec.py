"""What a codebook bottleneck is: how many codes, how many are chosen, how they make the output."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import jax

from activjax.codebooks._strategy import Strategy


@jax.tree_util.register_static
@dataclass(frozen=True)
class Spec:
    """A bottleneck of one activation (Tamkin, Taufeeque and Goodman 2023, section 2).

    The activation `a` is replaced by the sum (or mean) of the `k` codes of largest cosine
    similarity with it.

    Attributes:
      codes: C, codes in each codebook.
      k: codes chosen for each token and group, 1 to C.
      groups: G, codebooks side by side, each for its own part of the features.
      axis: the axis that the groups divide: -1 cuts the last axis into G parts of equal size, -2
        has a codebook for each entry of the second last axis (heads). None: whichever of the two
        fits; where both do, `init` asks.
      reduce: "sum", as in the paper's text, or "mean", as in its released code.
      norm: what is done to an activation first. "rms" gives every vector a root mean square of 1,
        "layer" removes its mean before; the output is multiplied by the root mean square that the
        data had when the codes were made. So codes, their error and their learning rate have no
        unit. None: nothing, as in the paper's text; then nothing bounds the activation that the
        codes pursue, and training can diverge.
      strategy: how it is computed; the result is the same.

    Raises:
      ValueError: a field out of range.
    """

    codes: int
    k: int = 1
    groups: int = 1
    axis: Literal[-1, -2] | None = None
    reduce: Literal["sum", "mean"] = "sum"
    norm: Literal["rms", "layer"] | None = "rms"
    strategy: Strategy = dataclasses.field(default_factory=Strategy)

    def __post_init__(self) -> None:
        for name in ("codes", "k", "groups"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"Spec: {name} must be a whole number of at least 1, got {value!r}"
                )
        if self.k > self.codes:
            raise ValueError(f"Spec: k={self.k} codes cannot be chosen of {self.codes}")
        for name, allowed in (
            ("axis", (None, -1, -2)),
            ("reduce", ("sum", "mean")),
            ("norm", ("rms", "layer", None)),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"Spec: {name}={getattr(self, name)!r}; expected one of "
                    f"{', '.join(map(repr, allowed))}"
                )
