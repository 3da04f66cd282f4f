"""Lines above and below each rectifier in parts of a box, and where its sign is decided."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Slopes of upper lines are multiples of this, so that exact sums stay short.
GRID_EXPONENT = -20
GRID = 2.0**GRID_EXPONENT


@dataclass(eq=False)
class Lines:
    """The rectifiers of one step in `B` leaves: `slope z <= h <= above z + offset`.

    Attributes:
      state: `[B, n]`, 1 where `h = z`, -1 where `h = 0`, 0 where undecided.
      sign: `[B, n]`, 1 where a literal says `z >= 0`, -1 where one says `z < 0`, else 0.
      slope: `[B, n]`, of the line below by default.
      above, offset: `[B, n]`, of the line above: multiples of `GRID`, and of `2**exponent`.
      exponent: `[B]`.
    """

    state: np.ndarray
    sign: np.ndarray
    slope: np.ndarray
    above: np.ndarray
    offset: np.ndarray
    exponent: np.ndarray

    def take(self, leaves: np.ndarray) -> Lines:
        """The lines of some leaves."""
        return Lines(*(x[leaves] for x in vars(self).values()))


@dataclass(eq=False)
class Relaxation:
    """What is known of `B` leaves.

    Attributes:
      lower, upper: `[B, d]`, around the leaf's box.
      z: by step, bounds `[B, m]` of its values before rectifying (and before a division).
      lines: by step that rectifies.
      empty: `[B]`, where bounds have crossed: the leaf holds no input.
    """

    lower: np.ndarray
    upper: np.ndarray
    z: dict[int, tuple[np.ndarray, np.ndarray]]
    lines: dict[int, Lines]
    empty: np.ndarray

    def take(self, leaves: np.ndarray) -> Relaxation:
        """What is known of some of the leaves."""
        return Relaxation(
            self.lower[leaves],
            self.upper[leaves],
            {i: (low[leaves], high[leaves]) for i, (low, high) in self.z.items()},
            {i: lines.take(leaves) for i, lines in self.lines.items()},
            self.empty[leaves],
        )


def lines(lower: np.ndarray, upper: np.ndarray, sign: np.ndarray) -> Lines:
    """The lines of rectifiers whose values lie within bounds.

    The line above has a slope S on a grid and any offset T with `S l + T >= 0` and
    `S u + T >= u`: T is the larger of `-S l` and `(1 - S) u`, enlarged by more than the two
    roundings of each (relative `2**-52`) and rounded up to a grid.

    Args:
      lower, upper: `[B, n]`, those of decided units clamped by their literal.
      sign: `[B, n]`, of literals.
    """
    state = np.where(sign != 0, sign, np.where(lower >= 0, 1, np.where(upper <= 0, -1, 0)))
    open_ = state == 0
    low, high = np.where(open_, lower, -1.0), np.where(open_, upper, 1.0)
    above = np.clip(np.round(high / (high - low) / GRID) * GRID, 0.0, 1.0)
    offset = np.maximum(-above * low, (1.0 - above) * high) * (1 + 2.0**-50)
    largest = np.where(open_, offset, 0.0).max(1, initial=1e-280, keepdims=True)
    exponent = np.frexp(largest)[1] - 40
    step = np.ldexp(1.0, exponent)
    offset = np.ceil(offset / step) * step
    slope = np.where(open_, (upper > -lower).astype(float), (state > 0).astype(float))
    above = np.where(open_, above, (state > 0).astype(float))
    return Lines(state, sign, slope, above, np.where(open_, offset, 0.0), exponent[:, 0])
