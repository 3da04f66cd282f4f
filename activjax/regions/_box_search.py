"""The cells of a network in a box: cut by one hinge after another, depth first.

A hinge is a rectifier or a maximum over a group. Each is a continuous function, so that cells meet
in whole faces at each step. What a hinge does to a cell follows from the signs of affine functions
at its vertices. A sign is read in float64 where the value is beyond its error bound, else found in
integers: all decisions are exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from activjax.program.networks import Network
from activjax.regions._box_forms import UNIT, Forms, Programs, at, to_integers
from activjax.regions._box_polytope import Polytope, cut, joined
from activjax.regions._box_vertices import Facet, Vertices

Split = tuple[int, np.ndarray, list[tuple[int, Polytope]]]
"""A unit, those of its layer that are left, and its states with the parts of the cell."""


@dataclass(frozen=True, eq=False)
class Cell:
    """A polytope and the states of the units so far.

    Attributes:
      shape: where.
      states: `[units]`, valid for the layers before `layer` and the units decided in it.
      layer: in which units are left; `len(layers)` where none are.
      left: the undecided units of this layer.
      sources: outputs of earlier layers that are still read, on this cell.
      forms: the values before the layer's hinges; None where they are not yet needed.
    """

    shape: Polytope
    states: np.ndarray
    layer: int
    left: np.ndarray
    sources: dict[int, Forms]
    forms: Forms | None


class Search:
    """The search for the cells.

    Attributes:
      vertices: of all cells.
      exact: how many signs were found in integers.
    """

    def __init__(self, network: Network, box: np.ndarray):
        self.network, self.box = network, box
        self.programs = Programs(network)
        self.vertices = Vertices(box)
        self.exact = 0
        # Numbers of hinges: one for a rectifier, one for each further element of a group.
        steps = [layer.size * (layer.states - 1) for layer in network.layers]
        self._number = np.cumsum([0, *steps]).tolist()
        self._slices = network.slices

    def cells(self) -> Iterator[Cell]:
        """All cells, finished, as they are found."""
        stack = [self._whole()]
        while stack:
            parts = self._next(stack.pop())
            if isinstance(parts, Cell):
                yield parts
            else:
                stack += parts

    def _whole(self) -> Cell:
        d = len(self.box)
        value = np.zeros((1 + d, 2 * d))
        value[0, :d], value[0, d:] = -self.box[:, 0], self.box[:, 1]
        value[1:, :d], value[1:, d:] = np.eye(d), -np.eye(d)
        form = Forms(value, np.zeros_like(value), (lambda: to_integers(value), ()))
        corners = self.vertices.point
        on = np.concatenate([corners == self.box[:, 0], corners == self.box[:, 1]], 1)
        shape = Polytope(np.arange(len(corners)), on, [Facet(form, i) for i in range(2 * d)])
        states = np.zeros(self.network.units, self.network.state_dtype)
        return Cell(shape, states, 0, self.programs.units(0), {0: self.programs.input()}, None)

    def _next(self, cell: Cell) -> Cell | list[Cell]:
        """The cell, finished, or its parts."""
        states, layer, left = cell.states.copy(), cell.layer, cell.left
        sources, forms = cell.sources, cell.forms
        point, error = self.vertices.point[cell.shape.ids], self.vertices.error[cell.shape.ids]
        while layer < len(self.network.layers):
            if forms is None:
                forms = self.programs.before(layer, sources)
            where = self._slices[layer]
            rectifiers = self.network.layers[layer].groups is None
            split = self._rectified if rectifiers else self._largest
            found = split(cell.shape, forms, layer, states[where], left, point, error)
            if found is not None:
                unit, left, parts = found
                children = []
                for state, part in parts:
                    own = states.copy()
                    own[where][unit] = state
                    children.append(Cell(part, own, layer, left, sources, forms))
                return children
            sources = self.programs.onward(layer, sources, forms, states[where])
            layer, forms = layer + 1, None
            left = self.programs.units(layer)
        return Cell(cell.shape, states, layer, left, sources, None)

    def _rectified(
        self,
        shape: Polytope,
        forms: Forms,
        layer: int,
        states: np.ndarray,
        left: np.ndarray,
        point: np.ndarray,
        error: np.ndarray,
    ) -> Split | None:
        """The first unit that cuts the cell; writes the `states` of units that do not."""
        z, bound = at(forms.value[:, left], forms.error[:, left], point, error)
        above = (z > bound).all(0)
        states[left[above]] = 1
        open_ = ~(above | ((z < -bound) | (bound == 0)).all(0))
        for i in np.flatnonzero(open_).tolist():
            unit = int(left[i])
            facet = Facet(forms, unit)
            signs = self._signs(shape, z[:, i], bound[:, i], facet)
            open_[i] = False
            if signs.min() < 0 < signs.max():
                number = self._number[layer] + unit
                parts = enumerate(cut(shape, signs, facet, number, self.vertices))
                return unit, left[open_], list(parts)
            states[unit] = signs.max() > 0
        return None

    def _largest(
        self,
        shape: Polytope,
        forms: Forms,
        layer: int,
        states: np.ndarray,
        left: np.ndarray,
        point: np.ndarray,
        error: np.ndarray,
    ) -> Split | None:
        """The first group of which two elements are the largest in parts of the cell."""
        groups = self.network.layers[layer].groups
        assert groups is not None
        z, bound = forms.at(point, error)
        z, bound = z[:, groups[left]], bound[:, groups[left]]
        best = z.sum(0).argmax(-1)[None, :, None]
        ahead = np.take_along_axis(z, best, 2) - z
        clear = ahead * (1 - 4 * UNIT) > np.take_along_axis(bound, best, 2) + bound
        np.put_along_axis(clear, best, True, 2)
        clear = clear.all((0, 2))
        states[left[clear]] = best[0, clear, 0]
        left = left[~clear]
        for i, unit in enumerate(left.tolist()):
            first = self._number[layer] + unit * (groups.shape[1] - 1) - 1
            pieces = self._pieces(shape, forms, groups[unit], first)
            if len(pieces) > 1:
                return unit, left[i + 1 :], pieces
            states[unit] = pieces[0][0]
        return None

    def _pieces(
        self, shape: Polytope, forms: Forms, group: np.ndarray, number: int
    ) -> list[tuple[int, Polytope]]:
        """The parts of a cell where each element of a group is the largest, the first of equals.

        One element after another: it takes from the part of each earlier one what is below it. All
        that it takes is one convex set.
        """
        pieces = [(0, shape)]
        for t in range(1, len(group)):
            kept: list[tuple[int, Polytope]] = []
            taken: list[Polytope] = []
            walls: list[Facet] = []
            for i, piece in pieces:
                facet = Facet(forms, int(group[t]), int(group[i]))
                point, error = self.vertices.point[piece.ids], self.vertices.error[piece.ids]
                z, bound = at(facet.value[:, None], facet.error[:, None], point, error)
                signs = self._signs(piece, z[:, 0], bound[:, 0], facet)
                if signs.max() <= 0:
                    kept.append((i, piece))
                elif signs.min() >= 0:
                    taken.append(piece)
                else:
                    low, high = cut(piece, signs, facet, number + t, self.vertices)
                    kept.append((i, low))
                    taken.append(high)
                    walls.append(facet)
            if taken and not kept:
                pieces = [(t, shape)]
            elif taken:
                one = len(taken) == 1
                new = taken[0] if one else joined(taken, [*shape.facets, *walls])
                pieces = [*kept, (t, new)]
        return pieces

    def _signs(self, shape: Polytope, z: np.ndarray, bound: np.ndarray, facet: Facet) -> np.ndarray:
        """The signs `[n]` of a form at the vertices, exactly."""
        signs = np.sign(z).astype(np.int8)
        open_ = np.flatnonzero((np.abs(z) <= bound) & (bound > 0))
        self.exact += len(open_)
        for i in open_.tolist():
            signs[i] = self.vertices.sign(int(shape.ids[i]), facet)
        return signs
