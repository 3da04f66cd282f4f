"""Patterns of vertices, edges and cells of a plane: the definition "activation"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from activjax.regions._planes import subdivide

if TYPE_CHECKING:
    from activjax.program.networks import Network
    from activjax.regions._polygons import Polygons


def patterns(found: Polygons) -> np.ndarray:
    """`[k, units]`, every pattern of a point of the closed rectangle, each once.

    A value that is affine on a cell has one sign in the relative interior of each of its faces:
    that of those vertices of the face at which it is not 0.
    """
    again = subdivide(found.plane, found.box, signs=True)
    at, mesh = again.signs, again.mesh
    assert at is not None
    edges = np.sign(at[mesh.start] + at[mesh.stop])
    lower = np.concatenate([at, edges])
    rows = np.concatenate([_states(found.network, lower), again.states.astype(np.int64)])
    return np.unique(rows, axis=0)


def _states(network: Network, signs: np.ndarray) -> np.ndarray:
    """`[n, units]` states from the signs of all tests."""
    out, start = [], 0
    for layer in network.layers:
        n = layer.size if layer.groups is None else layer.groups.size
        tests = signs[:, start : start + n]
        if layer.groups is None:
            out.append((tests > 0).astype(np.int64))
        else:
            out.append((tests == 0).reshape(len(tests), *layer.groups.shape).argmax(-1))
        start += n
    return np.concatenate(out, axis=1) if out else np.zeros((len(signs), 0), np.int64)
