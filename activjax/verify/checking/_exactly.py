"""The certificate of a leaf, evaluated in integers without any rounding.

For every input of the leaf that is unsafe by a clause `M y <= q`, and any weights r, m >= 0,

    L = r (M y - q) - sum_{z_j >= 0} m_j z_j + sum_{z_j < 0} m_j z_j  <=  0.

Read backwards, each rectifier's output is replaced by a line of its value that makes L smaller; the
least value of what is left over the box, an affine function of the input, is a lower bound of L. If
it is above 0 there is no such input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from activjax.verify._property import Clause
from activjax.verify.checking._relaxation import GRID_EXPONENT, Lines, Relaxation
from activjax.verify.checking._steps import Steps, integers

Vector = tuple[np.ndarray, int]  # Python integers times a power of two


@dataclass(frozen=True, eq=False)
class Dyadic:
    """Weights of one leaf as integers times powers of two.

    Attributes:
      rows: of the clause.
      slopes, signs: by step that rectifies, one for each of its units.
    """

    rows: Vector
    slopes: dict[int, Vector]
    signs: dict[int, Vector]


@dataclass(frozen=True, eq=False)
class Box:
    """A box in integers: the bounds times `scale`."""

    lower: np.ndarray
    upper: np.ndarray
    scale: int

    @classmethod
    def of(cls, lower: tuple[Fraction, ...], upper: tuple[Fraction, ...]) -> Box:
        """From exact bounds."""
        scale = math.lcm(*(v.denominator for v in (*lower, *upper)))
        low, high = (
            np.array([v.numerator * (scale // v.denominator) for v in side], object)
            for side in (lower, upper)
        )
        return cls(low, high, scale)


class _Sum:
    """A vector of integers times a power of two, to which others are added."""

    def __init__(self, n: int) -> None:
        self.values: np.ndarray = np.zeros(n, object)
        self.exponent: int | None = None

    def add(self, values: np.ndarray, exponent: int) -> None:
        if self.exponent is None:
            self.values, self.exponent = values, exponent
            return
        lowest = min(exponent, self.exponent)
        self.values = shifted(self.values, self.exponent - lowest) + shifted(
            values, exponent - lowest
        )
        self.exponent = lowest


def shifted(values: np.ndarray, by: int) -> np.ndarray:
    """Integers times `2**by`."""
    return values * (1 << by) if by else values


def least(
    steps: Steps, known: Relaxation, leaf: int, box: Box, clause: Clause, weights: Dyadic
) -> Fraction:
    """The lower bound of L that weights prove, exactly.

    Args:
      steps: the network.
      known: bounds and lines; they are taken as they are.
      leaf: which of the leaves of `known`.
      box: of the leaf.
      clause: to be refuted.
      weights: rows and signs at least 0, slopes in [0, 1].
    """
    rows, row_exponent = weights.rows
    scale = math.lcm(1, *(w.denominator for row in clause.weights for w in row),
                     *(b.denominator for b in clause.bounds))  # fmt: skip
    last = len(steps.parts)
    sums = {last: _Sum(steps.parts[-1].size)}
    total = _Sum(1)
    start = np.zeros(steps.parts[-1].size, object)
    bound = 0
    for r, row, q in zip(rows, clause.weights, clause.bounds, strict=True):
        if r:
            start += r * np.array([int(w * scale) for w in row], object)
            bound -= r * int(q * scale)
    sums[last].add(start, row_exponent)
    total.add(_one(bound), row_exponent)
    # Signs enter at every step, whether or not the outputs reach it.
    for i, lines in known.lines.items():
        if i + 1 not in sums and weights.signs[i][0].any():
            sums[i + 1] = _Sum(lines.state.shape[1])
    while (s := max(sums, default=0)) > 0:
        i, held = s - 1, sums.pop(s)
        part, a, e = steps.parts[i], held.values, held.exponent or 0
        if part.units is not None:
            a, e, moved, moved_e = _lined(a, e, known.lines[i], leaf, weights.slopes[i])
            total.add(_one(moved), moved_e)
            m, m_e = weights.signs[i]
            if m.any():
                both = _Sum(len(a))
                both.add(a, e)
                both.add(-known.lines[i].sign[leaf].astype(object) * m * scale, m_e)
                a, e = both.values, both.exponent or 0
        elif part.divisor is not None:
            a, e, times = _divided(a, e, part.divisor)
            scale *= times
            for other in (*sums.values(), total):
                other.values = other.values * times
        bias = part.integers[-1]
        total.add(_one(a.dot(bias.values)), e + bias.exponent)
        for t in part.affine.matrices:
            w = part.integers[t]
            if t not in sums:
                sums[t] = _Sum(w.shape[0])
            sums[t].add(w.times(a), e + w.exponent)
    exponent, constant = total.exponent or 0, Fraction(int(total.values[0]))
    found = constant * Fraction(2) ** exponent
    if 0 in sums:
        a = sums[0].values
        at = np.where(a > 0, box.lower, box.upper)
        found += Fraction(int(a.dot(at)), box.scale) * Fraction(2) ** (sums[0].exponent or 0)
    return found / scale


def whole(x: np.ndarray, exponent: int) -> np.ndarray:
    """Floats that are multiples of `2**exponent`, fewer than `2**62` of them, as integers."""
    return np.ldexp(x, -exponent).astype(np.int64).astype(object)


def _one(value: object) -> np.ndarray:
    return np.array([value], object)


def _lined(
    a: np.ndarray, e: int, lines: Lines, leaf: int, slopes: Vector
) -> tuple[np.ndarray, int, int, int]:
    """Coefficients of z from those of h, and what the offsets of upper lines add."""
    state = lines.state[leaf]
    below, below_e = slopes
    lowest = min(GRID_EXPONENT, below_e)
    above = whole(lines.above[leaf], GRID_EXPONENT)
    above, below = shifted(above, GRID_EXPONENT - lowest), shifted(below, below_e - lowest)
    open_ = state == 0
    factor = np.where(open_, np.where(a > 0, below, above), np.where(state > 0, 1 << -lowest, 0))
    offset_e = int(lines.exponent[leaf])
    offset = whole(np.where(open_, lines.offset[leaf], 0.0), offset_e)
    moved = np.where(a < 0, a, 0).dot(offset)
    return a * factor, e + lowest, moved, e + offset_e


def _divided(a: np.ndarray, e: int, divisor: np.ndarray) -> tuple[np.ndarray, int, int]:
    """`a / divisor` times a common number, which is returned with it."""
    d, d_e = integers(divisor)
    times = math.lcm(*(abs(int(v)) for v in d))
    factors = np.array([times // int(v) for v in d], object)
    return a * factors, e - d_e, times
