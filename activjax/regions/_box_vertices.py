"""Vertices of the cells in a box: positions in float64 with error bounds, and exactly.

A vertex is a corner of the box, or where a hinge cuts an edge between two earlier vertices. Cells
that meet in a face share its vertices, by number: the cells are a polyhedral complex at each step,
as hinges are continuous.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from activjax.regions._box_forms import FLOOR, SLACK, UNIT, Forms, to_integers

_SURE = 1e-3  # of an inverse: the norm of I - R A, below which its error bound is used


class Facet:
    """A hyperplane: where a form, or the difference of two, is 0."""

    __slots__ = ("forms", "minus", "plus", "row")

    def __init__(self, forms: Forms, plus: int, minus: int = -1):
        self.forms, self.plus, self.minus = forms, plus, minus
        self.row: list[int] | None = None

    @property
    def value(self) -> np.ndarray:
        """`[1 + d]`."""
        z = self.forms.value
        return z[:, self.plus] if self.minus < 0 else z[:, self.plus] - z[:, self.minus]

    @property
    def error(self) -> np.ndarray:
        """`[1 + d]`, of `value`."""
        e = self.forms.error
        if self.minus < 0:
            return e[:, self.plus]
        return (e[:, self.plus] + e[:, self.minus] + UNIT * np.abs(self.value)) * SLACK

    @property
    def exact(self) -> list[int]:
        """Up to a positive factor, as integers."""
        if self.row is None:
            z = self.forms.exact[0]
            row = z[:, self.plus] if self.minus < 0 else z[:, self.plus] - z[:, self.minus]
            self.row = _reduced(row.tolist())
        return self.row


class Vertices:
    """All vertices found so far.

    Attributes:
      point: `[n or more, d]`.
      error: `[n or more, d]`, bounds on the errors of `point`.
    """

    def __init__(self, box: np.ndarray):
        d = len(box)
        corners = np.array(list(itertools.product(*box)))
        self.point, self.error = corners, np.zeros((1 << d, d))
        self.n = len(corners)
        self._edge: dict[tuple[int, int, int], int] = {}
        self._parents: dict[int, tuple[int, int, Facet]] = {}
        self._exact: dict[int, list[int]] = {}

    def sign(self, vertex: int, facet: Facet) -> int:
        """Of the facet's form at a vertex: -1, 0 or 1, exactly."""
        total = sum(a * b for a, b in zip(facet.exact, self.exact(vertex), strict=True))
        return (total > 0) - (total < 0)

    def exact(self, vertex: int) -> list[int]:
        """Integers: a positive denominator, then the numerators of the coordinates."""
        stack = [vertex]
        while stack:
            v = stack[-1]
            if v in self._exact:
                stack.pop()
            elif v not in self._parents:
                integers, shift = to_integers(self.point[v])
                self._exact[v] = _reduced([1 << shift, *integers.tolist()])
            else:
                p, q, facet = self._parents[v]
                missing = [i for i in (p, q) if i not in self._exact]
                stack += missing
                if not missing:
                    a, b, row = self._exact[p], self._exact[q], facet.exact
                    za = sum(x * y for x, y in zip(row, a, strict=True))
                    zb = sum(x * y for x, y in zip(row, b, strict=True))
                    if za < 0:
                        za, zb = -za, -zb
                    self._exact[v] = _reduced([za * y - zb * x for x, y in zip(a, b, strict=True)])
        return self._exact[vertex]

    def between(
        self, ends: np.ndarray, facet: Facet, hinge: int, facets: list[Facet], on: np.ndarray
    ) -> np.ndarray:
        """The numbers of the vertices where a hinge cuts edges.

        Args:
          ends: `[k, 2]`, numbers of the vertices on the two sides.
          facet: the hinge's, in this cell.
          hinge: its number.
          facets: of the cell.
          on: `[k, facets]`, which of them hold each edge.
        """
        ends = np.sort(ends, 1)
        ids = np.empty(len(ends), np.int64)
        new = []
        for i, (p, q) in enumerate(ends.tolist()):
            key = (p, q, hinge)
            found = self._edge.get(key)
            if found is None:
                found = self._edge[key] = self.n
                self._parents[found] = (p, q, facet)
                self.n += 1
                new.append(i)
            ids[i] = found
        if new:
            self._place(ids[new], [*facets, facet], on[new])
        return ids

    def _place(self, ids: np.ndarray, facets: list[Facet], on: np.ndarray) -> None:
        d = self.point.shape[1]
        if self.n > len(self.point):
            more = np.zeros((max(self.n, 2 * len(self.point)) - len(self.point), d))
            self.point = np.concatenate([self.point, more])
            self.error = np.concatenate([self.error, more])
        simple = np.flatnonzero(on.sum(1) == d - 1)
        rest = np.ones(len(ids), bool)
        if simple.size:
            which = np.nonzero(on[simple])[1].reshape(len(simple), d - 1)
            which = np.column_stack([which, np.full(len(simple), len(facets) - 1)])
            rows = np.array([f.value for f in facets])[which]
            errors = np.array([f.error for f in facets])[which]
            point, error, good = _meet(rows, errors)
            self.point[ids[simple]], self.error[ids[simple]] = point, error
            rest[simple[good]] = False
        for i in ids[rest].tolist():
            below, *above = self.exact(i)
            self.point[i] = [x / below for x in above]
            self.error[i] = UNIT * SLACK * np.abs(self.point[i]) + FLOOR


def _meet(rows: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where d hyperplanes each meet, with error bounds, and where these can be relied on.

    With `A x = -c` for the exact rows, R near the inverse of A and `|I - R A| <= beta < 1`, a
    point is off by at most `|R| r` plus `beta / (1 - beta)` times the largest entry of it, r being
    the exact residual (Rump, "Verification methods", Acta Numerica 2010, section 10).
    """
    d = rows.shape[1]
    scale = np.abs(rows[:, :, 1:]).max(2, keepdims=True)
    scale = np.exp2(-np.frexp(np.where(scale > 0, scale, 1.0))[1])  # powers of 2: exact
    rows, errors = rows * scale, errors * scale
    A, c = rows[:, :, 1:], rows[:, :, 0]
    try:
        R = np.linalg.inv(A)
    except np.linalg.LinAlgError:
        none = np.zeros((len(rows), d))
        return none, none, np.zeros(len(rows), bool)
    with np.errstate(invalid="ignore", over="ignore"):
        point = -(R @ c[:, :, None])[:, :, 0]
        point -= (R @ ((A @ point[:, :, None])[:, :, 0] + c)[:, :, None])[:, :, 0]
        rounding = (d + 2) * UNIT
        size = np.abs(R) @ np.abs(A)
        beta = np.abs(np.eye(d) - R @ A) + rounding * (size + 1) + np.abs(R) @ errors[:, :, 1:]
        beta = SLACK * beta.sum(2).max(1)
        residual = np.abs((A @ point[:, :, None])[:, :, 0] + c)
        own = errors + rounding * np.abs(rows)
        residual = residual + own[:, :, 0] + (own[:, :, 1:] @ np.abs(point)[:, :, None])[:, :, 0]
        error = (np.abs(R) @ residual[:, :, None])[:, :, 0]
        good = beta < _SURE
        error += (np.where(good, beta, 0) * 2 * error.max(1))[:, None]
        return point, SLACK * error + FLOOR, good & np.isfinite(error).all(1)


def _reduced(integers: list[int]) -> list[int]:
    divisor = math.gcd(*integers)
    return [x // divisor for x in integers] if divisor > 1 else integers
