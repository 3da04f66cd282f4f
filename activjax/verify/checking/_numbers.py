"""Multipliers as fractions, floats and integers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from activjax.verify._tree import Multipliers
from activjax.verify.checking._exactly import Dyadic, whole
from activjax.verify.checking._relaxation import Relaxation
from activjax.verify.checking._steps import Steps
from activjax.verify.checking._weights import Weights

SLOPE_BITS = 20


def rounded(weights: Weights, bits: int) -> Dyadic:
    """Weights of one leaf with so many bits below the largest; slopes with no more than 20."""
    every = (weights.rows, *weights.signs.values())
    largest = max([1e-300, *(float(x.max(initial=0.0)) for x in every)])
    slopes = {i: _grid(x[0], min(bits, SLOPE_BITS), 0.5) for i, x in weights.slopes.items()}
    signs = {i: _grid(x[0], bits, largest) for i, x in weights.signs.items()}
    return Dyadic(_grid(weights.rows[0], bits, largest), slopes, signs)


def dyadic(steps: Steps, stored: Multipliers, known: Relaxation, leaf: int) -> Dyadic:
    """Stored multipliers; units without a slope have the usual one."""
    slopes, signs = {}, {}
    for i, units in steps.rectifiers:
        usual = known.lines[i].slope[leaf].tolist()
        pairs = list(zip(range(units.start, units.stop), usual, strict=True))
        slopes[i] = _together([stored.slopes.get(u, Fraction(v)) for u, v in pairs])
        signs[i] = _together([stored.signs.get(u, Fraction(0)) for u, _ in pairs])
    return Dyadic(_together(list(stored.rows)), slopes, signs)


def multipliers(steps: Steps, weights: Dyadic, known: Relaxation, leaf: int) -> Multipliers:
    """Weights to be stored, without slopes that are the usual ones."""
    slopes, signs = {}, {}
    for i, units in steps.rectifiers:
        open_ = known.lines[i].state[leaf] == 0
        usual = known.lines[i].slope[leaf]
        low, high = (z[leaf] for z in known.z[i])
        # Whether the usual slope is 0 or 1 may hang on the last bit of the bounds.
        close = np.abs(high + low) < 1e-6 * (high - low)
        values, e = weights.slopes[i]
        unusual = np.ldexp(values.astype(float), e) != usual
        for u in np.flatnonzero(open_ & (unusual | close)).tolist():
            slopes[units.start + u] = int(values[u]) * Fraction(2) ** e
        values, e = weights.signs[i]
        for u in np.flatnonzero(values).tolist():
            signs[units.start + u] = int(values[u]) * Fraction(2) ** e
    values, e = weights.rows
    rows = tuple(int(v) * Fraction(2) ** e for v in values)
    return Multipliers(rows, slopes, signs)


def around(low: Fraction, high: Fraction) -> tuple[float, float]:
    """Floats around an interval."""
    lower, upper = float(low), float(high)
    lower = lower if Fraction(lower) <= low else math.nextafter(lower, -math.inf)
    return lower, upper if Fraction(upper) >= high else math.nextafter(upper, math.inf)


def _grid(x: np.ndarray, bits: int, largest: float) -> tuple[np.ndarray, int]:
    """Rounded to multiples of a power of two, `bits` below the largest, as integers."""
    exponent = math.frexp(largest)[1] - bits
    return whole(np.round(np.ldexp(x, -exponent)), 0), exponent


def _together(numbers: list[Fraction]) -> tuple[np.ndarray, int]:
    """Dyadic fractions as integers times one power of two."""
    scale = max((x.denominator for x in numbers), default=1)
    values = np.array([int(x * scale) for x in numbers], object)
    return values, 1 - scale.bit_length()
