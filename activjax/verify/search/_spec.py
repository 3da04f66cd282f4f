"""What a search is compiled for, and the arrays that it works on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from activjax.verify._problem import Case, Problem
from activjax.verify.bounds._bound import optimised
from activjax.verify.bounds._layers import layers
from activjax.verify.bounds._record import record
from activjax.verify.bounds._tape import Tape

#: Numbers that one batch of linear bounds may hold, and boxes of a batch.
NUMBERS, MOST, FEWEST = 1 << 24, 128, 8
#: Undecided units of a layer that are bounded anew in each box.
FOCUS = 64
#: Bytes that the frontier on the device may take, and boxes.
BYTES, BOXES = 1 << 28, 1 << 16
#: The frontier holds at least so many batches.
BATCHES_KEPT = 8
#: Steps of the optimisation of slopes and multipliers, where rectifiers are decided.
STEPS = 20
#: With so few inputs the box is cut; with more, rectifiers are decided.
CUTS = 16


@dataclass(frozen=True)
class Spec:
    """What is fixed when a search is compiled.

    Attributes:
      apply, input_shape: of the problem.
      inputs, units: their numbers.
      batch: boxes bounded at a time.
      capacity: boxes of the frontier.
      cuts: whether the box is cut before rectifiers are decided.
      steps: of the optimisation of slopes and multipliers; 0 for none.
      focus: undecided units of a layer that are bounded anew in each box.
      whole: whether no layer has more.
      few: with at most so many undecided units they are decided, even where the box can be cut.
    """

    apply: Callable[[Any, Any], Any]
    input_shape: tuple[int, ...]
    inputs: int
    units: int
    batch: int
    capacity: int
    cuts: bool
    steps: int
    focus: int
    whole: bool
    few: int = 2

    def tape(self, params: Any, dtype: Any = jnp.float32) -> Tape:
        """The network's tape."""
        like = jax.ShapeDtypeStruct(self.input_shape, dtype)
        tape, _ = record(lambda x: self.apply(params, x), like, dtype)
        return tape


class Rows(NamedTuple):
    """What is to be refuted: `weights @ y <= bounds` in every row of one of the clauses.

    Attributes:
      weights: `[rows, outputs]`.
      bounds: `[rows]`, rounded up.
      member: `[clauses, rows]`, which rows make a clause; one with none always holds.
    """

    weights: Any
    bounds: Any
    member: Any


class Boxes(NamedTuple):
    """Parts of the input that are still open.

    Attributes:
      low, high: `[n, inputs]`.
      signs: `[n, units]` int8, 1 where a unit's operand is at least 0, -1 where at most 0.
      units_low, units_high: `[n, units]`, bounds inherited from the part it was cut from.
      number: `[n]`, of the part in the tree.
    """

    low: Any
    high: Any
    signs: Any
    units_low: Any
    units_high: Any
    number: Any


def spec_of(problem: Problem, splits: str, steps: int | None) -> Spec:
    """The sizes that suit a problem.

    Raises:
      UnsupportedError: the network has an operation that is not supported, by name.
    """
    units, widest, layer = 0, problem.inputs, 0

    def look(params: Any) -> Any:
        nonlocal units, widest, layer
        like = jax.ShapeDtypeStruct(problem.input_shape, jnp.float32)
        tape, _ = record(lambda x: problem.apply(params, x), like, jnp.float32)
        units = tape.units
        widest = max([widest, *(n.size for n in tape.nodes)])
        layer = max([0, *(n.size for n in tape.relus)])
        return 0

    jax.eval_shape(look, problem.params)
    cuts = problem.inputs <= CUTS if splits == "auto" else splits == "input"
    room = NUMBERS // max(1, 2 * widest * widest)
    batch = MOST
    while batch > FEWEST and batch > room:
        batch //= 2
    each = 4 * (2 * problem.inputs + 2 * units + 1) + units
    capacity = max(BATCHES_KEPT * batch, min(BOXES, BYTES // each))
    if steps is None:
        steps = 0 if cuts else STEPS
    return Spec(problem.apply, problem.input_shape, problem.inputs, units, batch, capacity, cuts,
                steps, FOCUS, layer <= FOCUS)  # fmt: skip


def rows_of(case: Case, outputs: int) -> Rows:
    """The clauses of a case in float32, bounds rounded up."""
    every = [(row, b) for c in case.clauses for row, b in zip(c.weights, c.bounds, strict=True)]
    weights = np.zeros((max(1, len(every)), outputs), np.float32)
    bounds = np.full(len(weights), np.inf, np.float32)  # the row of an empty clause never fails
    member = np.zeros((len(case.clauses), len(weights)), bool)
    for i, (row, b) in enumerate(every):
        # Away from 0: at most two roundings, the margin of bounds has room for 4; or infinite.
        weights[i] = [rounded(w, up=w > 0) for w in row]
        bounds[i] = rounded(b, up=True)
    at = 0
    for i, clause in enumerate(case.clauses):
        member[i, at : at + len(clause.bounds)] = True
        at += len(clause.bounds)
    return Rows(weights, bounds, member)


def root_of(spec: Spec, params: Any, case: Case, signs: np.ndarray) -> Boxes:
    """The whole box, rounded outward, with bounds of all units.

    Raises:
      ValueError: its sides are too large for float32.
    """
    low = np.array([rounded(v, up=False) for v in case.lower], np.float32)
    high = np.array([rounded(v, up=True) for v in case.upper], np.float32)
    for i in np.flatnonzero(~np.isfinite(low) | ~np.isfinite(high)).tolist():
        raise ValueError(
            f"verify.prove: input {i} goes from {float(case.lower[i]):g} to "
            f"{float(case.upper[i]):g}; expected numbers that float32 holds, below 3.4e38"
        )
    low, high, signs = low[None], high[None], signs[None].astype(np.int8)
    if spec.whole and not spec.steps:  # every box bounds all of them anyway
        infinite = np.full(signs.shape, np.inf, np.float32)
        return Boxes(low, high, signs, -infinite, infinite, np.zeros(1, np.int32))
    units_low, units_high = _known(spec, 2 * spec.steps, params, low, high, signs)
    known = np.asarray(units_low), np.asarray(units_high)
    return Boxes(low, high, signs, known[0], known[1], np.zeros(1, np.int32))  # fmt: skip


@partial(jax.jit, static_argnums=(0, 1))
def _known(spec: Spec, steps: int, params: Any, low: Any, high: Any, signs: Any) -> Any:
    tape = spec.tape(params)
    known = optimised(tape, low, high, signs, steps, 0.3) if steps else None
    found = layers(tape, low, high, signs=signs, known=known)
    return found.low, found.high


def rounded(value: Fraction, *, up: bool) -> np.float32:
    """The nearest float32 not below (or not above) a fraction; infinite beyond the largest."""
    most = np.finfo(np.float32).max
    if abs(value) > Fraction(float(most)):
        beyond = np.float32(np.inf) if up == (value > 0) else most
        return beyond if value > 0 else -beyond
    near = np.float32(float(value))
    if up and Fraction(float(near)) < value:
        return np.nextafter(near, np.float32(np.inf))
    if not up and Fraction(float(near)) > value:
        return np.nextafter(near, np.float32(-np.inf))
    return near
