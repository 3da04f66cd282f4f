"""Run a program forward over abstract values: concrete where nothing abstract reaches.

`flow` knows nothing of the numbers; this driver computes every value that does not depend on an
abstract one, runs loops iteration by iteration and follows the branch that is taken. A domain says
what an abstract value is and what an operation makes of it. What leads to no output is not run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from activjax.program import _compat
from activjax.program._errors import UnsupportedError
from activjax.program._walk import Place, bodies, place_of


class Domain:
    """What abstract values are, and what operations do to them."""

    def abstract(self, value: Any) -> bool:
        """Whether a value is one of this domain, not an array."""
        raise NotImplementedError

    def equation(self, eqn: _compat.Equation, values: list[Any], place: Place) -> list[Any]:
        """The outputs of an equation that is no control flow, with an abstract operand.

        An output may be concrete again.
        """
        raise NotImplementedError

    def slice(self, value: Any, i: int) -> Any:
        """Element `i` of an abstract value's first axis."""
        raise NotImplementedError

    def stack(self, values: Sequence[Any]) -> Any:
        """Values, some of them abstract, along a new first axis."""
        raise NotImplementedError


def evaluate(closed: _compat.ClosedJaxpr, args: Sequence[Any], domain: Domain) -> list[Any]:
    """The outputs of a program at arguments that are arrays or abstract values.

    Raises:
      UnsupportedError: a branch or the end of a loop depends on an abstract value, or one reaches
        an operation that cannot be opened.
    """
    return _Run(domain).program(closed, list(args), Place())


class _Run:
    def __init__(self, domain: Domain) -> None:
        self.domain = domain

    def program(self, closed: _compat.ClosedJaxpr, args: list[Any], place: Place) -> list[Any]:
        jaxpr = closed.jaxpr
        env: dict[Any, Any] = dict(zip(jaxpr.constvars, closed.consts, strict=True))
        env.update(zip(jaxpr.invars, args, strict=True))

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, _compat.Literal) else env[atom]

        needed = _needed(jaxpr)
        for i, eqn in enumerate(jaxpr.eqns):
            if i in needed:
                here = place_of(place, i, eqn)
                outs = self.equation(eqn, list(map(read, eqn.invars)), here)
                env.update(zip(eqn.outvars, outs, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def equation(self, eqn: _compat.Equation, values: list[Any], here: Place) -> list[Any]:
        if not any(map(self.domain.abstract, values)):
            with eqn.ctx.manager:
                return _compat.rebind(eqn, values)
        if _compat.mutates(eqn):
            raise UnsupportedError(
                f"`{eqn.primitive.name}` works on a mutable reference (jax.new_ref); write the "
                "function without references"
            )
        kind = _compat.kind(eqn)
        if kind == "scan":
            return self._scan(eqn, values, here)
        if kind == "while":
            return self._while(eqn, values, here)
        if kind == "cond":
            index = self._known(values[0], "a branch", here)
            body, inside = list(bodies(eqn, here))[int(index)]
            return self.program(body, values[1:], inside)
        if kind == "shard_map":
            raise UnsupportedError("a function inside shard_map is not followed; call it outside")
        if kind is None and not _compat.is_object(eqn):
            return self.domain.equation(eqn, values, here)
        ((body, inside),) = bodies(eqn, here)
        return self.program(body, values, inside)

    def _known(self, value: Any, what: str, here: Place) -> Any:
        if self.domain.abstract(value):
            raise UnsupportedError(f"{what} depends on the input{_at(here)}; use jnp.where instead")
        return value

    def _scan(self, eqn: _compat.Equation, values: list[Any], here: Place) -> list[Any]:
        parts, ((body, inside),) = _compat.scan_parts(eqn), bodies(eqn, here)
        n, m = parts.n_consts, parts.n_consts + parts.n_carry
        consts, carry, xs = values[:n], values[n:m], values[m:]
        ys: list[list[Any]] = [[] for _ in eqn.outvars[parts.n_carry :]]
        order = range(parts.length)
        for i in reversed(order) if parts.reverse else order:
            row = [self.domain.slice(x, i) if self.domain.abstract(x) else x[i] for x in xs]
            outs = self.program(body, [*consts, *carry, *row], inside)
            carry = outs[: parts.n_carry]
            for column, y in zip(ys, outs[parts.n_carry :], strict=True):
                column.append(y)
        stacked = []
        for var, column in zip(eqn.outvars[parts.n_carry :], ys, strict=True):
            column = column[::-1] if parts.reverse else column
            if any(map(self.domain.abstract, column)):
                stacked.append(self.domain.stack(column))
            else:
                shape, dtype = _compat.shape(var), _compat.dtype(var)
                stacked.append(jnp.stack(column) if column else jnp.zeros(shape, dtype))
        return [*carry, *stacked]

    def _while(self, eqn: _compat.Equation, values: list[Any], here: Place) -> list[Any]:
        parts = _compat.while_parts(eqn)
        (cond, in_cond), (body, in_body) = bodies(eqn, here)
        n, m = parts.cond_consts, parts.cond_consts + parts.body_consts
        consts, carry = values[:m], values[m:]
        while True:
            (going,) = self.program(cond, [*consts[:n], *carry], in_cond)
            if not bool(jnp.all(self._known(going, "the end of a while loop", here))):
                return carry
            carry = self.program(body, [*consts[n:], *carry], in_body)


def _at(here: Place) -> str:
    return f" (in {'/'.join(here.scopes)})" if here.scopes else ""


def _needed(jaxpr: _compat.Jaxpr) -> set[int]:
    """Numbers of the equations that lead to an output."""
    used = {v for v in jaxpr.outvars if not isinstance(v, _compat.Literal)}
    needed = set()
    for i in range(len(jaxpr.eqns) - 1, -1, -1):
        eqn = jaxpr.eqns[i]
        if any(v in used for v in eqn.outvars):
            needed.add(i)
            used.update(v for v in eqn.invars if not isinstance(v, _compat.Literal))
    return needed
