"""`parameter_uses`: which operation consumes which leaf of the parameters, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from activjax.program import _compat
from activjax.program._argnums import check_argnums, chosen
from activjax.program._describe import source_line
from activjax.program._flow import flow
from activjax.program._trace import Program, trace
from activjax.program._use_rules import UseRules, Value
from activjax.program._uses import Use, Uses


def parameter_uses(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Uses]:
    """List which operations consume which leaves of a function's parameters, and how.

    A leaf is followed through reshapes, transpositions, conversions, broadcasts, slices and lookups
    at indices that depend on no argument, into jitted functions, derivative rules, branches and
    loops; the first operation of another sort is the use. What is computed from a leaf is no view
    of it: of `w / norm(w)` the square and the division are the uses of `w`. Every array argument
    that is not chosen is data; arrays that `f` closes over are constants. Operations that reach no
    output are left out. Nothing is computed.

    Args:
      f: any function that JAX can trace.
      argnums: the positional arguments, pytrees of arrays, that are the parameters.

    Returns:
      A function of `f`'s arguments (arrays or `jax.ShapeDtypeStruct`s) that returns the `Uses`.

    Raises:
      TypeError, ValueError: `argnums` does not name arguments that hold arrays.
      UnsupportedError: the program holds mutable references.

    Example:
      >>> print(program.parameter_uses(model.apply)(params, x))  # doctest: +SKIP
    """
    numbers = check_argnums("parameter_uses", argnums)

    def analysed(*args: Any, **kwargs: Any) -> Uses:
        return uses_in(trace(f, *args, **kwargs), numbers)

    return analysed


def uses_in(traced: Program, argnums: int | Sequence[int] = 0, *, lookups: bool = False) -> Uses:
    """`parameter_uses` of a program that is traced already.

    Args:
      traced: the program.
      argnums: as for `parameter_uses`.
      lookups: a lookup at indices that depend on no argument, as of positions, is a use too, and
        no view.
    """
    numbers = check_argnums("uses_in", argnums)
    args, _ = traced.arguments.merge(traced.arguments.arrays)
    leaves = chosen("parameter_uses", args, numbers, several=len(numbers) > 1)
    rules = UseRules(leaves, lookups=lookups)
    states = [Value(data=True) for _ in traced.closed.jaxpr.invars]
    for i, leaf in enumerate(leaves):
        states[leaf.index] = rules.parameter(i)
    outs = flow(traced.closed, states, rules)
    keys = {k for i, out in enumerate(outs) for k in out.uses | rules.returned(out, i)}
    found = sorted((k[0], k[1], k[2].leaf, str(k[2].steps), k) for k in keys)
    return Uses([_lined(rules.uses[k[-1]], traced.closed) for k in found], leaves)


def _lined(use: Use, closed: _compat.ClosedJaxpr) -> Use:
    if use.kind == "output":
        return use
    return replace(use, source=source_line(closed, use.place.path))
