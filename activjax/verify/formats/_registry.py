"""Which operators of ONNX there are, and what they take.

Each is a function of its node, its operands and the library for them: NumPy where all operands are
constants, `jax.numpy` where one depends on the input. Source: github.com/onnx/onnx,
docs/Operators.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from activjax.verify.formats._sexpr import FormatError
from activjax.verify.formats._tensors import Node

Operator = Callable[[Node, list[Any], Any], Any]
#: The operators, with the attributes that each may have.
OPERATORS: dict[str, tuple[Operator, frozenset[str]]] = {}
_KINDS = {
    float: "alpha beta epsilon max min momentum ratio value",
    str: "auto_pad mode",
    tuple: "axes dilations ends kernel_shape pads perm starts steps strides",
}
_KIND = {name: kind for kind, names in _KINDS.items() for name in names.split()}


def run(node: Node, operands: list[Any]) -> Any:
    """A node's first output.

    Raises:
      FormatError: an attribute or operand that is not supported.
    """
    function, known = OPERATORS[node.op]
    for name, _ in node.attributes:
        if name not in known:
            raise FormatError(f"the attribute {name!r} is not supported; supported are "
                              f"{', '.join(sorted(known)) or 'none'}")  # fmt: skip
    check_kinds(node)
    constant = all(a is None or isinstance(a, np.ndarray) for a in operands)
    return function(node, operands, np if constant else jnp)


def check_kinds(node: Node) -> None:
    """Whether attributes are finite numbers, or texts, as they should be.

    Raises:
      FormatError: one that is not.
    """
    for name, value in node.attributes:
        kind = _KIND.get(name, int)
        if not isinstance(value, kind):
            wanted = {tuple: "integers", str: "a text"}.get(kind, "a number")
            raise FormatError(f"the attribute {name!r} is {value!r}; expected {wanted}")
        open_ended = name in ("min", "max")
        if kind is float and (math.isnan(value) or (math.isinf(value) and not open_ended)):
            raise FormatError(f"the attribute {name!r} is {value}; expected a finite number")


def operator(*names: str, attributes: str = "") -> Callable[[Operator], Operator]:
    """Enters a function as what these operators do; they may have these attributes."""

    def enter(function: Operator) -> Operator:
        for name in names:
            OPERATORS[name] = function, frozenset(attributes.split())
        return function

    return enter


def integers(value: Any, what: str) -> list[int]:
    """The elements of an operand that has to be constant.

    Raises:
      FormatError: it depends on the input.
    """
    if not isinstance(value, np.ndarray) or not np.issubdtype(value.dtype, np.integer):
        raise FormatError(f"its {what} has to be constant integers; export with fixed shapes")
    return [int(v) for v in value.reshape(-1)]


def scalar(value: Any, what: str) -> float:
    """The element of an operand that has to be one constant number.

    Raises:
      FormatError: it depends on the input, or has several elements.
    """
    if not isinstance(value, np.ndarray) or value.size != 1:
        raise FormatError(f"its {what} has to be one constant number")
    return float(value.reshape(()))


def axes_of(node: Node, a: list[Any]) -> list[int] | None:
    """The axes of a node, from an attribute or an operand; None where it has none."""
    if len(a) > 1 and a[1] is not None:
        return integers(a[1], "axes")
    axes = node.get("axes")
    return None if axes is None else list(axes)
