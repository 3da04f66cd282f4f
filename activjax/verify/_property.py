"""Properties of outputs, and the clauses that break them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Clause:
    """One way to be unsafe: `weights @ y <= bounds` in every row. Without rows it always holds.

    Attributes:
      weights: rows of one fraction for each output.
      bounds: one fraction for each row.
    """

    weights: tuple[tuple[Fraction, ...], ...]
    bounds: tuple[Fraction, ...]

    def holds(self, y: Sequence[Fraction]) -> bool:
        """Whether outputs are unsafe by this clause, exactly."""
        return all(
            sum((w * v for w, v in zip(row, y, strict=True) if w), Fraction(0)) <= bound
            for row, bound in zip(self.weights, self.bounds, strict=True)
        )


@dataclass(frozen=True)
class Property:
    """What should hold of the outputs.

    Attributes:
      text: in words.
      clauses: from the number of outputs to the clauses that break it.
    """

    text: str
    clauses: Callable[[int], tuple[Clause, ...]]


def largest(label: int) -> Property:
    """Output `label` is larger than every other; a tie breaks it."""
    return Property(f"output {label} is the largest", lambda n: _extreme(label, n, 1))


def smallest(label: int) -> Property:
    """Output `label` is smaller than every other; a tie breaks it."""
    return Property(f"output {label} is the smallest", lambda n: _extreme(label, n, -1))


def above(weights: Any, bound: Any) -> Property:
    """`weights @ y > bound`.

    Args:
      weights: `[outputs]`.
      bound: a number, or its text ("-1/3").

    Raises:
      ValueError: they are no finite numbers.
    """
    try:
        row = tuple(Fraction(w) for w in np.asarray(weights).tolist())
        side = Fraction(bound)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"verify.above: weights {weights!r} and bound {bound!r}; expected a finite number "
            "for each output, and one"
        ) from None
    return Property(f"{row} @ outputs > {bound}", lambda n: (Clause((row,), (side,)),))


def _extreme(label: int, n: int, sign: int) -> tuple[Clause, ...]:
    if not 0 <= label < n:
        raise ValueError(f"there is no output {label}; outputs run from 0 to {n - 1}")
    clauses = []
    for other in range(n):
        if other != label:
            row = [Fraction(0)] * n
            row[label], row[other] = Fraction(sign), Fraction(-sign)
            clauses.append(Clause((tuple(row),), (Fraction(0),)))
    return tuple(clauses)
