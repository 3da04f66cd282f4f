"""`bound`: what a function's outputs and activations can be over a box of inputs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from activjax import program, transforms
from activjax.verify.bounds._ascent import ascend
from activjax.verify.bounds._layers import Layers, layers, reach
from activjax.verify.bounds._passes import backward, identity, magnitudes
from activjax.verify.bounds._record import record
from activjax.verify.bounds._relax import lines
from activjax.verify.bounds._tape import Node, Tape, below

METHODS = ("ibp", "crown", "alpha")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Bounds:
    """Bounds that hold for every input of a box, rounding included.

    Attributes:
      lower, upper: of the function's outputs, in its own structure, or `[rows]` of an objective.
      sites: by the name of a tagged activation, its `(lower, upper)`.
      units: `(lower, upper)`, `[units]`, of the operands of all rectifiers in order.
      empty: whether no input of the box has the pattern asked for; then no bound means anything.
    """

    lower: Any
    upper: Any
    sites: dict[str, tuple[Array, Array]]
    units: tuple[Float[Array, " units"], Float[Array, " units"]]
    empty: Bool[Array, ""]


def bound(
    f: Callable[[Any], Any],
    box: tuple[Any, Any],
    method: Literal["ibp", "crown", "alpha"] = "crown",
    objective: Any = None,
    pattern: Any = None,
    *,
    select: str | None = "**",
    steps: int = 20,
    rate: float = 0.3,
) -> Bounds:
    """Bounds of a function over a box.

    `f` is taken to be what its program says in real arithmetic. It is made of linear operations
    with constants and of continuous piecewise linear elementwise functions (relu, leaky relu, abs,
    clamp, a maximum with something). Composes with `jit` and `vmap` over boxes; the parameters that
    `f` closes over may be traced.

    The bounds hold in spite of rounding, by a margin that is derived in `_rounding.py`, wherever
    products are summed in the precision of the box: CPUs, and GPUs, whose products are asked for
    in full precision. On TPU full precision is made of several bfloat16 products and the margin is
    no proof.

    Args:
      f: a function of one array.
      box: `(lower, upper)`, arrays of the shape of its input; float32 or float64.
      method: "ibp", interval arithmetic (Gowal et al. 2018); "crown", linear bounds of all layers
        back to the input (Zhang et al. 2018); "alpha", the same with slopes optimised for every
        bound (Xu et al. 2021).
      objective: `[rows, outputs]`, rows of weights of the flattened outputs, whose products are to
        be bounded; by default the outputs themselves.
      pattern: `[units]`, 1 where a rectifier's operand is known to be at least 0, -1 where at most
        0, else 0; units in the order of the program.
      select: a glob of tagged activations to bound as well; None for none.
      steps, rate: of the optimisation of slopes.

    Raises:
      ValueError: an unknown method, or arrays of wrong shapes.
      UnsupportedError: an operation that is not supported, by name.
    """
    if method not in METHODS:
        raise ValueError(f"verify.bound: method {method!r}; expected one of {', '.join(METHODS)}")
    low, high, shape = _box(box)
    if not isinstance(low, Tracer) and not isinstance(high, Tracer) and _hashable(f):
        # As one program: operation by operation it would take much longer.
        now = _Now(f, _state(f, jax.ShapeDtypeStruct(shape, low.dtype)))
        return _compiled(now, shape, method, select, steps, rate, low, high, objective, pattern)
    return _bound(f, shape, method, select, steps, rate, low, high, objective, pattern)


@dataclass(frozen=True)
class _Now:
    """A function, and what it closes over at the time."""

    f: Callable[[Any], Any]
    state: str

    def __call__(self, x: Any) -> Any:
        return self.f(x)


def _state(f: Callable[[Any], Any], like: Any) -> str:
    """A digest of its program and constants, without which a new value of one would not count."""
    traced = program.trace(f, like).closed
    total = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", str(traced.jaxpr)).encode())
    for constant in traced.consts:
        array = np.ascontiguousarray(constant)
        total.update(f"{array.dtype} {array.shape};".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def _hashable(f: Any) -> bool:
    try:
        hash(f)
    except TypeError:
        return False
    return True


def _bound(
    f: Callable[[Any], Any],
    shape: tuple[int, ...],
    method: str,
    select: str | None,
    steps: int,
    rate: float,
    low: Any,
    high: Any,
    objective: Any,
    pattern: Any,
) -> Bounds:
    like = jax.ShapeDtypeStruct(shape, low.dtype)
    named = select is not None and len(transforms.sites(f)(like)) > 0
    both = transforms.capture(f, select) if named else lambda x: (f(x), {})  # pyright: ignore
    tape, structure = record(both, like, low.dtype)
    signs = None if pattern is None else _signs(pattern, tape)
    if method == "alpha":
        known = optimised(tape, low, high, signs, steps, rate)
        found = layers(tape, low, high, signs=signs, known=known)
    else:
        found = layers(tape, low, high, method=method, signs=signs)
    # Else XLA on a CPU computes them again for each of their readers: three times as slow.
    units_low, units_high = jax.lax.optimization_barrier((found.low, found.high))
    found = found._replace(low=units_low, high=units_high)
    ask = _Ask(tape, low, high, found, method, steps, rate)
    outputs, sites = jax.tree.unflatten(jax.tree.structure(structure), tape.outputs)
    if objective is None:
        pairs = jax.tree.map(ask.element, outputs, is_leaf=lambda x: isinstance(x, Node))
        lower, upper = _apart(pairs)
    else:
        lower, upper = ask.rows(outputs, objective)
    return Bounds(
        lower,
        upper,
        {name: tuple(ask.element(value)) for name, value in sites.items()},
        (found.low[0], found.high[0]),
        found.empty[0],
    )


_compiled = jax.jit(_bound, static_argnums=(0, 1, 2, 3, 4, 5))


def _apart(pairs: Any) -> tuple[Any, Any]:
    def is_pair(x: Any) -> bool:
        return isinstance(x, _Pair)

    def side(i: int) -> Any:
        return jax.tree.map(lambda p: p[i], pairs, is_leaf=is_pair)

    return side(0), side(1)


class _Pair(tuple):
    """Lower and upper, told apart from a function's own tuples."""


class _Ask:
    """Bounds of single nodes, once those of the rectifiers are known."""

    def __init__(
        self, tape: Tape, low: Any, high: Any, found: Layers, method: str, steps: int, rate: float
    ) -> None:
        self.tape, self.low, self.high, self.found = tape, low, high, found
        self.method, self.steps, self.rate = method, steps, rate
        self.known = {n.operands[0]: s for n, s in tape.slices.items()}

    def element(self, value: Any) -> Any:
        """The bounds of every element of a node, or of an array."""
        if not isinstance(value, Node):
            return _Pair((value, value))
        if value in self.known:
            where = self.known[value]
            pair = self.found.low[0, where], self.found.high[0, where]
        elif value in self.found.intervals and value.kind != "linear":
            pair = tuple(side[0] for side in self.found.intervals[value])
        else:
            pair = self._bounds(value, None)
        return _Pair(side.reshape(value.shape) for side in pair)

    def rows(self, outputs: Any, objective: Any) -> tuple[Any, Any]:
        """The bounds of rows of weights of all outputs."""
        leaves = jax.tree.leaves(outputs, is_leaf=lambda x: isinstance(x, Node))
        node = Tape(self.tape.input, self.tape.nodes, leaves).output(self.low.dtype)
        self.tape.forget()
        rows = jnp.asarray(objective, self.low.dtype)
        if rows.ndim != 2 or rows.shape[1] != node.size:
            raise ValueError(
                f"verify.bound: objective has shape {rows.shape}, expected [rows, {node.size}]: "
                "one weight for each output"
            )
        return self._bounds(node, rows)

    def _bounds(self, node: Node, rows: Any) -> tuple[Any, Any]:
        dtype = self.low.dtype
        if self.method == "ibp" and rows is None:
            low, high = reach(self.tape, node, dict(self.found.intervals), dtype)
            return low[0], high[0]
        known = self.found.through
        size = magnitudes(self.tape, node, known)
        sizes = {**known, **self.found.sizes, node: size}
        both = identity(node.size, dtype) if rows is None else jnp.concatenate([rows, -rows])
        if self.method == "ibp":

            def times(rows: Any) -> Any:
                return lambda x: jnp.matmul(rows, x.reshape(-1), precision="highest")

            weighted = Node("linear", (len(both),), (node,), times(both), times(jnp.abs(both)),
                            None, node.size)  # fmt: skip
            low, _ = reach(self.tape, weighted, dict(self.found.intervals), dtype)
        else:
            low = _lowest(self.tape, node, both, self.low, self.high, self.found.low,
                          self.found.high, sizes,
                          self.steps if self.method == "alpha" else 0, self.rate)  # fmt: skip
        half = len(both) // 2
        return low[0, :half], -low[0, half:]


def _lowest(
    tape: Tape, node: Node, rows: Any, low: Any, high: Any, units_low: Any, units_high: Any,
    sizes: dict[Node, Any], steps: int, rate: float,
) -> Any:  # fmt: skip
    """The lower bounds of rows, with slopes of their own where there are steps to optimise them."""
    under = [n for n in tape.relus if n in below([node])]

    def value(slopes: dict[int, Any] | None) -> Any:
        made = {
            n: lines(units_low[:, tape.slices[n]], units_high[:, tape.slices[n]],
                     None if slopes is None else slopes[i])
            for i, n in enumerate(under)
        }  # fmt: skip
        return backward(tape, node, rows, (low, high), made, sizes).low

    plain = value(None)
    if not steps or not under:
        return plain
    flat = (units_high > -units_low).astype(low.dtype)[:, None]
    start = {
        i: jnp.broadcast_to(flat[..., tape.slices[n]], (len(low), len(rows), n.size))
        for i, n in enumerate(under)
    }
    best, _ = ascend(value, start, lambda s: jax.tree.map(lambda v: jnp.clip(v, 0, 1), s), steps,
                     rate)  # fmt: skip
    return jnp.maximum(plain, best)


def optimised(
    tape: Tape, low: Any, high: Any, signs: Any, steps: int, rate: float
) -> tuple[Any, Any]:
    """Bounds of the operands of rectifiers, each with slopes of its own."""
    dtype = low.dtype
    infinite = jnp.full((len(low), tape.units), jnp.inf, dtype)
    lows, highs = -infinite, infinite
    for node, where in tape.slices.items():
        found = layers(tape, low, high, signs=signs, known=(lows, highs))
        (z,) = node.operands
        best = _lowest(tape, z, identity(z.size, dtype), low, high, found.low, found.high,
                       found.sizes, steps, rate)  # fmt: skip
        lows = lows.at[:, where].set(best[:, : z.size])
        highs = highs.at[:, where].set(-best[:, z.size :])
    return lows, highs


def _box(box: Any) -> tuple[Any, Any, tuple[int, ...]]:
    try:
        low, high = (jnp.asarray(side) for side in box)
    except (TypeError, ValueError):
        raise ValueError("verify.bound: the box is a pair (lower, upper) of arrays") from None
    if low.shape != high.shape or not low.size:
        raise ValueError(
            f"verify.bound: the box has shapes {low.shape} and {high.shape}; expected that of the "
            "function's input, twice"
        )
    if low.dtype != high.dtype or low.dtype not in (jnp.float32, jnp.float64):
        raise ValueError(f"verify.bound: the box has dtypes {low.dtype} and {high.dtype}; expected "
                         "one of float32 and float64")  # fmt: skip
    if not isinstance(low, Tracer) and not isinstance(high, Tracer):
        a, b = np.asarray(low), np.asarray(high)
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise ValueError("verify.bound: the box has NaN or infinite sides")
        if (a > b).any():
            i = np.unravel_index(np.argmax(a > b), a.shape)
            raise ValueError(
                f"verify.bound: the box is empty: side {tuple(map(int, i))} goes from {a[i]} to "
                f"{b[i]}"
            )
    return low.reshape(1, -1), high.reshape(1, -1), low.shape


def _signs(pattern: Any, tape: Tape) -> Any:
    signs = jnp.asarray(pattern)
    if signs.shape != (tape.units,):
        raise ValueError(
            f"verify.bound: the pattern has shape {signs.shape}, expected [{tape.units}]: one sign "
            "for each rectifying unit"
        )
    return signs[None]
