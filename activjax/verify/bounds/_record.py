"""`record`: the tape of a function, from its traced program.

Every hinge is written with rectifiers: `abs(z) = 2 relu(z) - z`, `max(a, b) = b + relu(a - b)`, a
continuous elementwise curve is a line plus a multiple of `relu(z - c)` for each of its knots.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from activjax import program
from activjax.program import Equation, Place, UnsupportedError, curves
from activjax.verify.bounds._linear import JOINTLY, PRODUCTS, joint, product
from activjax.verify.bounds._tape import Node, Tape


@dataclass(eq=False)
class Value:
    """An array that depends on the input: one function of each element of a node.

    Attributes:
      base: the node.
      curve: the function.
      node: the array itself as a node; None until it is needed.
      name: the operation that made it.
    """

    base: Node
    curve: curves.Curve
    node: Node | None
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, that of the base."""
        return self.base.shape


def record(f: Callable[..., Any], x: Any, dtype: Any) -> tuple[Tape, Any]:
    """The tape of `f`, a function of one array.

    Args:
      f: any function that JAX can trace; what it closes over may be traced arrays.
      x: `jax.ShapeDtypeStruct` of its input.
      dtype: in which the tape computes.

    Returns:
      The tape, and the structure of the outputs.

    Raises:
      UnsupportedError: an operation that is neither linear nor a supported hinge, by name.
    """
    traced = program.trace(f, x)
    source = Node("input", tuple(x.shape), name="input")
    domain = _Recorder(dtype)
    domain.nodes.append(source)
    # Constants are computed at once, under jit too: the slope of a leaky rectifier must be known.
    with jax.ensure_compile_time_eval():
        outs = program.evaluate(traced.closed, [_fresh(source)], domain)
    for out, leaf in zip(outs, jax.tree.leaves(traced.out_shape), strict=True):
        if isinstance(out, Value) and not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise UnsupportedError(
                f"verify: an output has dtype {leaf.dtype}; expected real numbers. Return logits, "
                "not a class"
            )
    outputs = [domain.node(o) if isinstance(o, Value) else o for o in outs]
    return Tape(source, domain.nodes, outputs), traced.out_shape


def _fresh(node: Node) -> Value:
    return Value(node, curves.IDENTITY, node, node.name)


class _Recorder(program.Domain):
    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        self.nodes: list[Node] = []

    def abstract(self, value: Any) -> bool:
        return isinstance(value, Value)

    def slice(self, value: Any, i: int) -> Value:
        node = self.node(value)
        return self._linear(lambda x: x[i], None, [node], node.shape[1:], "slice")

    def stack(self, values: Sequence[Any]) -> Value:
        nodes = [self.node(v) if isinstance(v, Value) else None for v in values]
        shape = next(n.shape for n in nodes if n is not None)

        def linear(*xs: Any) -> Any:
            rest = iter(xs)
            return jnp.stack([jnp.zeros(shape, xs[0].dtype) if n is None else next(rest)
                              for n in nodes])  # fmt: skip

        constant = None
        if None in nodes:
            constant = jnp.stack([
                jnp.zeros(shape, self.dtype) if n else jnp.asarray(v, self.dtype)
                for n, v in zip(nodes, values, strict=True)
            ])  # fmt: skip
        kept = [n for n in nodes if n is not None]
        return self._linear(linear, None, kept, (len(values), *shape), "stack", constant)

    # --- operations ---------------------------------------------------------------------------

    def equation(self, eqn: Equation, values: list[Any], place: Place) -> list[Any]:
        name = eqn.primitive.name
        where = f"{scope}/{name}" if (scope := program.scope_path(place.stack)) else name
        if program.is_identity(name):
            return list(values)
        if name in ("convert_element_type", "reduce_precision") and isinstance(values[0], Value):
            # What a conversion between floats rounds is not part of the function.
            new = eqn.params.get("new_dtype", self.dtype)
            if values[0].node is not None and jnp.issubdtype(new, jnp.floating):
                return [values[0]]
        if name == "integer_pow" and eqn.params["y"] == 1:
            return [values[0]]
        if (alone := _unbounded(eqn, values)) is not None:
            return [alone]
        if name in ("max", "min", "abs", "clamp") and self._affine(values):
            return [self._hinge(eqn, values, where)]
        curved = self._curved(eqn, values, where)
        # As a curve it may still become continuous, or not be needed.
        made = None if curved and self._stepped(values) else self._made(eqn, values, where)
        if made is None:
            if curved is None:
                raise self._unsupported(values, where)
            return [curved]
        if curved is not None:
            made[0] = Value(curved.base, curved.curve, made[0].node, where)
        return list(made)

    def _affine(self, values: list[Any]) -> bool:
        return all(v.node is not None or v.curve.continuous for v in values if isinstance(v, Value))

    def _stepped(self, values: list[Any]) -> bool:
        return any(v.node is None for v in values if isinstance(v, Value))

    def _made(self, eqn: Equation, values: list[Any], where: str) -> list[Value] | None:
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
        if any(values[i].node is None and not values[i].curve.continuous for i in varying):
            return None
        nodes = {i: self.node(values[i]) for i in varying}
        fixed = {i: v for i, v in enumerate(values) if i not in nodes}
        make = product if name in PRODUCTS or name == "div" else joint
        made = make(eqn, nodes, fixed, positions, self.dtype, where)
        self.nodes.extend(made)
        return [_fresh(n) for n in made]

    def _curved(self, eqn: Equation, values: list[Any], where: str) -> Value | None:
        """The output as a function of each element of one node, where it is one."""
        g = curves.pointwise(eqn)
        if g is None:
            return None
        bases = {id(v.base): v.base for v in values if isinstance(v, Value)}
        known = [v.curve if isinstance(v, Value) else curves.uniform(v) for v in values]
        shape = tuple(eqn.outvars[0].aval.shape)  # pyright: ignore
        (base, *others) = bases.values()
        if others or None in known or base.shape != shape:
            return None
        curve = curves.combine(g, [c for c in known if c is not None])
        return None if curve is None else Value(base, curve, None, where)

    def _hinge(self, eqn: Equation, values: list[Any], where: str) -> Value:
        """`max`, `min`, `abs` and `clamp`, by rectifiers."""
        name, shape = eqn.primitive.name, tuple(eqn.outvars[0].aval.shape)  # pyright: ignore
        curved = self._curved(eqn, values, where)
        parts = [self._spread(v, shape) for v in values]
        if name == "abs":
            out = self._sum([(2.0, self._relu(parts[0], where)), (-1.0, parts[0])], where)
        elif name == "clamp":
            low, x, high = parts
            out = self._larger(x, low, where)
            over = self._relu(self._sum([(1.0, out), (-1.0, high)], where), where)
            out = self._sum([(1.0, out), (-1.0, over)], where)
        else:
            # The operand that varies is the one whose excess makes the unit active.
            a, b = parts if isinstance(parts[0], Node) else parts[::-1]
            if name == "max":
                out = self._larger(a, b, where)
            else:
                over = self._relu(self._sum([(1.0, a), (-1.0, b)], where), where)
                out = self._sum([(1.0, a), (-1.0, over)], where)
        return _fresh(out) if curved is None else Value(curved.base, curved.curve, out, where)

    def _larger(self, a: Any, b: Any, where: str) -> Node:
        """`max(a, b)`."""
        if not isinstance(b, Node) and _is_zero(b):
            return self._relu(a, where)
        over = self._relu(self._sum([(1.0, a), (-1.0, b)], where), where)
        return self._sum([(1.0, b), (1.0, over)], where)

    # --- nodes --------------------------------------------------------------------------------

    def node(self, value: Value) -> Node:
        """A value as a node; its hinges become rectifiers.

        Raises:
          UnsupportedError: it has jumps.
        """
        if value.node is None:
            curve, base = value.curve, value.base
            if not curve.continuous:
                raise UnsupportedError(
                    f"verify: the function has jumps at {value.name}, or cannot be shown to be "
                    "continuous; expected one that is"
                )
            (slope, level), *_ = curve.lines
            terms: list[tuple[float, Any]] = [(float(slope), base)] if slope else []
            slopes = itertools.pairwise(line[0] for line in curve.lines)
            for knot, (below, above) in zip(curve.knots, slopes, strict=True):
                at = base
                if knot:
                    at = self._sum([(1.0, base), (-float(knot), np.ones(()))], value.name)
                terms.append((float(above - below), self._relu(at, value.name)))
            value.node = self._sum([*terms, (float(level), np.ones(()))], value.name, base.shape)
        return value.node

    def _relu(self, z: Node, where: str) -> Node:
        node = Node("relu", z.shape, (z,), name=where)
        self.nodes.append(node)
        return node

    def _linear(
        self,
        linear: Callable[..., Any],
        absolute: Callable[..., Any] | None,
        operands: Sequence[Node],
        shape: tuple[int, ...],
        name: str,
        constant: Any = None,
        terms: int = 0,
    ) -> Value:
        node = Node("linear", shape, tuple(operands), linear, absolute or linear, constant, terms,
                    name)  # fmt: skip
        self.nodes.append(node)
        return _fresh(node)

    def _sum(
        self, terms: list[tuple[float, Any]], where: str, shape: tuple[int, ...] | None = None
    ) -> Node:
        """`sum of times * part`: nodes, and arrays that make up the constant."""
        nodes = [(t, p) for t, p in terms if isinstance(p, Node)]
        shape = shape or nodes[0][1].shape
        fixed = [jnp.asarray(t, self.dtype) * jnp.asarray(p, self.dtype)
                 for t, p in terms if not isinstance(p, Node) and t]  # fmt: skip
        constant = jnp.broadcast_to(sum(fixed[1:], fixed[0]), shape) if fixed else None
        if constant is None and len(nodes) == 1 and nodes[0][0] == 1.0:
            return nodes[0][1]
        times = [t for t, _ in nodes]

        def weighted(weights: list[float]) -> Callable[..., Any]:
            def linear(*xs: Any) -> Any:
                parts = [x if w == 1.0 else w * x for w, x in zip(weights, xs, strict=True)]
                return sum(parts[1:], parts[0])

            return linear

        return self.node(
            self._linear(weighted(times), weighted([abs(t) for t in times]), [p for _, p in nodes],
                         shape, where, constant, len(nodes) + 2)
        )  # fmt: skip

    def _spread(self, value: Any, shape: tuple[int, ...]) -> Any:
        """An operand in the shape of the result."""
        if not isinstance(value, Value):
            if isinstance(value, np.ndarray | float | int):
                return np.broadcast_to(value, shape)
            return jnp.broadcast_to(jnp.asarray(value, self.dtype), shape)
        node = self.node(value)
        if node.shape == shape:
            return node
        spread = self._linear(lambda x: jnp.broadcast_to(x, shape), None, [node], shape,
                              "broadcast", None, int(np.prod(shape)))  # fmt: skip
        return self.node(spread)

    def _unsupported(self, values: list[Any], where: str) -> UnsupportedError:
        stepped = [v for v in values if isinstance(v, Value) and v.node is None]
        if any(not v.curve.continuous for v in stepped):
            return UnsupportedError(
                f"verify: the function has jumps at {where}, or cannot be shown to be continuous; "
                "expected one that is"
            )
        return UnsupportedError(
            f"verify: {where} is not supported; supported are linear operations with constants, "
            "max, min, abs, clamp, relu, leaky relu and other continuous piecewise linear "
            "elementwise functions"
        )


def _is_zero(value: Any) -> bool:
    return not isinstance(value, Tracer) and not np.asarray(value).any()


def _unbounded(eqn: Equation, values: list[Any]) -> Value | None:
    """The operand of a maximum with -inf, or of a minimum with inf, that it hands on."""
    bound = {"max": -np.inf, "min": np.inf}.get(eqn.primitive.name)
    given = [v for v in values if isinstance(v, Value)]
    known = [v for v in values if not isinstance(v, Value | Tracer)]
    if bound is None or not known or len(given) != 1 or (np.asarray(known[0]) != bound).any():
        return None
    shape = tuple(eqn.outvars[0].aval.shape)  # pyright: ignore
    return given[0] if given[0].shape == shape else None
