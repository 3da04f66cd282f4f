"""The subdivision of a rectangle by a network of two inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int

from activjax.regions._mesh import Mesh
from activjax.regions._network import Layer, Network
from activjax.regions._rounding import DEVIATIONS, UNIT, before, between, settled

Noisy = tuple[np.ndarray, np.ndarray]  # values and the standard deviations of their errors


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

    def __init__(self, parts: list[Noisy], m: int) -> None:
        self.ends = np.cumsum([0, *(v.shape[1] for v, _ in parts)]).tolist()
        self.n, self.m = len(parts[0][0]), m
        room = self.n + max(64, self.n // 2)
        # The noise is an estimate; single precision is enough for it.
        self.value = np.empty((room, self.ends[-1]))
        self.noise = np.empty((room, self.ends[-1]), np.float32)
        for k, part in enumerate(parts):
            columns = slice(self.ends[k], self.ends[k + 1])
            self.value[: self.n, columns], self.noise[: self.n, columns] = part
        self.signs = np.empty((m, room), np.int8)
        self.signs[:, : self.n] = np.sign(parts[0][0]).T

    def part(self, k: int) -> Noisy:
        """`[vertices, size]` values and noise of part k."""
        columns = slice(self.ends[k], self.ends[k + 1])
        return self.value[: self.n, columns], self.noise[: self.n, columns]

    def add(self, a: np.ndarray, b: np.ndarray, column: int, all_: bool) -> int:
        """Vertices on edges from a to b, where `column` is 0.

        Args:
          a, b: vertices in which the column has opposite signs.
          column: one of the first m. These are taken for 0 where they cannot be told from it.
          all_: whether columns before that one are needed any more.

        Returns:
          How often a value other than the column's was taken for 0.
        """
        n = self.n + len(a)
        if n > len(self.value):
            self.value, self.noise = (_longer(x, 2 * n) for x in (self.value, self.noise))
            self.signs = _longer(self.signs.T, 2 * n).T.copy()
        here, first = slice(self.n, n), 0 if all_ else column
        low, high = self.value[a, first:], self.value[b, first:]
        z0, z1 = low[:, column - first], high[:, column - first]
        errors = self.noise[a, first:], self.noise[b, first:]
        value, noise = between(low, high, z0 / (z0 - z1), *errors)
        z, error = value[:, : self.m - first], noise[:, : self.m - first]
        z[:, column - first] = error[:, column - first] = 0.0
        touched = (np.abs(z) <= DEVIATIONS * error) & (error > 0)
        count = int(touched.sum())
        if count:
            z[touched] = 0.0
        self.value[here, first:], self.noise[here, first:] = value, noise
        self.signs[first:, here] = np.sign(z).T
        self.n = n
        return count


def _longer(x: np.ndarray, room: int) -> np.ndarray:
    out = np.empty((room, x.shape[1]), x.dtype)
    out[: len(x)] = x
    return out


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
            noise = {s: e.astype(np.float64) for s, (_, e) in self.values.items()}
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
        (value, noise), _, above = self._cut(self._settle(z), [], first, wanted)
        self._append(above)
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
            cut = self._cut(self._settle((over, noise)), [z, best], first, True)
            (over, _), (z, best), above = cut
            self.states[:, first:][above] = k
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

    def _append(self, states: np.ndarray) -> None:
        self.states = np.concatenate([self.states, states.astype(self.states.dtype)], axis=1)

    def _cut(
        self, z: Noisy, more: list[Noisy], first: int, wanted: bool
    ) -> tuple[Noisy, list[Noisy], np.ndarray]:
        """Cuts all cells where columns of z change sign, one column after the other.

        Returns:
          z at all vertices, if it is wanted; the other values there; `[cells, m]`, whether z is
          positive inside.
        """
        mesh, sources, m = self.mesh, list(self.values), z[0].shape[1]
        points = (self.points, np.zeros_like(self.points))
        table = _Table([z, points, *more, *self.values.values()], m)
        parent, signs_before = np.arange(mesh.cells), self.signs
        wanted = wanted or signs_before is not None
        above = np.zeros((m, 2 * mesh.cells), bool)
        for column in range(m):
            signs = table.signs[column, : table.n]
            start, stop = mesh.signs(signs)
            crossed = np.flatnonzero(start * stop < 0)
            if len(crossed):
                a, b = mesh.start[crossed], mesh.stop[crossed]
                self.touched += table.add(a, b, column, wanted)
                if signs_before is not None:
                    # Ends on a line have sign 0, and never opposite signs.
                    added = np.sign(signs_before[a] + signs_before[b])
                    signs_before = np.concatenate([signs_before, added])
            zero = not signs.all()
            mixed, plus = mesh.cut(start, stop, crossed, zero, first + column)
            if mesh.cells > above.shape[1]:
                above = _longer(above.T, 2 * mesh.cells).T.copy()
            old = mesh.cells - len(mixed)
            above[:column, old : mesh.cells] = above[:column, mixed]
            above[column, : mesh.cells] = plus
            parent = np.concatenate([parent, parent[mixed]])
        self.states = self.states[parent]
        if signs_before is not None:
            now = table.signs[:, : table.n].T
            self.signs = np.concatenate([signs_before, now], axis=1)
        self.points = table.part(1)[0]
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
        self.points = self.points[kept]
        self.values = {s: (v[kept], e[kept]) for s, (v, e) in self.values.items()}
        if self.signs is not None:
            self.signs = self.signs[kept]
        return kept
