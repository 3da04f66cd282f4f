"""Intervals around means and shares of independent trials, and around ratios of their sums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float64

from activjax.stats._estimate import check_level


def mean_interval(values: Any, *, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the first axis, and the half-width of its Student-t interval.

    Args:
      values: `[n, ...]`, one entry per independent trial.
      level: coverage for normal trials.

    Returns:
      Two float64 arrays `[...]`; the half-width is NaN for a single trial, which has no interval.

    Raises:
      ValueError: no trials, or a level outside (0, 1).
    """
    from scipy.special import stdtrit

    check_level(level, "mean_interval")
    x = np.asarray(values, np.float64)
    if x.ndim == 0 or x.shape[0] == 0:
        raise ValueError(f"mean_interval: values have shape {x.shape}, expected [n, ...], n >= 1")
    n = x.shape[0]
    if n == 1:
        return x[0], np.full(x.shape[1:], np.nan)
    half = stdtrit(n - 1, (1 + level) / 2) * x.std(axis=0, ddof=1) / math.sqrt(n)
    return x.mean(axis=0), half


def ratio_interval(
    numerators: Any, denominators: Any, *, level: float = 0.95, draws: int = 4000, seed: int = 0
) -> tuple[float, float, float]:
    """A ratio of sums over independent units, such as bits a byte over documents.

    The percentile interval of the bootstrap over units (Efron 1979): a unit is drawn whole, with
    its part of both sums.

    Args:
      numerators: `[n]`, one for each unit.
      denominators: `[n]`, positive.
      level: coverage; too narrow for fewer than about ten units.
      draws: resamples.
      seed: of the resamples.

    Returns:
      The ratio and the ends of its interval; NaN ends for a single unit, which has no interval.

    Raises:
      ValueError: no units, as many of one as of the other there are not, a denominator that is not
        positive, or a level outside (0, 1).
    """
    check_level(level, "ratio_interval")
    a, b = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ValueError(
            f"ratio_interval: expected [n] and [n], n >= 1, got {list(a.shape)} and {list(b.shape)}"
        )
    if not (b > 0).all():
        raise ValueError(f"ratio_interval: denominators must be positive, one is {b.min()}")
    value = float(a.sum() / b.sum())
    if len(a) == 1:
        return value, math.nan, math.nan
    picks = np.random.default_rng(seed).integers(0, len(a), (draws, len(a)))
    ratios = a[picks].sum(1) / b[picks].sum(1)
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return value, float(low), float(high)


def wilson(hits: Any, n: Any, level: float = 0.95) -> Float64[np.ndarray, "*shape 2"]:
    """The score interval of a share (Wilson 1927, "Probable inference").

    Args:
      hits, n: arrays of counts; `n` of 0 gives NaN.
      level: coverage.

    Returns:
      `[..., 2]`, low and high.

    Raises:
      ValueError: a level outside (0, 1).
    """
    from scipy.special import ndtri

    check_level(level, "wilson")
    z = ndtri((1 + level) / 2)
    hits, n = np.asarray(hits, np.float64), np.asarray(n, np.float64)
    share = ratio(hits, n)
    centre = share + ratio(z * z, 2 * n)
    half = z * np.sqrt(ratio(share * (1 - share), n) + ratio(z * z, 4 * n * n))
    width = 1 + ratio(z * z, n)
    low = np.where(hits == 0, 0.0, (centre - half) / width)  # not the rounding of a zero
    high = np.where(hits == n, 1.0, (centre + half) / width)
    return np.where(np.isnan(share)[..., None], np.nan, np.stack([low, high], -1))


def ratio(a: Any, b: Any) -> np.ndarray:
    """`a / b`, NaN where `b` is 0."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.divide(a, b, out=np.full(np.broadcast_shapes(a.shape, b.shape), np.nan), where=b != 0)
