"""A number with its interval, and what is known about it when the sample is too small."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

Status = Literal["ok", "bounded", "no interval", "unresolved"]


@dataclass(frozen=True)
class Estimate:
    """An estimate and its interval; printing it gives one line to read.

    Attributes:
      name: what was estimated, as it is printed.
      value: the estimate; NaN where `status` is "unresolved".
      low, high: ends of the interval; NaN where there is none. A percentile interval of a biased
        metric may leave `value` outside.
      level: nominal coverage of the interval.
      n_positive, n_negative: examples of each class.
      status: "ok"; "bounded" (the usual interval would have width 0 or is undefined, as under
        perfect separation: a conservative bound is given instead); "no interval" (the value
        stands, `low` and `high` are NaN); "unresolved" (the sample is too small for any value).
      note: why the status is not "ok", and what would help.
    """

    name: str
    value: float
    low: float
    high: float
    level: float
    n_positive: int
    n_negative: int
    status: Status = "ok"
    note: str = ""

    def __str__(self) -> str:
        sizes = f"{self.n_positive} positive, {self.n_negative} negative"
        value = "unresolved" if math.isnan(self.value) else f"{self.value:.4g}"
        if not (math.isnan(self.low) or math.isnan(self.high)):
            value += f" [{self.low:.4g}, {self.high:.4g}]"
            sizes = f"{100 * self.level:g} %; {sizes}"
        why = f"; {self.note}" if self.note else ""
        return f"{self.name} {value} ({sizes}{why})"

    def widened(self, low: float, high: float) -> Estimate:
        """The same with an interval that also covers `low .. high`."""
        return replace(self, low=min(self.low, low), high=max(self.high, high))


def check_level(level: float, what: str) -> float:
    """`level` as a float in (0, 1)."""
    if not 0 < level < 1:
        raise ValueError(f"{what}: level is {level}, expected a number in (0, 1)")
    return float(level)


def clopper_pearson(share: float, n: float, level: float) -> tuple[float, float]:
    """The exact interval of a share of `n` independent trials (Clopper and Pearson 1934)."""
    from scipy.special import betaincinv

    hits, tail = share * n, (1 - level) / 2
    low = 0.0 if hits <= 0 else float(betaincinv(hits, n - hits + 1, tail))
    high = 1.0 if hits >= n else float(betaincinv(hits + 1, n - hits, 1 - tail))
    return low, high


def hoeffding(width: float, n: int, level: float) -> float:
    """Half-width of an interval for a mean of `n` values, each in a range of length `width`.

    It holds for a two-sample U-statistic with `n` the smaller sample's size (Hoeffding,
    "Probability inequalities for sums of bounded random variables", 1963, section 5b).
    """
    return width * math.sqrt(math.log(2 / (1 - level)) / (2 * n))
