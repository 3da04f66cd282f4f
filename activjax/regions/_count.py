"""The six definitions of a linear region, and numbers of regions that say how far they are known.

Stargalla, Hertrich and Reichman, "The Computational Complexity of Counting Linear Regions in ReLU
Neural Networks" (2025), Definitions 1 to 6, within a closed domain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Definition = Literal["activation", "proper", "convex", "open_connected", "connected", "affine"]

#: From the finest to the coarsest: no definition has more regions than the one before it.
DEFINITIONS: tuple[Definition, ...] = get_args(Definition)

MEANINGS: dict[Definition, str] = {
    "activation": "patterns of any point, those of lower-dimensional sets among them",
    "proper": "patterns of sets of full dimension",
    "convex": "cells of the smallest polyhedral complex on which the function is affine",
    "open_connected": "maximal connected open sets on which the function is affine",
    "connected": "maximal connected closed sets of full dimension on which it is affine",
    "affine": "affine functions that it is on a set of full dimension",
}


@dataclass(frozen=True)
class Count:
    """How many regions there are by one definition.

    Attributes:
      definition: which.
      low: at least so many.
      high: at most so many; None where no bound is known.
    """

    definition: Definition
    low: int
    high: int | None

    @property
    def exact(self) -> bool:
        """Whether the number is known."""
        return self.low == self.high

    def __int__(self) -> int:
        if not self.exact:
            raise ValueError(f"the number of regions is not known exactly: {self}")
        return self.low

    def __str__(self) -> str:
        number = str(self.low) if self.exact else f"{self.low} to {self.high or 'unknown'}"
        return f"{number} ({self.definition})"


def check_definition(name: str, definition: str) -> Definition:
    """One of the six.

    Raises:
      ValueError: it is not; the nearest is named.
    """
    if definition in DEFINITIONS:
        return definition
    import difflib

    near = difflib.get_close_matches(str(definition), DEFINITIONS, 1, 0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"{name}: definition {definition!r} is not one of {', '.join(DEFINITIONS)}{hint}"
    )
