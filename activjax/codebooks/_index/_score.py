"""How well a code and a label go together, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from activjax.stats import wilson
from activjax.stats._intervals import ratio


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


def _pair(interval: np.ndarray) -> tuple[float, float]:
    return float(interval[0]), float(interval[1])
