"""The subdivision of a rectangle by a network of two inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int

from activjax.regions._mesh import Mesh
from activjax.regions._network import Layer, Network
from activjax.regions._rounding import DEVIATIONS, UNIT, before, between, settled


@dataclass(frozen=True, eq=False)
class Subdivision:
    """What cutting came to.

    Attributes:
      mesh: the cells; edges are made by units.
      points: `[vertices, 2]`.
      states: `[cells, units]`.
      touched: how many values at vertices were taken for 0 because they cannot be told from it,
        where the unit had not made the vertex.
      signs: `[vertices, tests]` int8, if asked for: of each value of a rectifier, and of each
        excess of an element of a group over those before it, in the order of the units.
    """

    mesh: Mesh
    points: Float64[np.ndarray, "vertices 2"]
    states: Int[np.ndarray, "cells units"]
    touched: int
    signs: Int[np.ndarray, "vertices tests"] | None


class _Table:
    """Rows of numbers with their noise, one row a vertex, which grow as edges are cut."""

    def __init__(self, parts: list[tuple[np.ndarray, np.ndarray]]) -> None:
        self.ends = np.cumsum([0, *(v.shape[1] for v, _ in parts)]).tolist()
        self.n = len(parts[0][0])
        room = self.n + max(64, self.n // 2)
        self.rows = np.empty((2, room, self.ends[-1]))
        for k, part in enumerate(parts):
            for channel in (0, 1):
                self.rows[channel, : self.n, self.ends[k] : self.ends[k + 1]] = part[channel]

    def part(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """`[vertices, size]` values and noise of part k."""
        value, noise = self.rows[:, : self.n, self.ends[k] : self.ends[k + 1]]
        return value, noise

    def add(self, a: np.ndarray, b: np.ndarray, column: int, m: int) -> int:
        """Vertices on edges from a to b, where `column` is 0.

        Args:
          a, b: vertices in which the column has opposite signs.
          column: of the rows.
          m: the first so many columns are taken for 0 where they cannot be told from it.

        Returns:
          How often that was done at a value other than the column's.
        """
        if self.n + len(a) > self.rows.shape[1]:
            room = np.empty((2, 2 * (self.n + len(a)), self.rows.shape[2]))
            room[:, : self.n] = self.rows[:, : self.n]
            self.rows = room
        low, high = self.rows[0, a], self.rows[0, b]
        at = low[:, column] / (low[:, column] - high[:, column])
        value, noise = between(low, high, at, self.rows[1, a], self.rows[1, b])
        value[:, column] = noise[:, column] = 0.0
        touched = (np.abs(value[:, :m]) <= DEVIATIONS * noise[:, :m]) & (noise[:, :m] > 0)
        value[:, :m][touched] = 0.0
        rows = slice(self.n, self.n + len(a))
        self.rows[0, rows], self.rows[1, rows] = value, noise
        self.n += len(a)
        return int(touched.sum())


def subdivide(
    network: Network, box: Float64[np.ndarray, "2 2"], signs: bool = False
) -> Subdivision:
    """Cuts a rectangle along the hinges of a network.

    Args:
      network: of two inputs.
      box: lower and upper bound of each.
      signs: whether to keep the signs at vertices.

    Raises:
      ArithmeticError: rounding made the signs of some unit contradict one another.
    """
    return _Cutting(network, box, signs).run()


Noisy = tuple[np.ndarray, np.ndarray]


class _Cutting:
    def __init__(self, network: Network, box: np.ndarray, signs: bool) -> None:
        self.network, self.mesh = network, Mesh()
        (x0, x1), (y0, y1) = box
        corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        self.points, self.states = corners, np.zeros((1, 0), network.state_dtype)
        self.values: dict[int, Noisy] = {0: (corners, np.zeros_like(corners))}
        self.signs = np.zeros((4, 0), np.int8) if signs else None
        self.touched = 0

    def run(self) -> Subdivision:
        layers = self.network.layers
        # The outputs are not needed at vertices: cells have affine maps.
        last = {s: i for i, layer in enumerate(layers) for s in layer.affine.matrices}
        first = 0
        for i, layer in enumerate(layers):
            values = {s: v for s, (v, _) in self.values.items()}
            noise = {s: e for s, (_, e) in self.values.items()}
            z = before(layer.affine, values, noise)
            self.values = {s: v for s, v in self.values.items() if last.get(s, -1) > i}
            cut = self._rectify if layer.groups is None else self._choose
            made = cut(layer, z, first, i + 1 in last)
            if made is not None:
                self.values[i + 1] = made
            first += layer.size
        return Subdivision(self.mesh, self.points, self.states, self.touched, self.signs)

    # --- layers -------------------------------------------------------------------------------

    def _rectify(self, layer: Layer, z: Noisy, first: int, wanted: bool) -> Noisy | None:
        (value, noise), _ = self._cut(self._settle(z), [], first)
        self._append(self._above(value))
        if not wanted:
            return None
        active = value > 0
        return np.where(active, value, 0.0), np.where(active, noise, 0.0)

    def _choose(self, layer: Layer, z: Noisy, first: int, wanted: bool) -> Noisy | None:
        groups = layer.groups
        assert groups is not None
        best: Noisy = (z[0][:, groups[:, 0]], z[1][:, groups[:, 0]])
        self._append(np.zeros((self.mesh.cells, len(groups))))
        for k in range(1, groups.shape[1]):
            column = groups[:, k]
            again = column == groups[:, 0]  # a group that was filled up
            over = np.where(again, 0.0, z[0][:, column] - best[0])
            noise = np.where(again, 0.0, z[1][:, column] + best[1] + UNIT * np.abs(over))
            (over, _), (z, best) = self._cut(self._settle((over, noise)), [z, best], first)
            self.states[:, first:][self._above(over)] = k
            best = (
                np.where(over > 0, z[0][:, column], best[0]),
                np.where(over > 0, z[1][:, column], best[1]),
            )
        kept = self._join()
        return (best[0][kept], best[1][kept]) if wanted else None

    # --- parts --------------------------------------------------------------------------------

    def _settle(self, z: Noisy) -> Noisy:
        value, noise = z
        out = settled(value, noise)
        self.touched += int(((out == 0) & (noise > 0)).sum())
        return out, noise

    def _above(self, z: np.ndarray) -> np.ndarray:
        """`[cells, m]`, whether the values are positive inside."""
        return self.mesh.corners() @ z > 0

    def _append(self, states: np.ndarray) -> None:
        self.states = np.concatenate([self.states, states.astype(self.states.dtype)], axis=1)

    def _cut(self, z: Noisy, more: list[Noisy], first: int) -> tuple[Noisy, list[Noisy]]:
        """Cuts all cells where columns of z change sign, one column after the other."""
        mesh, sources, m = self.mesh, list(self.values), z[0].shape[1]
        table = _Table([z, (self.points, 0 * self.points), *more, *self.values.values()])
        parent, signs_before = np.arange(mesh.cells), self.signs
        for column in range(m):
            signs = np.sign(table.rows[0, : table.n, column]).astype(np.int8)
            if signs.min() >= 0 or signs.max() <= 0:
                continue
            crossed = mesh.crossed(signs)
            if len(crossed):
                a, b = mesh.start[crossed], mesh.stop[crossed]
                self.touched += table.add(a, b, column, m)
                if signs_before is not None:
                    # Ends on a line have sign 0, and never opposite signs.
                    added = np.sign(signs_before[a] + signs_before[b])
                    signs_before = np.concatenate([signs_before, added])
            mixed = mesh.cut(signs, crossed, first + column)
            parent = np.concatenate([parent, parent[mixed]])
        self.states = self.states[parent]
        if signs_before is not None:
            now = np.sign(table.part(0)[0]).astype(np.int8)
            self.signs = np.concatenate([signs_before, now], axis=1)
        self.points = table.part(1)[0]
        for k, s in enumerate(sources, 2 + len(more)):
            self.values[s] = table.part(k)
        return table.part(0), [table.part(k) for k in range(2, 2 + len(more))]

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
        self.points = self.points[kept]
        self.values = {s: (v[kept], e[kept]) for s, (v, e) in self.values.items()}
        if self.signs is not None:
            self.signs = self.signs[kept]
        return kept
