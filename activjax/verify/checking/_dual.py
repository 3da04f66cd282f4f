"""Multipliers by a linear program (HiGHS), for leaves that ascent does not refute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

from activjax.verify._property import Clause
from activjax.verify.checking._relaxation import Relaxation
from activjax.verify.checking._steps import Steps
from activjax.verify.checking._weights import Weights, matrix


@dataclass(frozen=True, eq=False)
class Solution:
    """Of a linear program.

    Attributes:
      weights: of one leaf.
      x: the input where they bind; None where HiGHS found none.
      excess: `[units]`, how much larger each output is there than its rectifier makes it.
    """

    weights: Weights
    x: np.ndarray | None
    excess: np.ndarray


def solve(steps: Steps, known: Relaxation, clause: Clause) -> Solution:
    """The best weights of one leaf, `known` having one.

    The least t such that some input and outputs between the lines break no row of the clause, and
    no literal, by more than t. Above 0 it refutes the clause, or shows that the leaf is empty; the
    dual solution is the weights. Where HiGHS finds none these are 0.
    """
    from scipy.optimize import linprog

    program = _Program(steps, known, clause)
    a_ub, b_ub = program.rows()
    a_eq, b_eq = program.equations()
    cost = np.zeros(program.size)
    cost[-1] = 1.0
    found = linprog(cost, a_ub, b_ub, a_eq, b_eq, program.limits, method="highs")
    if found.status != 0:
        return Solution(program.weights(np.zeros(len(b_ub))), None, np.ones(steps.units))
    weights = program.weights(np.maximum(-found.ineqlin.marginals, 0.0))
    return Solution(weights, found.x[: steps.inputs], program.excess(found.x))


class _Program:
    """Variables: the sources one after the other, then t."""

    def __init__(self, steps: Steps, known: Relaxation, clause: Clause) -> None:
        self.steps, self.known = steps, known
        self.m, self.q = matrix(clause, steps.parts[-1].size)
        sizes = [steps.inputs, *(part.size for part in steps.parts)]
        self.at = np.concatenate([[0], np.cumsum(sizes)])
        self.size = int(self.at[-1]) + 1
        self.kinds: list[tuple[str, int, np.ndarray]] = []
        lower, upper = np.full(self.size, -np.inf), np.full(self.size, np.inf)
        lower[: steps.inputs], upper[: steps.inputs] = known.lower[0], known.upper[0]
        for i, lines in known.lines.items():
            here = slice(int(self.at[i + 1]), int(self.at[i + 2]))
            state = lines.state[0]
            lower[here] = np.where(state == 0, 0.0, np.where(state < 0, 0.0, -np.inf))
            upper[here] = np.where(state < 0, 0.0, np.inf)
        self.limits = np.stack([lower, upper], 1)

    def _own(self, i: int, units: np.ndarray) -> Any:
        at = (np.arange(len(units)), self.at[i + 1] + units)
        return scipy.sparse.csr_array((np.ones(len(units)), at), (len(units), self.size))

    def _z(self, i: int, units: np.ndarray) -> tuple[Any, np.ndarray]:
        """The values of a step before rectifying, as rows and constants."""
        part = self.steps.parts[i]
        total = scipy.sparse.csr_array((len(units), self.size))
        for s, m in part.affine.matrices.items():
            block = scipy.sparse.csr_array(m[:, units]).T.tocoo()
            moved = (block.data, (block.coords[0], block.coords[1] + self.at[s]))
            total = total + scipy.sparse.csr_array(moved, (len(units), self.size))
        bias = part.affine.bias[units]
        if part.divisor is not None:
            total = scipy.sparse.diags_array(1 / part.divisor[units]) @ total
            bias = bias / part.divisor[units]
        return total, bias

    def _soft(self, n: int) -> Any:
        column = np.full(n, self.size - 1)
        return scipy.sparse.csr_array((np.ones(n), (np.arange(n), column)), (n, self.size))

    def equations(self) -> tuple[Any, np.ndarray]:
        rows, sides = [], []
        for i, part in enumerate(self.steps.parts):
            lines = self.known.lines.get(i)
            units = np.arange(part.size) if lines is None else np.flatnonzero(lines.state[0] > 0)
            z, bias = self._z(i, units)
            rows.append(self._own(i, units) - z)
            sides.append(bias)
        return scipy.sparse.vstack(rows, format="csr"), np.concatenate(sides)

    def rows(self) -> tuple[Any, np.ndarray]:
        last = len(self.steps.parts) - 1
        outputs = scipy.sparse.csr_array(self.m)
        wide = scipy.sparse.hstack(
            [scipy.sparse.csr_array((len(self.q), int(self.at[last + 1]))), outputs,
             scipy.sparse.csr_array((len(self.q), 1))], format="csr")  # fmt: skip
        rows, sides = [wide - self._soft(len(self.q))], [self.q]
        self.kinds.append(("rows", -1, np.arange(len(self.q))))
        for i, lines in self.known.lines.items():
            state, sign = lines.state[0], lines.sign[0]
            open_ = np.flatnonzero(state == 0)
            z, bias = self._z(i, open_)
            above, offset = lines.above[0][open_], lines.offset[0][open_]
            rows += [z - self._own(i, open_),
                     self._own(i, open_) - scipy.sparse.diags_array(above) @ z]  # fmt: skip
            sides += [-bias, above * bias + offset]
            self.kinds += [("below", i, open_), ("above", i, open_)]
            decided = np.flatnonzero(sign != 0)
            z, bias = self._z(i, decided)
            factor = sign[decided].astype(float)
            rows.append(-(scipy.sparse.diags_array(factor) @ z) - self._soft(len(decided)))
            sides.append(factor * bias)
            self.kinds.append(("signs", i, decided))
        return scipy.sparse.vstack(rows, format="csr"), np.concatenate(sides)

    def excess(self, x: np.ndarray) -> np.ndarray:
        """`[units]`, outputs of rectifiers less what they should be, at a solution."""
        found = np.zeros(self.steps.units)
        for i, units in self.steps.rectifiers:
            z, bias = self._z(i, np.arange(self.steps.parts[i].size))
            h = x[self.at[i + 1] : self.at[i + 2]]
            found[units] = h - np.maximum(z @ x + bias, 0.0)
        return found

    def weights(self, dual: np.ndarray) -> Weights:
        """From the multipliers of `rows`: the slope is what `h >= z` has of what holds h up."""
        shape = {i: lines.state.shape for i, lines in self.known.lines.items()}
        slopes = {i: np.zeros(s) for i, s in shape.items()}
        signs = {i: np.zeros(s) for i, s in shape.items()}
        below = {i: np.zeros(s) for i, s in shape.items()}
        above = {i: np.zeros(s) for i, s in shape.items()}
        start, row = 0, np.zeros((1, 0))
        for kind, i, units in self.kinds:
            part = dual[start : start + len(units)]
            start += len(units)
            if kind == "rows":
                row = part[None].copy()
            elif kind == "signs":
                signs[i][0, units] = part
            else:
                (below if kind == "below" else above)[i][0, units] = part
        made = Weights(row, slopes, signs)
        self._slopes(made, below)
        return made

    def _slopes(self, w: Weights, below: dict[int, np.ndarray]) -> None:
        """Backwards: the slope of a unit is its multiplier of `h >= z` over its coefficient."""
        last = len(self.steps.parts)
        coef: dict[int, Any] = {i + 1: np.zeros(x.shape) for i, x in w.signs.items()}
        coef[last] = w.rows @ self.m
        while (s := max(coef, default=0)) > 0:
            i, a = s - 1, coef.pop(s)
            part = self.steps.parts[i]
            if part.units is not None:
                lines = self.known.lines[i]
                share = np.divide(below[i], a, out=np.zeros_like(a), where=a > 0)
                w.slopes[i] = np.where(lines.state == 0, np.clip(share, 0.0, 1.0), 0.0)
                lower = np.where(lines.state == 0, w.slopes[i], lines.slope)
                a = np.where(a > 0, a * lower, a * lines.above) - lines.sign * w.signs[i]
            elif part.divisor is not None:
                a = a / part.divisor
            for t, m in part.affine.matrices.items():
                back = (m @ a.T).T
                coef[t] = coef[t] + back if t in coef else back
