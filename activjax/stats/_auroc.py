"""Areas under ROC curves, with DeLong's intervals, and the difference of two.

DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver
operating characteristic curves", 1988, in the `n log n` time of Sun and Xu, "Fast implementation
of DeLong's algorithm", 2014: the structural components are counted by binary search among the
sorted scores, in integers, so that equal ones are equal to the last bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from activjax.stats._bootstrap import AGREE, percentile
from activjax.stats._estimate import Estimate, Status, check_level, clopper_pearson, hoeffding
from activjax.stats._scored import Scored, grouped, scored


@dataclass(frozen=True)
class Delong:
    """Two areas under ROC curves on the same examples, compared.

    Attributes:
      a, b: the two areas, each with its own interval.
      difference: `a - b` with its interval.
      covariance: `[2, 2]`, of the two areas.
      p_value: two-sided, of the hypothesis that the areas are equal.
    """

    a: Estimate
    b: Estimate
    difference: Estimate
    covariance: np.ndarray
    p_value: float

    def __str__(self) -> str:
        lines = [f"a: {self.a}", f"b: {self.b}", f"{self.difference}, p = {self.p_value:.3g}"]
        return "\n".join(lines)


def auroc(
    scores: Any,
    labels: Any,
    *,
    groups: Any = None,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """The area under the ROC curve: how often a positive scores above a negative, ties half.

    The interval is DeLong's, symmetric in the logit of the area so that it stays inside [0, 1].
    Measured on normal scores, nominal 95 %: it covers 95.5 % of the time for an area of 0.76 with
    30 positives and 50 negatives, but 90 % for an area of 0.993 with 50 and 500: close to 1, look
    at `tpr_at_fpr` too.
    Where that variance is 0 or undefined a bound that holds for any sample size is given instead
    (status "bounded"), both from the `m = min(n_positive, n_negative)` disjoint pairs of a
    positive and a negative, which are independent: under perfect separation the Clopper-Pearson
    interval of `m` successes out of `m`; otherwise (all scores equal, or one example of a class)
    Hoeffding's inequality.

    Args:
      scores: `[n]`, higher is more positive; infinities are allowed.
      labels: `[n]`, booleans or 0 and 1.
      groups: `[n]`, clusters of examples that are not independent: the interval is then the
        percentile bootstrap over whole clusters, and pairs of clusters count for the bound.
      draws, seed: of that bootstrap; unused without `groups`.
      level: nominal coverage.

    Returns:
      Estimate.

    Raises:
      ValueError: wrong shapes, no examples, a NaN score, labels that are not binary or of one
        class, or `level` or `draws` out of range.
    """
    data = scored(scores, labels, "auroc")
    level = check_level(level, "auroc")
    parts = _components(data)
    if groups is None:
        return _delong_interval(data, parts, level)
    clusters = grouped(groups, len(data.labels), "auroc")
    assert clusters is not None
    value, sizes = _area(parts), (data.n_positive, data.n_negative)

    def metric(weights: np.ndarray) -> float:
        true, false = data.hits(weights)
        above = true - 0.5 * np.diff(true, prepend=0)  # positives over each score, ties half
        return float(np.sum(above * np.diff(false, prepend=0)) / (true[-1] * false[-1]))

    point = Estimate("AUROC", value, math.nan, math.nan, level, *sizes)
    found = percentile(point, metric, data.labels, clusters, data.order, draws=draws, seed=seed)
    if found.note != AGREE:
        return found
    of = clusters[data.order]
    pairs = min(len(set(of[data.labels])), len(set(of[~data.labels])), len(set(of)) // 2)
    return _bounded(found, max(pairs, 1), "pairs of clusters")


def delong(scores_a: Any, scores_b: Any, labels: Any, *, level: float = 0.95) -> Delong:
    """Compares two detectors on the same examples by their areas under the ROC curve.

    The difference has DeLong's variance and a normal interval, cut to [-1, 1]. Where that variance
    is 0 (two perfect detectors, for example) or undefined (one example of a class), interval and
    p-value are Hoeffding's, from `min(n_positive, n_negative)` disjoint pairs, and the status of
    the difference is "bounded".

    Args:
      scores_a, scores_b: `[n]` each, higher is more positive.
      labels: `[n]`, booleans or 0 and 1.
      level: nominal coverage.

    Returns:
      Delong; the covariance is NaN with one example of a class.

    Raises:
      ValueError: as `auroc`.
    """
    level = check_level(level, "delong")
    a = scored(scores_a, labels, "delong: scores_a")
    b = scored(scores_b, labels, "delong: scores_b")
    of_a, of_b = _components(a), _components(b)
    # back to one order of examples for both: they are paired
    joint = [
        np.stack([_unsorted(a, of_a, positive), _unsorted(b, of_b, positive)])
        for positive in (True, False)
    ]
    joint = [c[:, np.lexsort(c)] for c in joint]  # the order in which examples came decides nothing
    covariance = sum(_covariance(c, d) for c, d in zip(joint, (a.n_negative, a.n_positive)))
    assert isinstance(covariance, np.ndarray)
    areas = _delong_interval(a, of_a, level), _delong_interval(b, of_b, level)
    gap = (int(of_a[0].sum()) - int(of_b[0].sum())) / (2 * a.n_positive * a.n_negative)
    nan = math.nan
    point = Estimate("AUROC difference", gap, nan, nan, level, a.n_positive, a.n_negative)
    if min(a.n_positive, a.n_negative) < 2 or all(np.ptp(c[0] - c[1]) == 0 for c in joint):
        m = min(a.n_positive, a.n_negative)
        half = hoeffding(2.0, m, level)
        status: Status = "bounded"
        p_value = min(1.0, 2 * math.exp(-m * gap**2 / 2))
        point = replace(point, status=status, note=f"Hoeffding's bound on {m} independent pairs")
    else:
        deviation = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
        half = _z(level) * deviation
        p_value = math.erfc(abs(gap) / deviation / math.sqrt(2))
    difference = replace(point, low=max(-1.0, gap - half), high=min(1.0, gap + half))
    return Delong(*areas, difference, covariance, p_value)


def _components(data: Scored) -> tuple[np.ndarray, np.ndarray]:
    """Twice the number of examples of the other class that each beats, ties one.

    Integers: `[n_positive]` for the positives and `[n_negative]` for the negatives, which are
    beaten by as many positives.
    """
    positive, negative = data.scores[data.labels], data.scores[~data.labels]  # both sorted
    sides = ("left", "right")
    below = sum(np.searchsorted(negative, positive, side) for side in sides)
    above = sum(len(positive) - np.searchsorted(positive, negative, side) for side in sides)
    return np.asarray(below), np.asarray(above)


def _unsorted(data: Scored, parts: tuple[np.ndarray, np.ndarray], positive: bool) -> np.ndarray:
    chosen = data.labels == positive
    return parts[0 if positive else 1][np.argsort(data.order[chosen])]


def _area(parts: tuple[np.ndarray, np.ndarray]) -> float:
    return int(parts[0].sum()) / (2 * len(parts[0]) * len(parts[1]))


def _covariance(components: np.ndarray, others: int) -> np.ndarray:
    """This class's part of the covariance of the areas; `components` is `[areas, n]`."""
    n = components.shape[1]
    if n < 2:
        return np.full((len(components),) * 2, np.nan)
    share = components / (2 * others)
    left = share - share.mean(axis=1, keepdims=True)
    return left @ left.T / (n - 1) / n


def _delong_interval(data: Scored, parts: tuple[np.ndarray, np.ndarray], level: float) -> Estimate:
    sizes = data.n_positive, data.n_negative
    value = _area(parts)
    found = Estimate("AUROC", value, math.nan, math.nan, level, *sizes)
    if min(sizes) < 2 or all(np.ptp(part) == 0 for part in parts):
        return _bounded(found, min(sizes), "independent pairs")
    variance = sum(float(_covariance(p[None], n)[0, 0]) for p, n in zip(parts, sizes[::-1]))
    logit = math.log(value / (1 - value))
    half = _z(level) * math.sqrt(variance) / (value * (1 - value))  # the delta method
    return replace(found, low=_expit(logit - half), high=_expit(logit + half))


def _bounded(found: Estimate, m: int, of: str) -> Estimate:
    if found.value in (0, 1):
        low, high = clopper_pearson(found.value, m, found.level)
        note = f"perfectly separated: the bound of {m} {of}"
    else:
        half = hoeffding(1.0, m, found.level)
        low, high = max(0.0, found.value - half), min(1.0, found.value + half)
        note = f"no variance to go by: Hoeffding's bound on {m} {of}"
    return replace(found, low=low, high=high, status="bounded", note=note)


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _z(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri((1 + level) / 2))
