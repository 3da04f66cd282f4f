"""Rates with intervals that know which trials are of one kind."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from activjax import stats
from activjax.stats._estimate import clopper_pearson


class Rate(NamedTuple):
    """A share of trials.

    Attributes:
      value: the share; NaN for no trials.
      low, high: its 95 % interval.
      hits, n: of how many.
      distinct: different inputs among them.
      clusters: how many independent units the interval counts (concepts, or inputs).
    """

    value: float
    low: float
    high: float
    hits: int
    n: int
    distinct: int
    clusters: int

    def __str__(self) -> str:
        if not self.n:
            return "no trials"
        return f"{self.value:.1%} [{self.low:.1%}, {self.high:.1%}]"


def rate(hits: Any, clusters: Any, distinct: int, level: float = 0.95) -> Rate:
    """The share of hits, with an interval that resamples whole clusters.

    A percentile bootstrap over clusters (Efron 1979), made at least as wide as the binomial
    interval (Clopper and Pearson 1934) with the clusters as its trials where all clusters agree:
    resampling equal ones would give an interval of no width.

    Args:
      hits: `[n]` booleans.
      clusters: `[n]`, trials of equal number are of one cluster.
      distinct: different inputs among the trials.
      level: coverage.
    """
    hits = np.asarray(hits, bool)
    n = len(hits)
    if not n:
        return Rate(math.nan, math.nan, math.nan, 0, 0, 0, 0)
    _, which = np.unique(np.asarray(clusters), return_inverse=True)
    inside, size = np.bincount(which.ravel(), hits), np.bincount(which.ravel())
    value, low, high = stats.ratio_interval(inside, size, level=level)
    share = inside / size
    if len(size) == 1 or (share == share[0]).all():
        low, high = clopper_pearson(value, len(size), level)
    return Rate(value, low, high, int(hits.sum()), n, int(distinct), len(size))
