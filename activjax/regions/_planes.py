"""The subdivision of a rectangle by a network of two inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int

from activjax.program.networks import Layer, Network
from activjax.regions._mesh import Mesh
from activjax.regions._rounding import (
    DEVIATIONS,
    TINY,
    UNIT,
    before,
    between,
    bounded,
    crossing,
    settled,
)

#: Values, the standard deviations of their errors and, where a proof is wanted, bounds on these.
Rows = tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class Subdivision:
    """What cutting came to.

    Attributes:
      mesh: the cells; edges are made by units.
      points: `[vertices, 2]`.
      states: `[cells, units]`.
      touched: how many values at vertices were taken for 0 because they cannot be told from it,
        where the unit had not made the vertex.
      signs: `[vertices, tests]` int8, if asked for: of each value of a rectifier; for each element
        of a group 0 where it is the largest and 1 where it is less. In the order of the units.
      doubts: how many signs at vertices were not proven, if asked for; with 0 every cut is the one
        that real arithmetic makes.
    """

    mesh: Mesh
    points: Float64[np.ndarray, "vertices 2"]
    states: Int[np.ndarray, "cells units"]
    touched: int
    signs: Int[np.ndarray, "vertices tests"] | None
    doubts: int | None


class _Table:
    """Rows of numbers with their errors, one row a vertex, which grow as edges are cut.

    Of the m columns of the first part signs are kept.
    """

    def __init__(self, parts: list[Rows]) -> None:
        self.ends = np.cumsum([0, *(v.shape[1] for v, *_ in parts)]).tolist()
        self.n, self.m = parts[0][0].shape
        room = self.n + max(64, self.n // 2)
        # The noise is an estimate; single precision is enough for it.
        kinds = (np.float64, np.float32, np.float64)[: len(parts[0])]
        self.rows = [np.empty((room, self.ends[-1]), kind) for kind in kinds]
        for k, part in enumerate(parts):
            columns = slice(self.ends[k], self.ends[k + 1])
            for rows, channel in zip(self.rows, part, strict=True):
                rows[: self.n, columns] = channel
        self.signs = np.empty((self.m, room), np.int8)
        self.signs[:, : self.n] = np.sign(parts[0][0]).T

    def part(self, k: int) -> Rows:
        """`[vertices, size]` values and errors of part k."""
        return tuple(rows[: self.n, self.ends[k] : self.ends[k + 1]] for rows in self.rows)

    def add(self, a: np.ndarray, b: np.ndarray, column: int, all_: bool) -> tuple[int, int]:
        """Vertices on edges from a to b, where `column` is 0.

        Args:
          a, b: vertices in which the column has opposite signs.
          column: one of the first m. These are taken for 0 where they cannot be told from it.
          all_: whether columns before that one are needed any more.

        Returns:
          How often a value other than the column's was taken for 0, and how many signs of later
          columns were not proven.
        """
        n = self.n + len(a)
        if n > len(self.rows[0]):
            self.rows = [_longer(x, 2 * n) for x in self.rows]
            self.signs = _wider(self.signs, 2 * n)
        here, first = slice(self.n, n), 0 if all_ else column
        lows, highs = ([x[ends, first:] for x in self.rows] for ends in (a, b))
        at = lows[0][:, column - first] / (lows[0] - highs[0])[:, column - first]
        new = [*between(lows[0], highs[0], at, lows[1], highs[1])]
        doubts = 0
        if len(self.rows) > 2:
            ends = (lows[2], highs[2])
            new.append(crossing(lows[0], highs[0], at, ends, column - first))
        for x in new:
            x[:, column - first] = 0.0
        earlier, later = slice(column - first), slice(column - first, self.m - first)
        z, noise, *bounds = (x[:, later] for x in new)
        touched = (np.abs(z) <= DEVIATIONS * noise) & (noise > 0)
        z[touched] = 0.0
        for bound in bounds:  # a value whose bound is 0 is exact
            doubts = int(((np.abs(z) <= bound) & (bound > 0)).sum())
        # Earlier columns have the sign that both ends have, however close to one of them.
        signs = np.sign(self.signs[first:column, a] + self.signs[first:column, b]).T
        new[0][:, earlier] = signs * np.maximum(np.abs(new[0][:, earlier]), TINY)
        for rows, x in zip(self.rows, new, strict=True):
            rows[here, first:] = x
        self.signs[first:, here] = np.sign(new[0][:, : self.m - first]).T
        self.n = n
        return int(touched.sum()), doubts


def _longer(x: np.ndarray, room: int) -> np.ndarray:
    out = np.empty((room, x.shape[1]), x.dtype)
    out[: len(x)] = x
    return out


def _wider(x: np.ndarray, room: int) -> np.ndarray:
    out = np.empty((len(x), room), x.dtype)
    out[:, : x.shape[1]] = x
    return out


def subdivide(
    network: Network,
    box: Float64[np.ndarray, "2 2"],
    *,
    signs: bool = False,
    proven: bool = False,
) -> Subdivision:
    """Cuts a rectangle along the hinges of a network.

    Args:
      network: of two inputs.
      box: lower and upper bound of each.
      signs: whether to keep the signs at vertices.
      proven: whether to bound all rounding errors. By induction over the cuts: if both ends of an
        edge have the signs that they have in real arithmetic, the edge is cut as it is there, and
        the exact new vertex has values within the bounds of those computed.

    Raises:
      ArithmeticError: rounding made the signs of some unit contradict one another.
    """
    return _Cutting(network, box, signs, proven).run()


class _Cutting:
    def __init__(self, network: Network, box: np.ndarray, signs: bool, proven: bool) -> None:
        self.network, self.mesh = network, Mesh()
        (x0, x1), (y0, y1) = box
        corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        self.channels = 3 if proven else 2
        self.points: Rows = (corners, *[np.zeros_like(corners)] * (self.channels - 1))
        self.states = np.zeros((1, 0), network.state_dtype)
        self.values: dict[int, Rows] = {0: self.points}
        self.signs = np.zeros((4, 0), np.int8) if signs else None
        self.touched, self.doubts = 0, 0

    def run(self) -> Subdivision:
        layers = self.network.layers
        # The outputs are not needed at vertices: cells have affine maps.
        last = {s: i for i, layer in enumerate(layers) for s in layer.affine.matrices}
        first = 0
        for i, layer in enumerate(layers):
            z = self._before(layer)
            self.values = {s: v for s, v in self.values.items() if last.get(s, -1) > i}
            cut = self._rectify if layer.groups is None else self._choose
            made = cut(layer, z, first, i + 1 in last)
            if made is not None:
                self.values[i + 1] = made
            first += layer.size
        doubts = self.doubts if self.channels > 2 else None
        return Subdivision(self.mesh, self.points[0], self.states, self.touched, self.signs, doubts)

    # --- layers -------------------------------------------------------------------------------

    def _before(self, layer: Layer) -> Rows:
        values, noise, *bound = (
            {s: v[k].astype(np.float64, copy=False) for s, v in self.values.items()}
            for k in range(self.channels)
        )
        z = before(layer.affine, values, noise)
        return (*z, *(bounded(layer.affine, values, b) for b in bound))

    def _rectify(self, layer: Layer, z: Rows, first: int, wanted: bool) -> Rows | None:
        z, _, above = self._cut(self._settle(z), [], first, wanted)
        self._append(above)
        if self.signs is not None:
            self.signs = np.concatenate([self.signs, np.sign(z[0]).astype(np.int8)], axis=1)
        if not wanted:
            return None
        active, zero = z[0] > 0, np.float32(0)  # not to widen the noise
        return (np.maximum(z[0], 0.0), *(np.where(active, x, zero) for x in z[1:]))

    def _choose(self, layer: Layer, z: Rows, first: int, wanted: bool) -> Rows | None:
        groups = layer.groups
        assert groups is not None
        best: Rows = tuple(x[:, groups[:, 0]] for x in z)
        self._append(np.zeros((self.mesh.cells, len(groups))))
        if self.signs is not None:
            none = np.zeros((len(self.signs), groups.size), np.int8)
            self.signs = np.concatenate([self.signs, none], axis=1)
        for k in range(1, groups.shape[1]):
            column = groups[:, k]
            again = column == groups[:, 0]  # a group that was filled up
            excess = np.where(again, 0.0, z[0][:, column] - best[0])
            errors = [
                np.where(again, 0.0, x[:, column] + b + UNIT * np.abs(excess))
                for x, b in zip(z[1:], best[1:], strict=True)
            ]
            cut = self._cut(self._settle((excess, *errors)), [z, best], first, True)
            over, (z, best), above = cut
            self.states[:, first:][above] = k
            if self.signs is not None:
                less = self.signs[:, -groups.size :].reshape(-1, *groups.shape)
                less[:, :, :k] |= (over[0] > 0)[:, :, None]
                less[:, :, k] = (over[0] < 0) | again
                self.signs[:, -groups.size :] = less.reshape(len(less), -1)
            rows = zip(z, best, strict=True)
            best = tuple(np.where(over[0] > 0, x[:, column], b) for x, b in rows)
        kept = self._join()
        return tuple(x[kept] for x in best) if wanted else None

    # --- parts --------------------------------------------------------------------------------

    def _settle(self, z: Rows) -> Rows:
        value, noise, *bound = z
        out = settled(value, noise)
        self.touched += int(((out == 0) & (noise > 0)).sum())
        for b in bound:
            self.doubts += int(((np.abs(out) <= b) & (b > 0)).sum())
        return (out, noise, *bound)

    def _append(self, states: np.ndarray) -> None:
        self.states = np.concatenate([self.states, states.astype(self.states.dtype)], axis=1)

    def _cut(
        self, z: Rows, more: list[Rows], first: int, wanted: bool
    ) -> tuple[Rows, list[Rows], np.ndarray]:
        """Cuts all cells where columns of z change sign, one column after the other.

        Returns:
          z at all vertices, if it is wanted; the other values there; `[cells, m]`, whether z is
          positive inside.
        """
        mesh, sources, m = self.mesh, list(self.values), z[0].shape[1]
        table = _Table([z, self.points, *more, *self.values.values()])
        parent, signs_before = np.arange(mesh.cells), self.signs
        wanted = wanted or signs_before is not None
        above = np.zeros((m, 2 * mesh.cells), bool)
        for column in range(m):
            signs = table.signs[column, : table.n]
            start, stop = mesh.signs(signs)
            crossed = np.flatnonzero(start * stop < 0)
            if len(crossed):
                a, b = mesh.start[crossed], mesh.stop[crossed]
                touched, doubts = table.add(a, b, column, wanted)
                self.touched, self.doubts = self.touched + touched, self.doubts + doubts
                if signs_before is not None:
                    # Ends on a line have sign 0, and never opposite signs.
                    added = np.sign(signs_before[a] + signs_before[b])
                    signs_before = np.concatenate([signs_before, added])
            zero = not signs.all()
            mixed, plus = mesh.cut(start, stop, crossed, zero, first + column)
            if mesh.cells > above.shape[1]:
                above = _wider(above, 2 * mesh.cells)
            old = mesh.cells - len(mixed)
            above[:column, old : mesh.cells] = above[:column, mixed]
            above[column, : mesh.cells] = plus
            parent = np.concatenate([parent, parent[mixed]])
        self.states = self.states[parent]
        self.signs = signs_before
        self.points = table.part(1)
        for k, s in enumerate(sources, 2 + len(more)):
            self.values[s] = table.part(k)
        others = [table.part(k) for k in range(2, 2 + len(more))]
        return table.part(0), others, above[:, : mesh.cells].T

    def _join(self) -> slice | np.ndarray:
        """Joins cells that differ only in the order of those that are not the largest.

        Returns:
          The vertices that are left.
        """
        mesh = self.mesh
        inner = np.flatnonzero((mesh.left >= 0) & (mesh.right >= 0))
        same = np.zeros(mesh.n_edges, bool)
        same[inner] = (self.states[mesh.left[inner]] == self.states[mesh.right[inner]]).all(1)
        if not same.any():
            return slice(None)
        label = mesh.merge(same)
        self.states = self.states[np.unique(label, return_index=True)[1]]
        kept = mesh.compact()
        self.points = tuple(x[kept] for x in self.points)
        self.values = {s: tuple(x[kept] for x in v) for s, v in self.values.items()}
        if self.signs is not None:
            self.signs = self.signs[kept]
        return kept
