"""Counterexamples: rounded into the box and replayed, in float64 and exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64

from activjax.program.networks import ExactNetwork
from activjax.verify._problem import Case, Problem


@dataclass(frozen=True, eq=False)
class Witness:
    """An input whose output is unsafe.

    Attributes:
      x: of the problem's input shape, float64, inside the box unless a side of the box is a single
        number that no float64 equals (`exact` has that one).
      y: `[outputs]`, of float64 arithmetic; the exact ones, rounded, where casts of the model do
        not go with float64.
      exact: the input as fractions; it lies in the box, and the exact outputs are unsafe.
      outputs: the exact outputs.
      case: the number of the box.
    """

    x: Float64[np.ndarray, "..."]
    y: Float64[np.ndarray, " outputs"]
    exact: tuple[Fraction, ...]
    outputs: tuple[Fraction, ...]
    case: int

    def __repr__(self) -> str:
        return f"Witness(x={self.x.tolist()}, y={self.y.tolist()})"


def into(case: Case, x: Sequence[float]) -> tuple[Fraction, ...]:
    """A point moved into the box, to float64 numbers where the box has any there."""
    inside = []
    for value, low, high in zip(x, case.lower, case.upper, strict=True):
        exact = Fraction(float(value))
        if exact < low:
            exact = _rounded(low, up=True)
        elif exact > high:
            exact = _rounded(high, up=False)
        inside.append(exact if low <= exact <= high else low)
    return tuple(inside)


def _rounded(value: Fraction, *, up: bool) -> Fraction:
    near = float(value)
    if up and Fraction(near) < value:
        near = float(np.nextafter(near, np.inf))
    if not up and Fraction(near) > value:
        near = float(np.nextafter(near, -np.inf))
    return Fraction(near)


def replay(
    problem: Problem,
    network: ExactNetwork,
    number: int,
    x: Sequence[float],
    assumed: np.ndarray,
) -> Witness | None:
    """The witness that a point is, or None if its exact outputs are safe.

    Args:
      problem: whose case `number` it is.
      network: the problem's, exact.
      number: of the case.
      x: `[inputs]`, a point in or near the box.
      assumed: `[units]` signs that inputs must have to count: above 0 where 1, at most 0 where -1.
    """
    case = problem.cases[number]
    exact = into(case, x)
    operands, outputs = network.values(exact)
    kept = all(
        (z > 0 if sign > 0 else z <= 0)
        for z, sign in zip(operands, assumed.tolist(), strict=True)
        if sign
    )
    if not kept or not any(clause.holds(outputs) for clause in case.clauses):
        return None
    floats = np.array([float(v) for v in exact], np.float64).reshape(problem.input_shape)
    with jax.enable_x64(True):
        try:
            y = problem.apply(_float64(problem.params), jnp.asarray(floats, jnp.float64))
        except (TypeError, ValueError):  # its own casts do not go with float64
            y = [float(v) for v in outputs]
        y = np.asarray(y, np.float64).reshape(-1)
    return Witness(floats, y, exact, tuple(outputs), number)


def _float64(params: Any) -> Any:
    return jax.tree.map(
        lambda a: jnp.asarray(a, jnp.float64) if jnp.issubdtype(jnp.asarray(a).dtype, jnp.floating)
        else jnp.asarray(a), params,
    )  # fmt: skip
