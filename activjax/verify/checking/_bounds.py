"""Bounds of every value of a network in many leaves, which hold in spite of rounding.

Derivation. Let `u = 2**-53`, `g(n) = n u / (1 - n u)`. A float64 sum of n products, in any order,
fused or not, differs from the exact one by at most `g(n) sum |a||b|` (Higham, Accuracy and
Stability, 3.1). A backward pass keeps, for each value v, floats A_s, c and an error e with

    v >= sum_s A_s h_s + c - e    for every input of the leaf,

where the A_s are taken as exact numbers and h_s are exact values with `|h_s| <= H_s`. Replacing h
by lines of z scales entries of A: one rounding each, which costs at most `2 u |A'| Z`, |z| <= Z;
offsets add `g(n) |A| T`. Replacing z by `W h + b` costs at most `g(m) |A| (|W| H + |b|)`, a
division `2 u |A'| Z`, an addition of two results `2 u |A'| H` or `2 u |c|`. At the input, the
minimum over the box costs `g(d) |A| H`. All costs are sums of positive floats, computed with a
relative error below 1e-6 for sums of up to 1e9 terms; they are enlarged by that, and by 1e-280 for
underflow. Interval propagation is one such step. Its matrices are exact: the network is (`_steps`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from activjax.verify.checking._relaxation import Lines, Relaxation, lines
from activjax.verify.checking._steps import Part, Steps

UNIT = 2.0**-53
TINY = 1e-280
#: Rows of a backward pass hold at most so many numbers at once.
CHUNK = 1 << 23


def bounds(steps: Steps, lower: Any, upper: Any, signs: np.ndarray) -> Relaxation:
    """What is known of leaves.

    Args:
      steps: the network.
      lower, upper: `[B, d]` floats around the boxes of the leaves.
      signs: `[B, units]`, 1 where a literal says `z >= 0`, -1 where one says `z < 0`, else 0.
    """
    known = Relaxation(lower, upper, {}, {}, np.zeros(len(lower), bool))
    low, high = {0: lower}, {0: upper}
    weights: dict[int, np.ndarray] = {}  # |W| H + |b| of each step
    for i, part in enumerate(steps.parts[:-1]):
        reach = _reach(part, low, high)
        weights[i] = reach
        lo, hi = _intervals(part, low, high, reach)
        if steps.nonlinear[i]:
            back = _Backward(steps, known, low, high, weights)
            lowest, highest = back.both(part)
            lo, hi = np.maximum(lo, lowest), np.minimum(hi, highest)
        sign = None
        if part.units is not None:
            sign = signs[:, part.units]
            lo = np.where(sign > 0, np.maximum(lo, 0.0), lo)
            hi = np.where(sign < 0, np.minimum(hi, 0.0), hi)
        known.empty |= (lo > hi).any(1)
        hi = np.maximum(lo, hi)  # of an empty leaf nothing is asked any more
        known.z[i] = lo, hi
        if sign is not None:
            known.lines[i] = lines(lo, hi, sign)
            lo, hi = np.maximum(lo, 0.0), np.maximum(hi, 0.0)
        elif part.divisor is not None:
            ends = np.stack([lo / part.divisor, hi / part.divisor])
            size = 2 * UNIT * np.abs(ends) + TINY
            lo, hi = (ends - size).min(0), (ends + size).max(0)
        low[i + 1], high[i + 1] = lo, hi
    return known


def gamma(n: int) -> float:
    """The relative error of a sum of n products, with two operations to spare."""
    return (n + 2) * UNIT / (1 - (n + 2) * UNIT)


def _size(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(low), np.abs(high))


def _widened(error: np.ndarray) -> np.ndarray:
    return error * (1 + 1e-6) + TINY


def _reach(part: Part, low: dict[int, np.ndarray], high: dict[int, np.ndarray]) -> np.ndarray:
    total = np.abs(part.affine.bias)[None] + np.zeros((len(low[0]), 1))
    for s, size in part.sizes.items():
        total = total + _size(low[s], high[s]) @ size
    return _widened(total)


def _intervals(
    part: Part, low: dict[int, np.ndarray], high: dict[int, np.ndarray], reach: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    lo = np.zeros_like(reach) + part.affine.bias
    hi = lo.copy()
    terms = 2 + len(part.sizes)
    for s, size in part.sizes.items():
        matrix = part.affine.matrices[s]
        # With centre and radius, two products of nonnegative and signed matrices do.
        plus, minus = (matrix + size) / 2, (size - matrix) / 2
        lo += low[s] @ plus - high[s] @ minus
        hi += high[s] @ plus - low[s] @ minus
        terms += 2 * int(matrix.shape[0])  # pyright: ignore
    error = _widened(gamma(terms) * reach)
    return lo - error, hi + error


class _Backward:
    """Lower bounds of rows of affine functions of sources, back to the input."""

    def __init__(
        self,
        steps: Steps,
        known: Relaxation,
        low: dict[int, np.ndarray],
        high: dict[int, np.ndarray],
        weights: dict[int, np.ndarray],
    ) -> None:
        self.steps, self.known, self.weights = steps, known, weights
        self.low, self.high = low, high
        self.size = {s: _size(low[s], high[s]) for s in low}
        self.before = {i: _size(*z) for i, z in known.z.items()}

    def both(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds `[B, m]` of the values of a step."""
        leaves, m = len(self.low[0]), part.size
        widest = max(x.shape[1] for x in self.low.values())
        rows = max(1, CHUNK // max(1, 2 * leaves * widest))
        found = []
        for start in range(0, m, rows):
            some = slice(start, min(start + rows, m))
            start_at = {s: _dense(x[:, some]).T for s, x in part.affine.matrices.items()}
            signed = {s: np.concatenate([a, -a]) for s, a in start_at.items()}
            bias = part.affine.bias[some]
            found.append(self.least(signed, np.concatenate([bias, -bias])))
        halves = [np.split(x, 2, axis=1) for x in found]
        lo, hi = (np.concatenate([h[k] for h in halves], 1) for k in (0, 1))
        return lo, -hi

    def least(self, rows: dict[int, np.ndarray], constants: np.ndarray) -> np.ndarray:
        """`[B, R]` from matrices `[R, n]` of sources and constants `[R]`, all exact."""
        leaves, n = len(self.low[0]), len(constants)
        coef = {s: np.broadcast_to(a, (leaves, *a.shape)) for s, a in rows.items()}
        const = np.broadcast_to(constants, (leaves, n)).copy()
        error = np.zeros((leaves, n))
        while (s := max(coef, default=0)) > 0:
            i, a = s - 1, coef.pop(s)
            part = self.steps.parts[i]
            if part.units is not None:
                a, moved, cost = _lined(a, self.known.lines[i])
                const += moved
                error += cost + 2 * UNIT * np.abs(const)
            elif part.divisor is not None:
                a = a / part.divisor
            sizes = np.abs(a)
            error += _rows(sizes, 2 * UNIT * self.before[i] + gamma(part.size) * self.weights[i])
            const += _rows(a, part.affine.bias[None])
            error += 2 * UNIT * np.abs(const)
            for t, matrix in part.affine.matrices.items():
                back = (matrix @ a.reshape(-1, part.size).T).T.reshape(leaves, n, -1)
                if t in coef:
                    back = back + coef[t]
                    error += _rows(np.abs(back), 2 * UNIT * self.size[t])
                coef[t] = back
        a = coef.get(0, np.zeros((leaves, n, self.steps.inputs)))
        middle, radius = (self.low[0] + self.high[0]) / 2, (self.high[0] - self.low[0]) / 2
        sizes = np.abs(a)
        # The centre and the radius are rounded: each by less than 2 hi H, as sums of two.
        found = const + (_rows(a, middle) - _rows(sizes, radius))
        error += gamma(2 * self.steps.inputs + 6) * 2 * _rows(sizes, self.size[0])
        return found - _widened(error + 2 * UNIT * (np.abs(found) + np.abs(const)))


def _lined(a: np.ndarray, at: Lines) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients of z from those of h, what the offsets add, and the error of that."""
    moved = _rows(np.minimum(a, 0.0), at.offset)
    back = a * np.where(a > 0, at.slope[:, None], at.above[:, None])
    return back, moved, gamma(a.shape[-1]) * np.abs(moved)


def _rows(a: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """`[B, R]` from `[B, R, n]` and `[B, n]` or `[1, n]`."""
    return np.matmul(a, np.broadcast_to(vector, (len(a), vector.shape[1]))[:, :, None])[:, :, 0]


def _dense(matrix: Any) -> np.ndarray:
    return matrix if isinstance(matrix, np.ndarray) else matrix.toarray()
