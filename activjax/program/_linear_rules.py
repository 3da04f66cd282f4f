"""The rules of piecewise linearity: what each primitive makes of the dependence of its operands.

A rule is a function `(eqn, kinds) -> Verdict`, or one verdict for each output. It sees an equation
with at least one operand that is not constant. A primitive that is not in `RULES` is not known and
counts as nonlinear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax.numpy as jnp

from activjax.program import _compat
from activjax.program._dependence import (
    CONSTANT,
    LINEAR,
    NONLINEAR,
    PIECEWISE,
    STEPS,
    Dependence,
    join,
    product,
    selected,
)
from activjax.program._identities import IDENTITIES


@dataclass(frozen=True)
class Verdict:
    """What a rule says of an output.

    Attributes:
      kind: how it depends on the input.
      continuous: whether the operation is continuous in its operands; None where that depends on
        their values.
      breaks: the operands whose hinge or jump the operation makes.
      reason: why the operation is not piecewise linear in the input, where it is what spoils it.
    """

    kind: Dependence
    continuous: bool | None = True
    breaks: tuple[int, ...] = ()
    reason: str | None = None


Kinds = Sequence[Dependence]
Rule = Callable[[_compat.Equation, Kinds], Verdict | list[Verdict]]

FLAT = (CONSTANT, STEPS)


def _varying(kinds: Kinds) -> tuple[int, ...]:
    return tuple(i for i, k in enumerate(kinds) if k is not CONSTANT)


def linear(eqn: _compat.Equation, kinds: Kinds) -> Verdict:
    """Linear in all operands together."""
    return Verdict(join(kinds))


def each(eqn: _compat.Equation, kinds: Kinds) -> list[Verdict]:
    """Linear, output by output."""
    if len(kinds) == len(eqn.outvars):
        return [Verdict(k) for k in kinds]
    return [Verdict(join(kinds)) for _ in eqn.outvars]


def nonlinear(reason: str | None = None) -> Callable[[_compat.Equation, Kinds], Verdict]:
    """Not piecewise linear; piecewise constant where the operands are."""

    def rule(eqn: _compat.Equation, kinds: Kinds) -> Verdict:
        if join(kinds) in FLAT:
            return Verdict(STEPS, False)
        name = eqn.primitive.name
        return Verdict(NONLINEAR, None, reason=reason or f"`{name}` is not piecewise linear")

    return rule


def bilinear(eqn: _compat.Equation, kinds: Kinds) -> Verdict:
    """Linear in each of two operands."""
    kind = product(kinds[0], kinds[1])
    reason = "product of two values that both depend on the input"
    masked = CONSTANT not in kinds
    return Verdict(kind, None if masked else True, reason=reason)


def ragged(eqn: _compat.Equation, kinds: Kinds) -> Verdict:
    """A product whose groups of rows are given by further operands."""
    if join(kinds[2:]) is CONSTANT:
        return bilinear(eqn, kinds[:2])
    return nonlinear("product whose groups depend on the input")(eqn, kinds)


def division(eqn: _compat.Equation, kinds: Kinds) -> Verdict:
    """Linear in the numerator."""
    if kinds[1] in FLAT:
        return Verdict(product(kinds[0], kinds[1]), True if kinds[1] is CONSTANT else None)
    return Verdict(NONLINEAR, None, reason="division by a value that depends on the input")


def hinge(eqn: _compat.Equation, kinds: Kinds) -> Verdict:
    """A continuous choice among values: max, min, clamp, ..."""
    kind = join(kinds)
    if kind in FLAT:
        return Verdict(kind)
    return Verdict(selected((STEPS,), (kind,)), breaks=_varying(kinds))


def absolute(eqn: _compat.Equation, kinds: Kinds) -> Verdict:
    """The absolute value; of a complex number it is a square root."""
    return _opaque(eqn, kinds) if _complex(eqn) else hinge(eqn, kinds)


def sign(eqn: _compat.Equation, kinds: Kinds) -> Verdict:
    """The sign; of a complex number it is a quotient."""
    return _opaque(eqn, kinds) if _complex(eqn) else step(eqn, kinds)


def _complex(eqn: _compat.Equation) -> bool:
    return jnp.issubdtype(_compat.dtype(eqn.invars[0]), jnp.complexfloating)


def step(eqn: _compat.Equation, kinds: Kinds) -> Verdict:
    """Piecewise constant, with jumps: comparisons, sign, rounding, argmax."""
    if len(eqn.invars) == 2 and eqn.invars[0] is eqn.invars[1]:
        return Verdict(CONSTANT)  # x != x asks for NaN; values are taken to be numbers
    kind = join(kinds)
    if kind is NONLINEAR:
        return Verdict(NONLINEAR, False, breaks=_varying(kinds))
    return Verdict(STEPS, False, breaks=() if kind is STEPS else _varying(kinds))


def constant(eqn: _compat.Equation, kinds: Kinds) -> Verdict:
    """The same for every finite input, or a matter of shapes."""
    return Verdict(CONSTANT)


def remainder(eqn: _compat.Equation, kinds: Kinds) -> Verdict:
    """`x - c * trunc(x / c)`: piecewise linear in x, with jumps."""
    if kinds[1] not in FLAT:
        return Verdict(NONLINEAR, None, reason="remainder by a value that depends on the input")
    kind = selected((STEPS,), kinds)
    return Verdict(kind, False, breaks=() if kinds[0] in FLAT else (0,))


def conversion(eqn: _compat.Equation, kinds: Kinds) -> Verdict:
    """Linear up to rounding; a jump where it truncates to integers or booleans."""
    old, new = _compat.dtype(eqn.invars[0]), eqn.params["new_dtype"]
    if jnp.issubdtype(old, jnp.inexact) and not jnp.issubdtype(new, jnp.inexact):
        return step(eqn, kinds)
    return Verdict(kinds[0])


def power(eqn: _compat.Equation, kinds: Kinds) -> Verdict:
    """`integer_pow`."""
    y = eqn.params["y"]
    if y in (0, 1):
        return Verdict(kinds[0] if y else CONSTANT)
    return nonlinear(f"power {y} of a value that depends on the input")(eqn, kinds)


def choice(by: slice, cases: slice) -> Rule:
    """A choice among the operands `cases`, or elements of them, by the operands `by`."""

    def rule(eqn: _compat.Equation, kinds: Kinds) -> Verdict:
        fixed = join(kinds[by]) is CONSTANT
        return Verdict(selected(kinds[by], kinds[cases]), True if fixed else None)

    return rule


def scattered_extreme(eqn: _compat.Equation, kinds: Kinds) -> Verdict:
    """`scatter-max` and `scatter-min`."""
    target, index, updates = kinds
    best = hinge(eqn, (target, CONSTANT, updates))
    fixed = index is CONSTANT
    return Verdict(selected((index,), (best.kind,)), True if fixed else None, best.breaks)


def scattered_product(eqn: _compat.Equation, kinds: Kinds) -> Verdict:
    """`scatter-mul`: repeated indices would multiply updates with one another."""
    if kinds[1:] == [CONSTANT, CONSTANT]:
        return Verdict(kinds[0])
    return nonlinear("product of values that depend on the input")(eqn, kinds)


def sort(eqn: _compat.Equation, kinds: Kinds) -> list[Verdict]:
    """Keys are piecewise linear; what is sorted beside them is chosen."""
    keys = kinds[: eqn.params["num_keys"]]
    varying = tuple(i for i, k in enumerate(keys) if k not in FLAT)
    fixed = join(keys) is CONSTANT
    return [
        Verdict(
            selected(keys, (k,)), True if fixed or (i == 0 and k not in FLAT) else None, varying
        )
        for i, k in enumerate(kinds)
    ]


def top_k(eqn: _compat.Equation, kinds: Kinds) -> list[Verdict]:
    """The values bend, their indices jump."""
    return [hinge(eqn, kinds[:1]), step(eqn, kinds[:1])]


def picked(eqn: _compat.Equation, kinds: Kinds) -> Verdict:
    """`select_and_scatter_add` and the like: operand 1 decides where elements of operand 0 go."""
    values, by = kinds
    kind = selected((STEPS if by in (LINEAR, PIECEWISE) else by,), (values,))
    breaks = () if by in FLAT else (1,)
    return Verdict(kind, True if by is CONSTANT else None, breaks)


def solve(n_fixed: Callable[[_compat.Equation], int]) -> Rule:
    """A linear solve: linear in what follows the matrix, which may not depend on the input."""

    def rule(eqn: _compat.Equation, kinds: Kinds) -> Verdict:
        n = n_fixed(eqn)
        if join(kinds[:n]) is CONSTANT:
            return Verdict(join(kinds[n:]))
        return nonlinear("solves by a matrix that depends on the input")(eqn, kinds)

    return rule


def unknown(eqn: _compat.Equation, kinds: Kinds) -> Verdict:
    """A primitive without a rule."""
    return Verdict(NONLINEAR, None, reason=f"`{eqn.primitive.name}` is not known to activjax")


_opaque = nonlinear()


def _table(*groups: tuple[str, Rule]) -> dict[str, Rule]:
    return {name: rule for names, rule in groups for name in names.split()}


RULES = _table(
    (
        "add add_any sub neg reduce_sum cumsum reduce_window_sum broadcast_in_dim broadcast_to"
        " reshape transpose squeeze expand_dims concatenate stack pad rev slice split unstack tile"
        " real imag conj complex fft reduce_precision",
        linear,
    ),
    (
        "psum psum_invariant unreduced_psum all_gather all_gather_invariant all_to_all ppermute"
        " reduce_scatter pbroadcast preduced vary_unreduced_cast reduced_vary_cast",
        each,
    ),
    ("mul dot_general conv_general_dilated", bilinear),
    ("ragged_dot_general", ragged),
    ("div", division),
    ("max min clamp reduce_max reduce_min cummax cummin", hinge),
    ("reduce_window_max reduce_window_min pmax pmin", hinge),
    ("abs", absolute),
    ("sign", sign),
    ("floor ceil round argmax argmin eq ne lt le gt ge eq_to lt_to le_to", step),
    ("is_finite iota axis_index", constant),
    ("rem", remainder),
    ("convert_element_type", conversion),
    ("integer_pow", power),
    ("select_n", choice(by=slice(0, 1), cases=slice(1, None))),
    ("gather dynamic_slice", choice(by=slice(1, None), cases=slice(0, 1))),
    ("dynamic_update_slice", choice(by=slice(2, None), cases=slice(0, 2))),
    ("scatter scatter-add scatter-sub", choice(by=slice(1, 2), cases=slice(0, None, 2))),
    ("scatter-max scatter-min", scattered_extreme),
    ("scatter-mul", scattered_product),
    ("sort", sort),
    ("top_k approx_top_k", top_k),
    ("select_and_scatter_add select_and_gather_add", picked),
    ("triangular_solve", solve(lambda eqn: 1)),
    ("custom_linear_solve", solve(lambda eqn: sum(eqn.params["const_lengths"]))),
    ("reduce_prod cumprod", nonlinear("product of many values that depend on the input")),
    ("square", nonlinear("square of a value that depends on the input")),
    (
        "and or not xor reduce_and reduce_or reduce_xor shift_left shift_right_logical"
        " shift_right_arithmetic population_count clz bitcast_convert_type random_bits random_seed"
        " random_wrap random_unwrap random_clone random_fold_in random_split threefry2x32"
        " rng_bit_generator",
        _opaque,  # of integers, so piecewise constant or hopeless
    ),
    (
        "exp exp2 expm1 log log1p log2 logistic tanh sin cos tan sinh cosh asin acos atan asinh"
        " acosh atanh atan2 sqrt rsqrt cbrt pow erf erfc erf_inv lgamma digamma polygamma igamma"
        " igammac igamma_grad_a zeta bessel_i0e bessel_i1e regularized_incomplete_beta cumlogsumexp"
        " nextafter random_gamma cholesky lu qr eig eigh svd schur hessenberg householder_product"
        " tridiagonal tridiagonal_solve one_minus_square polynomial",
        _opaque,
    ),
)


def verdicts(eqn: _compat.Equation, kinds: Kinds) -> list[Verdict]:
    """What is to be said of each output of an equation."""
    if all(k is CONSTANT for k in kinds):
        return [Verdict(CONSTANT) for _ in eqn.outvars]
    name = eqn.primitive.name
    out = each(eqn, kinds) if name in IDENTITIES else RULES.get(name, unknown)(eqn, kinds)
    return out if isinstance(out, list) else [out for _ in eqn.outvars]
