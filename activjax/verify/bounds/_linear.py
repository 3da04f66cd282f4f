"""Operations that are linear in what depends on the input, as nodes of a tape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from activjax.program import Equation
from activjax.verify.bounds._tape import Node

#: Operands in which an operation is jointly linear, the others being fixed.
JOINTLY: dict[str, slice] = {
    **dict.fromkeys(
        (
            "add", "add_any", "broadcast_in_dim", "broadcast_to", "concatenate", "cumsum",
            "expand_dims", "neg", "pad", "reduce_sum", "reduce_window_sum", "reshape", "rev",
            "slice", "split", "squeeze", "stack", "sub", "tile", "transpose", "unstack",
        ),
        slice(None),
    ),
    "select_n": slice(1, None),
    "dynamic_slice": slice(0, 1),
    "gather": slice(0, 1),
    "dynamic_update_slice": slice(0, 2),
    "div": slice(0, 1),
}  # fmt: skip
PRODUCTS = {"mul", "dot_general", "conv_general_dilated"}

_SUMS = {"reduce_sum", "cumsum", "reduce_window_sum"}


def joint(
    eqn: Equation,
    nodes: Mapping[int, Node],
    fixed: Mapping[int, Any],
    positions: Sequence[int],
    dtype: Any,
    where: str,
) -> list[Node]:
    """The outputs of an operation whose coefficients are 1, -1 and 0."""
    constants = {i: jnp.asarray(fixed[i], dtype) for i in fixed if i in positions}
    others = {i: v for i, v in fixed.items() if i not in positions}
    shapes = {i: tuple(eqn.invars[i].aval.shape) for i in positions}  # pyright: ignore

    def run(parts: Mapping[int, Any], absolute: bool, output: int) -> Any:
        like = next(iter(parts.values())).dtype
        full = [
            others[i] if i in others else parts[i] if i in parts else jnp.zeros(shapes[i], like)
            for i in range(len(eqn.invars))
        ]
        return _bind(eqn, full, absolute)[output]

    filled = bool(eqn.params.get("fill_value"))
    made = []
    for output, var in enumerate(eqn.outvars):

        def linear(*xs: Any, output: int = output) -> Any:
            return run(dict(zip(nodes, xs, strict=True)), False, output)

        def absolute(*xs: Any, output: int = output) -> Any:
            return run(dict(zip(nodes, xs, strict=True)), True, output)

        if filled:
            raise NotImplementedError(f"verify: {where} with a fill value")
        constant = None
        if constants:
            zero = {i: jnp.zeros(shapes[i], dtype) for i in nodes}
            constant = run({**zero, **constants}, False, output)
        shape = tuple(var.aval.shape)  # pyright: ignore
        most = max(int(np.prod(shapes[i])) for i in positions)
        terms = max(most, int(np.prod(shape))) if _adds(eqn) else len(positions)
        made.append(Node("linear", shape, tuple(nodes.values()), linear, absolute, constant, terms,
                         where))  # fmt: skip
    return made


def product(
    eqn: Equation,
    nodes: Mapping[int, Node],
    fixed: Mapping[int, Any],
    positions: Sequence[int],
    dtype: Any,
    where: str,
) -> list[Node]:
    """The output of a product with, or a division by, what does not depend on the input."""
    ((at, node),) = nodes.items()
    ((_, raw),) = fixed.items()
    by = jnp.asarray(raw, dtype)
    shape = tuple(eqn.outvars[0].aval.shape)  # pyright: ignore

    elementwise = eqn.primitive.name in ("mul", "div")

    def through(factor: Any) -> Callable[[Any], Any]:
        def linear(x: Any) -> Any:
            if elementwise:  # one of them may be a scalar
                whole = jnp.broadcast_to(x, shape), factor.astype(x.dtype)
                return whole[0] / whole[1] if eqn.primitive.name == "div" else whole[0] * whole[1]
            pair = [factor.astype(x.dtype), x] if at else [x, factor.astype(x.dtype)]
            return _bind(eqn, pair, False)[0]

        return linear

    if elementwise:
        terms = 2 + (int(np.prod(shape)) if node.shape != shape else 0)
    else:
        # a sum runs over some axes of the factor: forward over these, backward over the others
        terms = (
            int(np.prod(by.shape))
            if eqn.primitive.name != "dot_general"
            else _dot_terms(eqn, 1 - at)
        )
    return [Node("linear", shape, (node,), through(by), through(jnp.abs(by)), None, terms + 1,
                 where)]  # fmt: skip


def _dot_terms(eqn: Equation, side: int) -> int:
    """The longer of the sums of a product and of its transpose."""
    contracting, batch = (pair[side] for pair in eqn.params["dimension_numbers"])
    shape = eqn.invars[side].aval.shape  # pyright: ignore
    summed = int(np.prod([shape[a] for a in contracting]))
    free = [n for a, n in enumerate(shape) if a not in (*contracting, *batch)]
    return max(summed, int(np.prod(free)))


def _adds(eqn: Equation) -> bool:
    """Whether it, or its transpose, sums many terms."""
    name = eqn.primitive.name
    return name in _SUMS or name.startswith(("broadcast", "gather", "pad", "tile")) or _scalar(eqn)


def _scalar(eqn: Equation) -> bool:
    shapes = {len(v.aval.shape) for v in eqn.invars if hasattr(v.aval, "shape")}  # pyright: ignore
    return eqn.primitive.name in ("add", "sub", "add_any") and len(shapes) > 1


def _bind(eqn: Equation, values: list[Any], absolute: bool) -> list[Any]:
    """An equation in another precision; with `absolute` differences become sums."""
    name = eqn.primitive.name
    if name in ("add", "sub", "add_any") and len({v.shape for v in values}) > 1:
        shape = eqn.outvars[0].aval.shape  # pyright: ignore
        values = [jnp.broadcast_to(v, shape) for v in values]
    if name == "sub":
        return [values[0] + values[1] if absolute else values[0] - values[1]]
    if name == "neg":
        return [values[0] if absolute else -values[0]]
    if name in ("add", "add_any"):
        return [values[0] + values[1]]
    params = dict(eqn.primitive.get_bind_params(eqn.params))
    if "precision" in params:
        params["precision"] = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)
    if params.get("preferred_element_type") is not None:
        params["preferred_element_type"] = None
    out = eqn.primitive.bind(*values, **params)
    return list(out) if eqn.primitive.multiple_results else [out]
