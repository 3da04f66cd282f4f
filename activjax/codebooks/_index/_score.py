"""How well a code and a label go together, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64


@dataclass(frozen=True)
class Score:
    """Counts of tokens, and what follows from them; NaN where there is nothing to divide by.

    Intervals are Wilson's (1927), which take tokens for independent. Tokens of one example are
    not: with few `examples` they are too narrow. F1 is a function of the share of tokens with both
    among those with either, and has that share's interval; lift has precision's, divided by the
    base rate.

    Attributes:
      precision: share of the tokens with the code that have the label.
      recall: share of the tokens with the label that have the code.
      f1: their harmonic mean.
      lift: precision as a multiple of the base rate.
      precision_interval, recall_interval, f1_interval, lift_interval: (low, high).
      both, with_code, labelled, tokens: tokens with code and label, with the code, with the label,
        and all.
      examples: distinct examples that have a token with both.
    """

    precision: float
    recall: float
    f1: float
    lift: float
    precision_interval: tuple[float, float]
    recall_interval: tuple[float, float]
    f1_interval: tuple[float, float]
    lift_interval: tuple[float, float]
    both: int
    with_code: int
    labelled: int
    tokens: int
    examples: int


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

    if not 0 < level < 1:
        raise ValueError(f"wilson: level is {level}, expected a number in (0, 1)")
    z = ndtri((1 + level) / 2)
    hits, n = np.asarray(hits, np.float64), np.asarray(n, np.float64)
    share = ratio(hits, n)
    centre = share + ratio(z * z, 2 * n)
    half = z * np.sqrt(ratio(share * (1 - share), n) + ratio(z * z, 4 * n * n))
    width = 1 + ratio(z * z, n)
    low = np.where(hits == 0, 0.0, (centre - half) / width)  # not the rounding of a zero
    high = np.where(hits == n, 1.0, (centre + half) / width)
    return np.where(np.isnan(share)[..., None], np.nan, np.stack([low, high], -1))


def score(
    both: int, with_code: int, labelled: int, tokens: int, examples: int, level: float
) -> Score:
    """The score that follows from the counts."""
    precision, recall = wilson(both, with_code, level), wilson(both, labelled, level)
    either = wilson(both, with_code + labelled - both, level)
    rate = float(ratio(labelled, tokens))
    value = float(ratio(both, with_code))
    return Score(
        value,
        float(ratio(both, labelled)),
        float(ratio(2 * both, with_code + labelled)),
        float(ratio(value, rate)),
        _pair(precision),
        _pair(recall),
        _pair(2 * either / (1 + either)),
        _pair(ratio(precision, rate)),
        int(both),
        int(with_code),
        int(labelled),
        int(tokens),
        int(examples),
    )


def ratio(a: Any, b: Any) -> np.ndarray:
    """`a / b`, NaN where `b` is 0."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.divide(a, b, out=np.full(np.broadcast_shapes(a.shape, b.shape), np.nan), where=b != 0)


def _pair(interval: np.ndarray) -> tuple[float, float]:
    return float(interval[0]), float(interval[1])
