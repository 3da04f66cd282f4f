"""The best weights of a shallow ReLU network whose activation patterns are given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from activjax.zonotope import _given
from activjax.zonotope._interior import ENOUGH, Solution, interior_point
from activjax.zonotope._program import Loss, Program
from activjax.zonotope._repair import repaired
from activjax.zonotope._scaled import Scaled, float64, scaled

_MISSED = 1e-10  # relative violation of a constraint that still counts as rounding
_NOTHING = 1e-8  # outputs of a unit that may be put to 0, over the targets' root mean square
_MEMORY = 1 << 28  # bytes of matrices at a time


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Fit:
    """The solution of a convex program over activation patterns, in NumPy float64.

    Where many problems were solved at once, every field has a leading axis `b`.

    Attributes:
        weights: `[m, d]`, hidden weights.
        output_signs: `[m]`, output weights, -1 or 1.
        loss: the sum over examples of the losses of the ReLU network with these weights.
        objective: with the penalty, `weight_decay / 2 |weights|^2`.
        gap: how far `objective` is above a lower bound on what any feasible weights reach; 0 for
            the optimum. Without weight decay the bound is proved, up to rounding, for weights up to
            four times as long as the longest here; among longer ones no gain is larger than the
            gap times their distance over that radius.
        relative_gap: `gap` over the objective of the function 0.
        multipliers: `[m, n]`, at least 0, of `(2 D_j[i] - 1) x_i . w_j >= 0`. With `dual` they
            prove the gap.
        dual: `[n]`, the multipliers of the outputs' definition: the slopes of the losses.
        tight: `[m, n]`, constraints at 0 whose multipliers are positive, as decided by which of
            the two is larger in the program's own units.
        violation: the most by which weights miss a constraint, over `|x_i| |w_j|`.
        iterations: Newton steps.
        converged: `relative_gap` is at most 1e-6 and `violation` at most 1e-10.
    """

    weights: np.ndarray
    output_signs: np.ndarray
    loss: np.ndarray
    objective: np.ndarray
    gap: np.ndarray
    relative_gap: np.ndarray
    multipliers: np.ndarray
    dual: np.ndarray
    tight: np.ndarray
    violation: np.ndarray
    iterations: np.ndarray
    converged: np.ndarray

    def predict(self, X: Any) -> np.ndarray:
        """The network's outputs: `sum_j output_signs[j] relu(x . weights[j])`.

        Args:
            X: `[k, d]`.

        Returns:
            `[k]` float64, for many fits `[b, k]`.
        """
        X = np.asarray(X, np.float64)
        d = self.weights.shape[-1]
        if X.ndim != 2 or X.shape[1] != d:
            raise ValueError(f"predict: X has shape {X.shape}, expected [k, {d}] as in the fit")
        return network(X, self.weights, self.output_signs)


def solve(
    X: Any,
    y: Any,
    patterns: Any,
    output_signs: Any,
    *,
    loss: Loss = "squared",
    weight_decay: float = 0.0,
) -> Fit:
    """Trains a shallow ReLU network whose units keep to given activation patterns.

    Minimises over hidden weights `w_j`, `j < m`, the convex function

        sum_i loss(sum_j v_j D_j[i] x_i . w_j, y_i) + weight_decay / 2 sum_j |w_j|^2

    subject to `(2 D_j[i] - 1) x_i . w_j >= 0`: where these hold, unit j of the network
    `sum_j v_j relu(x . w_j)` is active on the examples in `D_j` only (Matena and Raffel, "A
    Combinatorial Perspective on the Optimization of Shallow ReLU Networks", 2022). A zero row of
    `X` constrains nothing. Patterns should be vertices of the zonotope; one that no weights have
    is allowed: those in the closure of its cone then count (perhaps only 0).

    Solved in float64 on JAX's default device, whether or not 64-bit mode is on, by an
    interior-point method in coordinates where the columns of `X` are orthogonal, so that scales of
    the data, of its columns and of the targets hardly matter. One compilation for each shape, loss
    and number of problems.

    Args:
        X: `[n, d]`; constant features are not added.
        y: `[n]`; labels -1 and 1 for the logistic loss. `[b, n]` for many problems at once.
        patterns: Codes of m patterns whose units are the examples, or booleans `[m, n]`;
            `[b, m, ...]` for many.
        output_signs: `[m]` of -1 and 1; `[b, m]` for many.
        loss: "squared", `(f - y)^2`, or "logistic", `log(1 + exp(-y f))`.
        weight_decay: at least 0.

    Returns:
        Fit. Weights are inside their cones, or on the boundary up to rounding where a cone has no
        interior. Of the logistic loss the infimum need not be attained: weights then grow until
        the gap is small.

    Raises:
        ValueError: shapes that do not fit, no examples or units, NaN or infinite entries, signs or
            labels other than -1 and 1, an unknown loss.
    """
    X = _given.examples(X, "solve: X")
    y = _given.targets(y, len(X), loss, "solve: y")
    active = _given.bits(patterns, len(X), "solve: patterns")
    signs = _given.signs(output_signs, active.shape[-2], "solve: output_signs")
    weight_decay = _given.at_least_zero(weight_decay, "solve: weight_decay")
    batch = _given.one_batch(y=y.shape[:-1], patterns=active.shape[:-2],
                             output_signs=signs.shape[:-1])  # fmt: skip
    y, active, signs = (
        np.broadcast_to(a, (*batch, *a.shape[-k:])) for a, k in ((y, 1), (active, 2), (signs, 1))
    )
    with float64():
        s = scaled(X, y, loss, weight_decay)
        programs = s.program(active, signs)
        found = _solve(programs, batch)
        fit = finished(s, active, signs, found)
        if fit.converged.all():
            return fit
        found = _repaired(programs, batch, found, ~fit.converged)
    return finished(s, active, signs, found)


def finished(s: Scaled, active: np.ndarray, signs: np.ndarray, found: Solution) -> Fit:
    """The fit of solutions whose constraints are the examples', all fields as NumPy arrays."""
    at_zero = s.at_zero > 0
    # Nothing to fit: 0 is the solution, which the iteration only comes near.
    w = np.where(at_zero[..., None, None], found.weights, 0.0)
    weights = s.weights(w)
    value = (2.0 * active - 1) * (weights @ s.X.T)
    sizes = np.sqrt(np.sum(s.X**2, axis=1)) * np.sqrt(np.sum(weights**2, axis=-1))[..., None]
    missed = np.max(np.where(sizes > 0, -value / np.where(sizes > 0, sizes, 1.0), 0.0), axis=-1)
    # A unit that came to 0: what is left of it need not be in its cone, and does not count.
    reach = np.max(np.abs(value), axis=-1)
    noise = (missed > _MISSED) & (reach <= _NOTHING * s.scale[..., None])
    weights = np.where(noise[..., None], 0.0, weights)
    violation = np.max(np.where(noise, 0.0, missed), axis=-1, initial=0.0)

    outputs = network(s.X, weights, signs)
    if s.loss == "squared":
        loss = np.sum((outputs - s.y) ** 2, axis=-1)
    else:
        loss = np.sum(np.logaddexp(0.0, -s.y * outputs), axis=-1)
    objective = loss + 0.5 * s.weight_decay * np.sum(weights**2, axis=(-2, -1))
    gap = np.maximum(objective - s.unit * np.where(at_zero, found.bound, 0.0), 0.0)
    relative_gap = gap / np.where(at_zero, s.at_zero, 1.0)
    size = s.norms / (len(s.X) * s.scale[..., None])
    multipliers = found.multipliers / np.where(s.norms > 0, size, 1.0)[..., None, :]
    return Fit(
        weights,
        np.array(signs),
        loss,
        objective,
        gap,
        relative_gap,
        np.where(at_zero[..., None, None], multipliers, 0.0),
        np.where(at_zero[..., None], len(s.X) * s.scale[..., None] * found.dual, 0.0),
        (found.multipliers > found.slack) & at_zero[..., None, None],
        violation,
        np.asarray(found.steps),
        (relative_gap <= ENOUGH) & (violation <= _MISSED),
    )


def network(X: np.ndarray, weights: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """`sum_j signs[j] relu(x . weights[j])`, `[*b, n]`."""
    hidden = np.maximum(weights @ X.T, 0.0)
    return np.sum(signs[..., None] * hidden, axis=-2)


def _solve(programs: Program, batch: tuple[int, ...]) -> Solution:
    """The solutions in NumPy, as many at a time as memory allows."""
    if not batch:
        return jax.tree.map(np.asarray, _one(programs))
    m, r = programs.gates.shape[-2], programs.features.shape[-1]
    at_once = max(1, min(batch[0], _MEMORY // (8 * (m * r) ** 2)))
    parts = []
    for start in range(0, batch[0], at_once):
        # The last part is filled up with its own last problem: one compilation.
        index = np.minimum(np.arange(start, start + at_once), batch[0] - 1)
        parts.append(jax.tree.map(np.asarray, _many(_pick(programs, index))))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: batch[0]], *parts)


def _repaired(
    programs: Program, batch: tuple[int, ...], found: Solution, which: np.ndarray
) -> Solution:
    if not batch:
        return repaired(programs, found)
    leaves = Solution(*(np.array(leaf) for leaf in found))
    for i in np.flatnonzero(which):
        better = repaired(_pick(programs, i), Solution(*(leaf[i] for leaf in found)))
        for old, new in zip(leaves, better, strict=True):
            old[i] = new
    return leaves


def _pick(p: Program, index: Any) -> Program:
    sides, gates, y = p.sides[index], p.gates[index], p.targets[index]
    return Program(p.features, p.facets, sides, gates, y, p.penalty, p.loss)


_one = jax.jit(interior_point)


@partial(jax.jit)
def _many(p: Program) -> Solution:
    axes = Program(None, None, 0, 0, 0, None, p.loss)  # type: ignore[arg-type]
    return jax.vmap(interior_point, in_axes=(axes,))(p)
