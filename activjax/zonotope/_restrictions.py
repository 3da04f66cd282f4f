"""The tree of restrictions of an arrangement, level by level, equal nodes merged.

A node is an arrangement of hyperplanes through 0, a set of pairwise not parallel integer rows. Its
children are, for each k >= 1 (from 0), the rows before k restricted to hyperplane k. Cells come in
pairs of opposites; the number of pairs of a node is 1 + the sum over its children, as hyperplane k
cuts as many cells of the rows before it as there are in their restriction to it, and one row makes
one pair (Zaslavsky, "Facing up to arrangements", 1975, deletion and restriction).

A level holds all nodes of one dimension in flat arrays: the different rows that occur, once each,
and for each node the sorted indices of its rows. As rows and their order within a node are
canonical, nodes with the same set of rows are equal arrays, and one of them will do. In an
arrangement with symmetry most are equal: of the 3.6 million arrangements in R^3 of resonance-7
33 thousand differ. The order must be the same everywhere: renaming columns per node, which makes
more of a level's nodes equal, leaves 8 times more pairs of rows below it (measured, resonance-7).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from activjax.zonotope._groups import COLLIDED, draws, grouped, grouped_rows
from activjax.zonotope._integers import narrowed, primitive, restricted, widened

_AT_ONCE = 2**22  # entries of pairs of rows: some 100 MB
_TABLE = 2**24


@dataclass(frozen=True)
class Level:
    """Arrangements of one dimension.

    Attributes:
        rows: `[c, r]`, different primitive rows, int64 or Python integers.
        codes: `[total]`, indices into `rows`, those of a node side by side, increasing.
        starts: `[nodes + 1]`, where the nodes begin in `codes`, and its end. No node is empty.
    """

    rows: np.ndarray
    codes: np.ndarray
    starts: np.ndarray

    @property
    def dim(self) -> int:
        return self.rows.shape[1]

    @property
    def sizes(self) -> np.ndarray:
        """`[nodes]`, how many rows each has."""
        return np.diff(self.starts)

    @property
    def nodes(self) -> int:
        return len(self.starts) - 1

    def part(self, begin: int, end: int) -> Level:
        """The nodes from `begin` to before `end`."""
        starts = self.starts[begin : end + 1]
        return Level(self.rows, self.codes[starts[0] : starts[-1]], starts - starts[0])


@dataclass(frozen=True)
class Children:
    """Children of the nodes of a level, in the order of the nodes and, within one, of k.

    Attributes:
        level: them, equal ones once if merged.
        node: `[children]`, which node of the level above each is a child of.
        normal: `[children]`, the index of row k in the rows of the level above.
        child: `[children]`, which node of `level` it is.
    """

    level: Level
    node: np.ndarray
    normal: np.ndarray
    child: np.ndarray


def root(lines: np.ndarray) -> Level:
    """The level of one node: `[N, r]` integer rows, nonzero and pairwise not parallel, N >= 1."""
    rows = primitive(lines)
    first, _ = grouped_rows(rows)
    if len(first) != len(rows):
        raise ValueError("rows are parallel: merge them first")
    return Level(rows[first], np.arange(len(rows)), np.array([0, len(rows)]))


def parts(level: Level) -> list[tuple[int, int]]:
    """Ranges of the children of a level, not too many pairs of rows in each."""
    position = np.arange(len(level.codes)) - np.repeat(level.starts[:-1], level.sizes)
    pairs = np.cumsum(position[position > 0])
    most = _AT_ONCE // level.dim
    begin, found = 0, []
    while begin < len(pairs):
        done = pairs[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(pairs, done + most, side="right")))
        found.append((begin, end))
        begin = end
    return found


def children(level: Level, begin: int, end: int, *, merge: bool = True) -> Children:
    """Restricts nodes of a level of dimension >= 2.

    Args:
        level: the nodes.
        begin, end: which of their children, end excluded; see `parts`.
        merge: whether children with the same rows become one node.
    """
    # A node has one child for each row but its first; `before` is how many rows come before it.
    first = level.starts - np.arange(level.nodes + 1)
    index = np.arange(begin, end)
    low, high = np.searchsorted(first, [begin, max(begin, end - 1)], side="right") - 1
    node = low + np.searchsorted(first[low + 1 : high + 1], index, side="right")
    at = index + node + 1
    normal, n_rows = level.codes[at], len(level.rows)
    if level.dim == 2 and merge:  # of lines, all restrictions are the one point
        point = Level(np.ones((1, 1), np.int64), np.zeros(1, np.int64), np.array([0, 1]))
        return Children(point, node, normal, np.zeros(len(at), np.int64))
    before = at - level.starts[node]
    shift = at - np.cumsum(before)  # from the place of a pair to that of its row before
    pair = np.arange(int(before.sum())) + np.repeat(shift, before)
    key = level.codes[pair] + np.repeat(normal * n_rows, before)
    del pair
    used, of = _distinct_pairs(key, n_rows)
    del key
    rows, code = _restricted_pairs(level.rows, used // n_rows, used % n_rows)
    keys = np.repeat(np.arange(len(at)) * len(rows), before)
    keys += code[of]
    del of
    keys.sort()
    keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if keys.size else keys
    child, codes = np.divmod(keys, max(len(rows), 1))
    starts = np.searchsorted(child, np.arange(len(at) + 1))
    below, which = Level(rows, codes, starts), np.arange(len(at))
    if merge:
        below, which = _merged(below)
    return Children(below, node, normal, which)


def joined(levels: Sequence[Level]) -> tuple[Level, list[np.ndarray]]:
    """Levels of one dimension as one, equal nodes merged; and where the nodes of each went."""
    if len(levels) == 1:
        return levels[0], [np.arange(levels[0].nodes)]
    wide = any(level.rows.dtype == object for level in levels)
    rows = [widened(level.rows) if wide else level.rows for level in levels]
    stacked = narrowed(np.concatenate(rows))
    first, new = grouped_rows(stacked)
    offsets = np.cumsum([0, *map(len, rows)])
    codes = np.concatenate([new[level.codes + o] for level, o in zip(levels, offsets)])
    ends = np.cumsum([0, *(len(level.codes) for level in levels)])
    starts = np.concatenate([[0], *(level.starts[1:] + e for level, e in zip(levels, ends))])
    # Where rows are not in lexicographic order their order may have changed.
    node = np.repeat(np.arange(len(starts) - 1), np.diff(starts)) * len(first)
    codes = np.sort(node + codes) - node
    level, which = _merged(Level(stacked[first], codes, starts))
    nodes = np.cumsum([level.nodes for level in levels])[:-1]
    return level, np.split(which, nodes)


def _distinct_pairs(key: np.ndarray, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The different keys below n_rows^2, sorted, and which of them each one is."""
    if n_rows**2 > max(_TABLE, 4 * len(key)):
        first, of = grouped(key)
        return key[first], of
    seen = np.zeros(n_rows**2, bool)
    seen[key] = True
    used = np.flatnonzero(seen)
    number = np.zeros(n_rows**2, np.int64)
    number[used] = np.arange(len(used))
    return used, number[key]


def _restricted_pairs(
    rows: np.ndarray, normal: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`[c, r - 1]` different restrictions and `[pairs]`, which of them each is."""
    step = 2**18
    blocks = [
        restricted(rows[other[i : i + step]], rows[normal[i : i + step]])
        for i in range(0, max(len(normal), 1), step)
    ]
    if any(block.dtype == object for block in blocks):
        blocks = [widened(block) for block in blocks]
    found = np.concatenate(blocks)
    first, of = grouped_rows(found)
    return found[first], of


def _merged(level: Level) -> tuple[Level, np.ndarray]:
    """Equal nodes as one, by increasing number of rows, and which one each became."""
    if not level.nodes:
        return level, np.zeros(0, np.int64)
    sizes, begins = level.sizes, level.starts[:-1]
    for draw in draws():
        salt = draw.integers(0, 2**64, len(level.rows), dtype=np.uint64)
        first, of = grouped(np.add.reduceat(salt[level.codes], begins))
        same = sizes[first[of]] == sizes
        if same.all():
            shift = np.repeat(begins[first[of]] - begins, sizes)
            same = level.codes[np.arange(len(level.codes)) + shift] == level.codes
            if same.all():
                break
    else:
        raise AssertionError(COLLIDED)
    order = np.argsort(sizes[first], kind="stable")
    kept = first[order]
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    length = sizes[kept]
    starts = np.concatenate([[0], np.cumsum(length)])
    index = np.arange(starts[-1]) + np.repeat(begins[kept] - starts[:-1], length)
    return Level(level.rows, level.codes[index], starts), rank[of]
