"""A subdivision of a rectangle into convex polygons, cut line by line.

Vertices, and oriented edges with the cell on either side; cells are numbers. Signs at vertices
decide everything, so that neighbours agree whatever was rounded: a cell that has both signs has
exactly one place where its boundary (counter-clockwise) comes in from minus to plus and one where
it goes out, each in an edge or at a vertex of sign 0, and the new edge joins them.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

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

    def crossed(self, signs: np.ndarray) -> np.ndarray:
        """Numbers of the edges whose ends have opposite signs; `signs` is `[vertices]` int8."""
        return np.flatnonzero(signs[self.start] * signs[self.stop] < 0)

    def cut(self, signs: np.ndarray, crossed: np.ndarray, maker: int) -> np.ndarray:
        """Cuts every cell that has both signs.

        Args:
          signs: `[vertices]` int8, -1, 0 or 1.
          crossed: the edges with opposite signs, from `crossed`. Each gets a vertex, in this order,
            after those there are.
          maker: of the new edges.

        Returns:
          The cells that were cut, in order: the part where the sign is minus is a new cell, the
          first of them number `cells`; the other part keeps the number.

        Raises:
          ArithmeticError: the signs are not those of affine functions on convex cells.
        """
        start, stop, left, right = self._edges[:4, : self.n_edges]
        s0, s1 = signs[start], signs[stop]
        new = np.arange(self.vertices, self.vertices + len(crossed))
        # Where boundaries come in to plus or go out: in crossed edges, and at vertices on the line.
        low, high = s0[crossed], s1[crossed]
        cells = [left[crossed], right[crossed]]
        places, inward = [new, new], [low < 0, high < 0]
        if (signs == 0).any():
            ends = np.flatnonzero((s1 == 0) & (s0 != 0))
            begins = np.flatnonzero((s0 == 0) & (s1 != 0))
            cells += [left[ends], right[begins]]
            places += [stop[ends], start[begins]]
            inward += [s0[ends] < 0, s1[begins] < 0]
        cell, place, enters = (np.concatenate(x) for x in (cells, places, inward))
        inside = cell >= 0
        cell, place, enters = cell[inside], place[inside], enters[inside]
        came, went = np.full(self.cells, -1), np.full(self.cells, -1)
        came[cell[enters]] = place[enters]
        went[cell[~enters]] = place[~enters]
        if (came[cell[enters]] != place[enters]).any() or (
            went[cell[~enters]] != place[~enters]
        ).any():
            raise ArithmeticError("a cell's boundary crosses a line more than twice")
        mixed = np.flatnonzero((came >= 0) & (went >= 0))
        if not len(crossed) and not len(mixed):
            return mixed
        below = np.arange(self.cells)
        below[mixed] = np.arange(self.cells, self.cells + len(mixed))
        self._grow(len(crossed) + len(mixed))
        e, n, c = self._edges, self.n_edges, len(crossed)
        halves = slice(n, n + c)
        e[:, halves] = e[:, crossed]
        e[0, halves] = e[1, crossed] = new
        # Edges on the side of minus go to the new cells.
        lower = np.concatenate(
            [np.flatnonzero(s0 + s1 < 0), crossed[low < 0], n + np.flatnonzero(high < 0)]
        )
        for side in (2, 3):
            beside = e[side, lower]
            e[side, lower] = np.where(beside >= 0, below[beside], -1)
        e[:, n + c : n + c + len(mixed)] = [
            went[mixed], came[mixed], mixed, below[mixed], np.full(len(mixed), maker),
        ]  # fmt: skip
        self.n_edges += c + len(mixed)
        self.vertices += c
        self.cells += len(mixed)
        return mixed

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
        order = np.lexsort((first, cell))
        cell, first, then = cell[order], first[order], then[order]
        begins = np.searchsorted(cell, np.arange(self.cells + 1))
        key = cell * np.int64(self.vertices)
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
        graph = scipy.sparse.coo_array(
            (np.ones(same.sum()), (self.left[same], self.right[same])), (self.cells, self.cells)
        )
        n, label = scipy.sparse.csgraph.connected_components(graph, directed=False)
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
