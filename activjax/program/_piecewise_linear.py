"""`piecewise_linear`: whether a function is piecewise linear, where it bends, what spoils it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import jax

from activjax.program._argnums import check_argnums, chosen
from activjax.program._dependence import CONSTANT, LINEAR, NONLINEAR, Dependence
from activjax.program._describe import Operation, functions, render, source_line
from activjax.program._flow import flow
from activjax.program._linear_states import Breakpoint, LinearRules, Nonlinear, meet
from activjax.program._trace import trace

Op = TypeVar("Op", bound=Operation)


@dataclass(frozen=True)
class PiecewiseLinear:
    """What is known of a function's linearity.

    Attributes:
      dependence: how the outputs together depend on the input.
      continuous: whether they do so continuously; False where an operation with jumps reaches them,
        None where that is not known, as of every function that is not piecewise linear.
      out: the dependence of each output, in the function's own output structure.
      breakpoints: every operation that makes a hinge or a jump, depends on the input and reaches
        an output, in execution order.
      first_nonlinear: the first operation, in execution order, that is not piecewise linear in the
        input and reaches an output, or None.
    """

    dependence: Dependence
    continuous: bool | None
    out: Any
    breakpoints: tuple[Breakpoint, ...]
    first_nonlinear: Nonlinear | None

    @property
    def linear(self) -> bool:
        """Whether every output is affine in the input (or does not depend on it)."""
        return self.dependence in (CONSTANT, LINEAR)

    @property
    def piecewise_linear(self) -> bool:
        """Whether every output is piecewise linear in the input, perhaps with jumps."""
        return self.dependence is not NONLINEAR

    @property
    def caption(self) -> str:
        """The verdict in a line."""
        if bad := self.first_nonlinear:
            return f"not piecewise linear: {bad.name} ({bad.line}): {bad.reason}"
        words = {True: "continuous", False: "with jumps", None: "continuity not known"}
        return f"{self.dependence.value}, {words[self.continuous]}"

    def __str__(self) -> str:
        rows = [_row(b) for b in self.breakpoints]
        if self.first_nonlinear:
            rows.append((*_row(self.first_nonlinear)[:4], "not linear"))
        return render(("operation", "line", "operands", "loops", "makes"), rows, self.caption)


def _row(op: Operation) -> tuple[str, ...]:
    loops = (f"{x.name or 'loop'}={'?' if x.length is None else x.length}" for x in op.place.loops)
    makes = "" if not isinstance(op, Breakpoint) else "step" if op.jumps else "hinge"
    operands = ", ".join(map(str, op.operands))
    return op.name, op.line, operands, " ".join(loops) or "-", makes


def piecewise_linear(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0
) -> Callable[..., PiecewiseLinear]:
    """Find out whether `f` is piecewise linear in some arguments, all others being fixed.

    An operation is judged by its name and by how its operands depend on the input
    (`activjax.program` lists the rules in `_linear_rules.RULES`); nothing is computed. So `True` is
    proved, up to rounding and for finite values, while a function that only happens to be piecewise
    linear (`x * x - x * x`) is not. A primitive without a rule counts as nonlinear, by name.
    Along a segment of inputs, a piecewise linear function has finitely many pieces where its loops
    end and its arrays are finite. An index or a branch that depends on the input chooses among
    pieces: the comparison or rounding behind it is the breakpoint, not the choice.

    Args:
      f: any function that JAX can trace.
      argnums: the positional arguments, pytrees of arrays, in whose floating-point (or complex)
        leaves jointly `f` is asked to be linear; their integer leaves are fixed.

    Returns:
      A function of `f`'s arguments (arrays or `jax.ShapeDtypeStruct`s) that returns the verdict.

    Raises:
      TypeError, ValueError: `argnums` does not name arguments that hold arrays.
      UnsupportedError: the program holds mutable references.

    Example:
      >>> print(program.piecewise_linear(model.apply, argnums=1)(params, x))  # doctest: +SKIP
    """
    numbers = check_argnums("piecewise_linear", argnums)

    def analysed(*args: Any, **kwargs: Any) -> PiecewiseLinear:
        leaves = chosen("piecewise_linear", args, numbers, several=len(numbers) > 1)
        traced, rules = trace(f, *args, **kwargs), LinearRules()
        states = [rules.constant(None) for _ in traced.closed.jaxpr.invars]
        for leaf in leaves:
            states[leaf.index] = rules.input(leaf.index, leaf.dtype)
        outs = flow(traced.closed, states, rules)
        whole = meet(outs)
        structure = jax.tree_util.tree_structure(traced.out_shape)
        nonlinear = whole.kind is NONLINEAR

        def lined(op: Op) -> Op:
            path = op.place.path
            named = functions(traced.closed, path)
            return replace(op, source=source_line(traced.closed, path), functions=named)

        return PiecewiseLinear(
            dependence=whole.kind,
            continuous=None if nonlinear and whole.continuous else whole.continuous,
            out=jax.tree_util.tree_unflatten(structure, [s.kind for s in outs]),
            breakpoints=tuple(lined(rules.breakpoints[p]) for p in sorted(whole.breakpoints)),
            first_nonlinear=None if whole.cause is None else lined(rules.nonlinear[whole.cause]),
        )

    return analysed
