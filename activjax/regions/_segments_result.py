"""`Segments`: the linear pieces of a network along segments."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int

from activjax.program.networks import Network
from activjax.regions._count import Definition, check_definition
from activjax.regions._maps import labels
from activjax.regions._segments_host import Sweep, sweep
from activjax.regions._segments_proof import Proof, prove


@dataclass(frozen=True, eq=False)
class Segments:
    """The linear pieces of a network along S segments, ordered by segment and place.

    A place t in [0, 1] is the point `x0 + t (x1 - x0)`. Pieces are cut where the pattern changes:
    they are the proper activation regions of the segment. On piece p the output is
    `intercept[p] + slope[p] * t`. Fields that cost more than the search are found when first asked
    for.

    Attributes:
      x0, x1: `[S, size]`, the ends.
      segment: `[P]`, the segment of each piece.
      start, stop: `[P]`, where it begins and ends.
      states: `[P, units]`, its pattern: the states of all units inside it.
      definition: of a region, what `counts` and `region` go by.
      network: the function, of the whole input.
    """

    x0: Float64[np.ndarray, "S size"]
    x1: Float64[np.ndarray, "S size"]
    segment: Int[np.ndarray, " P"]
    start: Float64[np.ndarray, " P"]
    stop: Float64[np.ndarray, " P"]
    states: Int[np.ndarray, "P units"]
    definition: Definition
    network: Network = field(repr=False)
    _points: np.ndarray | None = field(repr=False)  # as of `Sweep`

    def __len__(self) -> int:
        """The number of segments."""
        return len(self.x0)

    @cached_property
    def pieces(self) -> Int[np.ndarray, "S+1"]:
        """Segment i has the pieces `pieces[i]` to `pieces[i + 1] - 1`."""
        return np.searchsorted(self.segment, np.arange(len(self) + 1))

    def breakpoints(self, i: int) -> Float64[np.ndarray, " n"]:
        """Where pieces of segment i meet, in order."""
        i = range(len(self))[i]
        return self.start[self.pieces[i] + 1 : self.pieces[i + 1]]

    @cached_property
    def middle(self) -> Float64[np.ndarray, " P"]:
        """A place inside each piece."""
        return (self.start + self.stop) / 2

    @cached_property
    def _proof(self) -> Proof:
        return prove(
            self.network, self.x0, self.x1, self.segment, self.start, self.stop, self.states
        )

    @property
    def slope(self) -> Float64[np.ndarray, "P out"]:
        """The derivative of the outputs with respect to the place."""
        return self._proof.slope

    @property
    def intercept(self) -> Float64[np.ndarray, "P out"]:
        """The outputs' affine functions at place 0."""
        return self._proof.value - self._proof.slope * self.middle[:, None]

    @property
    def doubt(self) -> Bool[np.ndarray, " P"]:
        """Pieces that were not shown to be there, or to have no further one beside them."""
        return ~self._proof.complete

    @property
    def doubtful(self) -> int:
        """How many pieces are in doubt."""
        return int(self.doubt.sum())

    @property
    def certificate(self) -> Literal["generic-certified", "uncertified"]:
        """Whether all pieces are proven to be there, and no others.

        "generic-certified" is a theorem on the network in real arithmetic, its weights and the
        segments' ends being the given floats (barring underflow): the middle of each piece has its
        pattern, and nothing lies between two neighbours, nor before the first and behind the last.
        It is shown with bounds of all rounding errors, which also say that the breakpoints are
        simple. "uncertified": somewhere that did not succeed. So it is where hinges of several
        units meet on a segment, or at its end, unless one is the cause of the others; where they do
        so within rounding; and where pieces are that short. `doubt` says where.
        """
        return "uncertified" if self.doubt.any() else "generic-certified"

    @cached_property
    def region(self) -> Int[np.ndarray, " P"]:
        """Numbers 0, 1, .. within each segment: pieces of one number are one region.

        Neighbours with the same affine output are one region by "convex", "open_connected" and
        "connected", which are the same on a line: between two others with the same output it
        differs from that somewhere. By "affine" all pieces of a segment with the same output are
        one. Whether two outputs are the same along the segment is decided without tolerance
        (`labels`), where their slopes are equal within rounding.
        """
        return self._regions(self.definition)

    @cached_property
    def counts(self) -> Int[np.ndarray, " S"]:
        """How many regions each segment has by the chosen definition."""
        return self.count(self.definition)

    def count(self, definition: Definition) -> Int[np.ndarray, " S"]:
        """How many regions each segment has by another definition.

        By "activation" the patterns that hold at a single point, a breakpoint or an end, count too.

        Raises:
          ValueError: an unknown definition.
        """
        definition = check_definition("count", definition)
        if definition == "activation":
            if self._points is None:
                found = sweep(self.network, self.x0, self.x1)
                found = made(self.network, self.x0, self.x1, found, definition)
                return found.count(definition)
            return np.diff(self.pieces) + self._single_points()
        regions = self._regions(definition)
        counts = np.zeros(len(self), np.int64)
        np.maximum.at(counts, self.segment, regions + 1)
        return counts

    def _regions(self, definition: Definition) -> np.ndarray:
        if definition in ("activation", "proper"):
            return np.arange(len(self.segment)) - self.pieces[self.segment]
        if definition == "affine":
            return self._affine()
        new = np.ones(len(self.segment), bool)
        new[1:] = ~self._merged()
        number = np.cumsum(new) - 1
        return number - number[self.pieces[self.segment]] if len(number) else number

    def _labels(self, pieces: np.ndarray) -> np.ndarray:
        i = self.segment[pieces[0]]
        direction = (self.x1[i] - self.x0[i])[None]
        return labels(self.network, self.states[pieces], self.x0[i], direction)

    def _merged(self) -> np.ndarray:
        """`[P - 1]`, whether a piece and the next are of one segment and have one output."""
        p = self._proof
        # Without a proof of the pattern the bounds are none.
        unknown = ~(p.pattern[1:] & p.pattern[:-1])
        close = np.abs(np.diff(p.slope, axis=0)) <= p.slope_error[1:] + p.slope_error[:-1]
        merged = (close.all(1) | unknown) & (self.segment[1:] == self.segment[:-1])
        first = np.flatnonzero(merged)
        for same in np.split(first, np.flatnonzero(np.diff(self.segment[first])) + 1):
            if len(same):
                pieces = np.union1d(same, same + 1)
                label = self._labels(pieces)
                here = np.searchsorted(pieces, same)
                merged[same] = label[here] == label[here + 1]
        return merged

    def _affine(self) -> np.ndarray:
        p = self._proof
        # Maps are told apart by one combination of their slopes, where that is enough.
        combined = np.random.default_rng(0).normal(size=p.slope.shape[1])
        slope = p.slope @ combined
        rounding = (len(combined) + 2) * np.finfo(float).eps * np.abs(p.slope)
        error = (p.slope_error + rounding) @ np.abs(combined)
        error[~p.pattern] = np.inf  # without a proof of the pattern the bounds are none
        out = np.empty(len(slope), np.int64)
        for i in range(len(self)):
            own = np.arange(self.pieces[i], self.pieces[i + 1])
            order = own[np.argsort(slope[own] - error[own])]
            high = np.maximum.accumulate(slope[order] + error[order])
            apart = slope[order[1:]] - error[order[1:]] > high[:-1]
            number = np.concatenate([[0], np.cumsum(apart)])
            several = np.flatnonzero((np.bincount(number) > 1)[number])
            if len(several):
                number[several] = len(own) + self._labels(order[several])
            out[order] = number
            out[own] = _by_appearance(out[own])
        return out

    def _single_points(self) -> np.ndarray:
        """`[S]`, how many breakpoints and ends have a pattern of their own.

        The set of a pattern is an interval, so it is enough to compare with both sides.
        """
        assert self._points is not None
        per = np.diff(self.pieces)
        segment = np.repeat(np.arange(len(self)), per + 1)  # of each point
        after = np.arange(len(segment)) - segment
        before = np.maximum(after - 1, self.pieces[segment])
        after = np.minimum(after, self.pieces[segment + 1] - 1)
        # Usually a point has the smaller one of both states.
        one, other = self.states[before], self.states[after]
        single = np.logical_and((one < other).any(1), (one > other).any(1))
        special, which = np.unique(self._points[:, 0], return_inverse=True)
        one, other = one[special], other[special]
        here = np.minimum(one, other)
        here[which, self._points[:, 1]] = self._points[:, 2]
        single[special] = (here != one).any(1) & (here != other).any(1)
        return np.bincount(segment[single], minlength=len(self))


def made(
    network: Network, x0: np.ndarray, x1: np.ndarray, found: Sweep, definition: Definition
) -> Segments:
    """From what an engine found."""
    return Segments(
        x0, x1, found.segment, found.start, found.stop, found.states, definition, network,
        found.points,
    )  # fmt: skip


def _by_appearance(labels: np.ndarray) -> np.ndarray:
    """The same partition, numbered 0, 1, .. in the order of first appearance."""
    first, inverse = np.unique(labels, return_index=True, return_inverse=True)[1:]
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]
