"""What a bottleneck reports."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
from jaxtyping import Array, Bool, Float, Int32

from activjax.codebooks._rows import Inputs


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Trace:
    """What a bottleneck chose at one site.

    What is not used of a trace inside `jit` is not computed.

    Attributes:
      ids: the chosen codes, the most similar first; -1 where the bottleneck is off or masked.
      similarities: their cosines with the activation; 0 there.
      mse: squared error of the output against the (normalised) activation, summed over the
        features of a group; 0 there.
      counts: how often each code was chosen.
      tokens: for how many tokens the bottleneck was on.
      inputs: the activations that came in, before normalisation.
      loops: how many leading axes are loops (layers).
      valid: for sites in a branch that may not run: whether it did.
    """

    ids: Int32[Array, "*loops *tokens groups k"]
    similarities: Float[Array, "*loops *tokens groups k"]
    mse: Float[Array, "*loops *tokens groups"]
    counts: Int32[Array, "*loops groups codes"]
    tokens: Int32[Array, "*loops"]
    inputs: Inputs
    valid: Bool[Array, "*loops"] | None = None
    loops: int = field(default=0, metadata={"static": True})
