"""The six definitions of a region on a plane, from the cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from activjax.regions._components import components, open_connected
from activjax.regions._convex import convex_bounds, convex_labels
from activjax.regions._count import Count, Definition
from activjax.regions._faces import patterns

if TYPE_CHECKING:
    from activjax.regions._polygons import Polygons

#: A difference of two affine functions below this share of their size may be 0.
ROUNDING = 1e-9


def regions(found: Polygons, definition: Definition) -> np.ndarray:
    """`[cells]`, the number of each cell's region.

    For "convex" they are those of the smallest complex that was found; for "connected" two regions
    are one only if that is certain; "activation" has further regions without interior.
    """
    if definition in ("activation", "proper"):
        return np.arange(found.cells)
    if definition == "convex":
        return convex_labels(found)
    if definition == "open_connected":
        return open_connected(found)
    if definition == "connected":
        return _connected(found)[0]
    return found.map_labels


def count(found: Polygons, definition: Definition) -> Count:
    """How many regions there are."""
    if definition == "activation":
        if found.certificate == "exact-integer":  # where signs are in doubt points have others
            assert found.enumerated is not None
            return found.enumerated.count(definition)
        n = len(patterns(found))
        return Count(definition, n, n)
    if definition == "convex":
        return Count(definition, *convex_bounds(found))
    if definition == "connected":
        surely, perhaps = (int(labels.max()) + 1 for labels in _connected(found))
        return Count(definition, perhaps, surely)
    n = int(regions(found, definition).max()) + 1
    return Count(definition, n, n)


def _connected(found: Polygons) -> tuple[np.ndarray, np.ndarray]:
    """Closed regions: joined only where that is certain, and wherever rounding allows it.

    Within a cell the function agrees with an affine one on a convex set. Such sets of two cells
    that share an edge are connected if they meet on it; the way may lead through other maps' cells.
    """
    label, parts = found.map_labels, open_connected(found)
    surely, perhaps = parts.copy(), parts.copy()
    # Maps with one part are one region already.
    several = np.bincount(label[np.unique(parts, return_index=True)[1]])
    inner = np.flatnonzero((found.beside >= 0).all(1))
    ends, beside = found.edges[inner], found.beside[inner]
    s = np.concatenate([np.ones((len(found.vertices), 1)), found.vertices], axis=1)
    values = found.plane(found.vertices)
    for number in np.flatnonzero(several > 1):
        cells = np.flatnonzero(label == number)
        map_ = found.maps[cells[0]]
        scale = np.abs(s) @ np.abs(map_) + np.abs(values)
        off = values - s @ map_
        near: np.ndarray = np.all(np.abs(off) <= ROUNDING * scale, axis=1)
        on = np.zeros(len(s), bool)
        on[np.concatenate([found.corners(c) for c in cells.tolist()])] = True
        off[on] = 0.0
        # Somewhere on the edge the difference is 0: at an end, or between ends of opposite signs.
        low, high = off[ends[:, 0]], off[ends[:, 1]]
        touches = on[ends].any(1)
        if off.shape[1] == 1:
            clear = ~near[ends].any(1)
            between = (low * high < 0)[:, 0]
            meets = touches | (clear & between)
            may = touches | between | near[ends].any(1)
        else:
            meets, may = touches, touches | _crosses(low, high, scale[ends].max(1))
        for out, joins in ((surely, meets), (perhaps, may)):
            group = components(found.cells, beside[joins])
            for part in np.unique(group[cells]):
                same = cells[group[cells] == part]
                out[same] = out[same].min()
    return (np.unique(surely, return_inverse=True)[1], np.unique(perhaps, return_inverse=True)[1])


def _crosses(low: np.ndarray, high: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Whether vectors from low to high may pass through 0."""
    way = high - low
    length = (way * way).sum(1)
    at = np.divide(-(low * way).sum(1), length, out=np.zeros_like(length), where=length > 0)
    least = low + np.clip(at, 0, 1)[:, None] * way
    return (np.abs(least) <= ROUNDING * scale).all(1)
