"""From witnesses of all cells of a level of restrictions to those of the level above."""

from __future__ import annotations

import numpy as np

from activjax.zonotope._groups import grouped_words
from activjax.zonotope._integers import floats
from activjax.zonotope._points import Points, beside, joined_points, units
from activjax.zonotope._restrictions import Children, Level
from activjax.zonotope._walls import Part, exact_beside, walls
from activjax.zonotope._words import pack

_AT_ONCE = 2**17  # values of forms


def climb(
    level: Level,
    below: Children,
    counts: np.ndarray,
    points: Points,
    starts: np.ndarray,
    random: np.random.Generator,
) -> Points | None:
    """Witnesses of one of each pair of opposite cells of every node.

    Args:
        level: the nodes, by increasing size.
        below: their children, in the same order.
        counts: `[nodes]`, how many pairs of cells they have.
        points: in dimension r - 1, the children's witnesses, node by node.
        starts: `[children's nodes + 1]`, where each node's begin.
        random: for points in general position.

    Returns:
        Points in dimension r, node by node; None where they did not turn out as many as there are.
    """
    found = []
    work = np.cumsum(counts * level.sizes)
    begin = 0
    while begin < level.nodes:
        done = work[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(work, done + _AT_ONCE, side="right")))
        part = Part(level, below, begin, end)
        witnesses = _witnesses(part, counts[begin:end], points, starts, random)
        if witnesses is None:
            return None
        found.append(witnesses)
        begin = end
    return joined_points(found)


def _witnesses(
    part: Part, counts: np.ndarray, below: Points, starts: np.ndarray, random: np.random.Generator
) -> Points | None:
    nodes = part.level.nodes
    anywhere = units(random.normal(size=(nodes, part.level.dim)))
    values = part.values(np.arange(nodes), anywhere)
    opposite = values[:, 0] < 0
    anywhere[opposite] *= -1
    usable = (np.abs(values) > part.rounding).all(axis=1)
    have = starts[part.child + 1] - starts[part.child]
    edge = np.repeat(np.arange(len(have)), have)
    source = np.arange(len(edge)) + np.repeat(starts[part.child] - np.cumsum(have) + have, have)
    on = walls(part, edge, below, source)

    # Candidates: the points anywhere, then those beside walls, along and against the normals.
    words = pack((values > 0) ^ opposite[:, None])
    words = np.concatenate([words, on.words | _bits(part.row[edge], words.shape[1]), on.words])
    node = np.concatenate([np.arange(nodes), part.node[edge], part.node[edge]])
    used = np.flatnonzero(np.concatenate([usable, on.known, on.known]))
    hard = np.concatenate([~usable, on.hard, on.hard])
    first = _distinct(used, node, words, hard, part.largest)
    if (np.bincount(node[first], minlength=nodes) != counts).any():
        return None

    side, wall = np.divmod(first - nodes, max(1, len(edge)))
    found = anywhere[np.where(side < 0, first, 0)]
    for against in (0, 1):
        at = np.flatnonzero((side == against) & ~hard[first])
        i = wall[at]
        h = part.h[edge[i]] * (1, -1)[against]
        found[at] = beside(on.points[i], h, on.pace[i, against], random)
    at = np.flatnonzero(hard[first])
    i = wall[at]
    exact, positive = exact_beside(part, edge[i], below, source[i], side[at] == 1, random)
    found[at] = units(floats(exact))
    values = part.values(node[first[at]], found[at])
    short = ((np.abs(values) <= part.rounding) | ((values > 0) != positive)).any(axis=1)
    return Points(found, at[short], exact[short])


def _bits(row: np.ndarray, words: int) -> np.ndarray:
    """`[n, words]`, one bit in each."""
    found = np.zeros((len(row), words), np.uint64)
    found[np.arange(len(row)), row // 64] = np.uint64(1) << (row % 64).astype(np.uint64)
    return found


def _distinct(
    used: np.ndarray, node: np.ndarray, words: np.ndarray, hard: np.ndarray, n_rows: int
) -> np.ndarray:
    """One of the candidates used for each word of each node, sorted by nodes, if possible easy."""
    node, words = node[used].astype(np.uint64), words[used]
    if n_rows + int(node.max(initial=0)).bit_length() <= 64:
        words = words | (node << np.uint64(n_rows % 64))[:, None]
    else:
        words = np.column_stack([node, words])
    first, of = grouped_words(words)
    easy = np.flatnonzero(~hard[used])
    first[of[easy]] = easy
    return used[first[np.argsort(node[first], kind="stable")]]
