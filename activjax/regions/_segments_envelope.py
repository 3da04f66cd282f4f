"""The largest of several affine functions on an interval: its breakpoints, exactly in order."""

from __future__ import annotations

import numpy as np

from activjax.regions._rounding import DEVIATIONS


def ties(values: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Values `[n, units, k]` with those that cannot be told from the largest of `k` equal to it."""
    winner = values.argmax(-1, keepdims=True)
    top = np.take_along_axis(values, winner, -1)
    rounding = DEVIATIONS * np.sqrt(variance + np.take_along_axis(variance, winner, -1))
    return np.where(top - values <= rounding, top, values)


def changes(
    low: np.ndarray, high: np.ndarray, variance_low: np.ndarray, variance_high: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where the largest of affine functions changes, strictly inside intervals.

    Args:
      low, high: `[q, k]`, their values at both ends.
      variance_low, variance_high: of their errors.

    Returns:
      The interval, the functions before and after (the first of identical ones), the place in
      (0, 1) and its tolerance, of each change; those of one interval in order, but not together.
    """
    rows = np.arange(len(low))
    one = _first(low, high)
    live = rows[one != _first(high, low)]
    one = one[live]
    found: list[tuple[np.ndarray, ...]] = []
    while len(live):
        a, b = low[live], high[live]
        n = np.arange(len(live))
        # What is above at the right end overtakes; whoever does so first is the largest next.
        behind, ahead = a[n, one, None] - a, b - b[n, one, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            at = np.where(ahead > 0, behind / (behind + ahead), np.inf)
        first = at.min(-1)
        other = np.where(at == first[:, None], b, -np.inf).argmax(-1)
        slope = behind[n, other] + ahead[n, other]
        variance = (1 - first) * (variance_low[live, one] + variance_low[live, other])
        variance += first * (variance_high[live, one] + variance_high[live, other])
        found.append((live, one, other, first, DEVIATIONS * np.sqrt(variance) / slope))
        more = b[n, other] < b.max(-1)
        live, one = live[more], other[more]
    if not found:
        none = np.zeros(0, np.int64)
        return none, none, none, np.zeros(0), np.zeros(0)
    live, one, other, at, tolerance = (np.concatenate(x) for x in zip(*found, strict=True))
    return live, one, other, at, tolerance


def _first(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Which is largest next to one end, the first of those that are so all along."""
    return np.where(here == here.max(-1, keepdims=True), there, -np.inf).argmax(-1)
