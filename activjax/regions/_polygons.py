"""`Polygons`: the linear regions of a function on a plane."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int

from activjax.program.networks import Network
from activjax.regions import _plane_counts
from activjax.regions._boxes import Regions, enumerate
from activjax.regions._count import DEFINITIONS, Count, Definition, check_definition
from activjax.regions._maps import labels
from activjax.regions._planes import Subdivision, subdivide

#: Of subdivisions in doubt those of at most so many cells are compared with an exact enumeration.
EXACTLY = 4096


@dataclass(frozen=True, eq=False)
class Polygons:
    """How a function cuts a rectangle of a plane: cells on which all units keep their state.

    Cells are the proper activation regions (definition "proper"); coarser definitions join them.
    Points of a plane have coordinates `s`; the input there is `origin + s @ basis`. A point on an
    edge belongs to the cell in which the units whose hinge it is are inactive, if there is one:
    zero is inactive, and of equal elements of a maximum the first wins.

    Attributes:
      network: the function, of the whole input.
      origin: `[size]`.
      basis: `[2, size]`.
      box: `[2, 2]`, lower and upper bound of each coordinate.
      vertices: `[v, 2]`.
      edges: `[e, 2]` vertices.
      beside: `[e, 2]` the cells to the left and the right of an edge; -1 outside the box.
      maker: `[e]` the unit whose hinge an edge is; -1 to -4 for the box (bottom, right, top, left).
      ring: vertices of all cells, counter-clockwise, laid end to end.
      begins: `[cells + 1]` where those of each cell begin.
      states: `[cells, units]`, the state of each unit: 1 for active, or the place of the largest.
      definition: of a region.
      region: `[cells]`, the region that each cell belongs to.
      touched: how many times a vertex was found to lie on the hinge of a unit that did not make it,
        within rounding. With 0 the arrangement is simple.
    """

    network: Network
    origin: Float64[np.ndarray, " size"]
    basis: Float64[np.ndarray, "2 size"]
    box: Float64[np.ndarray, "2 2"]
    vertices: Float64[np.ndarray, "v 2"]
    edges: Int[np.ndarray, "e 2"]
    beside: Int[np.ndarray, "e 2"]
    maker: Int[np.ndarray, " e"]
    ring: Int[np.ndarray, " corners"]
    begins: Int[np.ndarray, " cells_1"]
    states: Int[np.ndarray, "cells units"]
    definition: Definition
    region: Int[np.ndarray, " cells"]
    touched: int

    def __len__(self) -> int:
        """The number of regions by `definition`; of "activation" those with an interior."""
        return int(self.region.max()) + 1

    def __repr__(self) -> str:
        return (
            f"Polygons({len(self)} regions ({self.definition}), {len(self.begins) - 1} cells, "
            f"{len(self.edges)} edges, {len(self.vertices)} vertices)"
        )

    @property
    def cells(self) -> int:
        """The number of cells."""
        return len(self.begins) - 1

    @property
    def euler(self) -> int:
        """Cells + vertices - edges, which is 1 for every subdivision of a rectangle."""
        return self.cells + len(self.vertices) - len(self.edges)

    def corners(self, cell: int) -> Int[np.ndarray, " corners"]:
        """The numbers of a cell's vertices, counter-clockwise."""
        return self.ring[self.begins[cell] : self.begins[cell + 1]]

    def polygon(self, cell: int) -> Float64[np.ndarray, "corners 2"]:
        """The vertices of a cell, counter-clockwise."""
        return self.vertices[self.corners(cell)]

    @cached_property
    def area(self) -> Float64[np.ndarray, " cells"]:
        """Of each cell, in units of the coordinates."""
        return self._moments[0]

    @cached_property
    def centroids(self) -> Float64[np.ndarray, "cells 2"]:
        """The centre of gravity of each cell."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        # About the mean of the corners, so that small cells far from the origin keep their digits.
        first, sizes = self.begins[:-1], np.diff(self.begins)
        here = self.vertices[self.ring]
        middle = np.add.reduceat(here, first) / sizes[:, None]
        after = np.arange(len(self.ring)) + 1
        after[self.begins[1:] - 1] = first
        p = here - np.repeat(middle, sizes, axis=0)
        q = p[after]
        twice = p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]
        area = np.add.reduceat(twice, first) / 2
        lever = np.add.reduceat(twice[:, None] * (p + q), first) / 6
        shift = np.divide(lever, area[:, None], out=np.zeros_like(lever), where=area[:, None] > 0)
        return area, middle + shift

    @cached_property
    def certificate(self) -> Literal["generic-certified", "exact-integer", "uncertified"]:
        """Whether these are the cells that real arithmetic makes, found when first asked for.

        "generic-certified": every sign that decided was proven, with bounds on all rounding errors,
        and no vertex lies on a hinge that did not make it: a theorem on the function of the
        coordinates with its weights as float64 numbers (barring underflow). "exact-integer": that
        was not so, but up to `EXACTLY` cells the patterns, and which cells are neighbours, are
        those that `enumerate` finds, which decides in integers what rounding leaves open.
        "uncertified": neither.
        """
        again = subdivide(self.plane, self.box, proven=True)
        sound = self.euler == 1 and len(np.unique(self.states, axis=0)) == self.cells
        if sound and again.doubts == 0 and np.array_equal(again.states, self.states):
            return "generic-certified"
        return "exact-integer" if sound and self.enumerated is not None else "uncertified"

    @cached_property
    def enumerated(self) -> Regions | None:
        """The same cells, and neighbours, as integers find them.

        None if there are others, or more than `EXACTLY` cells.
        """
        if self.cells > EXACTLY:
            return None
        found = enumerate(self.plane, self.box, budget=2 * self.cells)
        if not found.complete or found.certificate == "uncertified":
            return None
        both = np.concatenate([found.states, self.states])
        number = np.unique(both, axis=0, return_inverse=True)[1].ravel()
        theirs, mine = number[: len(found)], number[len(found) :]
        a, b = (
            np.unique(np.sort(own[pairs], axis=1), axis=0)
            for own, pairs in ((theirs, found.adjacency()), (mine, self.adjacency))
        )
        same = np.array_equal(np.unique(theirs), np.unique(mine)) and np.array_equal(a, b)
        return found if same else None

    @cached_property
    def adjacency(self) -> Int[np.ndarray, "pairs 2"]:
        """Pairs of cells that share an edge, each once, the smaller number first."""
        inner = np.sort(self.beside[(self.beside >= 0).all(1)], axis=1)
        return np.unique(inner, axis=0)

    @cached_property
    def plane(self) -> Network:
        """The function of the coordinates."""
        return self.network.restrict(self.origin, self.basis)

    @cached_property
    def maps(self) -> Float64[np.ndarray, "cells 3 out"]:
        """The affine function on each cell: at `s` it is `maps[:, 0] + s @ maps[:, 1:]`."""
        return self.plane.forms(self.states)

    @cached_property
    def map_labels(self) -> Int[np.ndarray, " cells"]:
        """The number of each cell's affine function on the plane; equal means equal exactly."""
        return labels(self.network, self.states, self.origin, self.basis)

    def inputs(self, s: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n size"]:
        """The function's flattened inputs at coordinates."""
        return self.origin + np.asarray(s, np.float64) @ self.basis

    def locate(self, s: Float64[np.ndarray, "n 2"]) -> Int[np.ndarray, " n"]:
        """The cell that has the pattern of each point.

        Returns:
          -1 where there is none: outside the box, or on a hinge whose own pattern no cell has.

        Raises:
          ValueError: the points are not `[n, 2]`.
        """
        s = np.asarray(s, np.float64)
        if s.ndim != 2 or s.shape[1] != 2:
            raise ValueError(f"locate: points have shape {s.shape}, expected [n, 2]")
        rows = np.concatenate([self.states, self.plane.pattern(s).astype(self.states.dtype)])
        number = np.unique(rows, axis=0, return_inverse=True)[1].ravel()
        cell = np.full(number.max() + 1, -1)
        cell[number[: self.cells]] = np.arange(self.cells)
        found = cell[number[self.cells :]]
        inside = ((s >= self.box[:, 0]) & (s <= self.box[:, 1])).all(1)
        return np.where(inside, found, -1)

    def count(self, definition: Definition | None = None) -> Count:
        """The number of regions by a definition, by default this one's.

        "convex" is known only where a lower and an upper bound meet, "connected" only where
        rounding decides nothing; otherwise the count is an interval. Counted are the cells that
        were found: that these are all, each once, is what `certificate` says.

        Raises:
          ValueError: no such definition.
        """
        return _plane_counts.count(self, check_definition("count", definition or self.definition))

    def counts(self) -> dict[Definition, Count]:
        """The number of regions by each of the six definitions."""
        return {d: self.count(d) for d in DEFINITIONS}

    def by(self, definition: Definition) -> Polygons:
        """The same cells, joined to the regions of another definition.

        Raises:
          ValueError: no such definition.
        """
        definition = check_definition("by", definition)
        return dataclasses.replace(
            self, definition=definition, region=_plane_counts.regions(self, definition)
        )


def polygons(
    network: Network, origin: np.ndarray, basis: np.ndarray, box: np.ndarray, found: Subdivision
) -> Polygons:
    """The result of a subdivision.

    Raises:
      ArithmeticError: the cells are not rings.
    """
    mesh = found.mesh
    ring, begins = mesh.rings()
    edges = np.stack([mesh.start, mesh.stop], 1)
    beside = np.stack([mesh.left, mesh.right], 1)
    return Polygons(
        network, origin, basis, box, found.points, edges, beside, mesh.maker.copy(), ring, begins,
        found.states, "proper", np.arange(mesh.cells), found.touched,
    )  # fmt: skip
