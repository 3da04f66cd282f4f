"""Convex regions of a plane: bounds for the smallest polyhedral complex on which f is affine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from activjax.regions._components import components, open_connected

if TYPE_CHECKING:
    from activjax.regions._polygons import Polygons

#: Angles in radians that are taken for equal.
STRAIGHT = 1e-9


def convex_labels(found: Polygons) -> np.ndarray:
    """`[cells]`, the cells of a small complex: edges are left out, line by line, while it is one.

    A complex is face to face, so a vertex may not stand inside a side of a cell.
    """
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
    """At least and at most so many cells.

    Each open connected region is divided for itself. A region with r reflex corners and h holes has
    at least `ceil(r / 2) + 1 - h` convex parts, since a cut ends at two of these corners at most;
    one that is not convex has at least two.
    """
    part = open_connected(found)
    regions = int(part.max()) + 1
    if regions == found.cells:
        return regions, regions
    inner = found.beside[(found.beside >= 0).all(1)]
    same = part[inner[:, 0]] == part[inner[:, 1]]
    cells, edges = np.bincount(part), np.bincount(part[inner[same, 0]], minlength=regions)
    reflex, inside = _Fan(found).reflex(part)
    holes = 1 - cells + edges - inside
    convex = (reflex == 0) & (holes == 0)
    low = np.where(convex, 1, np.maximum(2, -(-reflex // 2) + 1 - holes))
    return int(low.sum()), int(convex_labels(found).max()) + 1


class _Fan:
    """The edges around each vertex, counter-clockwise."""

    def __init__(self, found: Polygons) -> None:
        edges, n = found.edges, len(found.edges)
        self.beside = found.beside
        inward = _normals(found)
        angle = np.arctan2(-inward[:, 0], inward[:, 1])
        vertex = np.concatenate([edges[:, 0], edges[:, 1]])
        angle = np.concatenate([angle, angle + np.pi]) % (2 * np.pi)
        cell = np.concatenate([found.beside[:, 0], found.beside[:, 1]])  # left of the way out
        order = np.lexsort((angle, vertex))
        self.edge, self.angle, self.cell = order % n, angle[order], cell[order]
        self.begins = np.searchsorted(vertex[order], np.arange(len(found.vertices) + 1))

    def reflex(self, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`[parts]`, the reflex corners of each part of the cells, and the vertices inside it.

        Args:
          part: `[cells]`, connected parts.
        """
        n = int(part.max()) + 1
        vertex = np.repeat(np.arange(len(self.begins) - 1), np.diff(self.begins))
        before = self.beside[self.edge]
        own = np.append(part, -1)
        edge = own[before[:, 0]] != own[before[:, 1]]
        at, angle, cell = vertex[edge], self.angle[edge], self.cell[edge]
        first = np.flatnonzero(np.diff(at, prepend=-1))
        last = np.append(first[1:], len(at)) - 1
        gap = np.append(angle[1:], 0.0) - angle
        gap[last] = angle[first] + 2 * np.pi - angle[last]
        wide = (cell >= 0) & (gap > np.pi + STRAIGHT)
        whole = np.setdiff1d(vertex, at)
        inside = own[self.cell[self.begins[whole]]]
        return np.bincount(own[cell[wide]], minlength=n), np.bincount(inside, minlength=n)

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


def _normals(found: Polygons) -> np.ndarray:
    """`[e, 2]`, vectors to the left of edges, perpendicular to them.

    They are gradients of what is 0 on the edge: positions of vertices that are close to one another
    are too coarse for angles.
    """
    plane, states, (left, right) = found.plane, found.states, found.beside.T
    out = np.zeros((len(left), 2))
    sides = np.array([[1.0, 0.0], [0.0, -1.0], [-1.0, 0.0], [0.0, 1.0]])  # makers -4 to -1
    outer = np.flatnonzero((left < 0) | (right < 0))
    out[outer] = sides[found.maker[outer]] * np.where(left[outer] < 0, -1.0, 1.0)[:, None]
    inner = np.flatnonzero((left >= 0) & (right >= 0))
    # The first unit that differs is a function of the same values on both sides.
    unit = (states[left[inner]] != states[right[inner]]).argmax(1)
    for i, (layer, where) in enumerate(zip(plane.layers, plane.slices, strict=True)):
        chosen = (unit >= where.start) & (unit < where.stop)
        edge, own = inner[chosen], unit[chosen] - where.start
        cells, row = np.unique(left[edge], return_inverse=True)
        slopes = plane.forms(states[cells], i)[row, 1:]
        here, there = (states[side[edge], own + where.start] for side in (left, right))
        at = np.arange(len(edge))
        if layer.groups is None:
            out[edge] = slopes[at, :, own] * np.where(here > 0, 1.0, -1.0)[:, None]
        else:
            first, second = layer.groups[own, here], layer.groups[own, there]
            out[edge] = slopes[at, :, first] - slopes[at, :, second]
    return out


def _chains(found: Polygons, free: np.ndarray, fan: _Fan) -> list[np.ndarray]:
    """Free edges that follow one another on a straight line, the longest first."""
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
