"""Which method to use on the device at hand, and how many examples at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax

from activjax.membership._layers import Part, factors
from activjax.membership._uses import LookupUse

#: Bytes that one chunk may take.
_BUDGET = 2**29
#: What of the arrays that are counted is alive at once, forward and backward (XLA's own count of
#: temporaries, 4 to 12 layers: docs/design/0009-membership.md).
_ALIVE = 2.5
#: Operations in the time in which a CPU starts the small programs of one example.
_LAUNCH = 1e7
#: How much faster a CPU gets through the products of one example, which stay in its cache.
_CACHED = 1.1
#: Operations in the time that an example's own copy of a parameter takes, made, read and moved.
_COPY = 100.0


@dataclass(frozen=True)
class Work:
    """What one example costs.

    Attributes:
      forward: operations of a forward pass, in matrix products.
      ghost: operations that ghosts take beside three of these.
      activations: numbers that the factors of all layers hold.
      parameters: numbers that move.
    """

    forward: float
    ghost: float
    activations: int
    parameters: int

    @staticmethod
    def of(covered: Sequence[Part], ghosts: Sequence[Part], parameters: int, unit: bool) -> Work:
        """From the uses that are matrix products, those of ghosts among them, and what moves."""
        by_path = {(p.path, p.use.operand): _products(p) for p in covered}
        forward = sum(by_path.values())
        passes = 2 if unit else 1  # the norm takes as many again
        ghost = sum(2.0 * passes * p.rows * factors([p]) for p in ghosts)
        # A layer that is materialised takes the gradient's pass too.
        ghost += forward - sum(by_path.get((p.path, p.use.operand), 0) for p in ghosts)
        return Work(forward, ghost, factors(covered), parameters)

    def seconds(self, method: str, platform: str) -> float:
        """Operations, weighted by how fast they go; only their order means something."""
        if method == "ghost":
            return 3 * self.forward + self.ghost
        if method == "vmap":
            return 4 * self.forward + _COPY * self.parameters
        if platform == "cpu":
            return 4 * self.forward / _CACHED + _LAUNCH
        return math.inf  # an accelerator would wait for one example after the other

    def numbers(self, method: str) -> int:
        """Numbers that are alive at once."""
        own = 0 if method == "ghost" else self.parameters
        return max(1, round(_ALIVE * (self.activations + own)))


def _products(part: Part) -> float:
    """Operations of a use in a forward pass; a lookup takes none."""
    if isinstance(part.use, LookupUse):
        return 0.0
    use = part.use
    return 2.0 * part.copies * part.rows * use.groups * use.inputs * use.outputs


def choose(work: Work, method: str, n: int, chunk: int | None) -> tuple[str, int]:
    """The method, "auto" resolved for the default device, and the size of a chunk."""
    if method == "auto":
        platform = jax.default_backend()
        method = min(("ghost", "vmap", "loop"), key=lambda m: work.seconds(m, platform))
    if chunk is None:
        chunk = _BUDGET // (4 * work.numbers(method))
    elif chunk < 1:
        raise ValueError(f"drift: chunk is {chunk}, expected at least 1, or None")
    return method, max(1, min(n, chunk))
