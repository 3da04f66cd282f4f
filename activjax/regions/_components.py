"""Connected components, and cells of a plane that are joined across edges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

if TYPE_CHECKING:
    from activjax.regions._polygons import Polygons


def components(n: int, pairs: np.ndarray) -> np.ndarray:
    """`[n]`, the connected component of each of n nodes, in the order of their first nodes."""
    ones = np.ones(len(pairs))
    graph = scipy.sparse.coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    return scipy.sparse.csgraph.connected_components(graph, directed=False)[1]


def open_connected(found: Polygons) -> np.ndarray:
    """Cells with equal maps, joined across edges."""
    inner = found.beside[(found.beside >= 0).all(1)]
    label = found.map_labels
    return components(found.cells, inner[label[inner[:, 0]] == label[inner[:, 1]]])
