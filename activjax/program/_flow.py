"""Forward data flow: what is known of each value of a program, found without computing any.

A rule set says what is known of a constant (`Rules.constant`), what an equation makes of what is
known of its operands (`Rules.equation`) and what two pieces of knowledge have in common
(`Rules.join`). Calls, branches and loops are treated here, for every rule set alike. Of a loop the
body is passed until what is known of its carry no longer changes (Kildall 1973), at most as often
as the loop runs; so states must be hashable, and `join` must only ever climb, finitely high.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Generic, TypeVar

from activjax.program import _compat
from activjax.program._errors import UnsupportedError
from activjax.program._walk import Place, bodies, place_of

S = TypeVar("S", bound=Hashable)


class Rules(Generic[S]):
    """What one analysis knows of a value, as a state of type `S`."""

    def constant(self, value: Any) -> S:
        """The state of a constant: a literal's value, or None where it is an array."""
        raise NotImplementedError

    def join(self, a: S, b: S) -> S:
        """What holds of a value that may be either; not below `a` nor `b`."""
        raise NotImplementedError

    def equation(self, eqn: _compat.Equation, states: list[S], place: Place) -> list[S]:
        """The state of each output of an equation that is no control flow."""
        raise NotImplementedError

    def choose(self, eqn: _compat.Equation, index: S, outs: list[S], place: Place) -> list[S]:
        """The states of a cond's or while's outputs, joined already, given that of what decides."""
        del eqn, index, place
        return outs

    def ruled(self, eqn: _compat.Equation, states: list[S], outs: list[S], place: Place) -> list[S]:
        """The states of the outputs of a function with a derivative rule of its own.

        Args:
          eqn: the equation.
          states: of its operands.
          outs: of its outputs, as its body makes them.
          place: the place of the equation.
        """
        del eqn, states, place
        return outs

    def cross(self, eqn: _compat.Equation, how: str, i: int, state: S, place: Place) -> S:
        """The state of a value that enters or leaves a loop or leaves a branch.

        Args:
          eqn: the equation.
          how: "const", "carry" or "slice" into a loop, "stack" or "out" out of it, "shard" and
            "unshard" for shard_map, "rule" out of a function with a derivative rule of its own.
          i: the number of the value among those of the same sort.
          state: its state before.
          place: the place of the equation.
        """
        del eqn, how, i, place
        return state


def flow(closed: _compat.ClosedJaxpr, states: Sequence[S], rules: Rules[S]) -> list[S]:
    """The states of a program's outputs, given those of its inputs.

    Raises:
      UnsupportedError: the program holds a mutable reference (`jax.new_ref`).
    """
    return _Flow(rules).run(closed, list(states), Place())


class _Flow(Generic[S]):
    def __init__(self, rules: Rules[S]) -> None:
        self.rules = rules
        # Without it nested loops would pass their innermost body exponentially often.
        self.known: dict[Any, list[S]] = {}

    def run(self, closed: _compat.ClosedJaxpr, states: list[S], place: Place) -> list[S]:
        key = (place.path, tuple(states))
        if key not in self.known:
            self.known[key] = self._run(closed, states, place)
        return self.known[key]

    def _run(self, closed: _compat.ClosedJaxpr, states: list[S], place: Place) -> list[S]:
        jaxpr = closed.jaxpr
        env: dict[Any, S] = {v: self.rules.constant(None) for v in jaxpr.constvars}
        env.update(zip(jaxpr.invars, states, strict=True))

        def read(atom: Any) -> S:
            literal = isinstance(atom, _compat.Literal)
            return self.rules.constant(atom.val) if literal else env[atom]

        for i, eqn in enumerate(jaxpr.eqns):
            if _compat.mutates(eqn):
                raise UnsupportedError(
                    f"`{eqn.primitive.name}` works on a mutable reference (jax.new_ref), which "
                    "this analysis does not follow; write the function without references"
                )
            here = place_of(place, i, eqn)
            env.update(zip(eqn.outvars, self.equation(eqn, list(map(read, eqn.invars)), here)))
        return [read(v) for v in jaxpr.outvars]

    def equation(self, eqn: _compat.Equation, states: list[S], here: Place) -> list[S]:
        kind = _compat.kind(eqn)
        if kind == "scan":
            return self._scan(eqn, states, here)
        if kind == "while":
            return self._while(eqn, states, here)
        if kind == "cond":
            return self._cond(eqn, states, here)
        if kind is None and not _compat.is_object(eqn):
            return self.rules.equation(eqn, states, here)
        ((body, inside),) = bodies(eqn, here)
        if kind == "shard_map":
            outs = self.run(body, self._cross(eqn, states, "shard", here), inside)
            return self._cross(eqn, outs, "unshard", here)
        outs = self.run(body, states, inside)
        if kind not in ("custom_jvp", "custom_vjp"):
            return outs
        return self.rules.ruled(eqn, states, self._cross(eqn, outs, "rule", here), here)

    def _scan(self, eqn: _compat.Equation, states: list[S], here: Place) -> list[S]:
        parts, ((body, inside),) = _compat.scan_parts(eqn), bodies(eqn, here)
        n, m = parts.n_consts, parts.n_consts + parts.n_carry
        consts = self._cross(eqn, states[:n], "const", here)
        slices = self._cross(eqn, states[m:], "slice", here)
        init = carry = self._cross(eqn, states[n:m], "carry", here)
        outs = self.run(body, [*consts, *carry, *slices], inside)
        for _ in range(parts.length - 1):
            after = self._cross(eqn, self._join(carry, outs[: parts.n_carry]), "carry", here)
            if after == carry:
                break
            carry = after
            outs = self.run(body, [*consts, *carry, *slices], inside)
        last = outs[: parts.n_carry] if parts.length else init
        ys = self._cross(eqn, outs[parts.n_carry :], "stack", here)
        return [*self._kept(body, n, states[n:m], self._cross(eqn, last, "out", here)), *ys]

    def _while(self, eqn: _compat.Equation, states: list[S], here: Place) -> list[S]:
        parts = _compat.while_parts(eqn)
        (cond, in_cond), (body, in_body) = bodies(eqn, here)
        n, m = parts.cond_consts, parts.cond_consts + parts.body_consts
        consts = self._cross(eqn, states[:m], "const", here)
        carry = self._cross(eqn, states[m:], "carry", here)
        while True:
            outs = self.run(body, [*consts[n:], *carry], in_body)
            after = self._cross(eqn, self._join(carry, outs), "carry", here)
            if after == carry:
                break
            carry = after
        (going,) = self.run(cond, [*consts[:n], *carry], in_cond)
        outs = self.rules.choose(eqn, going, self._cross(eqn, carry, "out", here), here)
        return self._kept(body, m - n, states[m:], outs)

    def _cond(self, eqn: _compat.Equation, states: list[S], here: Place) -> list[S]:
        index, *operands = states
        each = [self.run(body, operands, inside) for body, inside in bodies(eqn, here)]
        outs = each[0]
        for other in each[1:]:
            outs = self._join(outs, other)
        return self.rules.choose(eqn, index, self._cross(eqn, outs, "out", here), here)

    def _join(self, a: list[S], b: list[S]) -> list[S]:
        return [self.rules.join(x, y) for x, y in zip(a, b, strict=True)]

    def _cross(self, eqn: _compat.Equation, states: list[S], how: str, here: Place) -> list[S]:
        return [self.rules.cross(eqn, how, i, s, here) for i, s in enumerate(states)]

    def _kept(
        self, body: _compat.ClosedJaxpr, first: int, before: list[S], after: list[S]
    ) -> list[S]:
        # A carry that the body hands on untouched is what it was before the loop.
        jaxpr = body.jaxpr
        return [
            old if jaxpr.outvars[j] is jaxpr.invars[first + j] else new
            for j, (old, new) in enumerate(zip(before, after, strict=True))
        ]
