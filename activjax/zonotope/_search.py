"""Local search for the activation patterns of a shallow ReLU network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Array, Key

from activjax.zonotope import _given
from activjax.zonotope._greedy import Descent, Task, descend
from activjax.zonotope._interior import ENOUGH, Solution
from activjax.zonotope._program import Loss
from activjax.zonotope._rows import Rows, rows_of
from activjax.zonotope._scaled import Scaled, float64, scaled
from activjax.zonotope._signs import exact_signs
from activjax.zonotope._solve import Fit, finished

REASONS = (
    "no neighbour is better",
    "some neighbours are undecided",
    "the loss is zero",
    "max_steps",
    "the start was not solved",
)

_CLEAR = 1e-12  # of |x| |g|: how far a start's gates stay from the examples' hyperplanes
_DRAWS = 100
_MEMORY = 1 << 28  # bytes of matrices at a time
_LANES = 64
_ROOM = 256  # steps; with other `max_steps` nothing is compiled anew until they are more


@dataclass(frozen=True)
class Search:
    """A local search, in NumPy; the leading axis k is over restarts.

    Attributes:
        fit: the solutions at the patterns reached, as of `solve`, fields with a leading axis k.
            Of examples on one line only the first has a multiplier.
        active: `[k, m, n]`, the patterns reached.
        best: the restart with the lowest objective.
        objectives: `[k, max_steps + 1]`, at the start and after each step; NaN after the last.
        flips: `[k, max_steps, 2]`, the unit and the class of each step; -1 after the last.
        steps: `[k]`, how many steps were taken.
        programs: `[k]`, convex programs, those cut short included.
        undecided: `[k]`, neighbours in the last step that were given up with a gap, and may be
            lower.
        reasons: why each restart stopped.
        starts: `[k, m, n]`, the patterns at the start.
        classes: `[n]`, the class of each example: parallel examples (either sign) flip together;
            -1 for zero rows.
    """

    fit: Fit
    active: np.ndarray
    best: int
    objectives: np.ndarray
    flips: np.ndarray
    steps: np.ndarray
    programs: np.ndarray
    undecided: np.ndarray
    reasons: tuple[str, ...]
    starts: np.ndarray
    classes: np.ndarray

    def path(self, restart: int) -> np.ndarray:
        """The patterns that a restart went through, `[steps + 1, m, n]`, the start first."""
        visited = [self.starts[restart]]
        for unit, line in self.flips[restart, : self.steps[restart]]:
            new = visited[-1].copy()
            new[unit] ^= self.classes == line
            visited.append(new)
        return np.array(visited)


def local_search(
    X: Any,
    y: Any,
    width: int,
    key: Key[Array, ""],
    *,
    restarts: int = 1,
    output_signs: Any = None,
    neighbourhood: Literal["tight", "full"] = "tight",
    loss: Loss = "squared",
    weight_decay: float = 0.0,
    max_steps: int = 200,
) -> Search:
    """Trains a shallow ReLU network by greedy search over adjacent vertices of the zonotope.

    From the patterns of Gaussian gates, each step solves the convex programs (`solve`) of all
    neighbours and goes to the best, until none is lower (Matena and Raffel, "A Combinatorial
    Perspective on the Optimization of Shallow ReLU Networks", 2022). A neighbour differs in one
    class of parallel examples at one unit. By default only those across a constraint that is tight
    with a positive multiplier are tried, the only ones that can lower the objective to first
    order; "full" tries every class at every unit.

    A flip need not be a vertex. Those whose cones have no room (1e-7, in coordinates where the
    features are orthogonal) are left out; should one remain, its cone is the face `x_i . w = 0` of
    the old one, its optimum no lower, and it is never taken. So every pattern visited is a vertex.
    "Lower" means below the lower bound of the present objective, and by 1e-6 of that of the
    function 0: descents are real, whatever the gaps, and searches end.

    All restarts run in one program on JAX's default device, in float64; it is compiled once for
    each shape, width, number of restarts and loss.

    Args:
        X: `[n, d]`.
        y: `[n]`; labels -1 and 1 for the logistic loss.
        width: hidden units m.
        key: a random key.
        restarts: k.
        output_signs: `[m]` or `[k, m]` of -1 and 1. By default half are 1 and half -1, the odd one
            by chance.
        neighbourhood: "tight" or "full".
        loss, weight_decay: as in `solve`.
        max_steps: most steps of a restart; at least 1.

    Returns:
        Search.

    Raises:
        ValueError: as of `solve`; no lines (all rows 0); numbers below 1; gates that cannot be
            kept off the examples' hyperplanes.
        TypeError: a number that is no integer.
    """
    X = _given.examples(X, "local_search: X")
    y = _given.targets(y, len(X), loss, "local_search: y", batched=False)
    weight_decay = _given.at_least_zero(weight_decay, "local_search: weight_decay")
    for name, value in (("width", width), ("restarts", restarts), ("max_steps", max_steps)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise TypeError(f"local_search: {name} is {value!r}, expected an integer")
        if value < 1:
            raise ValueError(f"local_search: {name} is {value}, expected at least 1")
    if neighbourhood not in ("tight", "full"):
        raise ValueError(
            f"local_search: neighbourhood is {neighbourhood!r}, expected 'tight' or 'full'"
        )
    rows = rows_of(X, "local_search: X")
    if not len(rows.lines):
        raise ValueError("local_search: all rows of X are 0, there is nothing to search")
    of_gates, of_signs = jax.random.split(key)
    signs = _signs(output_signs, width, restarts, of_signs)
    starts = _starts(X, rows, (restarts, width), of_gates)

    with float64():
        s = scaled(X, y, loss, weight_decay)
        first = rows.first
        size = width * s.features.shape[1]
        lanes = min(_LANES, restarts * width * len(first), max(1, _MEMORY // (32 * size**2)))
        task = Task(
            s.features,
            s.features[first] / s.norms[first, None],
            y / s.scale,
            s.penalty,
            np.maximum(rows.of, 0),
            rows.sign.astype(np.float64),
            signs,
            2.0 * starts[..., first] - 1,
            np.asarray(ENOUGH * s.at_zero / s.unit),
        )
        capacity = -(-max_steps // _ROOM) * _ROOM
        full = neighbourhood == "full"
        end = descend(task, max_steps, full, loss=loss, capacity=capacity, lanes=lanes)
        end = jax.tree.map(np.asarray, end)
    active = end.sides[..., np.maximum(rows.of, 0)] * rows.sign > 0
    fit = finished(_many(s, restarts), active, signs, _at_examples(end, s, active, first))
    return Search(
        fit,
        active,
        int(np.argmin(fit.objective)),
        end.objectives[:, : max_steps + 1] * s.unit,
        end.flips[:, :max_steps],
        np.sum(end.flips[..., 0] >= 0, axis=1),
        end.programs,
        end.undecided,
        tuple(REASONS[i] for i in end.reason),
        starts,
        rows.of,
    )


def _signs(given: Any, m: int, k: int, key: Array) -> np.ndarray:
    if given is None:
        odd = np.asarray(jax.random.bernoulli(key, shape=(k,)))
        signs = np.where(np.arange(m) % 2, -1.0, 1.0) * np.ones((k, 1))
        if m % 2:
            signs[:, -1] = np.where(odd, 1.0, -1.0)
        return signs
    signs = _given.signs(given, m, "local_search: output_signs")
    if signs.ndim == 2 and len(signs) != k:
        raise ValueError(
            f"local_search: output_signs has shape {signs.shape}, expected [{m}] or [{k}, {m}]"
        )
    return np.broadcast_to(signs, (k, m)).copy()


def _starts(X: np.ndarray, rows: Rows, shape: tuple[int, int], key: Array) -> np.ndarray:
    """Patterns `[*shape, n]` of Gaussian gates that no example's hyperplane comes near."""
    n, d = X.shape
    sizes = np.sqrt(np.sum(X**2, axis=1))
    gates = np.zeros((shape[0] * shape[1], d))
    near = np.ones(len(gates), bool)
    for i in range(_DRAWS):
        with jax.enable_x64(True):
            drawn = jax.random.normal(jax.random.fold_in(key, i), gates.shape, np.float64)
        gates[near] = np.asarray(drawn)[near]
        reach = np.sqrt(np.sum(gates**2, axis=1))[:, None] * sizes
        near = ((np.abs(gates @ X.T) <= _CLEAR * reach) & (rows.of >= 0)).any(axis=1)
        if not near.any():
            return (exact_signs(X, gates) > 0).reshape(*shape, n)
    raise ValueError(
        f"local_search: {_DRAWS} Gaussian gates all came near an example's hyperplane; bring the "
        "columns of X to one scale"
    )


def _many(s: Scaled, k: int) -> Scaled:
    """The data set as that of k problems."""
    scale, at_zero = np.full(k, s.scale), np.full(k, s.at_zero)
    y = np.broadcast_to(s.y, (k, len(s.y)))
    return Scaled(s.X, y, s.back, s.features, s.norms, scale, at_zero, s.penalty,
                  s.weight_decay, s.loss)  # fmt: skip


def _at_examples(end: Descent, s: Scaled, active: np.ndarray, first: np.ndarray) -> Solution:
    """Solutions whose constraints are lines', as of constraints for every example."""
    multipliers = np.zeros(active.shape)
    multipliers[..., first] = end.found.multipliers
    norms = np.where(s.norms > 0, s.norms, 1.0)
    slack = np.where(active, 1.0, -1.0) * (end.found.weights @ s.features.T) / norms
    return end.found._replace(multipliers=multipliers, slack=slack)
