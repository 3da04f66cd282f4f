"""Numbers of regions by the six definitions, from the vertices and facets of all cells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from activjax.regions._box_forms import Forms, Programs
from activjax.regions._box_polytope import edges, faces
from activjax.regions._box_search import Search
from activjax.regions._box_vertices import Facet
from activjax.regions._components import components

_MOST = 50_000_000  # signs of maps at vertices, for the closed regions


@dataclass(frozen=True, eq=False)
class Geometry:
    """The cells as polytopes.

    Attributes:
      search: that found them, with all vertices.
      states: `[n, units]`.
      ids: by cell, the numbers of its vertices.
      on: by cell, `[vertices, facets]` incidences.
    """

    search: Search
    states: np.ndarray
    ids: list[np.ndarray]
    on: list[np.ndarray]

    @property
    def _d(self) -> int:
        return self.search.vertices.point.shape[1]

    @cached_property
    def adjacency(self) -> np.ndarray:
        """`[pairs, 2]` cells that share a facet: the facet's vertices are the same."""
        first: dict[bytes, int] = {}
        pairs = []
        for i, (ids, on) in enumerate(zip(self.ids, self.on, strict=True)):
            for column in on.T:
                key = np.sort(ids[column]).tobytes()
                j = first.setdefault(key, i)
                if j != i:
                    pairs.append((j, i))
        return np.array(pairs, np.int64).reshape(-1, 2)

    def open_connected(self, label: np.ndarray) -> np.ndarray:
        """`[n]` components of cells that share facets and have the same map."""
        pairs = self.adjacency
        return components(len(label), pairs[label[pairs[:, 0]] == label[pairs[:, 1]]])

    def activation(self) -> int:
        """The number of patterns of all points of the cells, boundaries included."""
        programs = self.search.programs
        network = programs.network
        found: set[bytes] = set()
        for states, ids, on in zip(self.states, self.ids, self.on, strict=True):
            every = faces(on).astype(np.float32)
            pattern = np.empty((len(every), network.units), network.state_dtype)
            layers = zip(network.layers, network.slices, _forms(programs, states))
            for layer, where, forms in layers:
                groups = layer.groups
                if groups is None:
                    signs = self._signs(forms, ids, np.arange(len(states[where])), None)
                    pattern[:, where] = every @ (signs > 0) > 0
                    continue
                best = groups[np.arange(len(groups)), states[where]]
                signs = self._signs(forms, ids, groups.ravel(), np.repeat(best, groups.shape[1]))
                tied = every @ (signs != 0) == 0
                pattern[:, where] = tied.reshape(len(every), *groups.shape).argmax(-1)
            found |= {row.tobytes() for row in np.unique(pattern, axis=0)}
        return len(found)

    def _signs(
        self, forms: Forms, ids: np.ndarray, plus: np.ndarray, minus: np.ndarray | None
    ) -> np.ndarray:
        """`[vertices, len(plus)]` exact signs of forms, or of differences of two."""
        vertices = self.search.vertices
        z, bound = forms.at(vertices.point[ids], vertices.error[ids])
        if minus is None:
            z, bound = z[:, plus], bound[:, plus]
        else:
            z, bound = z[:, plus] - z[:, minus], 2 * (bound[:, plus] + bound[:, minus])
        signs = np.sign(z).astype(np.int8)
        for v, j in np.argwhere((np.abs(z) <= bound) & (bound > 0)).tolist():
            low = -1 if minus is None else int(minus[j])
            facet = Facet(forms, int(plus[j]), low)
            signs[v, j] = 0 if plus[j] == low else vertices.sign(int(ids[v]), facet)
        return signs

    def connected(self, label: np.ndarray, component: np.ndarray) -> tuple[int, int]:
        """The number of closed regions: at least and at most.

        The points of a cell where another cell's map holds are a convex set. Two such sets of
        cells meet iff they do in the face that the cells share: where the map holds at a vertex of
        it, or, for one output, between the ends of an edge.

        Args:
          label: `[n]` numbers of the cells' maps.
          component: `[n]` numbers of the open regions.
        """
        parts = defaultdict(set)
        for a, b in zip(label.tolist(), component.tolist(), strict=True):
            parts[a].add(b)
        several = [a for a, b in parts.items() if len(b) > 1]
        low = high = len(parts) - len(several)
        if not several:
            return low, high
        n = self.search.vertices.n
        if n * len(several) > _MOST:
            return low + len(several), low + sum(len(parts[a]) for a in several)
        forms = [list(_forms(self.search.programs, s))[-1] for s in self.states]
        owner = np.zeros(n, np.int64)
        for i, ids in enumerate(self.ids):
            owner[ids] = i
        for a in several:
            cells = np.flatnonzero(label == a)
            signs = self._differences(forms, owner, cells)
            least, most = self._joined(signs, cells, len(parts[a]))
            low, high = low + least, high + most
        return low, high

    def _differences(self, forms: list[Forms], owner: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """`[vertices, out]` exact signs of the function less the map of some cells."""
        vertices, mine = self.search.vertices, forms[cells[0]]
        out = mine.value.shape[1]
        signs = np.zeros((vertices.n, out), np.int8)
        known = np.zeros(vertices.n, bool)
        for i in cells.tolist():
            known[self.ids[i]] = True
        used = np.unique(np.concatenate(self.ids))
        used = used[~known[used]]
        for i in np.unique(owner[used]).tolist():
            ids = used[owner[used] == i]
            point, error = vertices.point[ids], vertices.error[ids]
            (z, bound), (own, off) = forms[i].at(point, error), mine.at(point, error)
            z, bound = z - own, 2 * (bound + off)
            signs[ids] = np.sign(z)
            for v, j in np.argwhere(np.abs(z) <= bound).tolist():
                signs[ids[v], j] = self._exact_sign(forms[i], mine, j, int(ids[v]))
        return signs

    def _exact_sign(self, a: Forms, b: Forms, output: int, vertex: int) -> int:
        (x, p), (y, q) = a.exact, b.exact
        place = self.search.vertices.exact(vertex)
        total = sum(
            (u * (1 << (max(p, q) - p)) - v * (1 << (max(p, q) - q))) * w
            for u, v, w in zip(x[:, output], y[:, output], place, strict=True)
        )
        return (total > 0) - (total < 0)

    def _joined(self, signs: np.ndarray, cells: np.ndarray, most: int) -> tuple[int, int]:
        """Components of the points where a map holds that have some of `cells`: at least, at most.

        Args:
          signs: `[vertices, out]` of the function less the map.
          cells: whose map it is.
          most: how many open regions they are.
        """
        n, zero = len(self.ids), (signs == 0).all(1)
        number: dict[tuple[int, int], int] = {}
        sure: list[tuple[int, int]] = []
        maybe: list[tuple[int, int]] = []
        for i, ids in enumerate(self.ids):
            own = signs[ids]
            if ((own > 0).all(0) | (own < 0).all(0)).any():
                continue
            sure += [(i, n + int(v)) for v in ids[zero[ids]]]
            if own.shape[1] == 1:
                up, down = np.flatnonzero(own[:, 0] > 0), np.flatnonzero(own[:, 0] < 0)
                if len(up) and len(down):
                    a, b, _ = edges(self.on[i], up, down, self._d)
                    for key in np.sort(np.column_stack([ids[a], ids[b]]), 1).tolist():
                        atom = number.setdefault((key[0], key[1]), len(number))
                        sure.append((i, n + len(signs) + atom))
            elif not zero[ids].all():
                maybe += [(i, n + int(v)) for v in ids]
        high = _holding(sure, cells, n + len(signs) + len(number))
        if not maybe:
            return high, high
        return _holding([*sure, *maybe], cells, n + len(signs) + len(number)), min(high, most)


def _holding(pairs: list[tuple[int, int]], cells: np.ndarray, size: int) -> int:
    joined = components(size, np.array(pairs, np.int64).reshape(-1, 2))
    return len(np.unique(joined[cells]))


def _forms(programs: Programs, states: np.ndarray) -> Iterator[Forms]:
    """The forms before each layer's hinges at a pattern, and then those of the output."""
    sources = {0: programs.input()}
    for i, where in enumerate(programs.network.slices):
        forms = programs.before(i, sources)
        yield forms
        sources = programs.onward(i, sources, forms, states[where])
    yield programs.before(len(programs.network.layers), sources)
