"""The affine functions of pieces of segments, and a proof that no piece is missing.

Values and derivatives at a point of each piece are found with bounds of all their errors (running
error analysis: Higham, "Accuracy and Stability of Numerical Algorithms", 2002, sections 3.1, 3.3),
which hold for every order of summation and for real arithmetic on the weights and ends as they are,
barring underflow. From them follow, for each piece:

1. The point has the pattern, as every value's sign is beyond its bound.
2. Going from the point to one side, with the affine functions of the piece, the unit that tells the
   pattern from the neighbour's reaches 0 before any other one can. Then the neighbour's pattern
   holds right behind that place; and up to the neighbour's point, since the set on which a pattern
   holds is convex. So nothing lies between. Units that are exactly 0 on the whole piece, as those
   are that only read inactive ones, may begin there: what they become behind it is what they are at
   the neighbour's point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from activjax.program.networks import Affine, Layer, Network
from activjax.regions._parallel import each
from activjax.regions._rounding import UNIT

_Index = tuple[np.ndarray, np.ndarray]
_AT_ONCE = 1 << 17
_OWN = 1.001  # the bounds are rounded themselves
_SLACK = 1e-12  # as are quotients of them
_FAR = 1.25  # how far to look, in halves of pieces
_NEVER = 1e300  # farther than any place, and finite


@dataclass(frozen=True, eq=False)
class Proof:
    """What was shown of the pieces of segments.

    Attributes:
      value, slope: `[P, out]`, of the output in the middle of a piece, and its derivative with
        respect to the place in [0, 1].
      value_error, slope_error: `[P, out]`, bounds of their errors, where `pattern`.
      pattern: `[P]`, whether the middle of the piece has its pattern.
      complete: `[P]`, whether also nothing lies between it and the pieces, or ends, at its sides.
    """

    value: np.ndarray
    slope: np.ndarray
    value_error: np.ndarray
    slope_error: np.ndarray
    pattern: np.ndarray
    complete: np.ndarray


def prove(
    network: Network,
    x0: np.ndarray,
    x1: np.ndarray,
    segment: np.ndarray,
    start: np.ndarray,
    stop: np.ndarray,
    states: np.ndarray,
) -> Proof:
    """See above.

    Args:
      network: the function.
      x0, x1: `[S, size]`, the ends.
      segment, start, stop: `[P]`, the segments and ends of the pieces, in order.
      states: `[P, units]`, their patterns.
    """
    absolute = [x.map(abs) for x in (*(layer.affine for layer in network.layers), network.out)]
    n, m = len(segment), network.out.size
    middle, half = (start + stop) / 2, (stop - start) / 2
    both, errors = np.empty((2, n, m)), np.empty((2, n, m))
    pattern, nearest, horizon = np.ones(n, bool), np.empty((2, n)), np.empty((2, n))
    widest = max([network.size, *(layer.affine.size for layer in network.layers)])
    step = max(_AT_ONCE // widest, 1)

    def run(part: slice) -> None:
        # With a piece more on either side: the neighbours' patterns.
        around = np.clip(np.arange(part.start - 1, min(part.stop, n) + 1), 0, n - 1)
        which = segment[part]
        pieces = _Pieces(network, absolute, (x0[which], x1[which]), (middle[part], half[part]))
        pieces.layers(states[around], segment[around])
        both[:, part], errors[:, part] = pieces.output()
        pattern[part] = pieces.pattern
        nearest[:, part], horizon[:, part] = pieces.nearest, pieces.horizon

    each(run, [slice(i, i + step) for i in range(0, n, step)])
    reached = nearest * (1 + _SLACK) < horizon * (1 - _SLACK)
    same = segment[1:] == segment[:-1]
    adjacent = (reached[1, :-1] | reached[0, 1:]) & same
    # The first piece begins at 0, the last one ends at 1.
    to_end = np.stack([middle, 1 - middle]) * (1 + _SLACK) <= horizon
    left, right = to_end.copy()
    left[1:] = np.where(same, adjacent & pattern[:-1], left[1:])
    right[:-1] = np.where(same, adjacent & pattern[1:], right[:-1])
    return Proof(both[0], both[1], errors[0], errors[1], pattern, pattern & left & right)


class _Pieces:
    """Rows of values in the middles of pieces, then rows of derivatives, through the layers."""

    def __init__(
        self,
        network: Network,
        absolute: list[Affine],
        ends: tuple[np.ndarray, np.ndarray],
        place: tuple[np.ndarray, np.ndarray],
    ) -> None:
        x0, x1 = ends
        middle, half = place
        self.network, self.absolute, self.n = network, absolute, len(middle)
        d, scale = x1 - x0, np.abs(x0) + np.abs(x1)
        self.values = {0: np.concatenate([x0 + middle[:, None] * d, d])}
        # A difference, a product and a sum: three roundings; one of a difference alone.
        self.errors = {0: np.concatenate([4 * UNIT * scale, 2 * UNIT * scale])}
        self.pattern = np.ones(self.n, bool)
        # To the left and to the right: where the neighbour's unit is 0 at the latest, and where
        # another one can be at the earliest, both as distances from the middle.
        self.nearest = np.full((2, self.n), np.inf)
        self.far = _FAR * half
        self.horizon = np.stack([self.far] * 2)

    def layers(self, states: np.ndarray, segment: np.ndarray) -> None:
        """Run them, `states` and `segment` being those of a piece more on each side."""
        mine, last = states[1:-1], self.network.last_use
        for i, (layer, where) in enumerate(
            zip(self.network.layers, self.network.slices, strict=True)
        ):
            z, error = self._apply(layer.affine, self.absolute[i])
            lines = _lines(layer, z, error, mine[:, where])
            self.pattern &= lines.holds
            low = lines.low(self.far[:, None])
            near = np.divmod(np.flatnonzero(low), low.shape[1])
            for side, shift in enumerate((slice(0, -2), slice(2, None))):
                other = states[shift, where]
                changed = other != mine[:, where]
                changed &= (segment[shift] == segment[1:-1])[:, None]
                row, unit = np.divmod(np.flatnonzero(changed), layer.size)
                line = unit
                if layer.groups is not None:
                    line = unit * layer.states + other[row, unit]
                self._reach(side, lines, near, (row, line))
            twice = np.concatenate([mine[:, where]] * 2)
            self.values[i + 1] = layer.chosen(z, twice)
            self.errors[i + 1] = layer.chosen(error, twice)
            for source in [s for s in self.values if last.get(s, -1) <= i]:
                del self.values[source], self.errors[source]

    def _reach(self, side: int, lines: _Lines, near: _Index, crossing: _Index) -> None:
        """Narrow `nearest` and `horizon` of a side: 0 for the left, 1 for the right.

        Args:
          side: which.
          lines: the layer's.
          near: rows and lines that may reach 0 within the horizon.
          crossing: rows and lines that are beyond 0 where the neighbour is, by row.
        """
        # The first one that differs is the one; a further one must be 0 on the whole piece.
        nearest, horizon = self.nearest[side], self.horizon[side]
        row, line = crossing
        first = np.isinf(nearest[row])
        first[1:] &= row[1:] != row[:-1]
        always = ~np.any([x[row, line] for x in lines.numbers], axis=0)
        first &= ~always
        horizon[row[~first & ~always]] = -np.inf
        row, line = row[first], line[first]
        nearest[row] = lines.latest(side, row, line)
        its = np.full(self.n, -1)
        its[row] = line
        row, line = near
        np.minimum.at(
            horizon, row, np.where(its[row] == line, np.inf, lines.earliest(side, row, line))
        )

    def output(self) -> tuple[np.ndarray, np.ndarray]:
        """Values and derivatives, and the bounds of their errors, each `[2, n, out]`."""
        z, error = self._apply(self.network.out, self.absolute[-1])
        shape = (2, self.n, self.network.out.size)
        return z.reshape(shape), error.reshape(shape)

    def _apply(self, affine: Affine, absolute: Affine) -> tuple[np.ndarray, np.ndarray]:
        matrices: list[Any] = list(affine.matrices.values())
        terms = 2 + sum(m.shape[0] for m in matrices)
        gamma = terms * UNIT / (1 - terms * UNIT)
        z = np.zeros((2 * self.n, affine.size))
        error = np.zeros_like(z)
        for source, matrix in affine.matrices.items():
            z += self.values[source] @ matrix
            bound = np.abs(self.values[source])
            bound *= gamma
            bound += self.errors[source]
            error += bound @ absolute.matrices[source]
        z[: self.n] += affine.bias
        error[: self.n] += gamma * absolute.bias
        error *= _OWN
        return z, error


@dataclass(eq=False)
class _Lines:
    """What must not be negative for a layer to have its states: `margin + h * slope`.

    Attributes:
      margin, slope: `[n, lines]`; with groups, of each member how far it is below the chosen one.
      margin_error, slope_error: their bounds.
      holds: `[n]`, whether the states are right at `h = 0`.
    """

    margin: np.ndarray
    slope: np.ndarray
    margin_error: np.ndarray
    slope_error: np.ndarray
    holds: np.ndarray

    @property
    def numbers(self) -> tuple[np.ndarray, ...]:
        """All 0 where the line is exactly 0 on the whole piece."""
        return self.margin, self.slope, self.margin_error, self.slope_error

    def low(self, h: np.ndarray) -> np.ndarray:
        """`[n, lines]`, where it may be negative at a distance of at most `h`, `[n, 1]`."""
        reach = np.abs(self.slope)
        reach += self.slope_error
        reach *= h * (1 + _SLACK)
        reach += self.margin_error
        return self.margin < reach

    def latest(self, side: int, row: np.ndarray, line: np.ndarray) -> np.ndarray:
        """At what distance to a side it is 0 at the latest."""
        margin, slope, margin_error, slope_error = (x[row, line] for x in self.numbers)
        slowest = (slope if side == 0 else -slope) - slope_error
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.where(slowest > 0, (margin + margin_error) / slowest, _NEVER)

    def earliest(self, side: int, row: np.ndarray, line: np.ndarray) -> np.ndarray:
        """At what distance to a side it can be 0 at the earliest."""
        margin, slope, margin_error, slope_error = (x[row, line] for x in self.numbers)
        fastest = (slope if side == 0 else -slope) + slope_error
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.where(fastest > 0, (margin - margin_error) / fastest, np.inf)


def _lines(layer: Layer, z: np.ndarray, error: np.ndarray, states: np.ndarray) -> _Lines:
    n = len(states)
    if layer.groups is None:
        active = states > 0
        # Inactive is not above 0, so that an error-free 0 is proven too.
        holds = (np.where(active, z[:n], -z[:n]) >= error[:n]) & (~active | (z[:n] > 0))
        sign = active * 2.0 - 1.0
        return _Lines(z[:n] * sign, z[n:] * sign, error[:n], error[n:], np.all(holds, -1))
    picked = np.concatenate([states, states])[..., None].astype(np.int64)
    z, error = z[:, layer.groups], error[:, layer.groups]
    margin = np.take_along_axis(z, picked, -1) - z
    bound = error + np.take_along_axis(error, picked, -1)
    bound += 2 * UNIT * np.abs(margin)
    # The same value twice in a group is no competitor; of equal ones the first is chosen.
    itself = layer.groups == np.take_along_axis(layer.groups[None], picked, -1)
    bound[itself] = 0.0
    earlier = np.arange(layer.states) < picked[:n]
    holds = np.where(earlier, margin[:n] > bound[:n], margin[:n] >= bound[:n])
    holds = np.all(holds, (-1, -2))
    margin, bound = margin.reshape(2, n, -1), bound.reshape(2, n, -1)
    return _Lines(margin[0], margin[1], bound[0], bound[1], holds)
