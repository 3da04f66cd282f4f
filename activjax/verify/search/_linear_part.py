"""Parts of the input in which the network is linear: a linear program decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from activjax.fit import linear_program
from activjax.program.networks import Affine, ExactNetwork
from activjax.verify.search._spec import Boxes

#: Errors of forms are enlarged by this: they are themselves computed with rounding.
SLACK = 2.0
#: More than what products below the smallest float64 can lose.
TINY = 1e-250


@dataclass(frozen=True)
class Decided:
    """What a linear program says of a part.

    Attributes:
      refuted: whether no input of it is unsafe, rounding included.
      point: else an input that is unsafe, or nearest to it, up to rounding.
    """

    refuted: bool
    point: np.ndarray | None


def decide(network: ExactNetwork, clauses: Any, boxes: Boxes, i: int) -> Decided:
    """Decides box `i`, in float64, on the network whose constants are those of the proof.

    Args:
      network: exact, with units in the order of the search.
      clauses: of the case, for exact weights.
      boxes: where no unit is undecided.
      i: which of them.
    """
    low, high = boxes.low[i].astype(np.float64), boxes.high[i].astype(np.float64)
    signs = boxes.signs[i]
    pattern = np.where(signs != 0, signs, np.where(boxes.units_low[i] >= 0, 1, -1))
    with np.errstate(all="ignore"):
        outputs, units, lost = _forms(network, pattern, low, high)
    if not all(np.isfinite(a).all() for a in (outputs, units, lost)):
        return Decided(False, None)
    forms, mine = (outputs, units), np.flatnonzero(signs)
    points = []
    for clause in clauses:
        refuted, point = _refuted(forms, lost, clause, signs, mine, low, high)
        if not refuted:
            points.append(point)
    return Decided(not points, next((p for p in points if p is not None), None))


def _refuted(
    forms: tuple[np.ndarray, np.ndarray],
    lost: np.ndarray,
    clause: Any,
    signs: np.ndarray,
    mine: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> tuple[bool, np.ndarray | None]:
    """The least `t` with `weights @ y - bounds <= t` where the signs hold; refuted if above 0."""
    outputs, units = forms
    d, n_out = len(low), outputs.shape[0]
    weights = np.array([[float(w) for w in row] for row in clause.weights]).reshape(-1, n_out)
    sides = np.array([float(b) for b in clause.bounds])
    objective = weights @ outputs  # [rows, 1 + d]
    objective[:, 0] -= sides
    error_out = np.abs(weights) @ lost[:n_out] + 1e-15 * (np.abs(sides) + 1)
    constraint = -signs[mine, None] * units[mine]
    error_sign = lost[n_out:][mine]
    size = np.concatenate([[1.0], np.maximum(abs(low), abs(high))])
    # Often the box alone will do.
    mid, rad = 0.5 * (low + high), 0.5 * (high - low)
    least = objective[:, 0] + objective[:, 1:] @ mid - np.abs(objective[:, 1:]) @ rad
    many = 64 + d + len(mine) + len(weights)
    here = many * np.finfo(np.float64).eps * (np.abs(objective) @ size)
    if (least > SLACK * error_out + here).any():
        return True, None
    scale = 1 + np.abs(constraint).sum(1, keepdims=True)
    constraint, error_sign = constraint / scale, error_sign / scale[:, 0]
    free = not len(weights)
    # With `t` the constraints can always be met where the signs can.
    rows = np.vstack(
        [
            np.hstack([constraint[:, 1:], np.zeros((len(mine), 1))]),
            np.hstack([objective[:, 1:], -np.ones((len(weights), 1))]),
        ]
    )
    right = -np.concatenate([constraint[:, 0], objective[:, 0]])
    most = 1 + (np.abs(objective) @ size).sum()
    found = linear_program(
        np.concatenate([np.zeros(d), [0.0 if free else 1.0]]), rows, right,
        lower=np.concatenate([low, [0.0 if free else -most]]),
        upper=np.concatenate([high, [0.0 if free else most]]),
    )  # fmt: skip
    errors = SLACK * np.concatenate([error_sign, error_out])
    span = np.concatenate([np.maximum(abs(low), abs(high)), [most]])

    def lost_by(multipliers: np.ndarray) -> float:
        """What rounding in the forms, and in the bound that multipliers prove, can change."""
        size = np.abs(rows).T @ multipliers @ span + np.abs(right) @ multipliers
        return float(multipliers @ errors + many * np.finfo(np.float64).eps * size)

    if found.status == "infeasible" and found.certificate is not None:
        return found.certificate.violation > lost_by(found.certificate.ub), None
    if found.status != "optimal" or found.x is None:
        return False, None if found.x is None else found.x[:d]
    if not free:
        assert found.dual_ub is not None
        if found.dual_value > lost_by(found.dual_ub):
            return True, None
    inside = _inside(rows[:, :d], right, low, high)
    return False, found.x[:d] if inside is None else inside


def _inside(
    rows: np.ndarray, right: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray | None:
    """The point farthest from all borders: an optimum lies on some, where rounding decides."""
    most = 1 + (np.abs(rows) @ np.maximum(abs(low), abs(high)) + np.abs(right)).sum()
    found = linear_program(
        np.append(np.zeros(len(low)), 1.0),
        np.hstack([rows, -np.ones((len(rows), 1))]),
        right,
        lower=np.append(low, -most),
        upper=np.append(high, most),
    )
    return None if found.x is None or not found.x[-1] < 0 else found.x[:-1]


def _forms(
    network: ExactNetwork, pattern: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Constants and slopes of outputs and operands under a pattern, and their errors over a box.

    A form is a sum over paths of products of at most `n` factors and as many additions, so it is
    off by `gamma(terms of all operations)` of the sum of absolute values: the magnitudes, where
    rectifiers hand on all that reaches them.
    """
    d = network.size
    values = {0: np.concatenate([np.zeros((1, d)), np.eye(d)])}
    sizes = {0: np.maximum(abs(low), abs(high))[None]}
    units, spans, terms, at = [np.zeros((1 + d, 0))], [np.zeros((1, 0))], 0, 0

    def apply(affine: Affine) -> tuple[np.ndarray, np.ndarray]:
        z = affine.linear(values) if affine.matrices else np.zeros((1 + d, affine.size))
        z[0] += affine.bias
        over = affine.map(np.abs)
        size = over.linear(sizes) if affine.matrices else np.zeros((1, affine.size))
        return z, size + over.bias

    for k, step in enumerate(network.steps):
        z, size = apply(step.affine)
        if step.divisor is not None:
            z, size = z / step.divisor, size / np.abs(step.divisor)
        terms += sum(step.affine.sources.values()) + len(step.affine.matrices) + 3
        if step.rectifies:
            units.append(z)
            spans.append(size)
            z = np.where(pattern[at : at + step.size] > 0, z, 0.0)
            at += step.size
        values[k + 1], sizes[k + 1] = z, size
    outputs, size = apply(network.out)
    terms += sum(network.out.sources.values()) + len(network.out.matrices) + 3
    # `weights @ outputs` is a sum as well.
    terms += network.out.size
    eps = float(np.finfo(np.float64).eps)
    lost = eps * terms * np.concatenate([size, *spans], 1)[0] + TINY
    return outputs.T, np.concatenate(units, 1).T, lost
