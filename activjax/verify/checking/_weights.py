"""Multipliers of leaves and the bounds that they promise, in float64; no proof by themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from activjax.verify._property import Clause
from activjax.verify.checking._relaxation import Relaxation
from activjax.verify.checking._steps import Part, Steps

RATE = 0.1


@dataclass(eq=False)
class Weights:
    """Multipliers of `B` leaves for one clause.

    Attributes:
      rows: `[B, rows]`, at least 0.
      slopes: by step that rectifies, `[B, n]` in [0, 1]; only of undecided units.
      signs: by step that rectifies, `[B, n]`, at least 0; only of units decided by a literal.
    """

    rows: np.ndarray
    slopes: dict[int, np.ndarray]
    signs: dict[int, np.ndarray]

    def take(self, leaves: np.ndarray) -> Weights:
        """Those of some leaves."""
        slopes = {i: x[leaves] for i, x in self.slopes.items()}
        return Weights(self.rows[leaves], slopes, {i: x[leaves] for i, x in self.signs.items()})

    def put(self, leaves: np.ndarray, others: Weights) -> None:
        """Replaces those of some leaves."""
        self.rows[leaves] = others.rows
        for mine, theirs in ((self.slopes, others.slopes), (self.signs, others.signs)):
            for i, x in mine.items():
                x[leaves] = theirs[i]


@dataclass(eq=False)
class Bound:
    """What weights promise: `value > 0` refutes.

    Attributes:
      value: `[B]`.
      size: `[B]`, of the numbers that were added up, for judging their rounding.
      gap: `[B, units]`, what the line above each undecided rectifier costs.
      gradient: of the values, in the weights; None if it was not asked for.
    """

    value: np.ndarray
    size: np.ndarray
    gap: np.ndarray
    gradient: Weights | None


def default(known: Relaxation, row: np.ndarray, slope: float | None = None) -> Weights:
    """Weights to begin with: rows as given, `[B, rows]`, and one slope or the usual ones."""
    slopes, signs = {}, {}
    for i, lines in known.lines.items():
        same = lines.slope if slope is None else np.full_like(lines.slope, slope)
        slopes[i] = np.where(lines.state == 0, same, 0.0)
        signs[i] = np.zeros_like(lines.slope)
    return Weights(row, slopes, signs)


def promise(
    steps: Steps, known: Relaxation, clause: Clause, weights: Weights, gradient: bool = False
) -> Bound:
    """The least value of the Lagrangian over the boxes; its gradient by the minimiser's values."""
    m, q = matrix(clause, steps.parts[-1].size)
    leaves = len(known.lower)
    value = -(weights.rows @ q)
    size = np.abs(value)
    gap = np.zeros((leaves, steps.units))
    last = len(steps.parts)
    # Signs enter at every step, whether or not the outputs reach it.
    coef: dict[int, Any] = {i + 1: np.zeros(lines.slope.shape) for i, lines in known.lines.items()}
    coef[last], before = weights.rows @ m, {}
    while (s := max(coef, default=0)) > 0:
        i, a = s - 1, coef.pop(s)
        part = steps.parts[i]
        before[i] = a
        if part.units is not None:
            lines = known.lines[i]
            gap[:, part.units] = np.minimum(a, 0.0) * lines.offset
            value = value + gap[:, part.units].sum(1)
            lower = np.where(lines.state == 0, weights.slopes[i], lines.slope)
            a = np.where(a > 0, a * lower, a * lines.above) - lines.sign * weights.signs[i]
        elif part.divisor is not None:
            a = a / part.divisor
        value = value + a @ part.affine.bias
        size = size + np.abs(a) @ np.abs(part.affine.bias)
        for t, w in part.affine.matrices.items():
            back = (w @ a.T).T
            coef[t] = coef[t] + back if t in coef else back
    a = coef.get(0, np.zeros_like(known.lower))
    x = np.where(a > 0, known.lower, known.upper)
    value = value + (a * x).sum(1)
    size = size + np.abs(a * x).sum(1) - gap.sum(1)
    if not gradient:
        return Bound(value, size, gap, None)
    known_at, slopes, signs = {0: x}, {}, {}
    for i, part in enumerate(steps.parts):
        z = _affine(part, known_at)
        if part.units is not None:
            lines, a = known.lines[i], before[i]
            open_ = lines.state == 0
            slopes[i] = np.where(open_ & (a > 0), a * z, 0.0)
            signs[i] = -lines.sign * z
            lower = np.where(open_, weights.slopes[i], lines.slope)
            z = np.where(a > 0, lower * z, lines.above * z + lines.offset)
        elif part.divisor is not None:
            z = z / part.divisor
        known_at[i + 1] = z
    return Bound(value, size, gap, Weights(known_at[last] @ m.T - q, slopes, signs))


def _affine(part: Part, values: dict[int, np.ndarray]) -> np.ndarray:
    if part.affine.matrices:
        return part.affine(values)
    return np.repeat(part.affine.bias[None], len(values[0]), 0)


def values(steps: Steps, x: np.ndarray) -> list[np.ndarray]:
    """By step, what it gives at inputs `[B, d]` before rectifying; the outputs are the last."""
    known, made = {0: x}, []
    for i, part in enumerate(steps.parts):
        z = _affine(part, known)
        z = z if part.divisor is None else z / part.divisor
        known[i + 1] = z if part.units is None else np.maximum(z, 0.0)
        made.append(z)
    return made


def matrix(clause: Clause, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """A clause in floats: `[rows, outputs]` and `[rows]`."""
    rows = [[float(w) for w in row] for row in clause.weights]
    return np.reshape(rows, (-1, outputs)), np.array([float(b) for b in clause.bounds])


def ascend(
    steps: Steps, known: Relaxation, clause: Clause, start: Weights, rounds: int
) -> tuple[Weights, Bound]:
    """Better weights by projected gradient ascent (Adam); those with the best promise."""
    here, best = _copy(start), _copy(start)
    top = promise(steps, known, clause, start)
    scales = _scales(steps, known, clause, start)
    first, second = _like(here), _like(here)
    for k in range(1, rounds + 1):
        now = promise(steps, known, clause, here, gradient=True)
        better = now.value > top.value
        best.put(better, here.take(better))
        top.value[better], top.gap[better] = now.value[better], now.gap[better]
        top.size[better] = now.size[better]
        if (top.value > 1e-6 * top.size).all():
            break
        assert now.gradient is not None
        rate = RATE * (1 - k / (rounds + 1))
        _step(here, now.gradient, first, second, scales, k, rate)
    return best, top


def _arrays(w: Weights) -> list[np.ndarray]:
    return [w.rows, *w.slopes.values(), *w.signs.values()]


def _copy(w: Weights) -> Weights:
    return Weights(
        w.rows.copy(),
        {i: x.copy() for i, x in w.slopes.items()},
        {i: x.copy() for i, x in w.signs.items()},
    )


def _like(w: Weights) -> list[np.ndarray]:
    return [np.zeros_like(x) for x in _arrays(w)]


def _scales(steps: Steps, known: Relaxation, clause: Clause, w: Weights) -> list[np.ndarray]:
    """How large a step each array may take: slopes about 1, signs as the coefficients there."""
    m, _ = matrix(clause, steps.parts[-1].size)
    size = {len(steps.parts): np.abs(w.rows @ m)}
    for i in reversed(range(len(steps.parts))):
        a = size.get(i + 1)
        if a is None:
            continue
        part = steps.parts[i]
        if part.divisor is not None:
            a = a / np.abs(part.divisor)
        for t, s in part.affine.matrices.items():
            back = (s @ a.T).T
            size[t] = size.get(t, 0.0) + np.abs(back)
    ones = [np.ones((len(w.rows), 1))] * (1 + len(w.slopes))
    means = [size[i + 1].mean(1, keepdims=True) if i + 1 in size else ones[0] for i in w.signs]
    return [*ones, *means]


def _step(
    here: Weights,
    gradient: Weights,
    first: list[np.ndarray],
    second: list[np.ndarray],
    scales: list[np.ndarray],
    k: int,
    rate: float,
) -> None:
    count = 1 + len(here.slopes)
    for j, (x, g) in enumerate(zip(_arrays(here), _arrays(gradient), strict=True)):
        first[j] = 0.9 * first[j] + 0.1 * g
        second[j] = 0.99 * second[j] + 0.01 * g * g
        size = np.sqrt(second[j] / (1 - 0.99**k)) + 1e-30
        x += rate * scales[j] * (first[j] / (1 - 0.9**k)) / size
        np.clip(x, 0.0, 1.0 if 0 < j < count else np.inf, out=x)
    total = here.rows.sum(1, keepdims=True)
    if here.rows.shape[1]:
        np.divide(here.rows, total, out=here.rows, where=total > 0)
        here.rows[total[:, 0] <= 0] = 1.0 / here.rows.shape[1]


def unit_rows(clause: Clause, leaves: int) -> list[np.ndarray]:
    """Rows to try first: each alone, and all of them alike."""
    n = len(clause.bounds)
    alone = list(np.eye(n)) if n > 1 else []
    return [np.broadcast_to(r, (leaves, n)).copy() for r in [*alone, np.ones(n) / max(n, 1)]]
