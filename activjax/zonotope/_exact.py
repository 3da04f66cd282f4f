"""All cells of a central arrangement, exactly, whatever its degeneracies.

A node of the tree of restrictions (see `_restrictions`) has as many pairs of opposite cells as its
children have in all, and one more. Witnesses go up that tree:

- a child's witness q, lifted to its hyperplane k, is on the common wall, within the arrangement of
  the rows before k, of two cells; take a point beside q on either side of hyperplane k;
- all these points and one more point anywhere meet every pair of cells. For suppose they meet all
  those of the rows before k. A cell of these that hyperplane k does not cut is one cell still. The
  cut ones are, by their common part with hyperplane k, the child's cells: of the two parts each
  has a point.

So the cells of a node are the different sign words of at most twice as many points: one sort, no
step for each hyperplane, and all nodes of a level at once. Points are in float64; signs at a point
on a wall that are within rounding of 0 are found in integers, and so are the points beside it.

The result does not rest on any of this. The number of cells is known beforehand, from integers:
where each word is the certified sign of integers at its witness, all words are different, and they
are as many as there are cells, they are the cells.
"""

from __future__ import annotations

import numpy as np

from activjax.zonotope._basis import basis, smaller
from activjax.zonotope._climb import climb
from activjax.zonotope._count import check_limit, least_cells
from activjax.zonotope._groups import grouped_words
from activjax.zonotope._integers import floats, widened
from activjax.zonotope._points import Points, in_float64, units
from activjax.zonotope._restrictions import Children, Level, children, joined, parts, root
from activjax.zonotope._signs import certified_signs
from activjax.zonotope._words import pack

_TRIES = 8  # with other random numbers


def enumerate_exact(lines: np.ndarray, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """One of each pair of opposite cells, that where the first row is positive.

    Args:
        lines: `[N, r]` int64 or Python integers; rows are nonzero and no two are parallel, N >= 1.
        limit: the most cells, pairs counted twice.

    Returns:
        `[m, N]` booleans, where row j is positive on cell i, different for different i, and
        `[m, r]` witnesses: `lines[j] @ witnesses[i]` has that sign in exact arithmetic. These are
        float64 unit vectors, taken for the rationals that they are; Python integers where there
        is a cell that float64 was not enough for.

    Raises:
        ValueError: there are more than `limit` cells, or parallel rows.
        AssertionError: an internal check failed.
    """
    root(lines)
    found = basis(lines)
    check_limit(least_cells(found.summands), limit)
    mapped = smaller(lines, found)
    rows = found.rows if mapped else lines
    levels, steps = _tree(rows, limit)
    counts = _counts(levels, steps)
    expected = int(counts[0][0])
    for seed in range(_TRIES):
        points = _witnesses(levels, steps, counts, np.random.default_rng(seed))
        if points is None:
            continue
        signs = _signs(rows, points)
        if signs is None or not len(grouped_words(pack(signs))[0]) == expected == len(signs):
            continue
        witnesses = _as_given(lines, points, found.map if mapped else None, signs)
        opposite = ~signs[:, 0]
        witnesses[opposite] *= -1
        return signs ^ opposite[:, None], witnesses
    raise AssertionError(f"internal error: no certified witnesses of the {expected} pairs of cells")


def _signs(rows: np.ndarray, points: Points) -> np.ndarray | None:
    """Certified signs of rows at points; None where one is 0."""
    near = np.setdiff1d(np.arange(len(points.near)), points.which, assume_unique=True)
    found = np.empty((len(points.near), len(rows)), bool)
    for index, some in ((near, points.near[near]), (points.which, points.exact)):
        signs = certified_signs(rows, some)
        if signs is None:
            return None
        found[index] = signs
    return found


def _as_given(
    lines: np.ndarray, points: Points, map_: np.ndarray | None, signs: np.ndarray
) -> np.ndarray:
    """Points in the coordinates of the lines, in float64 where they have the same signs there."""
    if map_ is None and not len(points.which):
        return points.near
    near = points.near
    if map_ is not None:
        near = near @ floats(map_.reshape(1, -1)).reshape(map_.shape).T
    if near.any(axis=1).all():
        near = units(near)
        found = certified_signs(lines, near)
        if found is not None and (found == signs).all():
            return near
    whole = points.whole(np.arange(len(near)))
    if map_ is not None:
        whole = whole @ widened(map_).T
    return whole // np.gcd.reduce(whole, axis=1)[:, None]


def _tree(lines: np.ndarray, limit: int | None) -> tuple[list[Level], list[Children]]:
    """All levels, from dimension r to 1 or until no node has children, and what is below each."""
    levels, steps = [root(lines)], []
    times, cells = np.ones(1, np.int64), 2
    while levels[-1].dim > 1 and levels[-1].sizes.max() > 1:
        # Each node is as many pairs of cells as it has equals, itself included.
        cells += 2 * int((times * (levels[-1].sizes - 1)).sum())
        check_limit(cells, limit)
        found = [children(levels[-1], begin, end) for begin, end in parts(levels[-1])]
        below, which = joined([part.level for part in found])
        step = Children(
            below,
            np.concatenate([part.node for part in found]),
            np.concatenate([part.normal for part in found]),
            np.concatenate([of[part.child] for part, of in zip(found, which)]),
        )
        levels.append(below)
        steps.append(step)
        above, times = times, np.zeros(below.nodes, np.int64)
        np.add.at(times, step.child, above[step.node])
    return levels, steps


def _counts(levels: list[Level], steps: list[Children]) -> list[np.ndarray]:
    """For each level, `[nodes]` numbers of pairs of cells, from the tree alone."""
    counts = [np.ones(levels[-1].nodes, np.int64)]
    for level, step in zip(levels[-2::-1], steps[::-1], strict=True):
        count = np.ones(level.nodes, np.int64)
        np.add.at(count, step.node, counts[-1][step.child])
        counts.append(count)
    return counts[::-1]


def _witnesses(
    levels: list[Level],
    steps: list[Children],
    counts: list[np.ndarray],
    random: np.random.Generator,
) -> Points | None:
    """Points in all cells of the root, or None."""
    last = levels[-1]
    # One row is left in each: any point that is not on its hyperplane.
    points = in_float64(units(floats(last.rows[last.codes[last.starts[:-1]]])))
    for i in reversed(range(len(steps))):
        starts = np.concatenate([[0], np.cumsum(counts[i + 1])])
        found = climb(levels[i], steps[i], counts[i], points, starts, random)
        if found is None:
            return None
        points = found
    return points
