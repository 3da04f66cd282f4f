"""All linear regions of a network in a box of any dimension."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int

from activjax.program.networks import Network
from activjax.regions._box import check_box
from activjax.regions._box_counts import Geometry
from activjax.regions._box_programs import ProgramSearch
from activjax.regions._box_search import Search
from activjax.regions._count import DEFINITIONS, Count, Definition, check_definition
from activjax.regions._maps import labels

Certificate = Literal["generic-certified", "exact-integer", "uncertified"]

VERTICES_UP_TO = 8
"""In more dimensions than this, linear programs are used: a cube has 2^d vertices."""


@dataclass(frozen=True, eq=False)
class Regions:
    """The sets of full dimension, within a box, on which the pattern of a network is constant.

    Attributes:
      network: whose.
      box: `[d, 2]`.
      states: `[n, units]`, the pattern of each cell, each once.
      points: `[n, d]`, a point inside each cell: the mean of its vertices up to `VERTICES_UP_TO`
        dimensions. (Where a cell is thinner than float64 can tell, its radius is 0.)
      radius: `[n]`, of a ball about the point that lies in the cell (not the largest such ball).
      complete: whether these are all cells; else the budget ran out, or some decision is in doubt.
      certificate: "generic-certified": every decision was beyond its derived rounding error in
        float64. "exact-integer": those that were not were made in integer arithmetic.
        "uncertified": `doubtful` of them were not made.
      doubtful: decisions within rounding, each for a possible part of the box thinner than that,
        which was left out. Always 0 up to `VERTICES_UP_TO` dimensions.
      programs: linear programs solved.
    """

    network: Network = field(repr=False)
    box: Float64[np.ndarray, "d 2"]
    states: Int[np.ndarray, "n units"] = field(repr=False)
    points: Float64[np.ndarray, "n d"] = field(repr=False)
    radius: Float64[np.ndarray, " n"] = field(repr=False)
    complete: bool
    certificate: Certificate
    doubtful: int
    programs: int
    _geometry: Geometry | None = field(repr=False)

    def __len__(self) -> int:
        return len(self.states)

    @cached_property
    def maps(self) -> Float64[np.ndarray, "n 1+d out"]:
        """The output on each cell: constants, then coefficients of each input."""
        return self.network.forms(self.states)

    @cached_property
    def labels(self) -> Int[np.ndarray, " n"]:
        """The number of each cell's map: equal ones have the same (see `regions._maps.labels`)."""
        return labels(self.network, self.states)

    def adjacency(self) -> Int[np.ndarray, "pairs 2"]:
        """Pairs of cells that share a facet, a set of dimension d - 1, each pair once.

        Raises:
          ValueError: in more than `VERTICES_UP_TO` dimensions.
        """
        if self._geometry is None:
            raise ValueError(
                f"adjacency: is found from vertices, which a box of {len(self.box)} dimensions has "
                f"too many of; it is there up to {VERTICES_UP_TO}"
            )
        return self._geometry.adjacency

    def locate(self, x: Any) -> Any:
        """The number of the cell that has the pattern of a point; -1 where none has.

        Args:
          x: `[d]` or `[k, d]`; evaluated in float64, zero being inactive. -1 is for points outside
            the box, points between cells whose pattern is that of no cell, and, where the cells
            are not complete, for those that were not found.

        Returns:
          An integer, or `[k]` of them.

        Raises:
          ValueError: the shape is another.
        """
        x = np.asarray(x, np.float64)
        d = len(self.box)
        if x.ndim not in (1, 2) or x.shape[-1] != d:
            raise ValueError(f"locate: x has shape {x.shape}, expected [{d}] or [k, {d}]")
        rows = np.atleast_2d(x)
        inside = ((rows >= self.box[:, 0]) & (rows <= self.box[:, 1])).all(1)
        found = np.full(len(rows), -1)
        patterns = self.network.pattern(rows[inside])
        found[inside] = [self._places.get(p.tobytes(), -1) for p in patterns]
        return int(found[0]) if x.ndim == 1 else found

    @cached_property
    def _places(self) -> dict[bytes, int]:
        return dict(zip((row.tobytes() for row in self.states), range(len(self)), strict=True))

    def counts(self) -> dict[Definition, Count]:
        """The number of regions by each definition."""
        return {name: self.count(name) for name in DEFINITIONS}

    def count(self, definition: str = "proper") -> Count:
        """The number of regions in the box by one definition, or an interval for it.

        "affine" is exact up to the odds of `labels`, and so are those that compare maps:
        "open_connected", "connected" and "convex". "connected" is an interval for functions of
        several outputs where it cannot be told cheaply whether two regions touch. "convex" is
        exact in one dimension and for one hidden layer of rectifiers: there the gradient changes
        across each hyperplane by the same amount everywhere, so that the hyperplanes with a change
        that is not 0 cut the box into the open connected regions, which are convex. Else it is
        between "open_connected" and "proper". Where the cells are not complete, at least what was
        found.

        Args:
          definition: one of the six of `activjax.regions.DEFINITIONS`.

        Raises:
          ValueError: there is no such definition.
        """
        name = check_definition("count", definition)
        if name not in self._counts:
            self._counts[name] = self._count(name)
        return self._counts[name]

    @cached_property
    def _counts(self) -> dict[Definition, Count]:
        return {}

    def _count(self, name: Definition) -> Count:
        n, geometry = len(self), self._geometry
        if name == "proper":
            return Count(name, n, n if self.complete else None)
        if name == "activation":
            if geometry is None:
                return Count(name, n, None)
            low = geometry.activation()
            return Count(name, low, low if self.complete else None)
        affine = int(self.labels.max(initial=-1)) + 1
        if not self.complete:
            return Count(name, affine, None)
        if name == "affine":
            return Count(name, affine, affine)
        if geometry is None:
            return Count(name, affine, n)
        component = self._component
        most = int(component.max(initial=-1)) + 1
        if name == "open_connected":
            return Count(name, most, most)
        if name == "connected":
            low, high = geometry.connected(self.labels, component)
            return Count(name, low, high)
        layers = self.network.layers
        simple = len(self.box) == 1 or not layers
        simple = simple or (len(layers) == 1 and layers[0].groups is None)
        return Count(name, most, most if simple else n)

    @cached_property
    def _component(self) -> np.ndarray:
        assert self._geometry is not None
        return self._geometry.open_connected(self.labels)


def enumerate(network: Network, box: Any, *, budget: int) -> Regions:
    """All cells of full dimension of a network within a box.

    Up to `VERTICES_UP_TO` dimensions each cell is kept by its vertices and cut by one hinge after
    another; every sign is read beyond a derived bound of its rounding error, or in integers. (The
    vertices of all cells together are about as many as the cells, those of one cell about 2^d.) In
    more dimensions cells are kept by their constraints, at the cost of a linear program for each
    hinge that may cut a cell.

    Args:
      network: its weights are taken for exact.
      box: `[d, 2]`, the lowest and the highest of each input.
      budget: the most cells to find. The search is depth first: all that are found are cells of the
        network, to the last layer.

    Returns:
      Regions. Where there are more than `budget` cells, `complete` is False.

    Raises:
      ValueError: a box of another shape, with NaN or infinite numbers or without inside; a budget
        below 1.
      OverflowError: products of weights are beyond float64.
    """
    box = check_box("enumerate", box, network.size)
    if isinstance(budget, bool) or not isinstance(budget, int | np.integer) or budget < 1:
        raise ValueError(f"enumerate: budget is {budget!r}, expected an integer of at least 1")
    if len(box) <= VERTICES_UP_TO:
        return _by_vertices(network, box, int(budget))
    return _by_programs(network, box, int(budget))


def _by_vertices(network: Network, box: np.ndarray, budget: int) -> Regions:
    search = Search(network, box)
    states, points, radius, ids, on = [], [], [], [], []
    complete = True
    for cell in search.cells():
        if len(states) == budget:
            complete = False
            break
        shape = cell.shape
        point = search.vertices.point[shape.ids].mean(0)
        rows = np.array([f.value for f in shape.facets])
        errors = np.array([f.error for f in shape.facets])
        states.append(cell.states)
        points.append(point)
        radius.append(_reach(rows, errors, point))
        ids.append(shape.ids)
        on.append(shape.on)
    kept = np.array(states, network.state_dtype).reshape(len(states), network.units)
    certificate: Certificate = "exact-integer" if search.exact else "generic-certified"
    geometry = Geometry(search, kept, ids, on)
    return Regions(network, box, kept, np.array(points), np.array(radius), complete, certificate,
                   0, 0, geometry)  # fmt: skip


def _by_programs(network: Network, box: np.ndarray, budget: int) -> Regions:
    search = ProgramSearch(network, box)
    states, points, radius = [], [], []
    over = False
    for piece in search.cells():
        if len(states) == budget:
            over = True
            break
        states.append(piece.states)
        points.append(search.place(piece.point))
        # Rows are of length 1 in coordinates that are stretched by no more than the least half.
        sides = np.concatenate([np.eye(len(box)), -np.eye(len(box))])
        rows = np.concatenate([piece.rows, np.column_stack([np.ones(len(sides)), sides])])
        errors = np.concatenate([piece.error, np.zeros((len(sides), 1 + len(box)))])
        radius.append(_reach(rows, errors, piece.point) * search.half.min())
    kept = np.array(states, network.state_dtype).reshape(len(states), network.units)
    certificate: Certificate = "uncertified" if search.doubtful else "generic-certified"
    complete = not over and not search.doubtful
    return Regions(network, box, kept, np.array(points), np.array(radius), complete, certificate,
                   search.doubtful, search.programs, None)  # fmt: skip


def _reach(rows: np.ndarray, errors: np.ndarray, point: np.ndarray) -> float:
    """The least distance from a point to hyperplanes, less the rounding errors; at least 0."""
    place = np.append(1.0, point)
    z = np.abs(rows @ place)
    error = (errors + (len(place) + 2) * np.finfo(np.float64).eps * np.abs(rows)) @ np.abs(place)
    length = np.linalg.norm(rows[:, 1:], axis=1)
    some = length > 0
    return float(np.maximum((z - error)[some] / length[some], 0).min(initial=np.inf))
