"""Piecewise linear functions of one real variable, exactly.

`where(x >= 0, x, 0.01 * x)` is a comparison, a product and a choice; only together are they
continuous. Along an elementwise computation from one array every element is the same function of
one number, held here in exact fractions, so jumps can be seen.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from activjax.program import _compat

#: A function with more knots is not followed further.
MOST_KNOTS = 32

#: A smaller jump, relative to the value there, is rounding of the constants (float32: 6e-8 each).
ROUNDING = Fraction(1, 10**6)

Line = tuple[Fraction, Fraction]


@dataclass(frozen=True)
class Curve:
    """A piecewise linear function of one variable.

    Attributes:
      knots: where it may bend or jump, ascending.
      at: its value at each knot.
      lines: (slope, intercept) below, between and above the knots.
    """

    knots: tuple[Fraction, ...]
    at: tuple[Fraction, ...]
    lines: tuple[Line, ...]

    def line(self, x: Fraction) -> Line:
        """The slope and intercept around a number that is no knot."""
        return self.lines[bisect.bisect_left(self.knots, x)]

    def __call__(self, x: Fraction) -> Fraction:
        """The value at a number."""
        i = bisect.bisect_left(self.knots, x)
        if i < len(self.knots) and self.knots[i] == x:
            return self.at[i]
        slope, intercept = self.lines[i]
        return slope * x + intercept

    @property
    def continuous(self) -> bool:
        """Whether it has no jump, up to rounding of constants to single precision."""
        for k, v, below, above in zip(self.knots, self.at, self.lines, self.lines[1:]):
            near = [a * k + b for a, b in (below, above)] + [v]
            size = max(abs(a * k) + abs(b) for a, b in (below, above))
            if max(near) - min(near) > ROUNDING * size:
                return False
        return True


IDENTITY = Curve((), (), ((Fraction(1), Fraction(0)),))


def constant(value: Any) -> Curve | None:
    """A literal as a curve; None if it is no finite real number."""
    if np.ndim(value):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):  # a complex number, or a key
        return None
    return Curve((), (), ((Fraction(0), Fraction(number)),)) if math.isfinite(number) else None


def uniform(value: Any) -> Curve | None:
    """A constant array whose elements are known and all equal, as a curve."""
    if isinstance(value, Tracer):
        return None
    array = np.asarray(value)
    if not array.size or (array.size > 1 and (array != array.flat[0]).any()):
        return None
    return constant(array.flat[0])


def combine(g: Callable[..., Any], curves: Sequence[Curve]) -> Curve | None:
    """`x -> g(c1(x), c2(x), ...)`; None if it is not piecewise linear or has too many knots.

    `g` must be a polynomial or a quotient wherever no argument changes sign and no two cross.
    """
    knots = sorted({k for c in curves for k in c.knots})
    fresh = set(knots)
    for low, high in _gaps(knots):
        x = _between(low, high)[0]
        lines = {c.line(x) for c in curves} | {(Fraction(0), Fraction(0))}
        for (a, b), (c, d) in itertools.combinations(lines, 2):
            if a != c:
                root = (d - b) / (a - c)
                if (low is None or low < root) and (high is None or root < high):
                    fresh.add(root)
    knots = sorted(fresh)
    if len(knots) > 4 * MOST_KNOTS:
        return None
    try:
        at = [Fraction(g(*(c(k) for c in curves))) for k in knots]
        lines = []
        for low, high in _gaps(knots):
            p, q = _between(low, high)
            gp, middle, gq = (Fraction(g(*(c(x) for c in curves))) for x in (p, (p + q) / 2, q))
            if gp + gq != 2 * middle:
                return None  # a square, or one over the variable
            slope = (gq - gp) / (q - p)
            lines.append((slope, gp - slope * p))
    except ZeroDivisionError:
        return None
    kept = [
        i
        for i, k in enumerate(knots)
        if lines[i] != lines[i + 1] or at[i] != lines[i][0] * k + lines[i][1]
    ]
    if len(kept) > MOST_KNOTS:
        return None
    last = [lines[i + 1] for i in kept]
    return Curve(tuple(knots[i] for i in kept), tuple(at[i] for i in kept), (lines[0], *last))


def _gaps(knots: Sequence[Fraction]) -> list[tuple[Fraction | None, Fraction | None]]:
    return list(itertools.pairwise([None, *knots, None]))


def _between(low: Fraction | None, high: Fraction | None) -> tuple[Fraction, Fraction]:
    """Two numbers inside an open interval."""
    if low is None and high is None:
        return Fraction(0), Fraction(1)
    if low is None:
        assert high is not None
        return high - 2, high - 1
    if high is None:
        return low + 1, low + 2
    return (2 * low + high) / 3, (low + 2 * high) / 3


#: What an elementwise primitive does to numbers; booleans are 0 and 1.
POINTWISE: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "add_any": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "abs": abs,
    "sign": lambda a: (a > 0) - (a < 0),
    "max": max,
    "min": min,
    "clamp": lambda low, x, high: min(max(low, x), high),
    "select_n": lambda which, *cases: cases[int(which)],
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
    "not": lambda a: not a,
    "xor": lambda a, b: a != b,
}


def same(x: Any) -> Any:
    """The identity."""
    return x


def pointwise(eqn: _compat.Equation) -> Callable[..., Any] | None:
    """What an equation does to each number, where `POINTWISE` says; booleans are 0 and 1."""
    name = eqn.primitive.name
    dtype = _compat.dtype(eqn.invars[0])
    if name == "convert_element_type":
        new = eqn.params["new_dtype"]
        if new == np.bool_:
            return bool
        keeps = jnp.issubdtype(new, jnp.inexact) or dtype == np.bool_
        whole = jnp.issubdtype(dtype, jnp.integer)
        return same if keeps or whole else None
    if name in ("and", "or", "not", "xor") and dtype != np.bool_:
        return None
    if name in ("div", "rem") and jnp.issubdtype(dtype, jnp.integer):
        return None
    return POINTWISE.get(name)
