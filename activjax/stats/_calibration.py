"""How far probabilities are from the frequencies they promise.

On the host, in float64: this reports, it is not traced.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from activjax.stats._bootstrap import replicates
from activjax.stats._estimate import Estimate, check_level
from activjax.stats._scored import binary, grouped, real

_SUM_ERROR = 0.02  # rows of bfloat16 probabilities add up to 1 within a few 2^-8


def ece(
    probabilities: Any,
    labels: Any,
    bins: int = 15,
    *,
    kind: Literal["width", "mass"] = "width",
    groups: Any = None,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Expected calibration error: the mean gap between probability and frequency, by bins.

    `sum_b n_b / n |mean probability in b - mean outcome in b|` (Naeini, Cooper and Hauskrecht
    2015; Guo, Pleiss, Sun and Weinberger 2017, equation 3). It is biased upwards: noise in a bin
    counts as a gap, so a perfectly calibrated predictor shows more than 0; the note says about how
    much at this `n` (`sum_b sqrt(2 / pi sum_{i in b} p_i (1 - p_i)) / n`).

    The interval follows from the triangle inequality: the true value, for these bins, is no
    farther from the estimate than the sum of the bins' absolute errors, whose quantile
    `(1 + level) / 2` is bootstrapped. It covers too often rather than too seldom, and `low > 0`
    means that calibration is rejected. The usual percentile interval is not used: resampling
    adds the bias a second time, and for a calibrated predictor it never covers.

    Args:
      probabilities: `[n]`, of the positive class; or `[n, classes]`, of which the largest of a row
        (of equals the first) is the confidence, and the outcome whether that class is right.
      labels: `[n]`, booleans or 0 and 1; or classes `0 .. classes - 1`.
      bins: how many.
      kind: "width": bins `[0, 1 / bins]`, then `((b - 1) / bins, b / bins]`, closed on the right
        as in Guo et al.; "mass": of as equal numbers of examples as ties allow, equal
        probabilities always in the same bin. Resamples keep the sample's bins.
      groups: `[n]`, clusters to resample whole; examples, of all outcomes together, if left out.
      draws: resamples.
      seed: of the resamples.
      level: coverage, at least.

    Returns:
      Estimate; `n_positive` counts positive labels or right predictions. "unresolved" (NaN) with
      fewer examples than bins. If no resample differs, as when every probability is 0 or 1 and
      right, the status is "bounded": except with probability `(1 - level) / 2`, at most a share
      `u = 1 - ((1 - level) / 2)^(1 / n)` of all examples can be of another kind, and those move
      the value by at most `(1 + value) u`.

    Raises:
      ValueError: wrong shapes, no examples, a NaN, probabilities outside [0, 1] or rows that do
        not add up to 1, labels out of range, an unknown `kind`, or `bins`, `draws` or `level` out
        of range.
    """
    if kind not in ("width", "mass"):
        raise ValueError(f"ece: kind is {kind!r}, expected 'width' or 'mass'")
    if bins < 1:
        raise ValueError(f"ece: bins is {bins}, expected at least 1")
    level = check_level(level, "ece")
    confidence, outcome = _outcomes(probabilities, labels)
    n = len(outcome)
    clusters = grouped(groups, n, "ece")
    order = np.lexsort((confidence, outcome))  # the order in which examples came decides nothing
    confidence, outcome = confidence[order], outcome[order]
    sizes = int(outcome.sum()), int(n - outcome.sum())
    found = Estimate("ECE", math.nan, math.nan, math.nan, level, *sizes)
    if n < bins:
        note = f"needs at least {bins} examples, one for each bin"
        return replace(found, status="unresolved", note=note)

    where = _bins(confidence, bins, kind)
    gap = confidence - outcome
    sums = np.bincount(where, gap, bins) / n
    value = float(np.abs(sums).sum())
    variance = np.bincount(where, confidence * (1 - confidence), bins)
    noise = float(np.sqrt(2 / math.pi * variance).sum()) / n
    found = replace(found, value=value, note=f"about {noise:.2g} if calibrated")

    def apart(weights: np.ndarray) -> float:
        return float(np.abs(np.bincount(where, weights * gap, bins) / weights.sum() - sums).sum())

    errors, units = replicates(
        apart, None, clusters, order, draws=draws, seed=seed, name=found.name
    )
    half = float(np.quantile(errors, (1 + level) / 2))
    if clusters is not None and units < 2:
        note = "one cluster: nothing to resample, give at least 2 and better 10"
        return replace(found, status="no interval", note=note)
    if half <= n * np.finfo(np.float64).eps:  # rounding only
        half = (1 + value) * (1 - ((1 - level) / 2) ** (1 / units))
        found = replace(found, status="bounded", note="no resample differs: a bound on the unseen")
    return replace(found, low=max(0.0, value - half), high=min(1.0, value + half))


def _outcomes(probabilities: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Confidences and whether what they promise happened, float64 `[n]` both."""
    p = real(probabilities, "ece: probabilities")
    if p.ndim not in (1, 2) or 0 in p.shape:
        raise ValueError(f"ece: probabilities have shape {p.shape}, expected [n] or [n, classes]")
    if p.min() < 0 or p.max() > 1:
        at = int(np.argmax(((p < 0) | (p > 1)).reshape(len(p), -1).any(axis=1)))
        raise ValueError(
            f"ece: probabilities of example {at} are {p[at]}, expected numbers in [0, 1]; pass "
            "logits through a sigmoid or softmax"
        )
    y = np.asarray(labels)
    if y.shape != p.shape[:1]:
        raise ValueError(f"ece: labels have shape {y.shape}, expected [{len(p)}]")
    if p.ndim == 1:
        return p, binary(y, "ece: labels").astype(np.float64)
    total = p.sum(axis=1)
    if np.abs(total - 1).max() > _SUM_ERROR:
        at = int(np.abs(total - 1).argmax())
        raise ValueError(
            f"ece: probabilities of example {at} add up to {total[at]:g}, expected 1; if they are "
            "no distribution over classes, give those of one class at a time, [n]"
        )
    if y.dtype.kind not in "iub" or y.min() < 0 or y.max() >= p.shape[1]:
        raise ValueError(
            f"ece: labels run from {y.min()} to {y.max()} with dtype {y.dtype}, expected integers "
            f"0 .. {p.shape[1] - 1}"
        )
    return p.max(axis=1), (p.argmax(axis=1) == y).astype(np.float64)


def _bins(confidence: np.ndarray, bins: int, kind: str) -> np.ndarray:
    if kind == "width":
        return np.searchsorted(np.arange(1, bins) / bins, confidence, side="left")
    rank = np.sort(confidence)
    twice = np.searchsorted(rank, confidence, "left") + np.searchsorted(rank, confidence, "right")
    return bins * twice // (2 * len(rank))  # by the middle of each tie's ranks
