"""Convex regions of a plane: bounds for the smallest polyhedral complex on which f is affine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from activjax.regions._polygons import Polygons

#: Angles in radians, and shares of an area, that are taken for equal.
STRAIGHT = 1e-9


def convex_labels(found: Polygons) -> np.ndarray:
    """`[cells]`, the cells of a small complex: edges are left out, line by line, while it is one.

    A complex is face to face, so a vertex may not stand inside a side of a cell.
    """
    from activjax.regions._plane_counts import components

    beside, label = found.beside, found.map_labels
    inner = (beside >= 0).all(1)
    free = np.zeros(len(beside), bool)
    free[inner] = label[beside[inner, 0]] == label[beside[inner, 1]]
    if not free.any():
        return np.arange(found.cells)
    fan = _Fan(found)
    kept = np.ones(len(beside), bool)
    chains = _chains(found, np.flatnonzero(free), fan)
    for chain in [*chains, *np.flatnonzero(free)[:, None]]:
        if not kept[chain].any():
            continue
        kept[chain] = False
        if not all(fan.convex(v, kept) for v in np.unique(found.edges[chain])):
            kept[chain] = True
    return components(found.cells, beside[~kept])


def convex_bounds(found: Polygons) -> tuple[int, int]:
    """At least and at most so many cells; a region that is not convex needs two."""
    from activjax.regions._plane_counts import open_connected

    part = open_connected(found)
    order = np.argsort(part, kind="stable")
    cells = np.split(order, np.flatnonzero(np.diff(part[order])) + 1)
    low = sum(1 if len(c) == 1 or _is_convex(found, c) else 2 for c in cells)
    high = found.cells if len(cells) == found.cells else int(convex_labels(found).max()) + 1
    return low, high


def _is_convex(found: Polygons, cells: np.ndarray) -> bool:
    from scipy.spatial import ConvexHull

    points = np.concatenate([found.polygon(c) for c in cells])
    centre, size = points.mean(0), np.ptp(points, axis=0)
    hull = ConvexHull((points - centre) / size).volume  # in two dimensions the area
    return bool(hull <= (1 + STRAIGHT) * found.area[cells].sum() / np.prod(size))


class _Fan:
    """The edges around each vertex, counter-clockwise."""

    def __init__(self, found: Polygons) -> None:
        edges, n = found.edges, len(found.edges)
        way = found.vertices[edges[:, 1]] - found.vertices[edges[:, 0]]
        angle = np.arctan2(way[:, 1], way[:, 0])
        vertex = np.concatenate([edges[:, 0], edges[:, 1]])
        angle = np.concatenate([angle, angle + np.pi]) % (2 * np.pi)
        cell = np.concatenate([found.beside[:, 0], found.beside[:, 1]])  # left of the way out
        order = np.lexsort((angle, vertex))
        self.edge, self.angle, self.cell = order % n, angle[order], cell[order]
        self.begins = np.searchsorted(vertex[order], np.arange(len(found.vertices) + 1))

    def around(self, vertex: int) -> slice:
        """Where the edges of a vertex are."""
        return slice(self.begins[vertex], self.begins[vertex + 1])

    def convex(self, vertex: int, kept: np.ndarray) -> bool:
        """Whether the cells at a vertex are convex there, and it stands inside no side."""
        here = self.around(vertex)
        left = kept[self.edge[here]]
        angle, cell = self.angle[here][left], self.cell[here][left]
        if len(angle) < 2:
            return len(angle) == 0
        gap = np.diff(angle, append=angle[0] + 2 * np.pi)[cell >= 0]
        straight = np.abs(gap - np.pi) <= STRAIGHT
        return bool((gap <= np.pi + STRAIGHT).all()) and (not straight.any() or len(angle) == 2)


def _chains(found: Polygons, free: np.ndarray, fan: _Fan) -> list[np.ndarray]:
    """Free edges that follow one another on a straight line, the longest first."""
    from activjax.regions._plane_counts import components

    number = np.full(len(found.edges), -1)
    number[free] = np.arange(len(free))
    pairs = []
    for vertex in np.unique(found.edges[free]):
        here = fan.around(vertex)
        mine = number[fan.edge[here]] >= 0
        edge, angle = fan.edge[here][mine], fan.angle[here][mine]
        turn = np.abs((angle[:, None] - angle) % (2 * np.pi) - np.pi)
        pairs.append(number[edge[np.argwhere(turn <= STRAIGHT)]])
    label = components(len(free), np.concatenate(pairs))
    chains = [free[label == k] for k in range(int(label.max()) + 1)]
    return sorted(chains, key=len, reverse=True)
