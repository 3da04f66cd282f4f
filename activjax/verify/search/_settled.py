"""`settled`: what a search must not compute anew where a proof has computed it already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from activjax import program
from activjax.program import Equation, Place, UnsupportedError
from activjax.verify._problem import digest
from activjax.verify.bounds._record import record
from activjax.verify.bounds._tape import Tape

#: Operations that only move numbers, or change their sign.
COPIES = {
    "broadcast_in_dim", "broadcast_to", "concatenate", "copy", "dynamic_slice", "expand_dims",
    "gather", "neg", "pad", "reshape", "rev", "slice", "split", "squeeze", "stack", "tile",
    "transpose", "unstack",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Fixed:
    """A function with its parameters; equal for equal functions and equal parameters."""

    apply: Callable[[Any, Any], Any]
    params: Any
    digest: str

    def __eq__(self, other: object) -> bool:
        mine = self.apply, self.digest
        return isinstance(other, Fixed) and mine == (other.apply, other.digest)

    def __hash__(self) -> int:
        return hash((self.apply, self.digest))

    def __call__(self, params: Any, x: Any) -> Any:
        del params
        return self.apply(self.params, x)


def settled(
    apply: Callable[[Any, Any], Any], params: Any, shape: tuple[int, ...], dtype: Any
) -> tuple[Callable[[Any, Any], Any], Any]:
    """A function and parameters to compile a search for.

    They are those given, so that networks of one shape share a program, but for two cases in which
    the parameters become part of the function: it makes new constants of them (a weight over a
    norm), which one compiled program rounds differently from operations done one by one, as the
    exact network has them; or the order of rectifiers depends on their values.

    Raises:
      UnsupportedError: an operation of the network is not supported, by name.
    """
    like = jax.ShapeDtypeStruct(shape, dtype)
    if not _derives(apply, params, like):
        orders = []

        def look(params: Any) -> Any:
            tape, _ = record(lambda x: apply(params, x), like, dtype)
            orders.append(_order(tape))
            return 0

        jax.eval_shape(look, params)
        look(params)
        if orders[0] == orders[1]:
            return apply, params
    return Fixed(apply, params, digest(params)), ()


def _order(tape: Tape) -> list[Any]:
    """Its nodes and what they read."""
    return [(n.kind, n.shape, [tape.number[x] for x in n.operands]) for n in tape.nodes]


def _derives(apply: Callable[[Any, Any], Any], params: Any, like: Any) -> bool:
    """Whether the program computes with its parameters before they meet the input."""
    shapes = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.asarray(a).dtype), params
    )
    traced = program.trace(apply, shapes, like)
    *given, _ = traced.closed.jaxpr.invars
    domain = _Watch()
    try:
        program.evaluate(traced.closed, [_Mark(False) for _ in given] + [_Mark(True)], domain)
    except UnsupportedError:
        return True  # a loop that parameters steer
    return domain.derives


@dataclass(frozen=True)
class _Mark:
    """An array that is not known yet.

    Attributes:
      varies: whether it depends on the input; else it is a parameter.
    """

    varies: bool


class _Watch(program.Domain):
    def __init__(self) -> None:
        self.derives = False

    def abstract(self, value: Any) -> bool:
        return isinstance(value, _Mark)

    def slice(self, value: Any, i: int) -> Any:
        return value

    def stack(self, values: Sequence[Any]) -> Any:
        return _Mark(any(isinstance(v, _Mark) and v.varies for v in values))

    def equation(self, eqn: Equation, values: list[Any], place: Place) -> list[Any]:
        del place
        varies = any(isinstance(v, _Mark) and v.varies for v in values)
        name = eqn.primitive.name
        if not varies and name not in COPIES and not program.is_identity(name):
            self.derives = self.derives or not _widens(eqn)
        return [_Mark(varies) for _ in eqn.outvars]


def _widens(eqn: Equation) -> bool:
    """Whether it is a conversion that rounds nothing."""
    if eqn.primitive.name != "convert_element_type":
        return False
    old, new = eqn.invars[0].aval.dtype, eqn.outvars[0].aval.dtype  # pyright: ignore
    if not (jnp.issubdtype(old, jnp.floating) and jnp.issubdtype(new, jnp.floating)):
        return False
    a, b = jnp.finfo(old), jnp.finfo(new)
    return b.nmant >= a.nmant and b.nexp >= a.nexp
