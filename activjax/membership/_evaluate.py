"""How well a score tells members from others: areas, true positives at low false positives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from activjax.stats import Estimate, auroc, bootstrap, delong, tpr_at_fpr
from activjax.stats._scored import scored

_INVERTED = (
    "NOTE: the interval of the area is below 0.5: the score is oriented the wrong way for this "
    "data; it is reported as it is"
)


@dataclass(frozen=True)
class Evaluation:
    """A score against true membership; printing it gives lines to read.

    Attributes:
      name: of the score.
      auc: the area under the ROC curve, members the positive class.
      tpr: false positive rate to the true positive rate there; "unresolved" with fewer than
        `1 / fpr` non-members.
      n_members, n_non_members: examples of each class.
    """

    name: str
    auc: Estimate
    tpr: dict[float, Estimate]
    n_members: int
    n_non_members: int

    @property
    def flagged_inverted(self) -> bool:
        """Whether the whole interval of the area is below 0.5. Nothing is turned round."""
        return self.auc.high < 0.5

    def __str__(self) -> str:
        sizes = f"{self.n_members} members, {self.n_non_members} non-members"
        lines = [f"{self.name or 'score'}: {sizes}; {100 * self.auc.level:g} % intervals"]
        for found in (self.auc, *self.tpr.values()):
            why = f"  ({found.note})" if found.note else ""
            lines.append(f"  {found.name:20s} {_interval(found)}{why}")
        if self.flagged_inverted:
            lines.append(f"  {_INVERTED}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Row:
    """One score of a comparison.

    Attributes:
      name: of the score.
      evaluation: what `evaluate` says of it.
      difference: its area less that of the baseline, paired; None for the baseline.
      p_value: two-sided, of equal areas; None for the baseline, and with groups.
    """

    name: str
    evaluation: Evaluation
    difference: Estimate | None
    p_value: float | None

    def __str__(self) -> str:
        e = self.evaluation
        parts = [f"{self.name:20s} AUROC {_interval(e.auc)}"]
        parts += [f"{found.name} {_interval(found)}" for found in e.tpr.values()]
        if self.difference is not None:
            p = "" if self.p_value is None else f" (p {self.p_value:.2g})"
            parts.append(f"difference {_interval(self.difference)}{p}")
        if e.flagged_inverted:
            parts.append("wrong way round")
        return "; ".join(parts)


def evaluate(
    member: Any,
    score: Any,
    *,
    groups: Any = None,
    fpr: Sequence[float] = (0.01, 0.001),
    level: float = 0.95,
    name: str = "",
    draws: int = 2000,
    seed: int = 0,
) -> Evaluation:
    """How well a score tells members from non-members.

    Averages hide whom an attack identifies, so the true positive rate at low false positive rates
    stands beside the area (Carlini et al., "Membership inference attacks from first principles",
    2022). Nothing is turned round, interpolated or left out.

    Args:
      member: `[n]`, booleans or 0 and 1: of examples that the score was not fitted on.
      score: `[n]`, higher is member; infinities are allowed.
      groups: `[n]`, ids of examples that are alike (`duplicates`), resampled together.
      fpr: false positive rates.
      level: of the intervals.
      name: of the score, for printing.
      draws, seed: of the bootstrap, as in `stats.tpr_at_fpr`.

    Returns:
      Evaluation.

    Raises:
      ValueError: wrong shapes, a NaN score (with its index), labels that are not binary or of one
        class, rates out of range.
    """
    options = {"groups": groups, "draws": draws, "seed": seed, "level": level}
    area = auroc(score, member, **options)
    rates = {float(rate): tpr_at_fpr(score, member, rate, **options) for rate in fpr}
    return Evaluation(name, area, rates, area.n_positive, area.n_negative)


def compare(
    member: Any,
    scores: Mapping[str, Any],
    *,
    baseline: str | None = None,
    groups: Any = None,
    fpr: Sequence[float] = (0.01, 0.001),
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[Row, ...]:
    """Several scores of the same examples, and what each adds to a baseline.

    The difference of two areas is paired, with DeLong's interval and p-value (`stats.delong`);
    with `groups` its interval is the percentile bootstrap over whole groups, without a p-value.

    Args:
      member: as in `evaluate`.
      scores: name to `[n]`.
      baseline: the name to compare the others with; no differences if left out.
      groups, fpr, level, draws, seed: as in `evaluate`.

    Returns:
      A row for each score, in order; `print(*rows, sep="\\n")` is a table.

    Raises:
      ValueError: no scores, no such baseline, or as `evaluate`.
    """
    if not scores:
        raise ValueError("compare: no scores")
    if baseline is not None and baseline not in scores:
        raise ValueError(f"compare: baseline is {baseline!r}, expected one of {', '.join(scores)}")
    rows = []
    for name, score in scores.items():
        found = evaluate(
            member, score, groups=groups, fpr=fpr, level=level, name=name, draws=draws, seed=seed
        )
        difference, p_value = None, None
        if baseline is not None and name != baseline:
            other = scores[baseline]
            if groups is None:
                paired = delong(score, other, member, level=level)
                difference, p_value = paired.difference, paired.p_value
            else:
                both = np.stack([np.asarray(score), np.asarray(other)], 1)
                difference = bootstrap(
                    _gap, both, member, groups=groups, draws=draws, seed=seed, level=level,
                    name="AUROC difference",
                )  # fmt: skip
        rows.append(Row(name, found, difference, p_value))
    return tuple(rows)


def roc(
    member: Any, score: Any
) -> tuple[Float64[np.ndarray, " points"], Float64[np.ndarray, " points"]]:
    """The points of the ROC curve: one for each threshold that the scores can tell apart.

    Args:
      member, score: as in `evaluate`.

    Returns:
      False and true positive rates, from (0, 0) to (1, 1), equal scores merged. Draw them as
      steps (`drawstyle="steps-post"`): between points there are no thresholds.

    Raises:
      ValueError: as `evaluate`.
    """
    true, false = scored(score, member, "roc").hits()
    true, false = (np.concatenate([[0.0], hits / hits[-1]]) for hits in (true, false))
    return false, true


def _gap(both: np.ndarray, member: np.ndarray) -> float:
    """The area of the first column less that of the second."""
    areas = []
    for score in both.T:
        others = np.sort(score[~member])
        sides = ("left", "right")
        below = sum(np.searchsorted(others, score[member], side).sum() for side in sides)
        areas.append(below / (2 * len(others) * member.sum()))
    return float(areas[0] - areas[1])


def _interval(found: Estimate) -> str:
    if math.isnan(found.value):
        return "unresolved"
    value = f"{found.value:.3f}"
    return value if math.isnan(found.low) else f"{value} [{found.low:.3f}, {found.high:.3f}]"
