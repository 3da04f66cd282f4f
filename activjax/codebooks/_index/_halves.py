"""Which examples choose a code, and which measure it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool


def reported_half(examples: int) -> Bool[np.ndarray, " examples"]:
    """The examples on which `find` reports; it chooses codes on the others.

    A hash of the example's number, SplitMix64's finaliser (Steele, Lea and Flood 2014): neighbours
    fall on either side, and more examples leave the first ones where they were.

    Args:
      examples: how many there are.
    """
    x = np.arange(1, examples + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x >> np.uint64(63)).astype(bool)
