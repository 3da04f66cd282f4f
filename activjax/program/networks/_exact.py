"""`extract_exactly`: a function as steps whose every constant stands in its program, unrounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import jax
import numpy as np
from jaxtyping import Float64

from activjax import program
from activjax.program import Equation, UnsupportedError, is_identity
from activjax.program.networks._domain import Forms, Value, spread
from activjax.program.networks._extract import check_finite, traced_function
from activjax.program.networks._forms import Form, compact, linear, source
from activjax.program.networks._network import Affine, Layer, dense

#: Operations that only copy elements, or change their sign.
COPIES = {
    "broadcast_in_dim", "broadcast_to", "concatenate", "dynamic_slice", "dynamic_update_slice",
    "expand_dims", "gather", "neg", "pad", "reshape", "rev", "scatter", "select_n", "slice",
    "split", "squeeze", "stack", "tile", "transpose", "unstack",
}  # fmt: skip
#: Operations that add elements up; of elements that are 1, -1 or 0 they make whole numbers.
SUMS = {"cumsum", "reduce_sum", "reduce_window_sum", "scatter-add", "scatter-sub"}
#: Operations that multiply by a constant array and add up.
DOTS = {"dot_general", "conv_general_dilated"}
#: Products smaller than this may have lost digits below the smallest float64.
UNDERFLOW = 2.0**-900


@dataclass(frozen=True, eq=False)
class Step:
    """`affine(values) / divisor`, rectified or not.

    Attributes:
      affine: with constants of the program.
      rectifies: whether the outputs are `max(value, 0)`.
      divisor: `[m]` constants of the program, or None for 1; never of a step that rectifies.
      name: the operation in the user's program.
    """

    affine: Affine
    rectifies: bool
    divisor: Float64[np.ndarray, " m"] | None = None
    name: str = ""

    @property
    def size(self) -> int:
        """The number of its outputs."""
        return self.affine.size


@dataclass(frozen=True, eq=False)
class ExactNetwork:
    """A continuous piecewise linear function of a vector, with no constant rounded.

    Attributes:
      size: length of the input, source 0.
      steps: in the order of evaluation; step i is source `i + 1`.
      out: the outputs, flattened.
    """

    size: int
    steps: tuple[Step, ...]
    out: Affine

    @property
    def units(self) -> int:
        """The number of rectifiers."""
        return sum(step.size for step in self.steps if step.rectifies)

    def __call__(self, x: Sequence[Fraction]) -> list[Fraction]:
        """The outputs at a point, exactly; slow."""
        return self.values(x)[1]

    def values(self, x: Sequence[Fraction]) -> tuple[list[Fraction], list[Fraction]]:
        """The values of all rectifiers before they rectify, and the outputs, exactly; slow."""
        known, before = {0: [Fraction(v) for v in x]}, []
        for i, step in enumerate(self.steps):
            z = _at(step.affine, known)
            if step.divisor is not None:
                z = [v / Fraction(d) for v, d in zip(z, step.divisor.tolist(), strict=True)]
            if step.rectifies:
                before += z
                z = [max(v, Fraction(0)) for v in z]
            known[i + 1] = z
        return before, _at(self.out, known)


def _at(affine: Affine, values: dict[int, list[Fraction]]) -> list[Fraction]:
    out = [Fraction(b) for b in affine.bias.tolist()]
    for s, matrix in affine.matrices.items():
        full = dense(matrix)
        for i, j in zip(*(x.tolist() for x in np.nonzero(full)), strict=True):
            out[j] += Fraction(float(full[i, j])) * values[s][i]
    return out


def extract_exactly(name: str, f: Callable[[Any], Any], x: Any) -> ExactNetwork:
    """The exact form of `f`, a function of one array, in real arithmetic.

    Where a composition of linear operations would round, the first of them becomes a step of its
    own. Rectifiers are numbered in program order; `abs`, `max`, `min`, `clamp` and elementwise
    curves are rewritten as by `extract`.

    Args:
      name: of the caller, for messages.
      f: continuous and piecewise linear; its outputs are floats.
      x: an array, or a `jax.ShapeDtypeStruct`, of the shape and dtype of its input.

    Raises:
      TypeError, ValueError: as of `extract`.
      UnsupportedError: an operation that is not supported, by name, such as max pooling.
    """
    traced, shape = traced_function(name, f, x)
    domain = _Exact(name)
    outs = program.evaluate(traced.closed, [domain.input(shape)], domain)
    out = domain.outputs(outs)
    network = _pruned(int(np.prod(shape)), domain.layers, out)
    check_finite(name, [*((s.name, s.affine) for s in network.steps), ("the output", network.out)])
    return network


class _Exact(Forms):
    """Values are affine in the sources so far, without rounding."""

    def __init__(self, caller: str) -> None:
        super().__init__(caller)
        self._own: dict[int, tuple[Form, Form]] = {}

    # --- arithmetic -----------------------------------------------------------------------------

    def plus(self, a: Form, b: Form, times: float | np.ndarray = 1.0) -> Form:
        b = self.scaled(b, times)
        out = a.plus(b)
        return out if _sum_is_exact(a, b, out) else self.source(a).plus(b)

    def scaled(self, form: Form, times: float | np.ndarray) -> Form:
        out = form.scaled(times)
        return out if _product_is_exact(form, times) else self.source(form).scaled(times)

    def shifted(self, form: Form, by: float | np.ndarray) -> Form:
        return self.plus(form, Form(form.shape, Affine({}, _flat(-np.asarray(by), form.shape))))

    def number(self, exact: Fraction) -> float:
        if Fraction(float(exact)) != exact:
            raise UnsupportedError(
                f"{self.caller}: the constant {exact} of a piecewise linear curve is no float64, "
                "so nothing can be proved exactly; multiply or divide after the comparison"
            )
        return float(exact)

    def source(self, form: Form, divisor: np.ndarray | None = None, where: str = "linear") -> Form:
        """A form as the outputs of a step of its own."""
        if divisor is None and id(form) in self._own:
            return self._own[id(form)][1]
        self.layers.append(Step(form.affine, False, divisor, where))
        made = source(len(self.layers), form.shape)
        if divisor is None:
            self._own[id(form)] = form, made
        return made

    # --- operations -----------------------------------------------------------------------------

    def operation(
        self, eqn: Equation, operands: Sequence[Any], positions: Sequence[int]
    ) -> list[Form]:
        name = eqn.primitive.name
        shape = tuple(eqn.outvars[0].aval.shape)  # pyright: ignore
        if name in ("add", "add_any", "sub"):
            forms = [v if isinstance(v, Form) else self.as_form(v) for v in operands]
            a, b = (spread(v, shape) for v in forms)
            return [self.plus(a, b, -1.0 if name == "sub" else 1.0)]
        if name in ("mul", "div"):
            return [self._scaled_by(name, operands, shape)]
        if name in COPIES or is_identity(name):
            return linear(eqn, operands, positions)
        if name not in SUMS | DOTS:
            raise UnsupportedError(
                f"{self.caller}: {name} is not supported by an exact proof; supported are sums, "
                "products with constants, convolutions, rearrangements, max, min, abs and clamp of "
                "elements"
            )
        once = name in DOTS
        ready = [
            self.source(v) if isinstance(v, Form) and not _bare(v, once) else v for v in operands
        ]
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            made = linear(eqn, ready, positions)
        if once:
            constants = next(np.asarray(v, np.float64) for v in ready if not isinstance(v, Form))
            _stands_in(self.caller, name, made[0], constants)
        return made

    def _scaled_by(self, name: str, operands: Sequence[Any], shape: tuple[int, ...]) -> Form:
        (form,) = (v for v in operands if isinstance(v, Form))
        (factor,) = (np.asarray(v, np.float64) for v in operands if not isinstance(v, Form))
        form = spread(form, shape)
        if name == "mul":
            return self.scaled(form, _flat(factor, shape).reshape(shape))
        divisor = _flat(factor, shape)
        if not (divisor != 0).all() or not np.isfinite(divisor).all():
            raise ValueError(f"{self.caller}: a division by {divisor.min()}; check the parameters")
        if (np.abs(np.frexp(divisor)[0]) == 0.5).all():
            return self.scaled(form, (1.0 / divisor).reshape(shape))
        return self.source(form, divisor, "div")

    def form(self, value: Value) -> Form:
        if value.form is None:
            c = value.curve
            for k, v, below, above in zip(c.knots, c.at, c.lines, c.lines[1:], strict=False):
                gap = [a * k + b - v for a, b in (below, above)]
                if any(gap) and c.continuous:
                    raise ValueError(
                        f"{self.caller}: {value.name} has a jump of {float(max(map(abs, gap))):.1e}"
                        f" at {float(k)}, from rounded constants; an exact proof needs a "
                        "continuous function"
                    )
        return super().form(value)

    def layer(self, layer: Layer, shape: tuple[int, ...]) -> Form:
        if layer.groups is not None:
            raise UnsupportedError(
                f"{self.caller}: {layer.name}: max pooling is not supported by verify; use average "
                "pooling or strides"
            )
        self.layers.append(Step(layer.affine, True, None, layer.name))
        return source(len(self.layers), shape)

    def _compared(self, eqn: Equation, values: list[Any], where: str) -> Value | None:
        return None  # leads to `_chosen` alone

    def _chosen(self, values: list[Any], where: str) -> Value | None:
        return None  # whether rows are proportional is only known up to rounding


def _flat(number: Any, shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(np.asarray(number, np.float64), shape).ravel()


def _sum_is_exact(a: Form, b: Form, out: Form) -> bool:
    """Whether `out` is `a + b` without rounding: Knuth's error of a sum, which is exact, is 0."""
    pairs = [(a.affine.bias, b.affine.bias, out.affine.bias)]
    shared = a.affine.matrices.keys() & b.affine.matrices.keys()
    pairs += [tuple(f.affine.matrices[s] for f in (a, b, out)) for s in shared]
    for x, y, z in pairs:
        x, y, z = (np.asarray(v) if isinstance(v, np.ndarray) else v.toarray() for v in (x, y, z))
        with np.errstate(all="ignore"):
            part = z - x
            error = (x - (z - part)) + (y - part)
        if np.isfinite(z).all() and error.any():
            return False
    return True


def _product_is_exact(form: Form, times: float | np.ndarray) -> bool:
    """Whether no product needs more than the 53 bits of a float64."""
    bits = _bits(_flat(times, form.shape))
    for m in (form.affine.bias[None], *form.affine.matrices.values()):
        full = dense(m)
        with np.errstate(all="ignore"):
            wide = _bits(full) + bits > 53
            small = np.abs(full * _flat(times, form.shape)) < UNDERFLOW
        there = (full != 0) & (_flat(times, form.shape) != 0)
        if (there & (wide | small)).any():
            return False
    return True


def _bits(x: np.ndarray) -> np.ndarray:
    """By number, the bits from the first one that is set to the last."""
    fraction = np.frexp(np.where(np.isfinite(x), x, 0.0))[0]
    whole = (np.abs(fraction) * 2.0**53).astype(np.int64)
    lowest = whole & -whole
    return np.where(whole > 0, 54 - np.frexp(lowest.astype(np.float64))[1], 0)


def _bare(form: Form, once: bool) -> bool:
    """Whether elements are elements of sources or their negatives; with `once`, no one twice."""
    if form.affine.bias.any():
        return False
    columns = np.zeros(form.affine.size, np.int64)
    for m in form.affine.matrices.values():
        data = m[m != 0] if isinstance(m, np.ndarray) else m.data
        if not np.isin(data, (-1.0, 0.0, 1.0)).all():
            return False
        used = abs(m)
        columns += np.asarray(used.sum(0)).ravel().astype(np.int64)
        if once and (np.asarray(used.sum(1)) > 1).any():
            return False
    return bool((columns <= 1).all())


def _stands_in(caller: str, name: str, made: Form, constants: np.ndarray) -> None:
    """Each entry must be a constant or its negative: no algorithm may have rounded on the way."""
    known = np.unique(np.concatenate([[0.0], np.abs(constants.ravel())]))
    for m in made.affine.matrices.values():
        data = m if isinstance(m, np.ndarray) else m.data
        if np.isfinite(data).all() and not np.isin(np.abs(data), known).all():
            raise RuntimeError(f"{caller}: {name} was rounded on this device; report it")


def _pruned(size: int, steps: Sequence[Step], out: Affine) -> ExactNetwork:
    """Without linear steps that nothing reads."""
    used, kept = set(out.matrices), []
    for i in reversed(range(len(steps))):
        if steps[i].rectifies or i + 1 in used:
            kept.append(i)
            used |= set(steps[i].affine.matrices)
    number = {0: 0, **{i + 1: k + 1 for k, i in enumerate(reversed(kept))}}

    def moved(affine: Affine) -> Affine:
        matrices = {number[s]: compact(m) for s, m in affine.matrices.items()}
        return Affine(matrices, affine.bias)

    left = [steps[i] for i in reversed(kept)]
    made = tuple(Step(moved(s.affine), s.rectifies, s.divisor, s.name) for s in left)
    return ExactNetwork(size, made, moved(out))
