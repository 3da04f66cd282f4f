"""Breakpoints of a network along segments, all segments of a batch at once, in NumPy float64.

Rows are points of segments, sorted by segment and place; a piece lies between two adjacent rows of
one segment, and all that was evaluated so far is affine on it. The roots of a layer become new
rows, whose values are interpolated, so that no affine function is ever formed.

Errors are followed as in `_rounding`, as variances. A row made for a root is the point where that
hinge is exactly 0: what is not known well there is its place, which the other values' errors hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from activjax.program.networks import Affine, Layer, Network
from activjax.regions._parallel import each
from activjax.regions._rounding import DEVIATIONS, UNIT
from activjax.regions._segments_envelope import changes, ties

_AT_ONCE = 1 << 17  # numbers of an array at work: a few such arrays fit into a processor's cache
_FACTOR = DEVIATIONS**2


@dataclass(frozen=True, eq=False)
class Sweep:
    """The pieces of segments, in order.

    Attributes:
      segment: `[P]`, the segment of each piece.
      start, stop: `[P]`, places in [0, 1].
      states: `[P, units]`.
      points: rows (point, unit, state): states at ends and breakpoints that are not the smaller
        one of the states on both sides. Piece p lies between points `p + segment[p]` and the next.
        None where the engine does not look for them.
    """

    segment: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    states: np.ndarray
    points: np.ndarray | None


def sweep(network: Network, x0: np.ndarray, x1: np.ndarray) -> Sweep:
    """The pieces of the segments from `x0[i]` to `x1[i]`, both `[S, size]`."""
    nothing = np.zeros((0, network.units), network.state_dtype)
    none, empty = np.zeros(0, np.int64), np.zeros(0)
    found = [(none, empty, empty, nothing, np.zeros((0, 3), np.int64))]
    squared = [layer.affine.map(np.square) for layer in network.layers]

    def run(part: slice) -> tuple[np.ndarray, ...]:
        return _Rows(network, squared, x0[part], x1[part]).pieces(part.start)

    found += each(run, _chunks(network, len(x0)))
    n = 0
    for segment, *_, points in found:
        points[:, 0] += n
        n += len(segment) + len(np.unique(segment))
    return Sweep(*(np.concatenate(x) for x in zip(*found, strict=True)))


def _chunks(network: Network, n: int) -> list[slice]:
    width = max([network.size, *(layer.affine.size for layer in network.layers)])
    # About a quarter of the units has its hinge on a random segment.
    step = max(_AT_ONCE // (width * (2 + network.units // 4)), 1)
    return [slice(i, i + step) for i in range(0, n, step)]


def _nonzero(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`np.nonzero` of a matrix, faster."""
    row, column = np.divmod(np.flatnonzero(mask), mask.shape[1] or 1)
    return row, column


@dataclass(frozen=True, eq=False)
class _Insertion:
    """New rows among old ones.

    Attributes:
      old: `[R]`, where the old rows are now.
      new: `[m]`, where the new ones are.
      low: `[m]`, the old row before each new one.
      at: `[m, 1]`, its place between that row and the next.
      variance: `[m, 1]`, of the error of the place.
    """

    old: np.ndarray
    new: np.ndarray
    low: np.ndarray
    at: np.ndarray
    variance: np.ndarray

    def __call__(self, values: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Affine values and their variances at all rows, from `[R, n]`.

        Where both ends have one sign, so have the new rows.
        """
        shape = len(self.old) + len(self.new), values.shape[1]
        before, after = values[self.low], values[self.low + 1]
        change = after - before
        before *= 1 - self.at
        after *= self.at
        before += after
        rows = np.empty(shape)
        rows[self.old], rows[self.new] = values, before
        # Weighted means of variances are no less than those of the standard deviations, squared.
        spread = variance[self.low]
        spread *= 1 - self.at
        spread += self.at * variance[self.low + 1]
        change *= change
        change *= self.variance
        spread += change
        before *= before
        before *= 4 * UNIT**2
        spread += before
        variances = np.empty(shape)
        variances[self.old], variances[self.new] = variance, spread
        return rows, variances


class _Rows:
    """Rows of a batch of segments, the layers run."""

    def __init__(
        self, network: Network, squared: list[Affine], x0: np.ndarray, x1: np.ndarray
    ) -> None:
        n, size = x0.shape
        self.network = network
        self.segment, self.t = np.repeat(np.arange(n), 2), np.tile([0.0, 1.0], n)
        self.points = [np.zeros((0, 3), np.int64)]
        self.states: list[np.ndarray] = []  # of each layer, of the pieces after its rows
        self.origin: list[np.ndarray] = []  # of each layer, the row that each row's piece is in
        x = np.stack([x0, x1], axis=1).reshape(2 * n, size)
        # Of each source the values, and variances with those that a product with them adds.
        self.sources = {0: (x, (UNIT * x) ** 2)}
        last = network.last_use
        for i, (layer, where) in enumerate(zip(network.layers, network.slices, strict=True)):
            z, variance = self._before(layer.affine, squared[i])
            for source in [s for s in self.sources if last.get(s, -1) <= i]:
                del self.sources[source]
            hinge = self._rectify if layer.groups is None else self._choose
            out, variance = hinge(layer, z, variance, where.start)
            if last.get(i + 1, -1) > i:
                z = out * out
                z *= UNIT**2
                variance += z
                self.sources[i + 1] = out, variance

    def pieces(self, segment: int) -> tuple[np.ndarray, ...]:
        """As the fields of `Sweep`; segments are counted from this number."""
        inner = np.flatnonzero(self._inner())
        states = np.empty((len(inner), self.network.units), self.network.state_dtype)
        for found, origin, where in zip(self.states, self.origin, self.network.slices, strict=True):
            states[:, where] = found[origin[inner]]
        return (
            self.segment[inner] + segment,
            self.t[inner],
            self.t[inner + 1],
            states,
            np.concatenate(self.points),
        )

    def _before(self, affine: Affine, squared: Affine) -> tuple[np.ndarray, np.ndarray]:
        """Values before a layer's hinges and their variances: as `_rounding.before`."""
        z = variance = None
        for source, matrix in affine.matrices.items():
            values, spread = self.sources[source]
            more, wider = values @ matrix, spread @ squared.matrices[source]
            z = more if z is None else z + more
            variance = wider if variance is None else variance + wider
        shape = len(self.t), affine.size
        if z is None or variance is None:
            z, variance = np.zeros(shape), np.zeros(shape)
        z += affine.bias
        variance += UNIT**2 * squared.bias
        variance += (UNIT * z) ** 2
        return z, variance

    def _inner(self) -> np.ndarray:
        """Whether a row and the next are of one segment, of each row but the last."""
        return self.segment[:-1] == self.segment[1:]

    def _insert(
        self, row: np.ndarray, at: np.ndarray, tolerance: np.ndarray
    ) -> tuple[_Insertion, np.ndarray, np.ndarray]:
        """New rows for roots, one for those that are the same within their tolerances.

        Args:
          row: `[k]`, the row before each root.
          at: `[k]`, its place between that row and the next.
          tolerance: `[k]`, of `at`: `DEVIATIONS` of its error.

        Returns:
          The insertion; `[k]`, the row at each root; and whether it is there for this root alone.
        """
        t = self.t[row] + at * (self.t[row + 1] - self.t[row])
        inside = (t > self.t[row]) & (t < self.t[row + 1])
        nearest = row + (at > 0.5)
        kept = np.flatnonzero(inside)
        kept = kept[np.lexsort((at[kept], row[kept]))]
        i, a, tol, t = row[kept], at[kept], tolerance[kept], t[kept]
        new = np.ones(len(kept), bool)
        apart = (a[1:] - a[:-1] > np.maximum(tol[1:], tol[:-1])) & (t[1:] > t[:-1])
        new[1:] = apart | (i[1:] != i[:-1])
        first = np.flatnonzero(new)
        low, which = i[first], np.cumsum(new) - 1
        place = low + 1 + np.arange(len(first))
        old = np.arange(len(self.t))
        old += np.searchsorted(low, old)
        where = old[nearest]
        where[kept] = place[which]
        alone = np.zeros(len(row), bool)
        alone[kept] = (np.bincount(which) == 1)[which]
        widest = np.zeros(len(first))
        np.maximum.at(widest, which, tol + (a - a[first][which]))
        insertion = _Insertion(old, place, low, a[first, None], widest[:, None] ** 2 / _FACTOR)
        self._extend(insertion, t[first])
        return insertion, where, alone

    def _extend(self, insertion: _Insertion, t: np.ndarray) -> None:
        before = np.empty(len(self.t) + len(t), np.int64)  # the old row that a row is or is after
        before[insertion.old] = np.arange(len(self.t))
        before[insertion.new] = insertion.low
        self.origin = [origin[before] for origin in self.origin]
        self.segment, self.t = self.segment[before], self.t[before]
        self.t[insertion.new] = t
        for point in self.points:
            point[:, 0] = insertion.old[point[:, 0]]
        self.sources = {s: insertion(*both) for s, both in self.sources.items()}

    def _rectify(
        self, layer: Layer, z: np.ndarray, variance: np.ndarray, first: int
    ) -> tuple[np.ndarray, np.ndarray]:
        zero, column = _nonzero(z * z <= _FACTOR * variance)
        z[zero, column] = 0.0
        positive, negative = z > 0, z < 0
        row, unit = _nonzero((positive[:-1] & negative[1:]) | (negative[:-1] & positive[1:]))
        inner = self._inner()[row]
        row, unit = row[inner], unit[inner]
        low, high = z[row, unit], z[row + 1, unit]
        at = low / (low - high)
        rounding = (1 - at) * variance[row, unit] + at * variance[row + 1, unit]
        tolerance = np.sqrt(_FACTOR * rounding) / np.abs(high - low)
        insertion, where, alone = self._insert(row, at, tolerance)
        z, variance = insertion(z, variance)
        z[where, unit] = 0.0
        variance[where[alone], unit[alone]] = 0.0
        states = z > 0
        states[:-1] |= states[1:]
        zero = insertion.old[zero]
        self._record(states, zero, column, np.zeros(len(zero), np.int64), first)
        variance *= z >= 0
        return np.maximum(z, 0.0, out=z), variance

    def _choose(
        self, layer: Layer, z: np.ndarray, variance: np.ndarray, first: int
    ) -> tuple[np.ndarray, np.ndarray]:
        n, k = len(z), layer.states
        variance = variance[:, layer.groups]
        z = ties(z[:, layer.groups], variance)
        inner = np.flatnonzero(self._inner())
        row, unit = np.repeat(inner, layer.size), np.tile(np.arange(layer.size), len(inner))
        interval, one, other, at, tolerance = changes(
            z[row, unit], z[row + 1, unit], variance[row, unit], variance[row + 1, unit]
        )
        row, unit = row[interval], unit[interval]
        insertion, where, _ = self._insert(row, at, tolerance)
        z, variance = insertion(z.reshape(n, -1), variance.reshape(n, -1))
        z, variance = (x.reshape(len(x), layer.size, k) for x in (z, variance))
        z[where, unit, one] = z[where, unit, other] = z[where, unit].max(-1)
        both = z.copy()
        both[:-1] += z[1:]
        states, here = both.argmax(-1), z.argmax(-1)
        row, unit = np.indices(here.shape).reshape(2, -1)
        self._record(states, row, unit, here.ravel(), first)
        out, variance = (np.take_along_axis(x, here[..., None], -1)[..., 0] for x in (z, variance))
        return out, variance

    def _record(
        self, states: np.ndarray, row: np.ndarray, unit: np.ndarray, here: np.ndarray, first: int
    ) -> None:
        """Keep the states of a layer.

        Args:
          states: `[R, units]`, of the pieces after all rows; anything at a segment's last row.
          row, unit, here: `[k]`, the states at these rows: all that are not the smaller one of both
            sides are among them.
          first: the number of the layer's first unit.
        """
        starts, inner = np.ones(len(states), bool), self._inner()
        starts[1:] = ~inner
        last = np.append(np.flatnonzero(~inner), len(states) - 1)
        states[last] = states[last - 1]
        before = states[row - ~starts[row], unit]
        kept = here != np.minimum(before, states[row, unit])
        self.points.append(np.stack([row[kept], unit[kept] + first, here[kept]], axis=1))
        self.states.append(states)
        self.origin.append(np.arange(len(states)))
