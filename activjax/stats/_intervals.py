"""Intervals around means of independent trials, and around ratios of their sums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


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

    if not 0 < level < 1:
        raise ValueError(f"mean_interval: level is {level}, expected a number in (0, 1)")
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
    if not 0 < level < 1:
        raise ValueError(f"ratio_interval: level is {level}, expected a number in (0, 1)")
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
