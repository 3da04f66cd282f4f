"""Intervals around means of independent trials."""

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
