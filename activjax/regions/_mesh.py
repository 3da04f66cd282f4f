"""A subdivision of a rectangle into convex polygons, cut line by line.

Vertices, and oriented edges with the cell on either side; cells are numbers. Signs at vertices
decide everything, so that neighbours agree whatever was rounded: a cell that has both signs has
exactly one place where its boundary (counter-clockwise) comes in from minus to plus and one where
it goes out, each in an edge or at a vertex of sign 0, and the new edge joins them.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse

from activjax.regions._components import components

#: The makers of the four sides of the rectangle: bottom, right, top, left.
SIDES = (-1, -2, -3, -4)


class Mesh:
    """The subdivision; it grows in place.

    Attributes:
      start, stop: `[edges]` vertices.
      left, right: `[edges]` the cell to the left of the way from start to stop, and to the right;
        -1 outside the rectangle.
      maker: `[edges]` what put the edge there: the number of a unit, or a side of the rectangle.
      vertices, cells: how many there are. Vertices 0 to 3 are the corners, counter-clockwise from
        the lowest.
    """

    def __init__(self) -> None:
        self.n_edges, self.vertices, self.cells = 4, 4, 1
        self._edges = np.array(
            [[0, 1, 2, 3], [1, 2, 3, 0], [0, 0, 0, 0], [-1, -1, -1, -1], SIDES], np.int64
        )

    start = property(lambda self: self._edges[0, : self.n_edges])
    stop = property(lambda self: self._edges[1, : self.n_edges])
    left = property(lambda self: self._edges[2, : self.n_edges])
    right = property(lambda self: self._edges[3, : self.n_edges])
    maker = property(lambda self: self._edges[4, : self.n_edges])

    def signs(self, signs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The signs `[edges]` at the start and at the stop of each edge, from those of vertices."""
        return signs.take(self.start), signs.take(self.stop)

    def cut(
        self, start: np.ndarray, stop: np.ndarray, crossed: np.ndarray, zero: bool, maker: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Cuts every cell that has both signs.

        Args:
          start, stop: `[edges]` int8, the signs at both ends of each edge, from `signs`.
          crossed: the edges at whose ends they are opposite. Each gets a vertex, in this order,
            after those there are.
          zero: whether any sign is 0.
          maker: of the new edges.

        Returns:
          The cells that were cut, in order: the part where the sign is minus is a new cell, the
          first of them number `cells`; the other part keeps the number. And, for all cells now,
          whether the sign is plus inside.

        Raises:
          ArithmeticError: the signs are not those of affine functions on convex cells.
        """
        e, n, c = self._edges, self.n_edges, len(crossed)
        new = np.arange(self.vertices, self.vertices + c)
        low, high = start[crossed], stop[crossed]
        mixed, below = np.zeros(0, np.int64), None
        if c or zero:
            # Where boundaries come in to plus or go out: in crossed edges, at vertices on the line.
            cells = [e[2, crossed], e[3, crossed]]
            places, inward = [new, new], [low < 0, high < 0]
            if zero:
                ends = np.flatnonzero((stop == 0) & (start != 0))
                begins = np.flatnonzero((start == 0) & (stop != 0))
                cells += [e[2, ends], e[3, begins]]
                places += [e[1, ends], e[0, begins]]
                inward += [start[ends] < 0, stop[begins] < 0]
            came, went = self._ways(*map(np.concatenate, (cells, places, inward)))
            mixed = np.flatnonzero((came >= 0) & (went >= 0))
            below = np.arange(self.cells + 1)
            below[-1] = -1  # outside stays outside
            below[mixed] = np.arange(self.cells, self.cells + len(mixed))
            self._grow(c + len(mixed))
            e, halves = self._edges, slice(n, n + c)
            e[:, halves] = e[:, crossed]
            e[0, halves] = e[1, crossed] = new
            joint = slice(n + c, n + c + len(mixed))
            e[0, joint], e[1, joint], e[4, joint] = went[mixed], came[mixed], maker
            e[2, joint], e[3, joint] = mixed, below[mixed]
        total = start + stop
        sides = [np.flatnonzero(total < 0), crossed[low < 0], n + np.flatnonzero(high < 0)]
        lower = np.concatenate(sides)
        plus = np.ones(self.cells + len(mixed) + 1, bool)
        plus[self.cells : -1] = False
        for side in (2, 3):
            beside = e[side].take(lower)
            if below is not None:
                moved = below.take(beside)
                changed = np.flatnonzero(moved != beside)
                e[side, lower[changed]] = moved[changed]
                beside = moved
            plus[beside] = False
        if zero:  # a cell may also have no sign but 0
            sides = [np.flatnonzero(total > 0), crossed[low > 0], n + np.flatnonzero(high > 0)]
            upper = np.concatenate(sides)
            some = np.zeros_like(plus)
            some[e[2, upper]] = some[e[3, upper]] = True
            plus &= some
        self.n_edges += c + len(mixed)
        self.vertices += c
        self.cells += len(mixed)
        return mixed, plus[:-1]

    def _ways(
        self, cell: np.ndarray, place: np.ndarray, enters: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """`[cells]` vertices where the boundary of each cell comes in to plus, and goes out."""
        came, went = np.full(self.cells + 1, -1), np.full(self.cells + 1, -1)
        for ways, chosen in ((came, enters), (went, ~enters)):
            ways[cell[chosen]] = place[chosen]
            if (ways[cell[chosen]] != place[chosen])[cell[chosen] >= 0].any():
                raise ArithmeticError("a cell's boundary crosses a line more than twice")
        return came[:-1], went[:-1]

    def _grow(self, more: int) -> None:
        if self.n_edges + more > self._edges.shape[1]:
            room = np.empty((5, 2 * (self.n_edges + more)), np.int64)
            room[:, : self.n_edges] = self._edges[:, : self.n_edges]
            self._edges = room

    def corners(self) -> scipy.sparse.csr_array:
        """`[cells, vertices]`, 1 where a vertex belongs to a cell."""
        left, right = self.left >= 0, self.right >= 0
        cell = np.concatenate([self.left[left], self.right[right]])
        vertex = np.concatenate([self.start[left], self.stop[right]])
        shape = (self.cells, self.vertices)
        return scipy.sparse.csr_array((np.ones(len(cell)), (cell, vertex)), shape=shape)

    def rings(self) -> tuple[np.ndarray, np.ndarray]:
        """Each cell's vertices counter-clockwise, laid end to end, and where each cell begins.

        Raises:
          ArithmeticError: a boundary is not one closed ring.
        """
        left, right = self.left >= 0, self.right >= 0
        cell = np.concatenate([self.left[left], self.right[right]])
        first = np.concatenate([self.start[left], self.stop[right]])
        then = np.concatenate([self.stop[left], self.start[right]])
        key = cell * np.int64(self.vertices)
        order = np.argsort(key + first)
        key, cell, first, then = (x[order] for x in (key, cell, first, then))
        begins = np.searchsorted(cell, np.arange(self.cells + 1))
        follows = np.searchsorted(key + first, key + then)
        if (np.diff(key + first) == 0).any() or (first[follows % len(first)] != then).any():
            raise ArithmeticError("a cell's boundary is not a ring")
        # All rings are followed at once, from their lowest vertices.
        sizes, at = np.diff(begins), begins[:-1].copy()
        ring = np.empty(len(first), np.int64)
        for step in range(int(sizes.max(initial=0))):
            longer = sizes > step
            ring[begins[:-1][longer] + step] = first[at[longer]]
            at[longer] = follows[at[longer]]
        if (at != begins[:-1]).any():
            raise ArithmeticError("a cell's boundary is not one ring")
        return ring, begins

    def merge(self, same: np.ndarray) -> np.ndarray:
        """Removes the edges `same [edges]` (bool), joining the cells beside them.

        Vertices that then stand in the middle of a straight edge are left out of edges, but keep
        their numbers; `compact` removes them.

        Returns:
          `[cells before]`, the new number of each.
        """
        label = components(self.cells, np.stack([self.left[same], self.right[same]], 1))
        n = int(label.max()) + 1
        edges = self._edges[:, : self.n_edges][:, ~same]
        for side in (2, 3):
            edges[side] = np.where(edges[side] >= 0, label[edges[side]], -1)
        edges = _straightened(edges[:, edges[2] != edges[3]])
        self._edges, self.n_edges, self.cells = edges, edges.shape[1], n
        return label

    def compact(self) -> np.ndarray:
        """Renumbers the vertices that edges use; returns their old numbers."""
        used = np.unique(self._edges[:2, : self.n_edges])
        number = np.full(self.vertices, -1)
        number[used] = np.arange(len(used))
        self._edges[:2, : self.n_edges] = number[self._edges[:2, : self.n_edges]]
        self.vertices = len(used)
        return used


def _straightened(edges: np.ndarray) -> np.ndarray:
    """Without vertices, other than the four corners, at which only two edges meet."""
    while True:
        n = edges.shape[1]
        ends = edges[:2].ravel()
        degree = np.bincount(ends, minlength=4)
        degree[:4] = 0
        loose = degree == 2
        # Of two such vertices on one edge the lower goes first.
        both = loose[edges[0]] & loose[edges[1]]
        loose[np.maximum(edges[0, both], edges[1, both])] = False
        if not loose.any():
            return edges
        where = np.argsort(ends, kind="stable")
        where = where[loose[ends[where]]].reshape(-1, 2)
        middle = ends[where[:, 0]]
        a, b = (where % n).T
        far = [np.where(edges[0, e] == middle, edges[1, e], edges[0, e]) for e in (a, b)]
        # The joined edge keeps the direction of a.
        forward = edges[1, a] == middle
        edges[0, a] = np.where(forward, far[0], far[1])
        edges[1, a] = np.where(forward, far[1], far[0])
        edges = np.delete(edges, b, axis=1)
