"""The difference of a number on two sides, with its interval."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from activjax.runs.result import Row

#: A seed and its values on both sides.
Trial = tuple[int, float, float]


@dataclasses.dataclass(frozen=True)
class Difference:
    """A number on both sides.

    Attributes:
        name, unit, where: as in `Row`.
        a, b: the values; of sweeps, means over the pairs.
        difference: `b - a`.
        low, high: its 95 % interval; None without one.
        n: trials behind it (of sweeps: seeds that both have), the smaller number of both sides.
    """

    name: str
    unit: str
    where: Mapping[str, Any]
    a: float
    b: float
    difference: float
    low: float | None
    high: float | None
    n: int

    @property
    def same(self) -> bool:
        """Whether both sides have the same value, exactly."""
        return self.difference == 0 or _same(self.a, self.b)


def independent(a: Row, b: Row) -> Difference:
    """The difference of two rows; intervals that both have make its own.

    By Zou & Donner (2008), Statistics in Medicine 27: the distances of the values from the ends
    that the difference meets are added as squares.
    """
    difference, low, high = b.value - a.value, None, None
    if None not in (a.low, a.high, b.low, b.high):
        down = math.hypot(b.value - b.low, a.high - a.value)  # type: ignore[operator]
        up = math.hypot(b.high - b.value, a.value - a.low)  # type: ignore[operator]
        low, high = difference - down, difference + up
    where = {k: v for k, v in a.where.items() if b.where.get(k) == v}
    return Difference(a.name, a.unit, where, a.value, b.value, difference, low, high,
                      min(a.n, b.n))  # fmt: skip


def over_seeds(
    name: str, unit: str, where: Mapping[str, Any], trials: Iterable[Trial]
) -> Difference:
    """The mean paired difference over seeds; several trials of one seed count as their mean.

    Args:
        name, unit, where: as in `Difference`.
        trials: at least one.
    """
    seeds: dict[int, list[tuple[float, float]]] = {}
    for seed, a, b in trials:
        seeds.setdefault(seed, []).append((a, b))
    means = [[_mean([pair[i] for pair in pairs]) for i in (0, 1)] for pairs in seeds.values()]
    paired = Row.over(name, [b - a for a, b in means])
    a, b = (_mean([pair[i] for pair in means]) for i in (0, 1))
    return Difference(name, unit, where, a, b, paired.value, paired.low, paired.high, paired.n)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))
