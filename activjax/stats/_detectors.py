"""Precision and recall, and the ends of the ROC curve, with intervals.

On the host, in float64: these report, they are not traced.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from activjax.stats._bootstrap import AGREE, percentile
from activjax.stats._estimate import Estimate, check_level, clopper_pearson
from activjax.stats._scored import Scored, grouped, scored


def auprc(
    scores: Any,
    labels: Any,
    *,
    groups: Any = None,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Average precision: precision at each distinct score, weighted by the recall it adds.

    scikit-learn's `average_precision_score`; equal scores are one threshold. Chance is the share
    of positives. The interval is a percentile bootstrap.

    Args:
      scores: `[n]`, higher is more positive; infinities are allowed.
      labels: `[n]`, booleans or 0 and 1.
      groups: `[n]`, clusters to resample whole; examples within each class if left out.
      draws: resamples.
      seed: of the resamples.
      level: nominal coverage.

    Returns:
      Estimate. If the classes are perfectly separated all resamples agree, and `low` is a bound
      instead (status "bounded"): the lowest positive score `t` is above all `n_negative`
      independent negatives, so with `q = (1 - level) / 4`, `FPR(t) <= 1 - q^(1 / n_negative)` and
      `TPR(t) >= q^(1 / n_positive)`, except with probability `2 q`; the bound is the average
      precision of the worst such curve, for the sample's share of positives. Not with `groups`.

    Raises:
      ValueError: wrong shapes, no examples, a NaN score, labels that are not binary or of one
        class, or `level` or `draws` out of range.
    """
    data = scored(scores, labels, "auprc")

    def metric(weights: np.ndarray | None) -> float:
        true, false = data.hits(weights)
        chosen = true + false > 0  # a resample may lack the highest scores
        precision = true[chosen] / (true + false)[chosen]
        return float(np.sum(np.diff(true[chosen], prepend=0) * precision) / true[-1])

    found = _estimate("AUPRC", data, metric, groups, draws, seed, level)
    if found.value == 1 and groups is None:
        note = "perfectly separated: the bound of independent examples"
        low = _separated(data.n_positive, data.n_negative, (1 - level) / 4)
        return replace(found, low=low, high=1.0, status="bounded", note=note)
    return found


def tpr_at_fpr(
    scores: Any,
    labels: Any,
    fpr: float,
    *,
    groups: Any = None,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """The largest true positive rate of any threshold whose false positive rate is at most `fpr`.

    No interpolation: a rate counts only where a threshold reaches it. The interval is a percentile
    bootstrap, which knows that the threshold was chosen from the sample, and is made at least as
    wide as the binomial interval (Clopper-Pearson) of the rate at that threshold, so that a rate
    of 0 or 1 has a width; with `groups` that takes clusters for trials.

    Args:
      scores, labels, groups, draws, seed, level: as in `auprc`.
      fpr: in (0, 1].

    Returns:
      Estimate, "unresolved" (NaN) with fewer than `1 / fpr` negatives: then no threshold can be
      told to have that rate.

    Raises:
      ValueError: as `auprc`, or `fpr` out of range.
    """
    if not 0 < fpr <= 1:
        raise ValueError(f"tpr_at_fpr: fpr is {fpr}, expected a number in (0, 1]")
    name = f"TPR at FPR {fpr:g}"
    data = scored(scores, labels, "tpr_at_fpr")
    if 1 / data.n_negative > fpr:  # quotients and not products: 7 / 10 is 0.7, 0.7 * 10 is not 7
        needed = _smallest(lambda n: 1 / n <= fpr, 1 / fpr)
        return _unresolved(name, data, level, f"needs at least {needed} negatives")

    def metric(weights: np.ndarray | None) -> float:
        true, false = data.hits(weights)
        allowed = false / false[-1] <= fpr
        return float(np.max(true, where=allowed, initial=0) / true[-1])

    found = _estimate(name, data, metric, groups, draws, seed, level)
    return _at_least_binomial(found, data.labels, groups, data.order)


def fpr_at_tpr(
    scores: Any,
    labels: Any,
    tpr: float = 0.95,
    *,
    groups: Any = None,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """The smallest false positive rate of any threshold whose true positive rate is at least `tpr`.

    The mirror image of `tpr_at_fpr`, interval included.

    Args:
      scores, labels, groups, draws, seed, level: as in `auprc`.
      tpr: in (0, 1).

    Returns:
      Estimate, "unresolved" (NaN) with fewer than `1 / (1 - tpr)` positives: then only a threshold
      that misses none would do.

    Raises:
      ValueError: as `auprc`, or `tpr` out of range.
    """
    if not 0 < tpr < 1:
        raise ValueError(f"fpr_at_tpr: tpr is {tpr}, expected a number in (0, 1)")
    name = f"FPR at TPR {tpr:g}"
    data = scored(scores, labels, "fpr_at_tpr")
    if (data.n_positive - 1) / data.n_positive < tpr:
        needed = _smallest(lambda n: (n - 1) / n >= tpr, 1 / (1 - tpr))
        return _unresolved(name, data, level, f"needs at least {needed} positives")

    def metric(weights: np.ndarray | None) -> float:
        true, false = data.hits(weights)
        allowed = true / true[-1] >= tpr
        return float(np.min(false, where=allowed, initial=false[-1]) / false[-1])

    found = _estimate(name, data, metric, groups, draws, seed, level)
    return _at_least_binomial(found, ~data.labels, groups, data.order)


def _estimate(
    name: str,
    data: Scored,
    metric: Callable[[np.ndarray | None], float],
    groups: Any,
    draws: int,
    seed: int,
    level: float,
) -> Estimate:
    clusters = grouped(groups, len(data.labels), name)
    level = check_level(level, name)
    nan = math.nan
    point = Estimate(name, metric(None), nan, nan, level, data.n_positive, data.n_negative)
    return percentile(point, metric, data.labels, clusters, data.order, draws=draws, seed=seed)


def _unresolved(name: str, data: Scored, level: float, note: str) -> Estimate:
    level, nan = check_level(level, name), math.nan
    sizes = data.n_positive, data.n_negative
    return Estimate(name, nan, nan, nan, level, *sizes, status="unresolved", note=note)


def _smallest(enough: Callable[[int], bool], about: float) -> int:
    n = max(1, math.floor(about) - 1)
    while not enough(n):
        n += 1
    return n


def _at_least_binomial(
    found: Estimate, trials: np.ndarray, groups: Any, order: np.ndarray
) -> Estimate:
    """The interval widened to the binomial one of the examples that `trials` marks."""
    n = int(trials.sum())
    if groups is not None:
        n = len(np.unique(np.asarray(groups)[order][trials]))
    low, high = clopper_pearson(found.value, n, found.level)
    if found.status == "no interval" and found.note != AGREE:
        return found
    if found.status == "no interval":
        note = "all resamples agree: the binomial interval at the threshold"
        return replace(found, low=low, high=high, status="bounded", note=note)
    return found.widened(low, high)


def _separated(n_positive: int, n_negative: int, tail: float) -> float:
    """Least average precision of a population whose sample is separated: see `auprc`."""
    odds = n_negative / n_positive
    reached, false = tail ** (1 / n_positive), 1 - tail ** (1 / n_negative)

    def area(start: float, end: float, fpr: float) -> float:  # of r / (r + odds * fpr)
        k = odds * fpr
        return end - start - k * math.log((end + k) / (start + k))

    return area(0, reached, false) + area(reached, 1, 1)
