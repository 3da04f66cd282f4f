"""`radius`: how far around a point a property can be proved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from activjax.verify._problem import Problem
from activjax.verify._property import Property
from activjax.verify.search import Budget, Verdict, prove


@dataclass(frozen=True, eq=False)
class Radius:
    """How far around a point a property holds, in the largest coordinate.

    Attributes:
      verified: the largest radius at which it was proved (0 if at none).
      refuted: the smallest one at which a counterexample was found; infinite if at none.
      verdicts: `(radius, verdict)` in the order tried.
    """

    verified: float
    refuted: float
    verdicts: tuple[tuple[float, Verdict], ...]


def radius(
    apply: Callable[[Any, Any], Any],
    params: Any,
    center: Any,
    property: Property,
    *,
    pattern: Any = None,
    largest: float = 1.0,
    domain: tuple[float, float] | None = None,
    trials: int = 8,
    budget: Budget | None = None,
) -> Radius:
    """Bisects for the largest box around a point in which a property is proved.

    Args:
      apply, params: the model.
      center: one example.
      property: what should hold.
      pattern: only inputs with this activation pattern count, as for `prove`. A box without such
        inputs (`empty_region`) proves nothing and is not counted as verified.
      largest: radius, tried first.
      domain: inputs are kept within these numbers.
      trials: how often `prove` is called.
      budget: of each call; by default 10 seconds.

    Raises:
      ValueError: a radius that is not positive, or no trials.
    """
    if not largest > 0 or trials < 1:
        raise ValueError(f"verify.radius: largest={largest}, trials={trials}; expected above 0")
    center = np.asarray(center, np.float64)
    budget = budget or Budget(seconds=10.0)
    low, high, at = 0.0, float("inf"), float(np.float32(largest))
    tried: list[tuple[float, Verdict]] = []
    for _ in range(trials):
        sides = center - at, center + at  # in float64: float32 could cut off the border
        if domain is not None:
            sides = tuple(np.clip(side, *domain) for side in sides)
        problem = Problem.from_model(apply, params, sides, property, name=f"radius {at:g}")
        verdict = prove(problem, budget=budget, pattern=pattern)
        tried.append((at, verdict))
        if verdict.status == "verified":
            low = max(low, at)
            if at >= largest:
                break
        else:
            high = min(high, at)
        at = 0.5 * (low + min(high, largest))
    bad = [r for r, v in tried if v.status == "violated"]
    return Radius(low, min(bad, default=float("inf")), tuple(tried))
