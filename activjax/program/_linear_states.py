"""The state of a value in the analysis of piecewise linearity, and how it flows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from activjax.program import _compat, curves
from activjax.program._dependence import CONSTANT, NONLINEAR, STEPS, Dependence, join, selected
from activjax.program._describe import Operation, iterations, operation
from activjax.program._flow import Rules
from activjax.program._identities import IDENTITIES
from activjax.program._linear_rules import Verdict, verdicts
from activjax.program._walk import Place

Path = tuple[int, ...]


@dataclass(frozen=True)
class Breakpoint(Operation):
    """An operation that makes a hinge or a jump: the function is linear between these.

    Attributes:
      inputs: the operands that depend on the input; the hinge is where they cross each other, the
        remaining operands, or zero.
      jumps: whether it is a step (a comparison, sign, rounding), not a hinge (max, abs).
    """

    inputs: tuple[int, ...]
    jumps: bool

    @property
    def count(self) -> int | None:
        """How many elements of its first such operand it treats, all iterations counted.

        None in a `while`.
        """
        times = iterations(self.place)
        size = int(np.prod(self.operands[self.inputs[0]].shape))
        return None if times is None else times * size


@dataclass(frozen=True)
class Nonlinear(Operation):
    """An operation that is not piecewise linear in the input.

    Attributes:
      reason: why, in words.
    """

    reason: str


@dataclass(frozen=True)
class Form:
    """A value whose elements are each one function of an element of another value.

    Attributes:
      of: what tells that other value from the rest; None for a known constant.
      curve: the function.
      continuous: whether the other value is continuous in the input.
    """

    of: Any
    curve: curves.Curve
    continuous: bool | None = True


@dataclass(frozen=True)
class State:
    """What is known of a value.

    Attributes:
      kind: how it depends on the input.
      continuous: whether continuously; None if that is not known.
      breakpoints: paths of the breakpoint-making operations that it passes through.
      cause: path of the first operation that is not piecewise linear, or None.
      form: its elementwise form; None for a constant whose value is not known.
    """

    kind: Dependence
    continuous: bool | None = True
    breakpoints: frozenset[Path] = frozenset()
    cause: Path | None = None
    form: Form | None = None


def _all(values: Any) -> bool | None:
    values = set(values)
    return False if False in values else None if None in values else True


def meet(states: list[State], kind: Dependence | None = None) -> State:
    """What holds of a value made from several, continuously: the join of all they pass through."""
    return State(
        join(s.kind for s in states) if kind is None else kind,
        _all(s.continuous for s in states),
        frozenset().union(*(s.breakpoints for s in states)),
        min((s.cause for s in states if s.cause is not None), default=None),
    )


class LinearRules(Rules[State]):
    """The rule set; `breakpoints` and `nonlinear` collect the operations met, by their paths."""

    def __init__(self) -> None:
        self.breakpoints: dict[Path, Breakpoint] = {}
        self.nonlinear: dict[Path, Nonlinear] = {}

    def input(self, i: int, dtype: Any) -> State:
        """The state of the i-th input array; of integers, and keys, nothing can depend linearly."""
        if jnp.issubdtype(dtype, jnp.inexact):
            return _fresh(State(Dependence.LINEAR), ("input", i))
        return self.constant(None)

    def constant(self, value: Any) -> State:
        """A constant; the value of a literal is kept."""
        curve = None if value is None else curves.constant(value)
        return State(CONSTANT, form=curve and Form(None, curve))

    def join(self, a: State, b: State) -> State:
        """Either; the form only where they have it in common."""
        return replace(meet([a, b]), form=a.form if a.form == b.form else None)

    def cross(self, eqn: _compat.Equation, how: str, i: int, state: State, place: Place) -> State:
        """Elements of one iteration and of all are different functions of different values."""
        if how == "rule":
            return state
        return _fresh(state, (how, place.path, i))

    def choose(
        self, eqn: _compat.Equation, index: State, outs: list[State], place: Place
    ) -> list[State]:
        """A branch, or a number of iterations, that depends on the input."""
        if index.kind is CONSTANT:
            return outs
        chosen = []
        for i, out in enumerate(outs):
            kind = selected((index.kind,), (out.kind,))
            state = replace(meet([index, out], kind), continuous=False if kind is STEPS else None)
            chosen.append(_fresh(state, ("chosen", place.path, i)))
        return chosen

    def equation(self, eqn: _compat.Equation, states: list[State], place: Place) -> list[State]:
        """By the table of rules."""
        given = verdicts(eqn, [s.kind for s in states])
        for verdict in given:
            self._record(eqn, states, place, verdict)
        each = eqn.primitive.name in IDENTITIES and len(given) == len(states)
        return [
            states[i] if each else self._output(eqn, states, place, verdict, i)
            for i, verdict in enumerate(given)
        ]

    def _record(
        self, eqn: _compat.Equation, states: list[State], place: Place, verdict: Verdict
    ) -> None:
        if not verdict.breaks and not (verdict.kind is NONLINEAR and verdict.reason):
            return
        fields = operation(eqn, place, [s.kind.value for s in states])
        if verdict.breaks and place.path not in self.breakpoints:
            jumps = verdict.continuous is False or verdict.kind is STEPS
            self.breakpoints[place.path] = Breakpoint(**fields, inputs=verdict.breaks, jumps=jumps)
        elif verdict.breaks:
            # A later pass over a loop knows more of the operands.
            known = self.breakpoints[place.path]
            inputs = tuple(sorted({*known.inputs, *verdict.breaks}))
            self.breakpoints[place.path] = replace(known, **fields, inputs=inputs)
        if verdict.kind is NONLINEAR and verdict.reason:
            self.nonlinear[place.path] = Nonlinear(**fields, reason=verdict.reason)

    def _output(
        self,
        eqn: _compat.Equation,
        states: list[State],
        place: Place,
        verdict: Verdict,
        i: int,
    ) -> State:
        form = _form(eqn, states)
        if verdict.kind is CONSTANT:
            return State(CONSTANT, form=form if form and form.of is None else None)
        state = meet(states, verdict.kind)
        if verdict.breaks:
            state = replace(state, breakpoints=state.breakpoints | {place.path})
        if verdict.kind is NONLINEAR and state.cause is None:
            state = replace(state, cause=place.path)
        if verdict.continuous is not True or verdict.kind is STEPS:
            jumps = verdict.kind is STEPS or verdict.continuous is False
            state = replace(state, continuous=False if jumps else None)
        if form is None or form.of is None or verdict.kind is NONLINEAR:
            return _fresh(state, ("output", place.path, i))
        # The form knows better: a choice among steps may be continuous after all.
        continuous = form.continuous if form.curve.continuous else False
        return replace(state, continuous=continuous, form=form)


def _fresh(state: State, of: Any) -> State:
    """The same value, as one that others may be functions of."""
    if state.kind is CONSTANT:
        return state
    return replace(state, form=Form(of, curves.IDENTITY, state.continuous))


#: They keep an elementwise form where it is a constant: every element is the same.
_SPREADS = {"broadcast_in_dim", "reshape", "squeeze", "transpose", "slice", "rev", "expand_dims"}


def _form(eqn: _compat.Equation, states: list[State]) -> Form | None:
    """The elementwise form of an equation's output, if it has one."""
    forms = [s.form for s in states]
    of = {f.of: f.continuous for f in forms if f and f.of is not None}
    known = [f.curve for f in forms if f]
    if len(known) < len(forms) or not known or len(of) > 1 or len(eqn.outvars) > 1:
        return None
    g = curves.pointwise(eqn)
    if g is None and eqn.primitive.name in _SPREADS and not of:
        g = curves.same
    curve = g and curves.combine(g, known)
    if curve is None:
        return None
    key, continuous = next(iter(of.items()), (None, True))
    return Form(key, curve, continuous)
