"""Bootstrap intervals: by examples within each class, or by whole clusters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from activjax.stats._estimate import Estimate, check_level
from activjax.stats._scored import binary, grouped, real

AGREE = "all resamples agree: the bootstrap cannot tell the spread"


def bootstrap(
    metric: Callable[[np.ndarray, np.ndarray], float],
    scores: Any,
    labels: Any,
    *,
    groups: Any = None,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    name: str | None = None,
) -> Estimate:
    """The percentile interval of any metric (Efron and Tibshirani 1993, chapter 13).

    Without `groups`, positives and negatives are resampled apart, so that every draw has as many
    of each as the sample. With `groups`, whole clusters are resampled: give the document, image or
    model that each example comes from where examples of one are alike, else the interval is too
    narrow. Fewer than about ten clusters give too narrow an interval in any case.

    `auroc`, `auprc`, `tpr_at_fpr`, `fpr_at_tpr` and `ece` have intervals of their own, bootstrapped
    faster; they take `groups` too.

    Args:
      metric: `metric(scores, labels)`, a float; called `draws + 1` times.
      scores: `[n]` or `[n, ...]`, anything that `metric` takes.
      labels: `[n]`, booleans or 0 and 1.
      groups: `[n]`, the cluster of every example; integers or strings.
      draws: how many resamples.
      seed: of the resamples. Examples are sorted first, so their order changes nothing.
      level: nominal coverage.
      name: for printing; that of `metric` if left out.

    Returns:
      Estimate. Draws with one class only, or where the metric is NaN, are left out; if they are
      more than `1 - level` of all, or there is one cluster only, the status is "no interval". If
      the draws agree to the last bit, as under perfect separation, the interval would have width
      0 and mean nothing: again "no interval".

    Raises:
      ValueError: wrong shapes, no examples, a NaN score, labels that are not binary, one class
        only, `draws < 1`, or a level outside (0, 1).
      TypeError: `metric` returns an `Estimate`, which has an interval already.
    """
    what = "bootstrap"
    x, y = real(scores, f"{what}: scores"), binary(labels, f"{what}: labels")
    if len(x) != len(y):
        raise ValueError(f"{what}: {len(x)} scores and {len(y)} labels, expected as many of each")
    if y.all() or not y.any():
        raise ValueError(f"{what}: all labels are {int(y[0])}, expected examples of both classes")
    clusters = grouped(groups, len(y), what)
    order = np.lexsort((*x.reshape(len(x), -1).T[::-1], y))
    x, y = x[order], y[order]

    def weighted(weights: np.ndarray) -> float:
        return metric(np.repeat(x, weights, axis=0), np.repeat(y, weights))

    value = metric(x, y)
    if isinstance(value, Estimate):
        raise TypeError(
            f"bootstrap: metric returned an Estimate, {value}; it has an interval already (it "
            "takes groups= too). Give a function of (scores, labels) that returns a float"
        )
    positive = int(y.sum())
    label = name or getattr(metric, "__name__", "metric")
    point = Estimate(label, float(value), np.nan, np.nan, level, positive, len(y) - positive)
    return percentile(point, weighted, y, clusters, order, draws=draws, seed=seed)


def percentile(
    point: Estimate,
    metric: Callable[[np.ndarray], float],
    labels: np.ndarray | None,
    clusters: np.ndarray | None,
    order: np.ndarray,
    *,
    draws: int,
    seed: int,
) -> Estimate:
    """`point` with its percentile interval.

    Args:
      point: the estimate from the sample itself.
      metric: from integer weights `[n]` of the ordered examples to the metric.
      labels: `[n]`, the ordered examples' classes, each resampled apart and needed in every draw;
        None to resample all together.
      clusters: `[n]`, from 0, in the order in which the examples came, or None.
      order: `[n]`, where each ordered example came from.
      draws: resamples.
      seed: of the resamples.
    """
    level = check_level(point.level, point.name)
    found, n = replicates(metric, labels, clusters, order, draws=draws, seed=seed, name=point.name)
    if clusters is not None and n < 2:
        note = "one cluster: nothing to resample, give at least 2 and better 10"
        return replace(point, status="no interval", note=note)
    good = found[~np.isnan(found)]
    if len(good) < level * draws:
        note = f"{draws - len(good)} of {draws} resamples lack a class or a value"
        return replace(point, status="no interval", note=f"{note}; more clusters would help")
    low, high = np.quantile(good, [(1 - level) / 2, (1 + level) / 2])
    if low == high:
        return replace(point, status="no interval", note=AGREE)
    return replace(point, low=float(low), high=float(high))


def replicates(
    metric: Callable[[np.ndarray], float],
    labels: np.ndarray | None,
    clusters: np.ndarray | None,
    order: np.ndarray,
    *,
    draws: int,
    seed: int,
    name: str,
) -> tuple[np.ndarray, int]:
    """The metric on every resample, NaN where it lacks a class; and how many units were drawn.

    Arguments are those of `percentile`.
    """
    if draws < 1:
        raise ValueError(f"{name}: draws is {draws}, expected at least 1")
    rng = np.random.default_rng(seed)
    n = len(order)
    units = n if clusters is None else int(clusters.max()) + 1
    if clusters is not None:
        pick = clusters[order]
    strata = [np.arange(n)]
    if clusters is None and labels is not None:
        strata = [np.flatnonzero(labels), np.flatnonzero(~labels)]
    out = np.full(draws, np.nan)
    for i in range(draws):
        if clusters is not None:
            weights = np.bincount(rng.integers(units, size=units), minlength=units)[pick]
        else:
            weights = np.zeros(n, np.int64)
            for rows in strata:
                drawn = rng.integers(len(rows), size=len(rows))
                weights[rows] = np.bincount(drawn, minlength=len(rows))
        if labels is None or (weights[labels].any() and weights[~labels].any()):
            out[i] = metric(weights)
    return out, units
