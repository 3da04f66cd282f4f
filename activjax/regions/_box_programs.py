"""The cells of a network in a box of many dimensions, by linear programs.

Unit by unit, depth first. Each cell carries a point inside it; whether the side of a hinge that the
point is not on has an interior is a linear program for the largest ball there. That it has one is
shown by its centre, that it has none by weak duality; the bounds of `_box_forms` say how far each
must be from 0. What is closer is left out and counted as in doubt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from activjax.fit import linear_program
from activjax.program.networks import Network
from activjax.regions._box_forms import SLACK, UNIT, Forms, Programs

_MARGIN = 1e-9  # of a multiplier's proof, for numbers near 1: above its rounding in float64


@dataclass(frozen=True, eq=False)
class Piece:
    """A cell by its constraints `rows[:, 0] + s @ rows[:, 1:] >= 0`.

    Attributes:
      rows: `[m, 1 + d]`, coefficients of length 1, in coordinates in which the box is [-1, 1]^d.
      error: `[m, 1 + d]`, bounds on the errors of `rows`.
      point: `[d]`, strictly inside.
      states, layer, left, sources, forms: as of `_box_search.Cell`.
    """

    rows: np.ndarray
    error: np.ndarray
    point: np.ndarray
    states: np.ndarray
    layer: int
    left: np.ndarray
    sources: dict[int, Forms]
    forms: Forms | None


class ProgramSearch:
    """The search for the cells.

    Attributes:
      programs: linear programs solved.
      doubtful: decisions that were closer than rounding.
      decisions: units looked at, each in one cell.
    """

    def __init__(self, network: Network, box: np.ndarray):
        self.network = network
        self.forms = Programs(network)
        self.box = box
        self.middle = box.mean(1)
        # Rounded up: what has no interior in [-1, 1]^d then has none in the box.
        half = np.maximum(box[:, 1] - self.middle, self.middle - box[:, 0])
        self.half = np.nextafter(half, np.inf)
        self.programs = self.doubtful = self.decisions = 0

    def cells(self) -> Iterator[Piece]:
        """All cells, finished, as they are found."""
        d = self.network.size
        none = np.zeros((0, 1 + d))
        states = np.zeros(self.network.units, self.network.state_dtype)
        # Not the middle: hinges without bias all pass there.
        start = np.random.default_rng(0).uniform(-0.5, 0.5, d)
        sources = {0: self.forms.input()}
        stack = [Piece(none, none, start, states, 0, self.forms.units(0), sources, None)]
        while stack:
            parts = self._next(stack.pop())
            if isinstance(parts, Piece):
                yield parts
            else:
                stack += parts

    def place(self, points: np.ndarray) -> np.ndarray:
        """The input of coordinates in which the box is [-1, 1]^d."""
        return self.middle + self.half * points

    def _next(self, piece: Piece) -> Piece | list[Piece]:
        """The cell, finished, or its parts."""
        states, layer, left = piece.states.copy(), piece.layer, piece.left
        sources, forms = piece.sources, piece.forms
        rows, error = piece.rows, piece.error
        while layer < len(self.network.layers):
            if forms is None:
                forms = self.forms.before(layer, sources)
            where = self.network.slices[layer]
            for i, unit in enumerate(left.tolist()):
                before = self.doubtful
                self.decisions += 1
                parts = self._parts(rows, error, piece.point, forms, layer, unit)
                if not parts:
                    return []
                if len(parts) == 1:
                    state, more, off, _ = parts[0]
                    states[where][unit] = state
                    if self.doubtful > before:  # else the cell's other rows imply these
                        rows, error = np.concatenate([rows, more]), np.concatenate([error, off])
                    continue
                children = []
                for state, more, off, point in parts:
                    own = states.copy()
                    own[where][unit] = state
                    children.append(
                        Piece(np.concatenate([rows, more]), np.concatenate([error, off]), point,
                              own, layer, left[i + 1 :], sources, forms)
                    )  # fmt: skip
                return children
            sources = self.forms.onward(layer, sources, forms, states[where])
            layer, forms = layer + 1, None
            left = self.forms.units(layer)
        return Piece(rows, error, piece.point, states, layer, left, sources, None)

    def _parts(
        self,
        rows: np.ndarray,
        error: np.ndarray,
        point: np.ndarray,
        forms: Forms,
        layer: int,
        unit: int,
    ) -> list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
        """The states that a unit has in the cell, each with its rows, errors and a point."""
        groups = self.network.layers[layer].groups
        if groups is None:
            value, off = forms.value[:, [unit]], forms.error[:, [unit]]
            options = [(0, -value, off), (1, value, off)]
        else:
            z, e = forms.value[:, groups[unit]], forms.error[:, groups[unit]]
            options = []
            for i in range(z.shape[1]):
                value = z[:, [i]] - z
                off = (e[:, [i]] + e + UNIT * np.abs(value)) * SLACK
                off[:, (value == 0).all(0) & (e[:, [i]] == 0).all(0) & (e == 0).all(0)] = 0
                options.append((i, np.delete(value, i, 1), np.delete(off, i, 1)))
        found, others = [], []
        for state, value, off in options:
            same = (value == 0).all(0) & (off == 0).all(0)
            # Of equal values the first is taken; a value of 0 is inactive.
            lost = state > 0 if groups is None else bool(same[:state].any())
            if same.any() and lost:
                continue
            new, bound = self._scaled(value[:, ~same], off[:, ~same])
            if _inside(new, bound, point):
                found.append((state, new, bound, point))
            elif _inside(-new, bound, np.zeros_like(point), reach=1.0, some=True):
                continue  # a row is below 0 in all of the box
            else:
                others.append((state, new, bound))
        for state, new, bound in others:
            both, off = np.concatenate([rows, new]), np.concatenate([error, bound])
            centre = self._centre(both, off)
            if centre is not None:
                found.append((state, new, bound, centre))
        if not found:
            self.doubtful += 1  # the cell is left out: its point is too close to the hinge
        return found

    def _scaled(self, value: np.ndarray, off: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows in the coordinates of the box, of length 1, and bounds on their errors."""
        d = len(self.middle)
        rows, error = value.T.copy(), off.T.copy()
        size = np.abs(rows[:, 0]) + np.abs(rows[:, 1:]) @ np.abs(self.middle)
        rows[:, 0] += rows[:, 1:] @ self.middle
        error[:, 0] += error[:, 1:] @ np.abs(self.middle) + (d + 3) * UNIT * size
        rows[:, 1:] *= self.half
        error[:, 1:] = error[:, 1:] * self.half + 2 * UNIT * np.abs(rows[:, 1:])
        length = np.linalg.norm(rows[:, 1:], axis=1, keepdims=True)
        length = np.where(length > 0, length, np.maximum(np.abs(rows[:, :1]), 1e-300))
        return rows / length, error / length + 4 * UNIT * np.abs(rows / length)

    def _centre(self, rows: np.ndarray, error: np.ndarray) -> np.ndarray | None:
        """The centre of the largest ball within rows and box; None where there is none."""
        d = len(self.middle)
        self.programs += 1
        bound = 2 * np.sqrt(d) + 2
        cost = np.append(np.zeros(d), -1.0)
        unit = np.abs(rows[:, 1:]).max(1, initial=0) > 0
        box = np.concatenate([np.eye(d), -np.eye(d)])
        A = np.concatenate([np.column_stack([-rows[:, 1:], unit]),
                            np.column_stack([box, np.ones(2 * d)])])  # fmt: skip
        b = np.concatenate([rows[:, 0], np.ones(2 * d)])
        found = linear_program(
            cost, A, b, lower=np.append(-np.ones(d), -bound), upper=np.append(np.ones(d), 1.0)
        )
        if found.status == "optimal" and found.x is not None:
            point = found.x[:d]
            x = self.place(point)
            if _inside(rows, error, point) and ((self.box[:, 0] < x) & (x < self.box[:, 1])).all():
                return point
            if found.dual_ub is not None:
                off = error.sum(1) @ found.dual_ub[: len(rows)]
                if found.dual_value > off + _MARGIN:
                    return None
        elif found.certificate is not None and found.certificate.exact:
            # Rows are scaled to 1: the proof must exceed what their errors can do to it.
            off = error.sum(1) @ found.certificate.ub[: len(rows)]
            if found.certificate.violation > off + _MARGIN:
                return None
        self.doubtful += 1
        return None


def _inside(
    rows: np.ndarray, error: np.ndarray, point: np.ndarray, reach: float = 0.0, some: bool = False
) -> bool:
    """Whether rows are above 0 at a point, beyond rounding; or on the box of that reach about it.

    Args:
      rows, error: `[m, 1 + d]`.
      point: `[d]`.
      reach: half the side of the box.
      some: one row is enough.
    """
    z = rows[:, 0] + rows[:, 1:] @ point - reach * np.abs(rows[:, 1:]).sum(1)
    own = error + (rows.shape[1] + 2) * UNIT * np.abs(rows)
    above = z > SLACK * (own[:, 0] + own[:, 1:] @ (np.abs(point) + reach)) + 1e-300
    return bool(above.any() if some else above.all())
