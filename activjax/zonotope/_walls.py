"""Points on walls between cells: witnesses of restrictions, lifted to their hyperplanes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from activjax.zonotope._integers import floats, pivots, widened
from activjax.zonotope._points import Points, exact_steps, lifted, paces, units
from activjax.zonotope._restrictions import Children, Level
from activjax.zonotope._words import pack

_AT_ONCE = 2**17  # values of forms
_EXACT_AT_ONCE = 2**17
_MARGIN = 16.0  # see `Part`
_GUARD = 32  # bits of integer points beyond what signs need: they are to be on no other hyperplane


class Part:
    """Some nodes of a level, in tables padded to the largest of them, and their children.

    Attributes:
        level: the nodes.
        codes: `[nodes, R]`, which of the level's rows each has.
        node, child, row: `[children]`, whose child it is, which node of the level below, and which
            of its node's rows is its hyperplane.
        h: `[children, r]` float64, its unit normal.
        rounding: more than the value of a form is off by, at a given point.
        margin: `[children]`, what values at a point on the hyperplane must exceed for float64.

    Forms and points are rounded unit vectors; (r + 8) 2^-53 =: e is a bound by the terms of
    `_signs`. Lifting a point moves it by less than e / |h_c|, c being the pivot. So where the
    values v of the other forms at the lifted point q exceed 16 e / |h_c|, they have the signs of
    those at the exact one. And those at q + t h, divided by its length, still exceed e: t is 0.4 to
    0.6 of the way to the first change of sign and at most 1.2, so they are at least 0.4 |v| / 2.2,
    and that of h is about t / 2.2, where t >= 0.4 min |v|.
    """

    def __init__(self, level: Level, below: Children, begin: int, end: int):
        self.level = level.part(begin, end)
        sizes = self.level.sizes
        place = np.arange(int(sizes.max()))
        # A node's first row fills up its places: their signs say nothing new.
        place = np.where(place < sizes[:, None], place, 0) + self.level.starts[:-1, None]
        self.codes = self.level.codes[place]
        used, of = np.unique(self.codes, return_inverse=True)
        self._forms, self._of = units(floats(level.rows[used])), of.reshape(place.shape)
        edges = slice(*np.searchsorted(below.node, [begin, end]))
        self.node, self.child = below.node[edges] - begin, below.child[edges]
        self.row = 1 + np.arange(len(self.node)) - np.searchsorted(self.node, self.node)
        self.normals = level.rows[below.normal[edges]]
        self.pivots, self.h = pivots(self.normals), units(floats(self.normals))
        self.slopes = self.values(self.node, self.h)
        self.rounding = (level.dim + 8) * 2.0**-53
        pivot = np.abs(self.h[np.arange(len(self.h)), self.pivots])
        self.margin = _MARGIN * self.rounding / pivot

    @property
    def largest(self) -> int:
        """R, the most rows of a node."""
        return self.codes.shape[1]

    def values(self, node: np.ndarray, points: np.ndarray) -> np.ndarray:
        """`[n, R]`, of the forms of each one's node at points `[n, r]` in float64."""
        if len(self.codes) == 1:
            return points @ self._forms[self._of[0]].T
        return np.matmul(self._forms[self._of[node]], points[:, :, None])[:, :, 0]

    def exact_values(self, node: np.ndarray, points: np.ndarray) -> np.ndarray:
        """The same of Python integers and the rows themselves."""
        if len(self.codes) == 1:
            return points @ widened(self.level.rows[self.codes[0]]).T
        return (widened(self.level.rows[self.codes[node]]) * points[:, None]).sum(axis=2)


@dataclass(frozen=True)
class Walls:
    """Points on common walls of two cells each, on the side of the node's first hyperplane.

    Attributes:
        points: `[n, r]` float64 unit vectors.
        words: `[n, words]`, the signs there, packed, without that of the wall's own row.
        pace: `[n, 2]` along the wall's normal and against it, see `paces`.
        hard: `[n]`, where only `words` is of use, as float64 is not enough.
        known: `[n]`, false where the point is on another hyperplane: of no use.
    """

    points: np.ndarray
    words: np.ndarray
    pace: np.ndarray
    hard: np.ndarray
    known: np.ndarray


def walls(part: Part, edge: np.ndarray, below: Points, source: np.ndarray) -> Walls:
    """Lifts witnesses of children.

    Args:
        part: the nodes.
        edge: `[n]`, which of the children.
        below: the witnesses of all nodes of the level below.
        source: `[n]`, which of these.
    """
    n, r = len(edge), part.level.dim
    found = Walls(
        np.empty((n, r)),
        np.zeros((n, -(-part.largest // 64)), np.uint64),
        np.empty((n, 2)),
        below.is_exact(source),
        np.ones(n, bool),
    )
    for block in _blocks(np.arange(n), _AT_ONCE // part.largest):
        some = edge[block]
        points = lifted(below.near[source[block]], part.h[some], part.pivots[some])
        values = part.values(part.node[some], points)
        index, row = np.arange(len(some)), part.row[some]
        values[index, row] = 1
        _orient(points, values)
        unclear = np.abs(values) <= part.margin[some, None]
        found.hard[block] |= unclear.any(axis=1)
        positive = values > 0
        positive[index, row] = False
        found.points[block], found.words[block] = points, pack(positive)
        slopes = part.slopes[some]
        slopes[index, row] = 0
        values[unclear] = 1  # so that nothing overflows; not used
        found.pace[block] = paces(values, slopes)
    hard = np.flatnonzero(found.hard)
    for block, _, values in exact_walls(part, edge[hard], below, source[hard]):
        some = hard[block]
        found.known[some] = (values != 0).all(axis=1)
        positive = values > 0
        positive[np.arange(len(some)), part.row[edge[some]]] = False
        found.words[some] = pack(positive)
    return found


def exact_beside(
    part: Part,
    edge: np.ndarray,
    below: Points,
    source: np.ndarray,
    against: np.ndarray,
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Points beside walls, along or against their normals, in integers.

    Returns:
        `[n, r]` Python integers, little longer than the signs need; `[n, R]` these signs.
    """
    found = np.empty((len(edge), part.level.dim), object)
    positive = np.empty((len(edge), part.largest), bool)
    for block, points, values in exact_walls(part, edge, below, source):
        some = edge[block]
        own = np.arange(len(some)), part.row[some]
        used, of = np.unique(some, return_inverse=True)
        slopes = part.exact_values(part.node[used], widened(part.normals[used]))[of]
        h = widened(part.normals[some])
        # Points and normals of about the same length, so that a step of 1 is a long one.
        length = [bits(p) - bits(v) for p, v in zip(points, h)]
        times = np.array([1 << max(n, 0) for n in length], object) * np.where(against[block], -1, 1)
        slopes, h = slopes * times[:, None], h * times[:, None]
        values[own] = slopes[own]  # so that it sets no limit
        scale, step = exact_steps(values, slopes, random)
        values[own] = 0
        points, values = points * scale + h * step, values * scale + slopes * step
        # Cutting digits off coordinates moves a form by less than its size, the sum of its entries.
        sizes = np.abs(widened(part.level.rows[part.codes[part.node[used]]])).sum(axis=2)
        room = (np.abs(values) // sizes[of]).min(axis=1)
        digits = [max(int(v).bit_length() - _GUARD, 0) for v in room]
        found[block] = points >> np.array(digits, object)[:, None]
        positive[block] = values > 0
    return found, positive


def exact_walls(
    part: Part, edge: np.ndarray, below: Points, source: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """As `walls` in integers, by blocks: indices, points, values of all forms, 1 of its own."""
    for block in _blocks(np.arange(len(edge)), _EXACT_AT_ONCE // part.largest):
        some = edge[block]
        points = lifted(below.whole(source[block]), widened(part.normals[some]), part.pivots[some])
        values = part.exact_values(part.node[some], points)
        values[np.arange(len(some)), part.row[some]] = 1
        _orient(points, values)
        yield block, points, values


def bits(row: np.ndarray) -> int:
    """Of the largest entry of a row of Python integers."""
    return max(map(int.bit_length, row))


def _orient(points: np.ndarray, values: np.ndarray) -> None:
    """Moves points to the positive side of the first form, in place."""
    opposite = values[:, 0] < 0
    points[opposite] *= -1
    values[opposite] *= -1


def _blocks(index: np.ndarray, step: int) -> Iterator[np.ndarray]:
    step = max(step, 1)
    for i in range(0, len(index), step):
        yield index[i : i + step]
