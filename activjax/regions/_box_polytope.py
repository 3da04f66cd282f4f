"""Convex polytopes by their vertices and facets, and how a hyperplane cuts one.

The double description method (Fukuda and Prodon, "Double description method revisited", 1996) on
incidences alone: what is decided here needs the signs of a form at the vertices, and no
coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from activjax.regions._box_vertices import Facet, Vertices


@dataclass(frozen=True, eq=False)
class Polytope:
    """A polytope of full dimension.

    Attributes:
      ids: `[n]`, numbers of the vertices.
      on: `[n, facets]`, which vertices are on which facets.
      facets: in the order of the columns of `on`.
    """

    ids: np.ndarray
    on: np.ndarray
    facets: list[Facet]


def edges(
    on: np.ndarray, a: np.ndarray, b: np.ndarray, d: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The edges from vertices `a` to vertices `b`.

    Args:
      on: `[n, facets]` incidences.
      a, b: numbers of rows of `on`.
      d: dimension of the polytope.

    Returns:
      `[k]` ends among `a`, `[k]` ends among `b`, `[k, facets]` which facets hold each edge.
    """
    number = on.astype(np.float32)
    i, j = np.nonzero(number[a] @ number[b].T >= d - 1)
    i, j = a[i], b[j]
    common = on[i] & on[j]
    # Two vertices span an edge iff no third one is on all facets that they share.
    others = (common.astype(np.float32) @ (1 - number).T == 0).sum(1)
    edge = others == 2
    return i[edge], j[edge], common[edge]


def cut(
    cell: Polytope, signs: np.ndarray, facet: Facet, hinge: int, vertices: Vertices
) -> tuple[Polytope, Polytope]:
    """The parts where a form is negative and where it is positive; both are there.

    Args:
      cell: is cut.
      signs: `[n]` of the form at its vertices, with both 1 and -1 among them.
      facet: where the form is 0.
      hinge: its number.
      vertices: the new ones are added there.
    """
    d = vertices.point.shape[1]
    zero = np.flatnonzero(signs == 0)
    sides = [np.flatnonzero(signs == s) for s in (-1, 1)]
    a, b, common = edges(cell.on, sides[0], sides[1], d)
    ends = np.column_stack([cell.ids[a], cell.ids[b]])
    new = vertices.between(ends, facet, hinge, cell.facets, common)
    width = len(cell.facets)
    parts = []
    facets = [*cell.facets, facet]
    for side in sides:
        ids = np.concatenate([cell.ids[side], cell.ids[zero], new])
        on = np.ones((len(ids), width + 1), bool)
        on[: len(side), width] = False
        on[: len(side), :width] = cell.on[side]
        on[len(side) : len(side) + len(zero), :width] = cell.on[zero]
        on[len(side) + len(zero) :, :width] = common
        keep = _maximal(on)
        parts.append(Polytope(ids, on[:, keep], [facets[i] for i in keep.tolist()]))
    return parts[0], parts[1]


def joined(parts: list[Polytope], facets: list[Facet]) -> Polytope:
    """The union of polytopes that meet in whole faces, where it is convex.

    Args:
      parts: the polytopes.
      facets: those that may be facets of the union. Of the others those are that bound one part
        only.
    """
    known = {id(facet) for facet in facets}
    single: dict[bytes, Facet | None] = {}
    for part in parts:
        for column, facet in zip(part.on.T, part.facets, strict=True):
            if id(facet) not in known:
                key = np.sort(part.ids[column]).tobytes()
                single[key] = None if key in single else facet
    facets = [*facets, *{id(f): f for f in single.values() if f is not None}.values()]
    ids = np.unique(np.concatenate([part.ids for part in parts]))
    place = {id(facet): i for i, facet in enumerate(facets)}
    on = np.zeros((len(ids), len(facets)), bool)
    for part in parts:
        rows = np.searchsorted(ids, part.ids)
        for column, facet in zip(part.on.T, part.facets, strict=True):
            if id(facet) in place:
                on[rows, place[id(facet)]] |= column
    # What is on a face of positive dimension alone shares its facets with that face's vertices.
    number = on.astype(np.float32)
    corner = (number @ (1 - number).T == 0).sum(1) == 1
    ids, on = ids[corner], on[corner]
    keep = _maximal(on)
    return Polytope(ids, on[:, keep], [facets[i] for i in keep.tolist()])


def _maximal(on: np.ndarray) -> np.ndarray:
    """The columns that are facets: faces that lie in no other, each once."""
    number = on.astype(np.float32)
    shared = number.T @ number
    size = shared.diagonal()
    inside = shared == size[:, None]
    place = np.arange(len(size))
    less = (size[:, None] < size) | ((size[:, None] == size) & (place[:, None] > place))
    return np.flatnonzero(~(inside & less).any(1))


def faces(on: np.ndarray) -> np.ndarray:
    """All faces that are not empty, the polytope among them: `[faces, n]`, which vertices."""
    n = len(on)
    columns = [sum(1 << i for i in np.flatnonzero(c).tolist()) for c in on.T]
    found = {(1 << n) - 1}
    for column in columns:
        found |= {face & column for face in found}
    found.discard(0)
    octets = b"".join(face.to_bytes(-(-n // 8), "little") for face in found)
    bits = np.frombuffer(octets, np.uint8).reshape(len(found), -1)
    return np.unpackbits(bits, axis=1, count=n, bitorder="little")
