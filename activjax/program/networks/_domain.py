"""`Forms`: what operations make of arrays that are affine in the sources so far."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np

from activjax import program
from activjax.program import Equation, Place, UnsupportedError, curves
from activjax.program.networks._forms import Form, compact, joined, linear, source
from activjax.program.networks._groups import EXTREMES, groups
from activjax.program.networks._network import Affine, Layer, Matrix, dense

#: Operands in which an operation is jointly linear, the others being fixed; None: all of them.
JOINTLY: dict[str, slice] = {
    **dict.fromkeys(
        (
            "add", "add_any", "broadcast_in_dim", "broadcast_to", "concatenate", "cumsum",
            "expand_dims", "neg", "pad", "reduce_precision", "reduce_sum", "reduce_window_sum",
            "reshape", "rev", "slice", "split", "squeeze", "stack", "sub", "tile", "transpose",
            "unstack",
        ),
        slice(None),
    ),
    "select_n": slice(1, None),
    "dynamic_slice": slice(0, 1),
    "gather": slice(0, 1),
    "dynamic_update_slice": slice(0, 2),
    "scatter": slice(0, None, 2),
    "scatter-add": slice(0, None, 2),
    "scatter-sub": slice(0, None, 2),
    "div": slice(0, 1),
    "triangular_solve": slice(1, 2),
}  # fmt: skip
PRODUCTS = {"mul", "dot_general", "conv_general_dilated"}

#: How far rows may be from proportional: constants are float32, which rounds to 6e-8.
PROPORTIONAL = 1e-6


@dataclass(eq=False)
class Value:
    """An array that depends on the input: one function of each element of another array.

    Attributes:
      shape: of the array.
      base: the other array.
      curve: the function.
      form: the array itself as affine functions; None until it is needed.
      name: the operation that made it.
    """

    shape: tuple[int, ...]
    base: Form
    curve: curves.Curve
    form: Form | None
    name: str


def fresh(form: Form, name: str) -> Value:
    return Value(form.shape, form, curves.IDENTITY, form, name)


class Forms(program.Domain):
    """Values are affine in the sources so far; each hinge makes a source."""

    def __init__(self, caller: str) -> None:
        self.caller = caller
        self.layers: list[Any] = []

    def input(self, shape: tuple[int, ...]) -> Value:
        """The input of the function."""
        return fresh(source(0, shape), "input")

    def abstract(self, value: Any) -> bool:
        return isinstance(value, Value)

    def slice(self, value: Any, i: int) -> Value:
        form = self.form(value)
        each = int(np.prod(form.shape[1:]))
        part = slice(i * each, (i + 1) * each)
        matrices = {s: m[:, part] for s, m in form.affine.matrices.items()}
        return fresh(Form(form.shape[1:], Affine(matrices, form.affine.bias[part])), value.name)

    def stack(self, values: Sequence[Any]) -> Value:
        forms = [self.as_form(v) for v in values]
        return fresh(Form((len(forms), *forms[0].shape), joined(forms)), "stack")

    def outputs(self, outs: Sequence[Any]) -> Affine:
        return joined([self.as_form(v) for v in outs])

    def as_form(self, value: Any) -> Form:
        """An array or a value as affine functions."""
        if isinstance(value, Value):
            return self.form(value)
        array = np.asarray(value, np.float64)
        return Form(array.shape, Affine({}, array.ravel()))

    # --- arithmetic; `extract_exactly` has its own --------------------------------------------

    def operation(
        self, eqn: Equation, operands: Sequence[Any], positions: Sequence[int]
    ) -> list[Form]:
        """The outputs of an operation that is linear in the operands at `positions`."""
        return linear(eqn, operands, positions)

    def plus(self, a: Form, b: Form, times: float | np.ndarray = 1.0) -> Form:
        """`a + times * b`."""
        return a.plus(b, times)

    def scaled(self, form: Form, times: float) -> Form:
        """A form times a number."""
        return form.scaled(times)

    def shifted(self, form: Form, by: float) -> Form:
        """A form less a number."""
        return form - by

    def number(self, exact: Fraction) -> float:
        """A constant of the program."""
        return float(exact)

    # --- operations ---------------------------------------------------------------------------

    def equation(self, eqn: Equation, values: list[Any], place: Place) -> list[Any]:
        name = eqn.primitive.name
        where = f"{scope}/{name}" if (scope := program.scope_path(place.stack)) else name
        if program.is_identity(name):
            return list(values)
        rounded = name == "convert_element_type" and values[0].form is not None
        if rounded and jnp.issubdtype(eqn.params["new_dtype"], jnp.floating):
            return [values[0]]
        if name == "integer_pow" and eqn.params["y"] == 1:
            return [values[0]]
        if (alone := _unbounded(eqn, values)) is not None:
            return [alone]
        if name in ("max", "min", "abs", "clamp") and self._affine(values):
            return [self._rectified(eqn, values, where)]
        if name in EXTREMES:
            return [self._extreme(eqn, values[0], where)]
        curved = self._curved(eqn, values, where)
        # As a curve it may still become continuous, or not be needed.
        stepped = any(v.form is None for v in values if isinstance(v, Value))
        made = None if curved and stepped else self._linear(eqn, values, where)
        if made is None:
            if curved is None and name == "select_n":
                curved = self._chosen(values, where)
            if curved is None:
                raise self._unsupported(eqn, values, where)
            return [curved]
        if curved is not None:
            made[0] = Value(curved.shape, curved.base, curved.curve, made[0].form, where)
        return list(made)

    def _affine(self, values: list[Any]) -> bool:
        """Whether all operands can be had as affine functions."""
        return all(v.form is not None or v.curve.continuous for v in values if isinstance(v, Value))

    def _linear(self, eqn: Equation, values: list[Any], where: str) -> list[Value] | None:
        """The outputs of an operation that is linear in the operands that vary; else None."""
        name = eqn.primitive.name
        varying = [i for i, v in enumerate(values) if isinstance(v, Value)]
        if name in JOINTLY:
            positions = list(range(len(values)))[JOINTLY[name]]
        elif name in PRODUCTS:
            positions = varying
        else:
            return None
        if (len(varying) > 1 and name in PRODUCTS) or not set(varying) <= set(positions):
            return None
        if curves.pointwise(eqn) is not None and not self._affine(values):
            return None
        operands = [self.form(v) if isinstance(v, Value) else v for v in values]
        return [fresh(form, where) for form in self.operation(eqn, operands, positions)]

    def _curved(self, eqn: Equation, values: list[Any], where: str) -> Value | None:
        """The output as a function of each element of one array, where it is one."""
        g = curves.pointwise(eqn)
        if g is None:
            return None
        bases = {id(v.base): v.base for v in values if isinstance(v, Value)}
        if len(bases) > 1:
            return self._compared(eqn, values, where)
        known = [v.curve if isinstance(v, Value) else curves.uniform(v) for v in values]
        (base,) = bases.values()
        shape = tuple(eqn.outvars[0].aval.shape)  # pyright: ignore
        if None in known or base.shape != shape:
            return self._compared(eqn, values, where)
        curve = curves.combine(g, [c for c in known if c is not None])
        return None if curve is None else Value(shape, base, curve, None, where)

    def _compared(self, eqn: Equation, values: list[Any], where: str) -> Value | None:
        """A comparison of two arrays, as one of their difference with zero."""
        if eqn.primitive.name not in ("gt", "ge", "lt", "le") or not self._affine(values):
            return None
        shape = tuple(eqn.outvars[0].aval.shape)  # pyright: ignore
        a, b = (spread(self.as_form(v), shape) for v in values)
        zero = curves.constant(0.0)
        assert zero is not None
        curve = curves.combine(curves.POINTWISE[eqn.primitive.name], [curves.IDENTITY, zero])
        return None if curve is None else Value(shape, self.plus(a, b, -1.0), curve, None, where)

    def _rectified(self, eqn: Equation, values: list[Any], where: str) -> Value:
        """`max`, `min`, `abs` and `clamp`, by rectifiers."""
        name, shape = eqn.primitive.name, tuple(eqn.outvars[0].aval.shape)  # pyright: ignore
        curved = self._curved(eqn, values, where)
        forms = [spread(self.as_form(v), shape) for v in values]
        if name == "abs":
            out = self.plus(self.scaled(self.rectify(forms[0], where), 2.0), forms[0], -1.0)
        elif name == "clamp":
            out = self._lower(forms[1], forms[0], where)
            out = self._upper(out, forms[2], where)
        else:
            # The operand that varies is the one whose excess makes the unit active.
            a, b = forms if isinstance(values[0], Value) else forms[::-1]
            out = (self._lower if name == "max" else self._upper)(a, b, where)
        if curved is None:
            return fresh(out, where)
        return Value(shape, curved.base, curved.curve, out, where)

    def _lower(self, a: Form, b: Form, where: str) -> Form:
        """`max(a, b)`."""
        return self.plus(b, self.rectify(self.plus(a, b, -1.0), where))

    def _upper(self, a: Form, b: Form, where: str) -> Form:
        """`min(a, b)`."""
        return self.plus(a, self.rectify(self.plus(a, b, -1.0), where), -1.0)

    def _extreme(self, eqn: Equation, value: Any, where: str) -> Value:
        """The largest or smallest of groups of elements."""
        form, largest = self.form(value), EXTREMES[eqn.primitive.name]
        shape = tuple(eqn.outvars[0].aval.shape)  # pyright: ignore
        table = groups(eqn, form.shape)
        if table is None:
            raise ValueError(f"{self.caller}: {where} takes the largest of no elements")
        affine, table = _masked((form if largest else form.scaled(-1.0)).affine, table)
        out = self.layer(Layer(affine, table, where), shape)
        return fresh(out if largest else out.scaled(-1.0), where)

    def _chosen(self, values: list[Any], where: str) -> Value | None:
        """`where(z > 0, a, b)` that is continuous because `a - b` is a multiple of z."""
        which, *cases = values
        if not isinstance(which, Value) or len(cases) != 2 or not self._affine(cases):
            return None
        lines, knots = which.curve.lines, which.curve.knots
        if len(knots) != 1 or any(slope for slope, _ in lines):
            return None
        shape = max((np.shape(c) for c in cases), key=len)  # which may be a scalar
        forms = [spread(self.as_form(c), shape) for c in cases]
        low, high = (forms[int(level)] for _, level in lines)
        z = spread(which.base, shape) - float(knots[0])
        times = _multiple(high.plus(low, -1.0), z)
        if times is None:
            return None
        out = self.plus(low, self.rectify(z, where), times)
        return fresh(out, where)

    # --- hinges -------------------------------------------------------------------------------

    def rectify(self, z: Form, where: str) -> Form:
        return self.layer(Layer(z.affine, None, where), z.shape)

    def layer(self, layer: Layer, shape: tuple[int, ...]) -> Form:
        self.layers.append(layer)
        return source(len(self.layers), shape)

    def form(self, value: Value) -> Form:
        """A value as affine functions; its hinges become a layer.

        Raises:
          ValueError: it has jumps.
        """
        if value.form is None:
            curve, base = value.curve, value.base
            if not curve.continuous:
                raise ValueError(
                    f"{self.caller}: the function has jumps, from {value.name}, or cannot be shown "
                    "to be continuous; expected one that is"
                )
            (slope, level), *_ = curve.lines
            out = self.shifted(self.scaled(base, self.number(slope)), -self.number(level))
            slopes = itertools.pairwise(line[0] for line in curve.lines)
            for knot, (below, above) in zip(curve.knots, slopes, strict=True):
                bent = self.rectify(self.shifted(base, self.number(knot)), value.name)
                out = self.plus(out, bent, self.number(above - below))
            value.form = out
        return value.form

    def _unsupported(self, eqn: Equation, values: list[Any], where: str) -> Exception:
        stepped = [v for v in values if isinstance(v, Value) and v.form is None]
        if any(not v.curve.continuous for v in stepped):
            return ValueError(
                f"{self.caller}: the function has jumps, or cannot be shown to be continuous, at "
                f"{where}; expected one that is"
            )
        return UnsupportedError(
            f"{self.caller}: {where} is not supported; supported are linear operations, max, min, "
            "abs, clamp, where with comparisons that keep it continuous, maxima over axes and "
            "windows, cummax and cummin"
        )


def spread(form: Form, shape: tuple[int, ...]) -> Form:
    """A form of another shape: axes of size 1, or a scalar, in every element."""
    if form.shape == shape:
        return form
    numbers = np.arange(int(np.prod(form.shape))).reshape(form.shape)
    columns = np.broadcast_to(numbers, shape).ravel()
    matrices: dict[int, Matrix] = {
        s: compact(m[:, columns]) for s, m in form.affine.matrices.items()
    }
    return Form(shape, Affine(matrices, form.affine.bias[columns]))


def _unbounded(eqn: Equation, values: list[Any]) -> Value | None:
    """The operand of a maximum with -inf, or of a minimum with inf, that it hands on."""
    bound = {"max": -np.inf, "min": np.inf}.get(eqn.primitive.name)
    if bound is None:
        return None
    given = [v for v in values if isinstance(v, Value)]
    constant = [np.asarray(v) for v in values if not isinstance(v, Value)]
    if not constant or (constant[0] != bound).any():
        return None
    return given[0] if given[0].shape == tuple(eqn.outvars[0].aval.shape) else None  # pyright: ignore


def _masked(affine: Affine, table: np.ndarray) -> tuple[Affine, np.ndarray]:
    """Without elements that are -inf, which are never the largest, where a group has others."""
    there = (affine.bias != -np.inf)[table]
    if there.all() or not there.any(1).all():
        return affine, table
    first = table[np.arange(len(table)), there.argmax(1)]
    bias = np.where(affine.bias == -np.inf, 0.0, affine.bias)
    return Affine(affine.matrices, bias), np.where(there, table, first[:, None])


def _multiple(form: Form, of: Form) -> np.ndarray | None:
    """The number for each element that makes `form` that multiple of `of`, if there is one."""
    sources = {*form.affine.matrices, *of.affine.matrices}
    dot, square, size = (np.zeros(form.affine.size) for _ in range(3))
    pairs = [(form.affine.bias[None], of.affine.bias[None])]
    for s in sources:
        a, b = form.affine.matrices.get(s), of.affine.matrices.get(s)
        if a is None or b is None:
            return None
        pairs.append((dense(a), dense(b)))
    for a, b in pairs:
        dot += (a * b).sum(0)
        square += (b * b).sum(0)
        size += (a * a).sum(0)
    times = np.divide(dot, square, out=np.zeros_like(dot), where=square > 0)
    rest = sum(((a - times * b) ** 2).sum(0) for a, b in pairs)
    return times.reshape(form.shape) if (rest <= PROPORTIONAL**2 * size).all() else None
