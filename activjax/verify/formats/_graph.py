"""`Graph`: an ONNX network as a function of JAX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from activjax.verify.formats._operators import run
from activjax.verify.formats._sexpr import FormatError
from activjax.verify.formats._tensors import Node


@dataclass(frozen=True)
class Graph:
    """`graph(params, x)`, for one example.

    Two graphs are equal if they compute the same of their parameters: networks that differ by
    weights only share compiled programs.

    Attributes:
      input, output: names of values.
      shape: of the input as the file has it, with a batch of one.
      nodes: in order.
      settings: constants that are part of the program: name, dtype, shape and elements.
      params: names of the parameters, as nodes know them and as `params` does.
      label: the file's name.
    """

    input: str
    output: str
    shape: tuple[int, ...]
    nodes: tuple[Node, ...]
    settings: tuple[tuple[str, str, tuple[int, ...], tuple[float, ...]], ...]
    params: tuple[tuple[str, str], ...]
    label: str = field(default="", compare=False)

    @property
    def example(self) -> tuple[int, ...]:
        """The shape of one example: without a batch."""
        return self.shape[1:] if len(self.shape) > 1 and self.shape[0] == 1 else self.shape

    def __call__(self, params: Mapping[str, Any], x: Float[Array, "..."]) -> Array:
        """The outputs of one example.

        Args:
          params: arrays by name.
          x: of shape `example`, or anything with as many elements.

        Raises:
          FormatError: a node whose operands do not fit, by name.
        """
        values: dict[str, Any] = {name: params[key] for name, key in self.params}
        for name, dtype, shape, elements in self.settings:
            values[name] = np.asarray(elements, dtype).reshape(shape)
        values[self.input] = jnp.reshape(jnp.asarray(x), self.shape)
        for node in self.nodes:
            evaluate(node, values, self.label)
        return values[self.output]


def evaluate(node: Node, values: dict[str, Any], label: str) -> None:
    """Adds a node's outputs to the values.

    Raises:
      FormatError: its operands do not fit.
    """
    operands = [values[name] if name else None for name in node.inputs]
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused with the problem
            out = run(node, operands)
    except FormatError as error:
        raise FormatError(f"{label}: {node}: {error}") from None
    except (TypeError, ValueError, LookupError, ArithmeticError, MemoryError) as error:
        shapes = ", ".join("none" if a is None else str(np.shape(a)) for a in operands)
        raise FormatError(
            f"{label}: {node}: its operands of shapes {shapes} do not fit: {error}"
        ) from error
    values[node.outputs[0]] = out
